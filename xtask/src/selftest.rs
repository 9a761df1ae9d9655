//! Runs the program with known figures, and the two with a planted fault: shows that the
//! emulator, the plugin and the checks see what they should before they are believed.

use flowlet_board_runner::{Board, Report};

use crate::boards::{Firmware, SELFTEST, same_count};

/// `boards/selftest/src/main.rs`: a loop of three instructions, a thousand times, and one before
/// it; the compiler adds a few to load the number.
const LOOP: u64 = 3001;
const LOADS: u64 = 4;
/// What its deepest function keeps on the stack; registers come on top.
const STACK: u64 = 512;
const REGISTERS: u64 = 96;

/// Passes when all known figures come out on this board and both planted faults are found.
pub fn check(board: &'static Board) -> Result<String, String> {
    let selftest = SELFTEST.on(board);
    let built = selftest.build()?;
    built.check_panics()?;
    let first = built.run(true)?;
    figures(&first)?;
    let second = built.run(true)?;
    if first.total_instructions != second.total_instructions || first.models != second.models {
        return Err("two runs of one image differ".to_owned());
    }
    let planted = |fault: &'static [&'static str]| Firmware { features: fault, ..selftest }.build();
    let branch = planted(&["planted-branch"])?.run(true)?;
    if same_count(&branch).is_ok() {
        return Err("the planted branch on data was not seen in the instruction counts".to_owned());
    }
    if planted(&["planted-panic"])?.check_panics().is_ok() {
        return Err("the planted panic was not seen in the image".to_owned());
    }
    Ok(format!("{}; both planted faults seen", built.toolchain))
}

fn figures(report: &Report) -> Result<(), String> {
    let [model] = report.models.as_slice() else {
        return Err(format!("expected one model, {} reported", report.models.len()));
    };
    for image in &model.images {
        let drawn: Vec<u8> = (0..64u64).map(|at| (at * 7 + image.seed) as u8).collect();
        if image.bytes != drawn {
            return Err(format!("image {} came over with other bytes", image.seed));
        }
    }
    same_count(report)?;
    let count = model.instructions().map_or(0, |count| count.most);
    if !(LOOP..=LOOP + LOADS).contains(&count) {
        return Err(format!("{count} instructions counted, expected {LOOP} to {}", LOOP + LOADS));
    }
    let stack = model.stack_bytes.unwrap_or(0);
    if !(STACK..=STACK + REGISTERS).contains(&stack) {
        return Err(format!("{stack} B of stack measured, expected {STACK} to {}", STACK + REGISTERS));
    }
    Ok(())
}
