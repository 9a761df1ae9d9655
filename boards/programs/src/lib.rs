//! What the programs of these boards share: inputs, and a run of every entry point in order.
#![no_std]
#![forbid(unsafe_code)]

use flowlet::RunError;
use flowlet::program::Runner;

#[allow(missing_docs)]
pub mod pictures {
    include!(concat!(env!("OUT_DIR"), "/pictures.rs"));
}

/// Runs of each program: seeds 0 and 1, labels 3 and 7.
pub const RUNS: [(u64, u16); 4] = [(0, 3), (0, 7), (1, 3), (1, 7)];

/// Writes what the program reads: label, noise, a square picture, and what is observed of it.
///
/// # Errors
/// A lane that is not as the host has it.
pub fn prepare<const N: usize>(
    lanes: &mut Runner<'_, '_>,
    pictures: &[[f32; N]; 2],
    seed: u64,
    label: u16,
) -> Result<(), RunError> {
    lanes.reset();
    let picture = if seed == 0 { &pictures[0] } else { &pictures[1] };
    let side = N.isqrt();
    let labels = lanes.program().labels;
    if labels > 0 {
        // What starts from a picture goes without a class: the last label stands for none.
        let reads_data = lanes.program().lanes.iter().any(|lane| matches!(lane.name, "data" | "observed"));
        lanes.set_label(if reads_data { labels - 1 } else { label })?;
    }
    for number in 0..lanes.program().lanes.len() {
        let Some(lane) = lanes.program().lanes.get(number) else { continue };
        match lane.name {
            "noise" => lanes.fill_noise("noise", seed, 0)?,
            "data" => lanes.write("data", picture)?,
            // All but a box in the middle is observed.
            "mask" => {
                let mut mask = [1.0; N];
                let inner = side / 4..side - side / 4;
                for (i, m) in mask.iter_mut().enumerate() {
                    if inner.contains(&(i / side)) && inner.contains(&(i % side)) {
                        *m = 0.0;
                    }
                }
                lanes.write("mask", &mask)?;
            }
            "observed" => match lanes.write("observed", picture) {
                Err(RunError::WrongLength { need: 16, .. }) => lanes.write("observed", &averaged(picture))?,
                // A critic's probabilities of the ten classes.
                Err(RunError::WrongLength { .. }) => {
                    let mut wanted = [0.0; 10];
                    if let Some(class) = wanted.get_mut(usize::from(label)) {
                        *class = 1.0;
                    }
                    lanes.write("observed", &wanted)?;
                }
                other => other?,
            },
            _ => {}
        }
    }
    Ok(())
}

/// Means of blocks of 2 x 2 pixels of a digit.
fn averaged(digit: &[f32]) -> [f32; 16] {
    let mut out = [0.0; 16];
    for (i, mean) in out.iter_mut().enumerate() {
        let corner = i / 4 * 16 + i % 4 * 2;
        let at = |offset: usize| digit.get(corner + offset).copied().unwrap_or(0.0);
        *mean = (at(0) + at(1) + at(8) + at(9)) * 0.25;
    }
    out
}

/// Largest sample, in bytes.
const LARGEST: usize = 4 * 784;

/// Calls `f` with the bytes of a sample, little-endian.
pub fn with_bytes(sample: &[f32], f: impl FnOnce(&[u8])) {
    let mut out = [0; LARGEST];
    for (place, value) in out.as_chunks_mut().0.iter_mut().zip(sample) {
        *place = value.to_le_bytes();
    }
    f(out.get(..4 * sample.len()).unwrap_or(&out));
}

/// The board program that runs generated programs of a model: its pictures, the number of [`RUNS`], and the programs.
#[macro_export]
macro_rules! run {
    ($($pictures:ident $runs:literal: $($module:ident as $name:literal),+;)+) => {
        $($(
            #[allow(missing_docs)]
            mod $module {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($module), ".rs"));

                /// Runs the program and reports its samples.
                pub fn report() -> Result<(), flowlet::RunError> {
                    use flowlet_board_support::{Line, count, stack};
                    let mut memory = Memory::new();
                    let mut model = Model::new(&mut memory)?;
                    let mut deepest = 0;
                    for (seed, label) in flowlet_board_programs::RUNS.into_iter().take($runs) {
                        let pictures = &flowlet_board_programs::pictures::$pictures;
                        flowlet_board_programs::prepare(model.lanes(), pictures, seed, label)?;
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
                        flowlet_board_programs::with_bytes(model.lanes().read("sample")?, |bytes| {
                            Line::new("image")
                                .text("model", $name)
                                .number("seed", seed as u32)
                                .number("label", u32::from(label))
                                .number("bytes", bytes.len() as u32)
                                .hex("hex", bytes)
                                .end();
                        });
                    }
                    Line::new("stack").text("model", $name).number("used", deepest).end();
                    Line::new("done")
                        .text("model", $name)
                        .number("images", $runs)
                        .end();
                    Ok(())
                }
            }
        )+)+

        #[flowlet_board_support::entry]
        fn main() -> ! {
            let results = [$($($module::report()),+),+];
            flowlet_board_support::exit(u8::from(results.iter().any(|r| r.is_err())))
        }
    };
}
