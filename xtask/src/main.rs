//! The project's own commands. `cargo xtask` lists them.
//!
//! - [`bench_a64`]: executed instructions of single layers on AArch64, beside another runtime's figures.
//! - [`bench_mcu`]: executed instructions of single layers, beside other kernels' figures.
//! - [`demo`]: from the committed models to pictures, on this host and on an emulated board.
//! - [`mod@test`]: every tier of tests, and a table of what ran and what did not.
//! - [`boards`]: builds a firmware image and runs it.
//! - [`peers`]: other runtimes beside flowlet, in one interleaved run.
//! - [`quality`]: what int8 costs, beside other toolchains' int8.
//! - [`zoo`]: a page of every model with its scores and costs.
//! - [`programs`]: samplers, edits and schedules: host against board, and against known answers.
//! - [`setup`]: what all of that needs from the system, and how to get it.

mod aarch64;
mod arm_rust;
mod bench_a64;
mod bench_mcu;
mod boards;
mod cargo;
mod conformance;
mod demo;
mod demo_report;
mod figures;
mod host;
mod peers;
mod programs;
mod quality;
mod rows;
mod selftest;
mod setup;
mod sheet;
mod test;
mod zoo;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>
  demo [--install]          draw pictures on this host and on an emulated Cortex-M4F, and compare
  test [--install] [--all]  run the tests; --all adds the long ones
  firmware [--all]          run the tests on emulated boards only; --all adds the slower boards
  board [NAME] [--bin BIN]  build one board's firmware, run it and report on it
  bench-mcu [--install]     count instructions of layers and models on emulated microcontrollers
  bench-a64 [--install]     count instructions of layers on emulated AArch64 processors
  peers [--install] [NET]   time flowlet and other runtimes side by side on this host
  quality [--install] [MODEL] [--samples N] [--json]
                            score our int8 and other toolchains' on the same noise
  zoo [--score]             write a page of all models; --score draws their scores again first
  programs [--install]      run samplers, edits and schedules on this host and on an emulated board
  setup [--install]         list what the above need from the system
--install gets what is missing (apt-get, rustup); without it nothing on the system is changed.";

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let install = take_flag(&mut words, "--install");
    let all = take_flag(&mut words, "--all");
    let score = take_flag(&mut words, "--score");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["zoo"] if !all && !install => zoo::command(score),
        _ if score => {
            eprintln!("error: --score belongs to `zoo`\n{USAGE}");
            ExitCode::from(2)
        }
        ["demo"] if !all => demo::command(install),
        ["test"] => test::command(install, all),
        ["firmware"] => test::firmware(install, all),
        ["bench-mcu"] if !all => bench_mcu::command(install),
        ["bench-a64"] if !all => bench_a64::command(install),
        [aarch64::program::NAME, rest @ ..] if !all => aarch64::program::command(rest),
        ["programs"] if !all => programs::command(install),
        ["setup"] if !all => setup::command(install),
        ["peers", rest @ ..] if !all => peers::command(install, rest),
        ["quality", rest @ ..] if !all => quality::command(install, rest),
        ["board", rest @ ..] if !all => boards::command(install, rest),
        [] => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        other => {
            eprintln!("error: no command `{}`\n{USAGE}", other.join(" "));
            ExitCode::from(2)
        }
    }
}

fn take_flag(words: &mut Vec<String>, flag: &str) -> bool {
    let before = words.len();
    words.retain(|word| word != flag);
    words.len() < before
}
