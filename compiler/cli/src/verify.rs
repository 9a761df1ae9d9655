//! `flowlet verify`: a model against its author's own outputs, and each form of it against the one before.
//!
//! author's outputs - imported graph - folded graph - int8 in the interpreter - int8 in the executor

mod bits;
mod golden;
mod trace;

use crate::calibrate::Calibrate;
use crate::feeds::Samples;
use crate::model::{Model, Prepared, quantise};
use crate::options::{ModelArgs, Precision};
use crate::report::Report;
use anyhow::{Context, bail};
use flowlet_compiler::compile::optimise;
use flowlet_compiler::flq;
use flowlet_compiler::ir::Graph;
use flowlet_compiler::passes::Options;
use flowlet_score::{Engine, all_threads, map_samples, psnr_db, snr_db};
use golden::{Difference, difference, expected};
use serde_json::json;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Arguments of `flowlet verify`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet verify models/fashion/fashion.onnx --golden models/fashion/golden
  flowlet verify fashion.flq --golden models/fashion/golden
DIR holds <input>.npy and <output>.npy, samples first, as numpy.save writes them. Further files named after nodes of
the graph ('flowlet explain --text' prints the names) are compared too and say where a model leaves its author's.")]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Folder with the author's inputs and outputs
    #[arg(long, value_name = "DIR")]
    pub golden: PathBuf,
    /// Largest difference, as a share of the output's range [default: 1e-4; of an .onnx against its author's outputs
    /// the absolute 'tolerance' of model.toml, if it is there]
    #[arg(long, value_name = "X")]
    pub tolerance: Option<f64>,
    /// Check this arithmetic only [default: all that the file gives]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// For int8 from an .onnx: number of noise samples, or a folder with <input>.npy [default: 64]
    #[arg(long, value_name = "N|DIR")]
    pub calibrate: Option<Calibrate>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

const TOLERANCE: f64 = 1e-4;

/// Runs the command. The report has failed when two forms differ.
///
/// # Errors
/// What is wrong with the model or the arrays.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    if !args.golden.is_dir() {
        bail!("--golden {}: there is no such folder", args.golden.display());
    }
    let model = Model::load(&args.model)?;
    let mut report = Report::new();
    report.notes = model.notes();
    report.set("model", model.graph.name.clone());
    if let Some(imported) = &model.imported {
        imported_against_golden(&mut report, args, &model, imported)?;
        folded_against_imported(&mut report, args, &model, imported)?;
    } else if model.precision() == Precision::F32 {
        samples_against_golden(&mut report, args, &model.graph)?;
    }
    match int8(&model, args) {
        Ok(Some(prepared)) => int8_checks(&mut report, args, &model, &prepared)?,
        Ok(None) => {}
        Err(error) if args.precision.is_none() => report.line(format!("int8: not checked: {error:#}")),
        Err(error) => return Err(error),
    }
    report.set("passed", !report.failed);
    report.line(if report.failed { "FAILED" } else { "passed" });
    Ok(report)
}

/// The outputs of all samples, one list for each.
fn outputs(graph: &Graph, samples: &Samples, which: &[usize]) -> anyhow::Result<Vec<Vec<Vec<f32>>>> {
    let engine = Engine::interpreter(graph);
    let run = |worker: &mut flowlet_score::Worker<'_, '_>, i: usize| {
        worker.run(&samples.feeds(which[i])).map(|outcome| outcome.values)
    };
    Ok(map_samples(which.len(), all_threads(), &|_| {}, || engine.worker(), run)?)
}

fn slices(all: &[Vec<f32>]) -> Vec<&[f32]> {
    all.iter().map(Vec::as_slice).collect()
}

fn told(report: &mut Report, key: &str, what: &str, found: &Difference, passed: bool) {
    let verdict = if passed { "ok" } else { "DIFFERS" };
    report.line(format!(
        "{what}: largest difference {:.2e} ({:.2e} of the range) at sample {}, element {}: {verdict}",
        found.absolute, found.relative, found.sample, found.element
    ));
    report.set(key, json!({ "absolute": found.absolute, "relative": found.relative, "passed": passed }));
    report.failed |= !passed;
}

fn imported_against_golden(report: &mut Report, args: &Args, model: &Model, imported: &Graph) -> anyhow::Result<()> {
    let samples = Samples::from_folder(imported, &args.golden).context("golden inputs")?;
    let all: Vec<usize> = (0..samples.count()).collect();
    let found = outputs(imported, &samples, &all)?;
    report.set("samples", samples.count());
    for (number, &id) in imported.outputs.iter().enumerate() {
        let name = &imported.value(id).name;
        let path = file_of(&args.golden, name);
        let author = expected(&path, imported.ty(id).elements(), samples.count())?;
        let one: Vec<&[f32]> = found.iter().filter_map(|f| f.get(number)).map(Vec::as_slice).collect();
        let d = difference(&author.chunks(imported.ty(id).elements()).collect::<Vec<_>>(), &one);
        let passed = match (args.tolerance, model.tolerance) {
            (None, Some(absolute)) => d.absolute <= absolute,
            (given, _) => d.relative <= given.unwrap_or(TOLERANCE),
        };
        told(report, "imported", &format!("{name}: imported graph against the author's output"), &d, passed);
        if !passed {
            let feeds = samples.feeds(d.sample);
            match trace::against_files(imported, &feeds, d.sample, &args.golden, args.tolerance.unwrap_or(TOLERANCE))? {
                Some((value, node)) => {
                    report.line(format!("  the first that differs is '{value}', node '{node}'"));
                    report.set("first_divergence", json!({ "value": value, "node": node }));
                }
                None => report.line("  no file of a node inside differs; save more of them to find the first"),
            }
        }
    }
    Ok(())
}

fn folded_against_imported(report: &mut Report, args: &Args, model: &Model, imported: &Graph) -> anyhow::Result<()> {
    let options = Options { flow: None, ..model.options.clone() };
    let folded = optimise(imported.clone(), &options)?;
    let tolerance = args.tolerance.unwrap_or(TOLERANCE);
    let before = Samples::from_folder(imported, &args.golden)?;
    let after = Samples::from_folder(&folded, &args.golden)?;
    let kept = golden::deployed(&folded, &args.golden, before.count())?;
    if kept.is_empty() {
        report.line("folded graph: no golden sample has the constants that the model is deployed with");
        return Ok(());
    }
    let (old, new) = (outputs(imported, &before, &kept)?, outputs(&folded, &after, &kept)?);
    for (number, &id) in imported.outputs.iter().enumerate() {
        let name = &imported.value(id).name;
        let pick =
            |all: &[Vec<Vec<f32>>]| -> Vec<Vec<f32>> { all.iter().filter_map(|o| o.get(number).cloned()).collect() };
        let (a, b) = (pick(&old), pick(&new));
        let d = difference(&slices(&a), &slices(&b));
        let passed = d.relative <= tolerance;
        told(report, "folded", &format!("{name}: folded graph against the imported one"), &d, passed);
        if !passed {
            let i = kept[d.sample];
            if let Some((value, node)) =
                trace::against_graph(imported, &before.feeds(i), &folded, &after.feeds(i), tolerance)?
            {
                report.line(format!("  the first that equals no tensor of the import is '{value}', node '{node}'"));
                report.set("first_divergence", json!({ "value": value, "node": node }));
            }
        }
    }
    Ok(())
}

/// A folded f32 graph against the author's outputs, carried through the sampler where the graph ends in one.
fn samples_against_golden(report: &mut Report, args: &Args, graph: &Graph) -> anyhow::Result<()> {
    let samples = Samples::from_folder(graph, &args.golden).context("golden inputs")?;
    let kept = golden::deployed(graph, &args.golden, samples.count())?;
    let Some(author) = golden::sampled(graph, &args.golden, &kept)? else {
        bail!("{} holds no output of this model: {}", args.golden.display(), golden::wanted(graph));
    };
    let found = outputs(graph, &samples, &kept)?;
    let first: Vec<&[f32]> = found.iter().filter_map(|o| o.first()).map(Vec::as_slice).collect();
    let d = difference(&slices(&author), &first);
    let passed = d.relative <= args.tolerance.unwrap_or(TOLERANCE);
    told(report, "folded", "folded graph against the author's output", &d, passed);
    Ok(())
}

/// The int8 graph to check, if one is wanted.
fn int8<'m>(model: &'m Model, args: &Args) -> anyhow::Result<Option<Prepared<'m>>> {
    match args.precision {
        Some(Precision::F32) => Ok(None),
        _ if model.precision() == Precision::Int8 => Ok(Some(model.prepare(None, args.calibrate.as_ref())?)),
        Some(Precision::Int8) | None => {
            let graph = quantise(&model.graph, args.calibrate.as_ref())?;
            let hash = flq::hash(&flq::write(&graph));
            Ok(Some(Prepared { graph: Cow::Owned(graph), hash }))
        }
    }
}

fn int8_checks(report: &mut Report, args: &Args, model: &Model, prepared: &Prepared<'_>) -> anyhow::Result<()> {
    let graph = &*prepared.graph;
    let samples = Samples::from_folder(graph, &args.golden).context("golden inputs")?;
    let kept = golden::deployed(graph, &args.golden, samples.count())?;
    let found = outputs(graph, &samples, &kept)?;
    let reference: Option<Vec<Vec<f32>>> = match model.precision() {
        Precision::F32 => {
            let inputs = Samples::from_folder(&model.graph, &args.golden)?;
            Some(outputs(&model.graph, &inputs, &kept)?.into_iter().filter_map(|o| o.into_iter().next()).collect())
        }
        Precision::Int8 => golden::sampled(graph, &args.golden, &kept)?,
    };
    match reference {
        Some(reference) => loss(report, graph, &reference, &found),
        None => report.line(format!("int8: no f32 reference; {}", golden::wanted(graph))),
    }
    match bits::first_difference(graph, prepared.hash, &samples, &kept)? {
        None => {
            report.line(format!(
                "int8: interpreter and executor agree in every byte of every step, {} samples",
                kept.len()
            ));
            report.set("mismatches", 0);
        }
        Some(found) => {
            report.line(format!("int8: interpreter and executor DIFFER first at {found}"));
            report.set("mismatches", 1);
            report.set("first_mismatch", found);
            report.failed = true;
        }
    }
    Ok(())
}

/// What int8 did to the samples: a statement, not a check.
fn loss(report: &mut Report, graph: &Graph, reference: &[Vec<f32>], found: &[Vec<Vec<f32>>]) {
    let first: Vec<&Vec<f32>> = found.iter().filter_map(|o| o.first()).collect();
    let all = |v: &mut dyn Iterator<Item = &Vec<f32>>| v.flatten().copied().collect::<Vec<f32>>();
    let (a, b) = (all(&mut reference.iter()), all(&mut first.iter().copied()));
    let snr = snr_db(&a, &b);
    report.set("snr_db", snr);
    let intensity = graph.outputs.first().and_then(|&id| graph.meta(&format!("unit.{}", graph.value(id).name)));
    if intensity.is_some_and(|u| u.starts_with("intensity")) {
        let mut each: Vec<f64> = reference.iter().zip(&first).map(|(a, b)| psnr_db(a, b)).collect();
        each.sort_by(f64::total_cmp);
        let median = each.get(each.len() / 2).copied().unwrap_or(f64::NAN);
        report.set("psnr_median_db", median);
        report.line(format!("int8 against f32: SNR {snr:.1} dB, PSNR {median:.1} dB (median of {})", each.len()));
    } else {
        report.line(format!("int8 against f32: SNR {snr:.1} dB"));
    }
}

/// The file of a value in a folder.
fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.npy"))
}
