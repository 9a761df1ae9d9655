//! `flowlet quantize`: import, fold, calibrate, write the `.flq`.

mod budget;
mod distance;
pub(crate) mod errors;
mod freeze;
mod hoist;
mod packs;
mod plot;
mod scales;
mod search;

use crate::calibrate::{Calibrate, held_out};
use crate::direction;
use crate::model::{Model, calibrated, quantise_with};
use crate::options::{ModelArgs, Precision, named, write};
use crate::report::{Report, Table, bytes, hex};
use budget::Budget;
use flowlet_compiler::flq;
use flowlet_compiler::hoist::SLOW;
use flowlet_compiler::ir::Graph;
use flowlet_compiler::quantize::{Ranges, Settings};
use std::borrow::Cow;
use std::path::PathBuf;

/// Arguments of `flowlet quantize`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet quantize models/fashion/fashion.onnx -o fashion.flq
      (models/fashion/model.toml says what the .onnx cannot)
  flowlet quantize velocity.onnx -o m.flq --set t=0 --index label=10 --noise z --noise-at 0 --range -1,1
  flowlet quantize policy.onnx -o m.flq --calibrate recorded/    (recorded/<input>.npy, samples first)
  flowlet quantize policy.onnx -o m.flp --calibrate recorded/ --slow image    ('encode' when there is an image, 'act' always)
  flowlet quantize day.onnx -o m.flp --pack night=night.onnx    (norms alone were trained again: one copy of the weights)
  flowlet quantize policy.onnx -o m.flq --budget action_linf=0.01rad --plot errors.svg
  flowlet quantize unet.onnx -o m.flq --freeze-norm snr=30dB")]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The .flq to write [default: beside the model], or a .flp with the entry points 'encode' and 'act'
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// An input that changes more slowly than the others: what it alone decides is computed by 'encode' and held, and 'act'
    /// starts from that, with the same bits. Several times for several inputs [default: slow = true of model.toml]
    #[arg(long, value_name = "NAME")]
    pub slow: Vec<String>,
    /// The same network under other norm factors: --pack night=night.onnx adds an entry point 'night' to the .flp beside 'base',
    /// over one copy of the weights. Several times for several packs
    #[arg(long, value_name = "NAME=FILE", value_parser = named::<PathBuf>, conflicts_with_all = ["slow", "fit_weights", "budget", "freeze_norm"])]
    pub pack: Vec<(String, PathBuf)>,
    /// Number of noise samples, or a folder with <input>.npy, samples first [default: 64]
    #[arg(long, value_name = "N|DIR")]
    pub calibrate: Option<Calibrate>,
    /// What the .flq holds
    #[arg(long, value_enum, default_value_t = Precision::Int8)]
    pub precision: Precision,
    /// How the range of a tensor is chosen: mse, min-max, entropy, percentile or percentile=SHARE
    #[arg(long, value_name = "METHOD", default_value_t = Ranges::Mse, help_heading = "Numbers")]
    pub ranges: Ranges,
    /// Round each layer's weights so that its output changes least on the calibration samples (GPTQ)
    #[arg(long, help_heading = "Numbers")]
    pub fit_weights: bool,
    /// Leave each bias as it is, and do not take off it the mean error of the rounded weights
    #[arg(long, help_heading = "Numbers")]
    pub keep_bias: bool,
    /// Search the three choices above, the range of single tensors last, until the output's error is inside: snr=25dB
    /// (over all samples), linf=0.01 or OUTPUT_linf=0.01rad (largest of all samples), fd=1.05x (Frechet distance over that of
    /// f32, on 2,000 pictures). Writes nothing when no choice is
    #[arg(long, value_name = "ERROR", conflicts_with_all = ["ranges", "fit_weights", "keep_bias"], help_heading = "Numbers")]
    pub budget: Option<Budget>,
    /// Write a picture of what the search tried
    #[arg(long, value_name = "FILE.svg", requires = "budget", help_heading = "Numbers")]
    pub plot: Option<PathBuf>,
    /// Replace norms with statistics of the sample by fixed ones, as many as keep the f32 output inside this error
    #[arg(long, value_name = "ERROR", help_heading = "Numbers")]
    pub freeze_norm: Option<Budget>,
    /// Write the scales of every layer for quantisation-aware training
    #[arg(long, value_name = "FILE.json", help_heading = "Numbers")]
    pub qat_scales: Option<PathBuf>,
    /// Samples that the error is measured on: noise that calibration did not use, or the samples of --calibrate DIR
    /// themselves. 0 measures nothing
    #[arg(long, value_name = "N", default_value = "16", help_heading = "Numbers")]
    pub measure: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The first given option that only a float model takes.
    fn numbers_option(&self) -> Option<&'static str> {
        [
            ("--ranges", self.ranges != Ranges::Mse),
            ("--fit-weights", self.fit_weights),
            ("--keep-bias", self.keep_bias),
            ("--budget", self.budget.is_some()),
            ("--freeze-norm", self.freeze_norm.is_some()),
            ("--qat-scales", self.qat_scales.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }

    fn settings(&self) -> Settings {
        Settings {
            ranges: self.ranges,
            tensors: Vec::new(),
            fit_weights: self.fit_weights,
            correct_bias: !self.keep_bias,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the model, the options or the samples.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let mut model = match args.pack.is_empty() {
        true => Model::load(&args.model)?,
        false => Model::load_with(&args.model, &packs::keep)?,
    };
    let mut report = Report::new();
    report.notes = model.notes();
    let written = args.output.clone().unwrap_or_else(|| PathBuf::from("model.flq"));
    let slow = if args.slow.is_empty() { model.slow.clone() } else { args.slow.clone() };
    if !slow.is_empty() && (!args.slow.is_empty() || written.extension().is_some_and(|e| e == "flp")) {
        model.graph.set_meta(SLOW, slow.join(","));
    }
    let Some(graph) = chosen(&mut report, &model, args)? else { return Ok(report) };
    let extension = if args.slow.is_empty() && args.pack.is_empty() { "flq" } else { "flp" };
    let path = args.output.clone().unwrap_or_else(|| args.model.model.with_extension(extension));
    let program = path.extension().is_some_and(|e| e == "flp");
    if let (false, Some(option)) =
        (program, [("--slow", args.slow.len()), ("--pack", args.pack.len())].iter().find(|(_, n)| *n > 0))
    {
        anyhow::bail!("{} makes a program of several entry points: give -o FILE.flp", option.0);
    }
    if path == args.model.model {
        anyhow::bail!("{} would be overwritten by its own result: add -o FILE", path.display());
    }
    let file = match program {
        true if !args.pack.is_empty() => packs::packed(&mut report, args, &graph)?,
        true => hoist::hoisted(&mut report, &graph, &slow)?,
        false => flq::write(&graph),
    };
    let hash = flq::hash(&file);
    write(&path, &file)?;
    summarise(&mut report, &graph, model.file_bytes, file.len());
    report.set("output", path.display().to_string());
    report.set("sha256", hex(&hash));
    report.line(format!("wrote {} ({}), sha256 {}", path.display(), bytes(file.len()), hex(&hash)));
    Ok(report)
}

/// The graph to write; none when no choice is inside the budget, which the report says.
fn chosen<'m>(report: &mut Report, model: &'m Model, args: &Args) -> anyhow::Result<Option<Cow<'m, Graph>>> {
    if model.precision() == Precision::Int8 {
        if let Some(option) = args.numbers_option() {
            anyhow::bail!("{} is already quantised, so that {option} has no effect on it", model.path.display());
        }
        return Ok(Some(model.prepare(Some(args.precision), args.calibrate.as_ref())?.graph));
    }
    direction::check(report, model, args.calibrate.as_ref())?;
    let samples = match args.measure {
        0 if args.budget.is_none() && args.freeze_norm.is_none() => Vec::new(),
        n => held_out(&model.graph, args.calibrate.as_ref(), n.max(1))?,
    };
    let mut float = Cow::Borrowed(&model.graph);
    if let Some(budget) = &args.freeze_norm {
        float = Cow::Owned(freeze::freeze(report, &model.graph, args.calibrate.as_ref(), budget, &samples)?);
    }
    if let Some(path) = &args.qat_scales {
        let layers = calibrated(&float, args.calibrate.as_ref(), &args.settings())?.layer_scales(&args.settings())?;
        write(path, format!("{:#}\n", scales::to_json(&layers)).as_bytes())?;
        report.line(format!("wrote {}: scales of {} layers", path.display(), layers.len()));
        report.set("qat_scales", path.display().to_string());
    }
    if args.precision == Precision::F32 {
        if args.budget.is_some() {
            anyhow::bail!("--budget bounds the error of int8: leave --precision f32 out");
        }
        return Ok(Some(float));
    }
    let int8 = match &args.budget {
        Some(budget) => {
            let plot = args.plot.as_deref();
            match search::search(
                report,
                &model.path,
                (&model.graph, &float),
                args.calibrate.as_ref(),
                budget,
                &samples,
                plot,
            )? {
                Some(int8) => int8,
                None => return Ok(None),
            }
        }
        None => quantise_with(&float, args.calibrate.as_ref(), &args.settings())?,
    };
    if !samples.is_empty() {
        errors::summary(report, &errors::measure(&model.graph, &int8, &samples)?);
    }
    Ok(Some(Cow::Owned(int8)))
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
