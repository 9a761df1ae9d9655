//! Builds firmware images and runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use flowlet_board_runner::bench::{self, Layer};
use flowlet_board_runner::conformance::{self, Kernel};
use flowlet_board_runner::{Board, Launch, Report, panics, plugin, read, run};

use crate::arm_rust::{self, ArmRust};
use crate::cargo;
use crate::rows::Outcome;
use crate::setup::{self, Need};

/// A firmware image that we can build: a folder of `boards/` and a program in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firmware {
    /// The folder under `boards/`.
    pub folder: &'static str,
    /// The program.
    pub bin: &'static str,
    /// How many seeds of each label it draws.
    pub seeds: u64,
    /// Cargo features to set besides the board's.
    pub features: &'static [&'static str],
    /// The board it runs on, which is a Cargo feature too.
    pub board: &'static str,
}

/// The small model's firmware.
pub const FASHION_TINY: Firmware =
    Firmware { folder: "qemu-mps", bin: "fashion-tiny", seeds: 8, features: &[], board: "mps2-an386" };
/// The larger model's firmware.
pub const FASHION: Firmware = Firmware { bin: "fashion", seeds: 4, ..FASHION_TINY };
/// The program with known figures.
pub const SELFTEST: Firmware =
    Firmware { folder: "selftest", bin: "flowlet-board-selftest", seeds: 0, features: &[], board: "mps2-an386" };
/// Every kernel of a core against its reference.
pub const CONFORMANCE: Firmware = Firmware { folder: "conformance", bin: "flowlet-board-conformance", ..SELFTEST };
/// Samplers around a network.
pub const SAMPLERS: Firmware = Firmware { folder: "programs", bin: "samplers", ..SELFTEST };
/// Inversion, steering and a chain of latents.
pub const EDITS: Firmware = Firmware { bin: "edits", ..SAMPLERS };
/// Programs of two networks.
pub const NETWORKS: Firmware = Firmware { bin: "networks", ..SAMPLERS };
/// Single layers, counted.
pub const TEACHER: Firmware = Firmware { bin: "teacher", ..SAMPLERS };

pub const TEACHER_INPAINT: Firmware = Firmware { bin: "teacher-inpaint", ..SAMPLERS };

pub const TEACHER_TURBO: Firmware = Firmware { bin: "teacher-turbo", ..SAMPLERS };

pub const BENCH: Firmware = Firmware { folder: "bench-mcu", bin: "flowlet-board-bench-mcu", ..SELFTEST };

const FIRMWARE: &[Firmware] =
    &[FASHION_TINY, FASHION, SELFTEST, SAMPLERS, EDITS, NETWORKS, TEACHER, TEACHER_INPAINT, TEACHER_TURBO];

/// When an emulated run is taken for hung. The longest takes about a minute on two cores.
const PATIENCE: Duration = Duration::from_secs(600);

/// An image that was built, with the toolchain that built it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The ELF file.
    pub elf: PathBuf,
    /// The board it is for.
    pub board: &'static Board,
    /// Which compiler, for reports.
    pub toolchain: String,
}

impl Firmware {
    /// Whether its sources are in the tree.
    pub fn exists(self) -> bool {
        self.path().join("Cargo.toml").exists()
    }

    fn path(self) -> PathBuf {
        cargo::root().join("boards").join(self.folder)
    }

    /// The same program on another board.
    pub fn on(self, board: &'static Board) -> Self {
        Self { board: board.name, ..self }
    }

    fn board(self) -> Result<&'static Board, String> {
        Board::named(self.board).ok_or(format!("no board `{}` is known", self.board))
    }

    /// Builds it with whatever toolchain is there.
    pub fn build(self) -> Result<Built, String> {
        let board = self.board()?;
        let rust = arm_rust::find(board.target)
            .ok_or(format!("no Rust for {} is there: run `cargo xtask setup`", board.target))?;
        self.build_with(&rust, board)
    }

    fn build_with(self, rust: &ArmRust, board: &'static Board) -> Result<Built, String> {
        let mut command = rust.call(&self.path(), board.target, board.cpu);
        let features = [&[self.board], self.features].concat().join(",");
        command.args(["build", "--release", "--no-default-features", "--bin", self.bin, "--target", board.target]);
        command.args(["--features", &features]);
        cargo::run(&mut command)?;
        let folder = cargo::target().join("boards");
        let elf = folder.join(board.name).join(self.bin);
        // Boards of one target are built to the same place.
        let built = folder.join(board.target).join("release").join(self.bin);
        fs::create_dir_all(folder.join(board.name))
            .and_then(|()| fs::copy(&built, &elf))
            .map_err(|why| format!("cannot copy {} to {}: {why}", built.display(), elf.display()))?;
        Ok(Built { elf, board, toolchain: rust.describe() })
    }
}

impl Built {
    /// Runs it, with executed instructions counted if `count`.
    pub fn run(&self, count: bool) -> Result<Report, String> {
        let plugin = if count { Some(Self::plugin()?) } else { None };
        run(&self.launch(plugin.as_deref())).map_err(|why| why.to_string())
    }

    /// Runs the layer table's firmware.
    pub fn run_bench(&self) -> Result<Vec<Layer>, String> {
        bench::run(&self.launch(Some(&Self::plugin()?))).map_err(|why| why.to_string())
    }

    fn plugin() -> Result<PathBuf, String> {
        plugin::build(&cargo::target().join("icount")).map_err(|why| why.to_string())
    }

    /// Runs the conformance firmware.
    pub fn run_conformance(&self) -> Result<Vec<Kernel>, String> {
        conformance::run(&self.launch(None)).map_err(|why| why.to_string())
    }

    fn launch<'a>(&'a self, plugin: Option<&'a Path>) -> Launch<'a> {
        Launch { board: self.board, elf: &self.elf, plugin, timeout: PATIENCE }
    }

    /// Fails when the image can panic or holds an allocator.
    pub fn check_panics(&self) -> Result<(), String> {
        let elf = read(&self.elf).map_err(|why| why.to_string())?;
        let findings = panics::check(&elf).map_err(|why| why.at(&self.elf).to_string())?;
        if findings.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = findings.iter().map(|finding| format!("the image {finding}")).collect();
        Err(lines.join("\n"))
    }
}

/// Lints the firmware workspace for a board, where the toolchain that builds it has the linter.
pub fn lint(board: &Board) -> Outcome {
    let target = board.target;
    let Some(rust @ ArmRust::Library) = arm_rust::find(target) else {
        return Outcome::NotRun(format!("no toolchain with both clippy and a library for {target}"));
    };
    let mut command = rust.call(&cargo::root().join("boards"), target, board.cpu);
    command.args(["clippy", "--release", "--workspace", "--target", target]);
    command.args(["--no-default-features", "--features", board.name, "--", "-D", "warnings"]);
    cargo::run(&mut command).map(|()| String::new()).into()
}

/// `cargo xtask board [NAME] [--bin BIN]`.
pub fn command(install: bool, words: &[&str]) -> ExitCode {
    let (folder, bin) = match words {
        [] => (FASHION_TINY.folder, None),
        [folder] => (*folder, None),
        ["--bin", bin] => (FASHION_TINY.folder, Some(*bin)),
        [folder, "--bin", bin] => (*folder, Some(*bin)),
        other => {
            eprintln!("error: `{}` is not `[NAME] [--bin BIN]`", other.join(" "));
            return ExitCode::from(2);
        }
    };
    let known = FIRMWARE.iter().find(|known| known.folder == folder && bin.is_none_or(|bin| bin == known.bin));
    let Some(firmware) = known else {
        let all: Vec<_> = FIRMWARE.iter().map(|known| format!("{} --bin {}", known.folder, known.bin)).collect();
        eprintln!("error: no such firmware; there are:\n  {}", all.join("\n  "));
        return ExitCode::from(2);
    };
    if !setup::ensure(Need::BOARD, install).is_empty() {
        return ExitCode::from(3);
    }
    match report(*firmware) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn report(firmware: Firmware) -> Result<(), String> {
    let built = firmware.build()?;
    let report = built.run(true)?;
    println!("built by      {}", built.toolchain);
    print!("{report}");
    built.check_panics()?;
    println!("panics        none, and no allocator");
    same_count(&report)
}

/// Fails when images of one model differ in executed instructions.
pub fn same_count(report: &Report) -> Result<(), String> {
    for model in &report.models {
        match model.instructions() {
            Some(count) if count.identical() => {}
            Some(count) => {
                return Err(format!(
                    "`{}` executes {} instructions for one image and {} for another: \
                     its time depends on the data",
                    model.model, count.least, count.most
                ));
            }
            None => return Err(format!("the instructions of `{}` were not counted", model.model)),
        }
    }
    Ok(())
}
