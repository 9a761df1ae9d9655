//! What the programs of these boards share: inputs, and a run of every entry point in order.
#![no_std]
#![forbid(unsafe_code)]

use flowlet::RunError;
use flowlet::program::Runner;

#[allow(missing_docs)]
mod digits {
    include!(concat!(env!("OUT_DIR"), "/digits.rs"));
}

/// Runs of each program: seeds 0 and 1, labels 3 and 7.
pub const RUNS: [(u64, u16); 4] = [(0, 3), (0, 7), (1, 3), (1, 7)];

/// Writes what the program reads: label, noise, a digit, and what is observed of it.
///
/// # Errors
/// A lane that is not as the host has it.
pub fn prepare(lanes: &mut Runner<'_, '_>, seed: u64, label: u16) -> Result<(), RunError> {
    lanes.reset();
    let digit = if seed == 0 { &digits::DIGITS[0] } else { &digits::DIGITS[1] };
    let labels = lanes.program().labels;
    if labels > 0 {
        // What starts from a digit goes without a class: the last label stands for none.
        let reads_data = lanes.program().lanes.iter().any(|lane| matches!(lane.name, "data" | "observed"));
        lanes.set_label(if reads_data { labels - 1 } else { label })?;
    }
    for number in 0..lanes.program().lanes.len() {
        let Some(lane) = lanes.program().lanes.get(number) else { continue };
        match lane.name {
            "noise" => lanes.fill_noise("noise", seed, 0)?,
            "data" => lanes.write("data", digit)?,
            // All but a box in the middle is observed.
            "mask" => {
                let mut mask = [1.0; 64];
                for (i, m) in mask.iter_mut().enumerate() {
                    if (2..6).contains(&(i / 8)) && (2..6).contains(&(i % 8)) {
                        *m = 0.0;
                    }
                }
                lanes.write("mask", &mask)?;
            }
            "observed" => match lanes.write("observed", digit) {
                Err(RunError::WrongLength { .. }) => lanes.write("observed", &averaged(digit))?,
                other => other?,
            },
            _ => {}
        }
    }
    Ok(())
}

/// Means of blocks of 2 x 2 pixels.
fn averaged(digit: &[f32; 64]) -> [f32; 16] {
    let mut out = [0.0; 16];
    for (i, mean) in out.iter_mut().enumerate() {
        let corner = i / 4 * 16 + i % 4 * 2;
        let at = |offset: usize| digit.get(corner + offset).copied().unwrap_or(0.0);
        *mean = (at(0) + at(1) + at(8) + at(9)) * 0.25;
    }
    out
}

/// The bytes of a sample, little-endian.
pub fn bytes(sample: &[f32]) -> [u8; 256] {
    let mut out = [0; 256];
    for (place, value) in out.as_chunks_mut().0.iter_mut().zip(sample) {
        *place = value.to_le_bytes();
    }
    out
}

/// The board program that runs these generated programs.
#[macro_export]
macro_rules! run {
    ($($module:ident),+) => {
        $(
            #[allow(missing_docs)]
            mod $module {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".rs"));

                /// Runs the program and reports its samples.
                pub fn report() -> Result<(), flowlet::RunError> {
                    use flowlet_board_support::{Line, count, stack};
                    let mut memory = Memory::new();
                    let mut model = Model::new(&mut memory)?;
                    let mut deepest = 0;
                    for (seed, label) in flowlet_board_programs::RUNS {
                        flowlet_board_programs::prepare(model.lanes(), seed, label)?;
                        let (result, used) = stack::measure(|| {
                            count::region(|| {
                                for entry in 0..PROGRAM.entries.len() {
                                    model.run(entry, seed)?;
                                }
                                Ok::<(), flowlet::RunError>(())
                            })
                        });
                        result?;
                        deepest = deepest.max(used);
                        let bytes = flowlet_board_programs::bytes(model.lanes().read("sample")?);
                        Line::new("image")
                            .text("model", stringify!($module))
                            .number("seed", seed as u32)
                            .number("label", u32::from(label))
                            .number("bytes", bytes.len() as u32)
                            .hex("hex", &bytes)
                            .end();
                    }
                    Line::new("stack").text("model", stringify!($module)).number("used", deepest).end();
                    Line::new("done")
                        .text("model", stringify!($module))
                        .number("images", flowlet_board_programs::RUNS.len() as u32)
                        .end();
                    Ok(())
                }
            }
        )+

        #[flowlet_board_support::entry]
        fn main() -> ! {
            let results = [$($module::report()),+];
            flowlet_board_support::exit(u8::from(results.iter().any(|r| r.is_err())))
        }
    };
}
