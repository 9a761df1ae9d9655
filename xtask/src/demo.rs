//! `cargo xtask demo`: from the committed models to pictures, here and on an emulated board.
//!
//! The order is that of what is soonest there to be looked at: the host's pictures need nothing
//! but Rust, the importer takes minutes to compile, the board needs an emulator.

use std::process::ExitCode;

use flowlet_board_runner::{Image, Report};

use crate::boards::{self, Built, FASHION, FASHION_TINY, Firmware};
use crate::demo_report::DemoReport;
use crate::rows::{Outcome, Rows};
use crate::setup::{self, Need};
use crate::{cargo, figures, host, sheet};
use serde_json::json;

/// Everything but the board ran; the board could not.
const BOARD_NOT_RUN: u8 = 3;

/// Both models, the one that a board draws all of first.
const MODELS: [Firmware; 2] = [FASHION_TINY, FASHION];

/// What the demo knows so far.
#[derive(Debug, Default)]
struct Demo {
    report: DemoReport,
    /// By model: the pictures that this host drew.
    host: Vec<(&'static str, Vec<Image>)>,
    /// By model: the pictures that the board drew.
    board: Vec<(&'static str, Vec<Image>)>,
}

/// Runs all steps; the exit code is 0, 1 when something failed, or 3 when only the board did not run.
pub fn command(install: bool) -> ExitCode {
    let mut demo = Demo::default();
    let mut rows = Rows::default();
    rows.run("pictures on this host", || demo.draw_here());
    rows.run("import and quantise", || demo.import());
    let missing = setup::ensure(Need::BOARD, install);
    for firmware in MODELS {
        rows.run(&format!("board: {}", firmware.bin), || demo.draw_on_board(&missing, firmware));
    }
    rows.run("sheet and report", || demo.write());
    println!("\n{}\n", demo.report.table());
    rows.print();
    let (failed, not_run) = rows.failed_and_not_run();
    if failed > 0 {
        return ExitCode::FAILURE;
    }
    if !missing.is_empty() {
        println!("\nboard: not run");
        return ExitCode::from(BOARD_NOT_RUN);
    }
    if not_run > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

impl Demo {
    /// The host's pictures from the committed `.flq`; the sheet is there to be looked at at once.
    fn draw_here(&mut self) -> Result<String, String> {
        let mut count = 0;
        for firmware in MODELS {
            let drawn = host::draw(firmware.bin, firmware.seeds)?;
            count += drawn.images.len();
            let entry = self.report.model(firmware.bin);
            entry.set("host", json!({ "digest": drawn.digest, "ms": drawn.ms }));
            self.host.push((firmware.bin, drawn.images));
        }
        let path = self.draw_sheet()?;
        println!("{count} pictures: {path}");
        Ok(format!("{count} pictures, {path}"))
    }

    /// From the committed ONNX to a `.flq` that must equal the committed one; scores on fresh samples.
    fn import(&mut self) -> Result<String, String> {
        let flowlet = figures::command()?;
        for firmware in MODELS {
            let entry = self.report.model(firmware.bin);
            figures::reproduce(&flowlet, firmware.bin)?;
            figures::explain(&flowlet, firmware.bin, entry)?;
            figures::score(&flowlet, firmware.bin, entry)?;
        }
        Ok("both .flq files came out byte for byte as committed".to_owned())
    }

    /// One model's firmware, built, checked, run, and compared with the host.
    fn draw_on_board(&mut self, missing: &[Need], firmware: Firmware) -> Outcome {
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
            return Outcome::NotRun(format!("not there: {}", names.join(", ")));
        }
        if !firmware.exists() {
            return Outcome::NotRun(format!("boards/{} is not in this tree", firmware.folder));
        }
        self.run_board(firmware).into()
    }

    fn run_board(&mut self, firmware: Firmware) -> Result<String, String> {
        let built = firmware.build()?;
        built.check_panics()?;
        let report = built.run(true)?;
        print!("{report}");
        boards::same_count(&report)?;
        self.take(firmware.bin, &built, report)
    }

    /// Takes a board's report in, and fails when it drew another byte than the host.
    fn take(&mut self, name: &'static str, built: &Built, report: Report) -> Result<String, String> {
        let footprint = report.footprint;
        let model = report.models.into_iter().next().ok_or("the firmware reported no model")?;
        let instructions = model.instructions().map(|count| count.most);
        let entry = self.report.model(name);
        entry.set("flash_bytes", footprint.flash);
        entry.set("ram_static_bytes", footprint.ram_static);
        entry.set("stack_bytes", model.stack_bytes);
        entry.set(
            "board",
            serde_json::json!({
                "name": report.board,
                "core": report.core,
                "digest": model.digest,
                "instructions": instructions,
                "images": model.images.len(),
                "toolchain": built.toolchain,
            }),
        );
        let host = self.host.iter().find(|(model, _)| *model == name).map(|(_, images)| images);
        let mismatches = host.map(|host| mismatching_bytes(host, &model.images)).transpose()?;
        entry.set("mismatches", mismatches);
        let images = model.images.len();
        self.board.push((name, model.images));
        match mismatches {
            None => Ok(format!("{images} images; nothing to compare them with")),
            Some(0) => Ok(format!("{images} images, every byte as on this host")),
            Some(bytes) => Err(format!("{bytes} bytes of {images} images differ from this host's")),
        }
    }

    /// Writes `target/demo/sheet.png` and `target/demo/report.json`.
    fn write(&mut self) -> Result<String, String> {
        Ok(format!("{}, {}", self.draw_sheet()?, self.report.write()?))
    }

    /// For each model a block of rows, one a class: this host's pictures, and the board's beside them.
    fn draw_sheet(&self) -> Result<String, String> {
        let mut blocks = Vec::new();
        for (name, images) in &self.host {
            let board = self.board.iter().find(|(model, _)| model == name).map(|(_, images)| images.as_slice());
            blocks.push((images.as_slice(), board.unwrap_or(&[])));
        }
        sheet::write(&cargo::target().join("demo").join("sheet.png"), &blocks)
    }
}

/// How many bytes of the board's images differ from the host's of the same seed and label.
fn mismatching_bytes(host: &[Image], board: &[Image]) -> Result<usize, String> {
    let mut bytes = 0;
    for image in board {
        let same = |other: &&Image| (other.seed, other.label) == (image.seed, image.label);
        let twin = host
            .iter()
            .find(same)
            .ok_or_else(|| format!("the board drew seed {} label {}, this host did not", image.seed, image.label))?;
        if twin.bytes.len() != image.bytes.len() {
            return Err(format!(
                "seed {} label {} has {} bytes on the board and {} here",
                image.seed,
                image.label,
                image.bytes.len(),
                twin.bytes.len()
            ));
        }
        bytes += twin.bytes.iter().zip(&image.bytes).filter(|(here, there)| here != there).count();
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(seed: u64, bytes: &[u8]) -> Image {
        Image { seed, label: 0, bytes: bytes.to_vec(), instructions: None }
    }

    #[test]
    fn bytes_are_compared_by_seed_and_label() {
        let host = [image(0, &[1, 2]), image(1, &[3, 4])];
        assert_eq!(mismatching_bytes(&host, &[image(1, &[3, 4]), image(0, &[1, 9])]), Ok(1));
        assert!(mismatching_bytes(&host, &[image(2, &[3, 4])]).is_err());
        assert!(mismatching_bytes(&host, &[image(1, &[3])]).is_err());
    }
}
