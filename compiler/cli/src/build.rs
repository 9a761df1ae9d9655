//! `flowlet build`: the Rust code and weights of a `.flq` for a target.

use crate::report::{Report, bytes};
use anyhow::bail;
use flowlet_build::{Error, Model};
use std::path::PathBuf;

/// Arguments of `flowlet build`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet build fashion.flq --target qemu-mps2-an386 -o src/model
  flowlet build fashion.flq --target qemu-mps2-an386 -o src/model --check    in CI: is src/model current?")]
pub struct Args {
    /// A .flq that 'flowlet quantize' wrote
    #[arg(value_name = "MODEL.flq")]
    pub model: PathBuf,
    /// What to build for; an unknown name lists the known ones
    #[arg(long, value_name = "NAME")]
    pub target: String,
    /// Folder of the module: mod.rs and weights.bin
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Write nothing; exit with 1 when the folder is not what would be written
    #[arg(long)]
    pub check: bool,
    /// Refuse weights of more bytes than this [default: the target's flash]
    #[arg(long, value_name = "BYTES")]
    pub flash: Option<usize>,
    /// Refuse an arena of more bytes than this [default: the target's RAM]
    #[arg(long, value_name = "BYTES")]
    pub ram: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// A file that is no `.flq`, an unknown target, or a model that does not fit it.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    if args.model.extension().is_some_and(|e| e == "onnx") {
        bail!(
            "{0} is not quantised: write a .flq first, with 'flowlet quantize {0} -o {1}'",
            args.model.display(),
            args.model.with_extension("flq").display()
        );
    }
    let mut model = Model::from_flq(&args.model).target(&args.target);
    if let Some(limit) = args.flash {
        model = model.flash_bytes(limit);
    }
    if let Some(limit) = args.ram {
        model = model.ram_bytes(limit);
    }
    let mut report = Report::new();
    let lowered = model.lower()?;
    report.set("model", lowered.name.clone());
    report.set("target", args.target.clone());
    report.set("weights_bytes", lowered.weights.len());
    report.set("arena_bytes", lowered.arena_bytes);
    report.set("macs", lowered.macs());
    report.set("output", args.output.display().to_string());
    report.line(format!(
        "{} for {}: weights {} of flash, arena {} of RAM, {} multiply-accumulates",
        lowered.name,
        args.target,
        bytes(lowered.weights.len()),
        bytes(lowered.arena_bytes),
        lowered.macs()
    ));
    if !args.check {
        let written = model.write_to(&args.output)?;
        written.iter().for_each(|path| report.line(format!("wrote {}", path.display())));
        return Ok(report);
    }
    match model.check_against(&args.output) {
        Ok(()) => report.line(format!("{} is current", args.output.display())),
        Err(stale @ Error::Stale { .. }) => {
            report.line(stale.to_string());
            report.failed = true;
        }
        Err(other) => return Err(other.into()),
    }
    report.set("current", !report.failed);
    Ok(report)
}
