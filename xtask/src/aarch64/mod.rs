//! AArch64 under the emulator of user programs: the kernels against their references, and the model's pictures.

pub mod program;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::boards::FASHION;
use crate::rows::{Outcome, Rows};
use crate::setup::{self, Need};
use crate::{cargo, host};

/// A program for it needs no library of the system.
pub const TARGET: &str = "aarch64-unknown-linux-musl";
/// The emulator of user programs.
pub const QEMU: &str = "qemu-aarch64";

/// The instruction sets, and processors that have each and none of the wider ones.
const PROCESSORS: [(&str, &str); 3] =
    [("neon", "cortex-a53"), ("neon_dot", "cortex-a76"), ("neon_i8mm", "max,sve=off")];

/// Two rows for each instruction set, on a processor that has it: the suite, and the model.
pub fn rows(rows: &mut Rows, install: bool) {
    let missing = setup::ensure(Need::AARCH64, install);
    let mut row = |name: &str, work: &dyn Fn() -> Result<String, String>| {
        rows.run(name, || match missing.is_empty() {
            true => work().into(),
            false => {
                let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
                Outcome::NotRun(format!("not there: {}", names.join(", ")))
            }
        });
    };
    for (isa, processor) in PROCESSORS {
        row(&format!("{isa}: conformance on an emulated {processor}"), &|| suite(isa, processor));
        row(&format!("{isa}: {} on an emulated {processor}", FASHION.bin), &|| pictures(isa, processor));
    }
}

/// Draws the model's pictures as a board does, and passes when they are this host's.
fn pictures(isa: &str, processor: &str) -> Result<String, String> {
    let here = host::draw(FASHION.bin, FASHION.seeds)?;
    let seeds = FASHION.seeds.to_string();
    let there = answer(&mut emulated(&build()?, processor, &["draw", FASHION.bin, &seeds]))?;
    let here = program::drawn(isa, &here);
    match there.trim() == here {
        true => Ok(here),
        false => Err(format!("`{}` there, `{here}` here", there.trim())),
    }
}

/// Builds this program for the emulator.
///
/// # Errors
/// When it does not build.
pub fn build() -> Result<PathBuf, String> {
    cargo::run(&mut for_emulator(&["build", "--release", "--package", "xtask"]))?;
    Ok(cargo::target().join(TARGET).join("release").join("xtask"))
}

/// A call of the program that [`build`] built.
pub fn emulated(program: &Path, processor: &str, words: &[&str]) -> Command {
    let mut command = Command::new(QEMU);
    command.args(["-cpu", processor]).arg(program).arg(program::NAME).args(words);
    command
}

/// What a command prints.
fn answer(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|why| format!("cannot start {QEMU}: {why}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{QEMU} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

/// Runs the suite, and passes when kernels of the instruction set ran and no kernel differed.
fn suite(isa: &str, processor: &str) -> Result<String, String> {
    let (mut kernels, mut cases) = (0, 0);
    cargo::run_reading(&mut command(processor), |line| {
        if let Some(row) = equal(line, isa) {
            kernels += 1;
            cases += row;
        }
    })?;
    match kernels {
        0 => Err(format!("no kernel for {isa} ran on {processor}")),
        _ => Ok(format!("{kernels} kernels, {cases} cases equal")),
    }
}

fn command(processor: &str) -> Command {
    let mut command = for_emulator(&["test", "--release", "--package", "flowlet-conformance", "--features", "std"]);
    command.args(["--test", "host", "--", "--nocapture"]);
    command.env(variable("RUNNER"), format!("{QEMU} -cpu {processor}"));
    command
}

/// A call of cargo for [`TARGET`].
fn for_emulator(words: &[&str]) -> Command {
    let mut command = cargo::call(words);
    command.args(["--target", TARGET]).env(variable("LINKER"), "rust-lld");
    command
}

/// Cargo's variable for [`TARGET`].
fn variable(what: &str) -> String {
    format!("CARGO_TARGET_{}_{what}", TARGET.to_uppercase().replace('-', "_"))
}

/// The cases of a line such as `conv  neon  1000 cases, 0 mismatches`, if it is of this instruction set.
fn equal(line: &str, isa: &str) -> Option<u64> {
    let rest = line.strip_suffix(" cases, 0 mismatches")?;
    let mut words = rest.split_whitespace().rev();
    let cases = words.next()?.parse().ok()?;
    (words.next()? == isa).then_some(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_suite() {
        assert_eq!(equal("conv (model)           neon_dot      4000 cases, 0 mismatches", "neon_dot"), Some(4000));
        assert_eq!(equal("conv                   neon_dot      4000 cases, 0 mismatches", "neon"), None);
        assert_eq!(equal("conv                   neon          4000 cases, 1 mismatches", "neon"), None);
    }
}
