//! `flowlet quantize`: import, fold, calibrate, write the `.flq`.

use crate::calibrate::Calibrate;
use crate::model::Model;
use crate::options::{ModelArgs, Precision, write};
use crate::report::{Report, Table, bytes, hex};
use flowlet_compiler::flq;
use flowlet_compiler::ir::Graph;
use std::path::PathBuf;

/// Arguments of `flowlet quantize`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet quantize models/fashion/fashion.onnx -o fashion.flq
      (models/fashion/model.toml says what the .onnx cannot)
  flowlet quantize velocity.onnx -o m.flq --set t=0 --index label=10 --noise z --noise-at 0 --range -1,1
  flowlet quantize policy.onnx -o m.flq --calibrate recorded/    (recorded/<input>.npy, samples first)")]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The .flq to write [default: beside the model]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Number of noise samples, or a folder with <input>.npy, samples first [default: 64]
    #[arg(long, value_name = "N|DIR")]
    pub calibrate: Option<Calibrate>,
    /// What the .flq holds
    #[arg(long, value_enum, default_value_t = Precision::Int8)]
    pub precision: Precision,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the model, the options or the samples.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let model = Model::load(&args.model)?;
    let prepared = model.prepare(Some(args.precision), args.calibrate.as_ref())?;
    let path = args.output.clone().unwrap_or_else(|| args.model.model.with_extension("flq"));
    if path == args.model.model {
        anyhow::bail!("{} would be overwritten by its own result: add -o FILE", path.display());
    }
    let file = flq::write(&prepared.graph);
    write(&path, &file)?;
    let mut report = Report::new();
    report.notes = model.notes();
    summarise(&mut report, &prepared.graph, model.file_bytes, file.len());
    report.set("output", path.display().to_string());
    report.set("sha256", hex(&prepared.hash));
    report.line(format!("wrote {} ({}), sha256 {}", path.display(), bytes(file.len()), hex(&prepared.hash)));
    Ok(report)
}

fn summarise(report: &mut Report, graph: &Graph, before: usize, after: usize) {
    let fact = |key: &str| graph.meta(key).and_then(|v| v.parse::<usize>().ok());
    let params = fact("parameters").unwrap_or_else(|| graph.parameters());
    let rows = [
        ("params", fact("parameters_before"), Some(params)),
        ("norm_ops", fact("norm_ops_before"), fact("norm_ops_after")),
        ("time_ops", fact("time_ops_before"), fact("time_ops_after")),
        ("bytes", Some(before), Some(after)),
    ];
    let shown = |v: Option<usize>| v.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let mut table = Table::titled(&["", "before", "after"]);
    for (name, before, after) in rows {
        table.row([name.replace('_', " "), shown(before), shown(after)]);
        report.set(&format!("{name}_before"), before);
        report.set(&format!("{name}_after"), after);
    }
    report.set("name", graph.name.clone());
    report.set("precision", graph.meta("precision"));
    report.set("calibration", graph.meta("calibration"));
    report.table(&table);
    if let Some(calibration) = graph.meta("calibration") {
        report.line(format!("calibrated on {calibration}"));
    }
}
