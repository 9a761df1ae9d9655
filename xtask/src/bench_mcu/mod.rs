//! `cargo xtask bench-mcu`: executed instructions of single layers and of whole models on emulated microcontrollers,
//! beside what CMSIS-NN executes for the same layers.

mod recorded;

use std::fs;
use std::process::ExitCode;

use flowlet_board_runner::Board;
use flowlet_board_runner::bench::Layer;
use flowlet_compiler::codegen::grouped;
use flowlet_compiler::flq;
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;
use serde_json::{Value, json};

use crate::boards::{BENCH, FASHION, FASHION_TINY, Firmware, same_count};
use crate::cargo;
use crate::setup::{self, Need};
use recorded::{PEER, ROWS, Recorded, Size};

/// The boards of the table, in the order of the recorded figures.
const BOARDS: [&str; 2] = ["mps2-an386", "mps3-an547"];

/// What a count of instructions does not say.
const HIDDEN: &str = "\
Counted are executed instructions under QEMU, the same number at every run: not cycles and not time. LDRD, LDM and the
vector loads count as one instruction and take several cycles, a taken branch refills the pipeline, flash has wait states,
and an M55 needs two cycles for most vector operations. Figures of one core compare; figures of two cores do not.";

/// Runs the command.
pub fn command(install: bool) -> ExitCode {
    if !setup::ensure(Need::BOARD, install).is_empty() {
        return ExitCode::from(3);
    }
    let mut report = Vec::new();
    for (core, name) in BOARDS.into_iter().enumerate() {
        match Board::named(name).ok_or(format!("no board `{name}` is known")).and_then(|board| table(core, board)) {
            Ok(rows) => report.extend(rows),
            Err(why) => {
                eprintln!("error: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("\n{HIDDEN}");
    match write(&report) {
        Ok(path) => {
            println!("\nwritten to {path}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything on one board, prints it, and returns the rows of the file.
fn table(core: usize, board: &'static Board) -> Result<Vec<Value>, String> {
    let layers = BENCH.on(board).build()?.run_bench()?;
    println!("\n{} ({}); recorded: {PEER}", board.core, board.name);
    println!(
        "{:<26} {:>10} {:>12} {:>8} {:>12} {:>6}  goal",
        "layer", "size", "instructions", "for each", "recorded", "ratio"
    );
    let mut rows = Vec::new();
    for recorded in ROWS {
        let measured = layers.iter().find(|layer| layer.name == recorded.layer);
        let measured = measured.ok_or(format!("the firmware did not run `{}`", recorded.layer))?;
        rows.push(line(core, board, recorded, measured));
    }
    for firmware in [FASHION_TINY, FASHION] {
        rows.push(model(board, firmware)?);
    }
    Ok(rows)
}

fn line(core: usize, board: &Board, recorded: &Recorded, measured: &Layer) -> Value {
    let Recorded { layer, size, peer, goal } = recorded;
    let (count, unit, macs) = match *size {
        Size::Macs(macs) => (macs, "MAC", Some(macs)),
        Size::Elements(elements) => (elements, "element", None),
    };
    let instructions = measured.instructions;
    let [each, ratio] = [count, peer[core]].map(|n| instructions as f64 / n as f64);
    let goal = goal[core] as f64 / 100.0;
    let over = if ratio > goal { "  over" } else { "" };
    println!(
        "{layer:<26} {:>10} {:>12} {each:>8.3} {:>12} {ratio:>6.3}  {goal:.2}{over}",
        grouped(count),
        grouped(instructions),
        grouped(peer[core])
    );
    json!({
        "core": board.core, "layer": layer, "macs": macs, "instructions": instructions,
        "per_mac": macs.map(|_| each), "per_element": (unit == "element").then_some(each),
        "peer": format!("{PEER}, recorded"), "peer_instructions": peer[core], "ratio": ratio, "goal": goal,
    })
}

/// A whole model, noise and all: no other kernels have figures for it.
fn model(board: &'static Board, firmware: Firmware) -> Result<Value, String> {
    let name = firmware.bin;
    let macs = macs(name)?;
    let report = firmware.on(board).build()?.run(true)?;
    same_count(&report)?;
    let counted = report.models.first().and_then(|model| model.instructions());
    let instructions = counted.ok_or(format!("the instructions of `{name}` were not counted"))?.most;
    let each = instructions as f64 / macs as f64;
    println!("{:<26} {:>10} {:>12} {each:>8.3}", format!("{name} (model)"), grouped(macs), grouped(instructions));
    Ok(json!({
        "core": board.core, "layer": name, "macs": macs, "instructions": instructions, "per_mac": each,
        "per_element": null, "peer": null, "peer_instructions": null, "ratio": null, "goal": null,
    }))
}

fn macs(model: &str) -> Result<u64, String> {
    let path = cargo::root().join("models").join(model).join(model).with_extension("flq");
    let refused = |why: String| format!("{}: {why}", path.display());
    let bytes = fs::read(&path).map_err(|why| refused(why.to_string()))?;
    let graph = flq::read(&bytes).map_err(|why| refused(why.to_string()))?;
    let lowered = lower(&graph, flq::hash(&bytes), &Target::host()).map_err(|why| refused(why.to_string()))?;
    Ok(lowered.macs())
}

fn write(rows: &[Value]) -> Result<String, String> {
    let path = cargo::root().join("target").join("bench-mcu.json");
    let report = json!({ "counts": "executed instructions", "emulator": flowlet_board_runner::plugin::qemu_version()
        .map_err(|why| why.to_string())?, "rows": rows });
    fs::create_dir_all(cargo::root().join("target"))
        .and_then(|()| fs::write(&path, format!("{report:#}\n")))
        .map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    Ok(path.display().to_string())
}
