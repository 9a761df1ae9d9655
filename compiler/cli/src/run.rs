//! `flowlet run`: a contact sheet from seeds, or arrays in and arrays out.

use crate::calibrate::Calibrate;
use crate::engines::{Float, with_engine};
use crate::feeds::{Samples, Source, array};
use crate::model::Model;
use crate::options::{ModelArgs, RunPrecision, named, write};
use crate::progress::Bar;
use crate::report::Report;
use crate::sheet::Sheet;
use anyhow::{Context, bail};
use flowlet::Digester;
use flowlet_compiler::ir::{Def, Graph, InputKind, ValueId};
use flowlet_float::Weights;
use flowlet_score::npy::Array;
use flowlet_score::{Engine, Outcome, map_samples};
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Arguments of `flowlet run`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet run fashion.flq --seed 1 --count 8 --out sheet.png        every class, 8 seeds
  flowlet run fashion.flq --seed 1 --label sneaker --out shoe.png
  flowlet run policy.flq --input obs=obs.npy --out actions/         actions/<output>.npy, samples first
  flowlet run any.onnx --shape x=1x3x32x32 --input x=x.npy --out y/")]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// First seed of the noise input
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Number of seeds
    #[arg(long, value_name = "N", default_value = "1")]
    pub count: NonZeroUsize,
    /// Label by number or by class name, or 'all' [default: all]
    #[arg(long, value_name = "K|NAME|all")]
    pub label: Option<String>,
    /// Read an input from an array: one sample, or samples first
    #[arg(long, value_name = "NAME=FILE.npy", value_parser = named::<PathBuf>)]
    pub input: Vec<(String, PathBuf)>,
    /// A .png for a contact sheet, or a folder for one .npy for each output
    #[arg(long, value_name = "FILE.png|DIR")]
    pub out: Option<PathBuf>,
    /// Arithmetic [default: what the file holds]
    #[arg(long, value_enum)]
    pub precision: Option<RunPrecision>,
    /// For int8 from an .onnx: number of noise samples, or a folder with <input>.npy [default: 64]
    #[arg(long, value_name = "N|DIR")]
    pub calibrate: Option<Calibrate>,
    /// Threads; the result does not depend on it
    #[arg(long, value_name = "N", default_value = "1")]
    pub threads: NonZeroUsize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the model, an array or an option.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let model = Model::load(&args.model)?;
    let prepared = model.prepare(args.precision.map(RunPrecision::held), args.calibrate.as_ref())?;
    let float = Float::Fast(args.precision.map_or(Weights::F32, RunPrecision::weights));
    let graph = &*prepared.graph;
    let draws = Draws::choose(graph, args)?;
    let outcomes = with_engine(graph, prepared.hash, float, |engine| outcomes(engine, &draws.samples, args.threads))?;
    let mut report = Report::new();
    report.notes = model.notes();
    let precision = args.precision.map_or_else(|| graph.meta("precision").unwrap_or("f32"), |p| p.name());
    report.set("model", graph.name.clone());
    report.set("precision", precision);
    report.set("samples", outcomes.len());
    report.set("draws", draws.listed());
    report.line(format!("{}: {} samples in {precision}", graph.name, outcomes.len()));
    if let Some(digest) = digest(&outcomes) {
        report.set("digest", digest.clone());
        report.line(format!("digest {digest}{}", draws.described()));
    }
    match &args.out {
        Some(path) if path.extension().is_some_and(|e| e == "png") => {
            save_sheet(graph, &outcomes, draws.columns, path)?;
            report.line(format!("wrote {}", path.display()));
            report.set("out", path.display().to_string());
        }
        Some(folder) => {
            for path in save_arrays(graph, &outcomes, folder)? {
                report.line(format!("wrote {path}"));
            }
            report.set("out", folder.display().to_string());
        }
        None => print_values(&mut report, graph, &outcomes),
    }
    Ok(report)
}

/// Runs all samples, in their order whatever the number of threads.
fn outcomes(engine: &Engine<'_>, samples: &Samples, threads: NonZeroUsize) -> anyhow::Result<Vec<Outcome>> {
    let bar = Bar::new("running", samples.count());
    let progress = |done: usize| bar.at(done);
    let run = |worker: &mut flowlet_score::Worker<'_, '_>, i: usize| worker.run(&samples.feeds(i));
    Ok(map_samples(samples.count(), threads, &progress, || engine.worker(), run)?)
}

/// SHA-256 over the outputs, of integer plans only.
fn digest(outcomes: &[Outcome]) -> Option<String> {
    let mut digester = Digester::new();
    for outcome in outcomes {
        if outcome.raw.is_empty() {
            return None;
        }
        outcome.raw.iter().for_each(|bytes| digester.add_bytes(bytes));
    }
    Some(digester.finish().to_string())
}

/// What is run: seeds outside, labels inside, in this order.
struct Draws {
    samples: Samples,
    seeds: Vec<u64>,
    labels: Vec<usize>,
    columns: usize,
}

impl Draws {
    fn choose(graph: &Graph, args: &Args) -> anyhow::Result<Self> {
        let name = |id: ValueId| graph.value(id).name.as_str();
        let known = || graph.inputs.iter().map(|&id| name(id)).collect::<Vec<_>>().join(", ");
        if let Some((unknown, _)) = args.input.iter().find(|(n, _)| !graph.inputs.iter().any(|&id| name(id) == n)) {
            bail!("--input {unknown}: the model has no such input; its inputs are {}", known());
        }
        let file = |id: ValueId| args.input.iter().find(|(n, _)| n == name(id)).map(|(_, path)| path.as_path());
        let mut arrays = Vec::new();
        for &id in &graph.inputs {
            let read = |path: &Path| array(graph, id, path).with_context(|| format!("--input {}", name(id)));
            arrays.push(file(id).map(read).transpose()?);
        }
        let open_noise: Vec<ValueId> = open(graph, &arrays, |def| *def == Def::Input(InputKind::Tensor));
        let open_index: Vec<ValueId> = open(graph, &arrays, |def| *def != Def::Input(InputKind::Tensor));
        let noise = graph.meta("noise");
        if let Some(&id) = open_noise.iter().find(|&&id| noise != Some(name(id))) {
            bail!("input '{0}' has no value: add --input {0}=FILE.npy", name(id));
        }
        if let (Some(&id), None) = (open_noise.first(), args.seed) {
            bail!("input '{0}' reads noise: add --seed N, or --input {0}=FILE.npy", name(id));
        }
        if open_index.len() > 1 {
            bail!("{} integer inputs are open: give all but one as --input NAME=FILE.npy", open_index.len());
        }
        let labels = match open_index.first() {
            Some(&id) => labels(graph, id, args.label.as_deref().unwrap_or("all"))?,
            None if args.label.is_some() => bail!("--label: no integer input is open; the inputs are {}", known()),
            None => Vec::new(),
        };
        if args.seed.is_some() && open_noise.is_empty() {
            bail!("--seed: no input reads noise; the inputs are {}", known());
        }
        let rows = arrays.iter().flatten().map(Source::count).max();
        if rows.is_some() && labels.len() > 1 {
            let count = labels.len();
            bail!("with --input, give one --label, or the labels as --input too (--label all runs {count} labels)");
        }
        // Each row of an array gets a seed of its own.
        let count = if args.count.get() == 1 { rows.unwrap_or(1) } else { args.count.get() };
        let seeds: Vec<u64> = match args.seed {
            Some(first) => (0..count as u64).map(|i| first.wrapping_add(i)).collect(),
            None => Vec::new(),
        };
        let pairs: Vec<(u64, usize)> = seeds
            .iter()
            .copied()
            .chain(seeds.is_empty().then_some(0))
            .flat_map(|seed| {
                let labels: &[usize] = if labels.is_empty() { &[0] } else { &labels };
                labels.iter().map(move |&label| (seed, label)).collect::<Vec<_>>()
            })
            .collect();
        let filled = arrays
            .into_iter()
            .zip(&graph.inputs)
            .map(|(source, id)| match source {
                Some(source) => source,
                None if open_index.contains(id) => Source::Indices(pairs.iter().map(|(_, l)| *l).collect()),
                None => Source::Seeds(pairs.iter().map(|(s, _)| *s).collect()),
            })
            .collect();
        let samples = Samples::new(graph, filled)?;
        let columns = if labels.len() > 1 { labels.len() } else { 10 };
        Ok(Draws { samples, seeds, labels, columns })
    }

    fn listed(&self) -> serde_json::Value {
        json!({ "order": "for each seed, for each label", "seeds": self.seeds, "labels": self.labels })
    }

    fn described(&self) -> String {
        let (Some(first), Some(last)) = (self.seeds.first(), self.seeds.last()) else { return String::new() };
        let labels: Vec<String> = self.labels.iter().map(usize::to_string).collect();
        let each = if labels.is_empty() { String::new() } else { format!(", labels {} for each", labels.join(" ")) };
        format!(" (seeds {first} to {last}{each})")
    }
}

/// Inputs of a kind that no array serves.
fn open(graph: &Graph, arrays: &[Option<Source>], kind: impl Fn(&Def) -> bool) -> Vec<ValueId> {
    let inputs = graph.inputs.iter().zip(arrays);
    inputs.filter(|(id, source)| source.is_none() && kind(&graph.value(**id).def)).map(|(id, _)| *id).collect()
}

/// The labels that `--label` names.
fn labels(graph: &Graph, id: ValueId, label: &str) -> anyhow::Result<Vec<usize>> {
    let value = graph.value(id);
    let count = match value.def {
        Def::Input(InputKind::Index { count }) => count,
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => 1,
    };
    let classes: Vec<&str> =
        graph.meta(&format!("labels.{}", value.name)).map_or_else(Vec::new, |c| c.split(',').collect());
    if label == "all" {
        return Ok((0..count).collect());
    }
    let number = label.parse().ok().or_else(|| classes.iter().position(|c| *c == label));
    match number {
        Some(k) if k < count => Ok(vec![k]),
        _ => {
            let names = if classes.is_empty() { String::new() } else { format!(", or {}", classes.join(", ")) };
            bail!("--label {label}: '{}' takes 0 to {}{names}, or 'all'", value.name, count - 1)
        }
    }
}

fn save_sheet(graph: &Graph, outcomes: &[Outcome], columns: usize, path: &Path) -> anyhow::Result<()> {
    let Some(&output) = graph.outputs.first() else { bail!("the model has no output") };
    let mut sheet = Sheet::new(&graph.ty(output).dims, columns)?;
    outcomes.iter().filter_map(|o| o.values.first()).for_each(|values| sheet.push(values));
    sheet.save(path)
}

fn save_arrays(graph: &Graph, outcomes: &[Outcome], folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut paths = Vec::new();
    for (number, &id) in graph.outputs.iter().enumerate() {
        let value = graph.value(id);
        let values: Vec<f32> = outcomes.iter().filter_map(|o| o.values.get(number)).flatten().copied().collect();
        let one = if value.ty.dims.first() == Some(&1) { &value.ty.dims[1..] } else { &value.ty.dims[..] };
        let shape: Vec<usize> = std::iter::once(outcomes.len()).chain(one.iter().copied()).collect();
        let path = folder.join(format!("{}.npy", value.name));
        write(&path, &Array::f32(&shape, values).write())?;
        paths.push(format!("{} {shape:?}", path.display()));
    }
    Ok(paths)
}

/// Without `--out`, small outputs are printed.
fn print_values(report: &mut Report, graph: &Graph, outcomes: &[Outcome]) {
    const SHOWN: usize = 16;
    for (i, outcome) in outcomes.iter().enumerate().take(SHOWN) {
        for (values, &id) in outcome.values.iter().zip(&graph.outputs) {
            let shown: Vec<String> = values.iter().take(SHOWN).map(|v| format!("{v:.4}")).collect();
            let more = if values.len() > SHOWN { " ..." } else { "" };
            report.line(format!("sample {i} {}: {}{more}", graph.value(id).name, shown.join(" ")));
        }
    }
}
