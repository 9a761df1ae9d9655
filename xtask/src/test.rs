//! `cargo xtask test`: every tier of tests, and a table of what ran and what did not.

use std::process::{Command, ExitCode};

use flowlet_board_runner::board::BOARDS;

use crate::boards::{self, FASHION, FASHION_TINY, Firmware};
use crate::conformance::Executed;
use crate::rows::{Outcome, Rows};
use crate::setup::{self, Need};
use crate::{aarch64, cargo, host, programs, selftest};

/// Names, in rows and separated by commas, what must run and not only not fail: what CI sets.
const REQUIRE: &str = "REQUIRE_ISA";

/// Boards on which everything runs without `--all`; on the others only the kernels and the model.
const QUICK: [&str; 2] = ["mps2-an386", "mps3-an547"];

/// The toolchain that has miri; no stable one does.
const MIRI: &str = "nightly";

/// Cores that nothing here emulates; the runtime must still build for them.
const ALSO_BUILT: [&str; 2] = ["thumbv6m-none-eabi", "riscv32imac-unknown-none-elf"];

/// Tests counted by the test harness.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// Runs all tiers. Succeeds when none failed; what did not run is listed.
pub fn command(install: bool, all: bool) -> ExitCode {
    let missing = setup::ensure(Need::BOARD, install);
    let mut rows = Rows::default();
    let mut tally = Tally::default();
    rows.run("format", || {
        let boards = ["fmt", "--all", "--check", "--manifest-path", "boards/Cargo.toml"];
        with_component("fmt", &[&["fmt", "--all", "--check"], &boards])
    });
    rows.run("host tests", || host_tests(&mut tally, &["test", "--release", "--workspace"]));
    rows.run("reach: simulation and policies", || count(&mut tally, &mut reach_tests()));
    rows.run("clippy", || {
        let words = ["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"];
        with_component("clippy", &[&words])
    });
    rows.run("documentation", documentation);
    rows.run("packages", packages);
    for target in ALSO_BUILT {
        rows.run(&format!("builds for {target}"), || runtime_builds(target));
    }
    aarch64::rows(&mut rows, install);
    let executed = firmware_rows(&mut rows, &missing, all);
    if all {
        let words = ["test", "--release", "--workspace", "--", "--ignored"];
        rows.run("long host tests", || host_tests(&mut tally, &words));
    } else {
        rows.run("long host tests", || Outcome::NotRun("only with --all".to_owned()));
    }
    rows.run("miri: scalar kernels", || match (all, has_miri()) {
        (false, _) => Outcome::NotRun("only with --all".to_owned()),
        (true, false) => Outcome::NotRun(format!("not there: `cargo +{MIRI} miri`")),
        (true, true) => miri(&mut tally).into(),
    });
    require(&mut rows, &executed);
    rows.print();
    executed.print();
    let (failed, not_run) = rows.failed_and_not_run();
    println!("\n{} passed, {} failed, {not_run} skipped", tally.passed + rows.passed(), tally.failed + failed);
    if rows.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the tier of the emulated boards alone.
pub fn firmware(install: bool, all: bool) -> ExitCode {
    let missing = setup::ensure(Need::BOARD, install);
    let mut rows = Rows::default();
    let executed = firmware_rows(&mut rows, &missing, all);
    require(&mut rows, &executed);
    rows.print();
    executed.print();
    if rows.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every program on every board, as far as `all` allows.
fn firmware_rows(rows: &mut Rows, missing: &[Need], all: bool) -> Executed {
    let mut executed = Executed::default();
    for board in BOARDS {
        let core = board.core.to_lowercase();
        let chosen = all || QUICK.contains(&board.name);
        let mut row = |name: &str, chosen: bool, work: &mut dyn FnMut() -> Outcome| {
            rows.run(&format!("{core}: {name}"), || match chosen {
                true => work(),
                false => Outcome::NotRun("only with --all".to_owned()),
            });
        };
        row("firmware clippy", chosen, &mut || {
            if has("clippy") { boards::lint(board) } else { no_component("clippy") }
        });
        row("the measuring itself", chosen, &mut || on_board(missing, || selftest::check(board)));
        row("conformance", true, &mut || on_board(missing, || executed.on_board(board)));
        row(FASHION_TINY.bin, chosen, &mut || on_board(missing, || run_firmware(FASHION_TINY.on(board))));
        row(FASHION.bin, true, &mut || on_board(missing, || run_firmware(FASHION.on(board))));
        if board.name == programs::BOARD {
            row("programs", true, &mut || on_board(missing, programs::check));
        }
    }
    executed
}

/// Turns into failures what [`REQUIRE`] names and did not run.
fn require(rows: &mut Rows, executed: &Executed) {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        if !rows.require(name) && !executed.has(name) {
            rows.run(name, || {
                Outcome::Failed(format!("{REQUIRE} names it, and no row and no kernel that ran has the name"))
            });
        }
    }
}

/// Builds the device side for a core, where the toolchain has its library.
fn runtime_builds(target: &str) -> Outcome {
    let library = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    let there = library.is_ok_and(|out| std::path::Path::new(String::from_utf8_lossy(&out.stdout).trim()).exists());
    if !there {
        return Outcome::NotRun(format!("no library for it: rustup target add {target}"));
    }
    cargo::run(&mut cargo::call(&["build", "--release", "--package", "flowlet", "--target", target]))
        .map(|()| String::new())
        .into()
}

/// Whether the toolchain that has miri is there.
fn has_miri() -> bool {
    miri_call(&["--version"]).output().is_ok_and(|answer| answer.status.success())
}

/// Runs the suite on the portable kernels in an interpreter that sees every access outside its bounds.
fn miri(tally: &mut Tally) -> Result<String, String> {
    count(tally, &mut miri_call(&["test", "--package", "flowlet-conformance", "--test", "host"]))
}

/// A call of `cargo miri`. The toolchain is chosen by rustup's variable, since the cargo that started us may be no proxy.
fn miri_call(words: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.arg("miri").args(words).current_dir(cargo::root());
    command.env("RUSTUP_TOOLCHAIN", MIRI).env_remove("RUSTC").env_remove("RUSTDOC").env_remove("CARGO");
    command
}

/// Whether the toolchain has this component of cargo.
fn has(component: &str) -> bool {
    cargo::call(&[component, "--version"]).output().is_ok_and(|answer| answer.status.success())
}

fn no_component(component: &str) -> Outcome {
    Outcome::NotRun(format!("this toolchain has no `cargo {component}`"))
}

/// Runs cargo subcommands that a component of the toolchain brings.
fn with_component(component: &str, calls: &[&[&str]]) -> Outcome {
    if !has(component) {
        return no_component(component);
    }
    for words in calls {
        if let Err(why) = cargo::run(&mut cargo::call(words)) {
            return Outcome::Failed(why);
        }
    }
    Outcome::Passed(String::new())
}

fn documentation() -> Result<String, String> {
    let mut command = cargo::call(&["doc", "--release", "--no-deps", "--workspace"]);
    cargo::run(command.env("RUSTDOCFLAGS", "-D warnings")).map(|()| String::new())
}

/// Every published crate has the metadata and files that a registry asks for.
fn packages() -> Result<String, String> {
    let mut command = cargo::call(&["package", "--no-verify", "--allow-dirty", "--workspace"]);
    for private in ["flowlet-tests", "flowlet-board-runner", "xtask"] {
        command.args(["--exclude", private]);
    }
    cargo::run(&mut command).map(|()| String::new())
}

/// Runs the test harness.
fn host_tests(tally: &mut Tally, words: &[&str]) -> Result<String, String> {
    count(tally, &mut cargo_test(words))
}

/// Runs a test harness and adds up what its closing lines say.
fn count(tally: &mut Tally, tests: &mut Command) -> Result<String, String> {
    let mut here = Tally::default();
    let result = cargo::run_reading(tests, |line| {
        if let Some(one) = closing_line(line) {
            here.passed += one.passed;
            here.failed += one.failed;
            here.ignored += one.ignored;
        }
    });
    tally.passed += here.passed;
    tally.failed += here.failed;
    tally.ignored += here.ignored;
    result?;
    Ok(format!("{} passed, {} ignored", here.passed, here.ignored))
}

/// `cargo test` that goes on after a failing package.
fn cargo_test(words: &[&str]) -> Command {
    let (first, rest) = words.split_first().map_or(("test", [].as_slice()), |(first, rest)| (*first, rest));
    let mut command = cargo::call(&[first, "--no-fail-fast"]);
    command.args(rest);
    command
}

/// The tests of the workspace of `models/reach/sim`, which shares what it can with the host workspace's build.
fn reach_tests() -> Command {
    let mut command = cargo_test(&["test", "--release", "--manifest-path", "models/reach/sim/Cargo.toml"]);
    command.arg("--target-dir").arg(cargo::target());
    command
}

/// Reads `test result: ok. 11 passed; 0 failed; 0 ignored; ...`.
fn closing_line(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |word: &str| {
        let part = counts.split("; ").find(|part| part.ends_with(word))?;
        part.split(' ').next()?.parse::<usize>().ok()
    };
    Some(Tally { passed: number("passed")?, failed: number("failed")?, ignored: number("ignored")? })
}

/// Runs a row that needs the board's tools, or says what is not there.
fn on_board(missing: &[Need], work: impl FnOnce() -> Result<String, String>) -> Outcome {
    if missing.is_empty() {
        return work().into();
    }
    let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
    Outcome::NotRun(format!("not there: {}", names.join(", ")))
}

/// A model's firmware: boots, draws, cannot panic, and takes as many instructions for each image.
fn run_firmware(firmware: Firmware) -> Result<String, String> {
    if !firmware.exists() {
        return Err(format!("boards/{} is not in this tree", firmware.folder));
    }
    let built = firmware.build()?;
    built.check_panics()?;
    let report = built.run(true)?;
    print!("{report}");
    boards::same_count(&report)?;
    let model = report.models.first().ok_or("no model reported")?;
    let instructions = model.instructions().map_or(0, |count| count.most);
    let here = host::draw(firmware.bin, firmware.seeds)?;
    if here.images.len() != model.images.len() || here.digest != model.digest {
        let (n, m) = (model.images.len(), here.images.len());
        return Err(format!("digest {} of {n} images differs from this host's {} of {m}", model.digest, here.digest));
    }
    Ok(format!("{} images as on this host, {instructions} instructions each", model.images.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines() {
        let line = "test result: ok. 11 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(closing_line(line), Some(Tally { passed: 11, failed: 0, ignored: 2 }));
        let line = "test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(closing_line(line), Some(Tally { passed: 1, failed: 3, ignored: 0 }));
        assert_eq!(closing_line("test a ... ok"), None);
    }
}
