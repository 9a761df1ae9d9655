//! The kernels for AArch64 against their references, under the emulator of user programs.

use std::process::Command;

use crate::cargo;
use crate::rows::{Outcome, Rows};
use crate::setup::{self, Need};

/// A program for it needs no library of the system.
pub const TARGET: &str = "aarch64-unknown-linux-musl";
/// The emulator of user programs.
pub const QEMU: &str = "qemu-aarch64";

/// The instruction sets, and processors that have each and none of the wider ones.
const PROCESSORS: [(&str, &str); 3] =
    [("neon", "cortex-a53"), ("neon_dot", "cortex-a76"), ("neon_i8mm", "max,sve=off")];

/// One row for each instruction set: the suite runs on a processor that has it.
pub fn conformance(rows: &mut Rows, install: bool) {
    let missing = setup::ensure(Need::AARCH64, install);
    for (isa, processor) in PROCESSORS {
        rows.run(&format!("{isa}: conformance on an emulated {processor}"), || match missing.is_empty() {
            true => suite(isa, processor).into(),
            false => {
                let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
                Outcome::NotRun(format!("not there: {}", names.join(", ")))
            }
        });
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
    let mut command = cargo::call(&["test", "--release", "--package", "flowlet-conformance", "--features", "std"]);
    command.args(["--target", TARGET, "--test", "host", "--", "--nocapture"]);
    let variable = |what: &str| format!("CARGO_TARGET_{}_{what}", TARGET.to_uppercase().replace('-', "_"));
    command.env(variable("LINKER"), "rust-lld").env(variable("RUNNER"), format!("{QEMU} -cpu {processor}"));
    command
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
