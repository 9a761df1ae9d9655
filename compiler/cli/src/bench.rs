//! `flowlet bench`: time and memory on this host.

mod layers;

use crate::calibrate::Calibrate;
use crate::engines::{Float, with_engine};
use crate::feeds::{Samples, Source};
use crate::model::Model;
use crate::options::{ModelArgs, RunPrecision};
use crate::progress::Bar;
use crate::report::{Report, Table, bytes};
use flowlet_compiler::flq;
use flowlet_compiler::ir::{Def, Graph, InputKind};
use flowlet_float::Weights;
use flowlet_score::{Engine, map_samples};
use std::num::NonZeroUsize;
use std::time::Instant;

/// Arguments of `flowlet bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Example:
  flowlet bench fashion.flq --threads 2 --layers
Compare medians of runs under a low load only; the load is printed. With --streams N, N samples run at once and the
time is that of one of them. This is the time of this host's kernels, and says nothing about a microcontroller.")]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Timed runs, after a tenth as many that are not timed
    #[arg(long, value_name = "N", default_value = "50")]
    pub runs: NonZeroUsize,
    /// Threads that share the work of a sample
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Samples that run at the same time, each with threads of its own
    #[arg(long, value_name = "N", default_value = "1")]
    pub streams: NonZeroUsize,
    /// Also the time of every layer; of f32 the shortest, on one thread
    #[arg(long)]
    pub layers: bool,
    /// Arithmetic [default: what the file holds]
    #[arg(long, value_enum)]
    pub precision: Option<RunPrecision>,
    /// For int8 from an .onnx: number of noise samples, or a folder with <input>.npy [default: 64]
    #[arg(long, value_name = "N|DIR")]
    pub calibrate: Option<Calibrate>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the model.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let model = Model::load(&args.model)?;
    let prepared = model.prepare(args.precision.map(RunPrecision::held), args.calibrate.as_ref())?;
    let float = Float::Fast(args.precision.map_or(Weights::F32, RunPrecision::weights));
    let graph = &*prepared.graph;
    let load = load_average();
    let before = resident("VmRSS:");
    let mut ms = with_engine(graph, prepared.hash, float, |engine| times(engine, args))?;
    let peak = resident("VmHWM:");
    ms.sort_by(f64::total_cmp);
    let at = |q: f64| ms.get(((ms.len() - 1) as f64 * q).round() as usize).copied().unwrap_or(f64::NAN);
    let (low, median, high) = (at(0.0), at(0.5), at(1.0));
    let spread = (at(0.75) - at(0.25)) / median;
    let mut report = Report::new();
    report.notes = model.notes();
    let precision = args.precision.map_or_else(|| graph.meta("precision").unwrap_or("f32"), |p| p.name());
    let mut table = Table::titled(&[
        "precision",
        "threads",
        "streams",
        "runs",
        "median ms",
        "min ms",
        "max ms",
        "quartiles / median",
    ]);
    table.row([
        precision.to_owned(),
        args.threads.to_string(),
        args.streams.to_string(),
        ms.len().to_string(),
        format!("{median:.3}"),
        format!("{low:.3}"),
        format!("{high:.3}"),
        format!("{:.1} %", spread * 100.0),
    ]);
    report.line(format!("{} on this host", graph.name));
    report.table(&table);
    if args.layers {
        match (flq::is_quantized(graph), float) {
            (false, Float::Fast(weights)) => layers::time_float(graph, weights, args, &mut report)?,
            (true, _) | (_, Float::Exact) => layers::time(graph, prepared.hash, args, &mut report)?,
        }
    }
    if let (Some(before), Some(peak)) = (before, peak) {
        report.line(format!("memory of the process: peak {}, {} before the runs", bytes(peak), bytes(before)));
    }
    if let Some(load) = load {
        report.line(format!("load average before: {load:.2}"));
    }
    for (key, value) in [("median_ms", median), ("min_ms", low), ("max_ms", high), ("spread", spread)] {
        report.set(key, value);
    }
    report.set("model", graph.name.clone());
    report.set("precision", precision);
    report.set("threads", args.threads.get());
    report.set("streams", args.streams.get());
    report.set("runs", ms.len());
    report.set("peak_rss_bytes", peak);
    report.set("rss_before_bytes", before);
    report.set("load_average", load);
    Ok(report)
}

/// Milliseconds of each timed run.
fn times(engine: &Engine<'_>, args: &Args) -> anyhow::Result<Vec<f64>> {
    let samples = inputs(engine.graph())?;
    let warm = args.runs.get().div_ceil(10).max(args.streams.get());
    let bar = Bar::new("timing", args.runs.get() + warm);
    let count = |done: usize| bar.at(done);
    let run = |worker: &mut flowlet_score::Worker<'_, '_>, i: usize| {
        let feeds = samples.feeds(i % samples.count());
        let start = Instant::now();
        std::hint::black_box(worker.run(&feeds)?);
        Ok::<f64, flowlet_score::ScoreError>(start.elapsed().as_secs_f64() * 1e3)
    };
    let all = map_samples(args.runs.get() + warm, args.streams, &count, || engine.worker_on(args.threads.get()), run)?;
    Ok(all.into_iter().skip(warm).collect())
}

/// Noise for the noise input, indices in turn, a slow wave for every other input: time does not depend on them.
fn inputs(graph: &Graph) -> anyhow::Result<Samples> {
    const VARIED: usize = 16;
    let source = |id| {
        let value = graph.value(id);
        match value.def {
            Def::Input(InputKind::Index { count }) => Source::Indices((0..VARIED).map(|i| i % count).collect()),
            _ if graph.meta("noise") == Some(value.name.as_str()) => Source::Seeds((0..VARIED as u64).collect()),
            Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => {
                let width = value.ty.elements();
                let values = (0..width).map(|i| (i as f32 * 0.1).sin()).collect();
                Source::Array { values, width, index: false }
            }
        }
    };
    Samples::new(graph, graph.inputs.iter().map(|&id| source(id)).collect())
}

fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

/// A line of `/proc/self/status`, in bytes; `None` where there is no such file.
fn resident(key: &str) -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix(key))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}
