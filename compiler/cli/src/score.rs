//! `flowlet score`: how good the pictures are that a model draws.

use crate::engines::with_engine;
use crate::model::{Model, Prepared};
use crate::options::{ModelArgs, Precision, threads};
use crate::progress::Bar;
use crate::report::{Report, Table};
use anyhow::{Context, anyhow, bail};
use flowlet_compiler::ir::Graph;
use flowlet_score::{Pictures, Scorer, Scores, all_threads, scored_pictures};
use serde_json::{Map, Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Arguments of `flowlet score`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet score models/fashion/fashion.onnx --samples 1000                 f32, and int8 against it
  flowlet score fashion.flq --against models/fashion/fashion.onnx --samples 10000
Sample i has seed i and label i modulo the number of labels. The distance depends on the number of samples: compare
only scores of the same number.")]
pub struct Args {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Number of pictures
    #[arg(long, value_name = "N", default_value = "1000")]
    pub samples: NonZeroUsize,
    /// A model whose f32 pictures are scored too, and compared with, seed by seed
    #[arg(long, value_name = "MODEL")]
    pub against: Option<PathBuf>,
    /// Folder with features and accuracy (.flq or .onnx), reference_mu.npy, reference_sigma.npy
    /// [default: 'scoring' beside the model's folder]
    #[arg(long, value_name = "DIR")]
    pub scoring: Option<PathBuf>,
    /// Threads; the scores do not depend on it [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the model or the folder.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let model = Model::load(&args.model)?;
    let reference = args.against.as_ref().map(|path| Model::load(&ModelArgs::of(path))).transpose()?;
    let folder = scoring_folder(args)?;
    let scorer = load_scorer(&folder)?;
    let threads = threads(args.threads, all_threads());
    let samples = args.samples.get();

    let mut rows: Vec<(&str, Scores)> = Vec::new();
    let mut f32_pictures = None;
    if let Some(source) = reference.as_ref().or((model.precision() == Precision::F32).then_some(&model)) {
        let prepared = source.prepare(Some(Precision::F32), None)?;
        let pictures = draw(&prepared, samples, threads)?;
        rows.push(("f32", judge(&scorer, &pictures, None, threads)?));
        f32_pictures = Some(pictures);
    }
    let prepared = model.prepare(Some(Precision::Int8), None)?;
    let pictures = draw(&prepared, samples, threads)?;
    rows.push(("int8", judge(&scorer, &pictures, f32_pictures.as_ref(), threads)?));

    let mut report = Report::new();
    report.notes = model.notes();
    report.set("model", model.graph.name.clone());
    report.set("scores_n", samples);
    report.set("scores", rows.iter().map(|(name, s)| ((*name).to_owned(), fields(s))).collect::<Map<_, _>>());
    report.line(format!("{}: {samples} pictures", model.graph.name));
    report.table(&table(&rows));
    Ok(report)
}

fn draw(prepared: &Prepared<'_>, samples: usize, threads: NonZeroUsize) -> anyhow::Result<Pictures> {
    let bar = Bar::new(&format!("drawing in {}", prepared.graph.meta("precision").unwrap_or("f32")), samples);
    let progress = |done: usize| bar.at(done);
    with_engine(&prepared.graph, prepared.hash, |engine| Ok(scored_pictures(engine, samples, threads, &progress)?))
}

fn judge(
    scorer: &Scorer,
    pictures: &Pictures,
    reference: Option<&Pictures>,
    threads: NonZeroUsize,
) -> anyhow::Result<Scores> {
    let bar = Bar::new("scoring", 2 * pictures.len());
    Ok(scorer.score(pictures, reference, threads, &|done| bar.at(done))?)
}

fn fields(scores: &Scores) -> Value {
    let f = scores.fidelity;
    json!({ "fd": scores.fd, "accuracy": scores.accuracy, "psnr_median_db": f.map(|f| f.psnr_median_db),
            "psnr_p5_db": f.map(|f| f.psnr_p5_db), "snr_db": f.map(|f| f.snr_db) })
}

fn table(rows: &[(&str, Scores)]) -> Table {
    let mut table = Table::titled(&["", "FD", "accuracy", "PSNR median dB", "PSNR 5 % dB", "SNR dB"]);
    for (name, s) in rows {
        let db = |v: Option<f64>| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.2}"));
        table.row([
            (*name).to_owned(),
            format!("{:.3}", s.fd),
            format!("{:.4}", s.accuracy),
            db(s.fidelity.map(|f| f.psnr_median_db)),
            db(s.fidelity.map(|f| f.psnr_p5_db)),
            db(s.fidelity.map(|f| f.snr_db)),
        ]);
    }
    table
}

fn scoring_folder(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &args.scoring {
        return Ok(folder.clone());
    }
    let beside = |model: &Path| Some(model.canonicalize().ok()?.parent()?.parent()?.join("scoring"));
    let candidates = std::iter::once(&args.model.model).chain(&args.against).filter_map(|m| beside(m));
    candidates.into_iter().find(|folder| folder.is_dir()).ok_or_else(|| {
        anyhow!("there is no folder 'scoring' beside the model's: give --scoring DIR, as models/scoring")
    })
}

/// A scorer from a folder: networks as `.flq` or `.onnx`, statistics as `.npy`.
///
/// # Errors
/// When a file is missing or does not fit.
pub fn load_scorer(folder: &Path) -> anyhow::Result<Scorer> {
    let network = |name: &str| -> anyhow::Result<Graph> {
        let paths = ["flq", "onnx"].map(|e| folder.join(name).with_extension(e));
        let Some(path) = paths.iter().find(|p| p.exists()) else {
            bail!("{} holds neither {name}.flq nor {name}.onnx", folder.display());
        };
        Ok(Model::load(&ModelArgs::of(path))?.float()?.clone())
    };
    let networks = network("features").and_then(|f| Ok((f, network("accuracy")?)));
    let (features, accuracy) = networks.context("the scoring networks cannot be used")?;
    Ok(Scorer::new(features, accuracy, Scorer::reference(folder)?)?)
}
