//! `flowlet score`: how good the pictures are that a model draws, or that an array holds.

mod networks;
mod samples;
mod source;
mod table;

pub use networks::Networks;
pub use samples::{OptionalModel, SampleSource};

use crate::options::{ModelArgs, Precision, threads, write};
use crate::progress::Bar;
use crate::report::Report;
use anyhow::{anyhow, bail};
use flowlet::Digester;
use flowlet_score::{Pictures, Reference, Scorer, Scores, all_threads};
use serde_json::Map;
use source::Source;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Arguments of `flowlet score`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  flowlet score models/fashion/fashion.onnx --samples 1000                 f32, and int8 against it
  flowlet score fashion.flq --against models/fashion/fashion.onnx --samples 10000
  flowlet score fashion.flq --draws 5                                      with a confidence interval
  flowlet score models/digits/model.toml --program euler_4                 a program of many steps, f32 and int8
  flowlet score models/digits/programs/euler_4.flp                         the same from its file
  flowlet score --samples pictures.npy --scoring models/scoring            pictures of any other software
  flowlet score --samples real.npy --features net.onnx --write-reference stats.npz
  flowlet score my.onnx --features net.onnx --reference stats.npz          in your own feature network
Picture i has seed i and label i modulo the number of labels that the classifier knows; the next draw goes on with the
next seeds. The distance, precision and recall depend on the number of pictures: compare only scores of the same number.")]
pub struct Args {
    /// The model; not needed when --samples names a file.
    #[command(flatten)]
    pub model: OptionalModel,
    /// Number of pictures that the model draws, or pictures: [N, C, H, W], numbers in 0..1 or uint8
    #[arg(long, value_name = "N|FILE.npy", default_value = "1000")]
    pub samples: SampleSource,
    /// Score this program of MODEL, which is a model.toml then
    #[arg(long, value_name = "NAME")]
    pub program: Option<String>,
    /// Labels of the pictures of a file [default: picture i has label i modulo the number of labels]
    #[arg(long, value_name = "FILE.npy")]
    pub labels: Option<PathBuf>,
    /// A model whose f32 pictures are scored too, and compared with, seed by seed; for pictures of a file, another file
    #[arg(long, value_name = "MODEL|FILE.npy")]
    pub against: Option<PathBuf>,
    /// Score this arithmetic only [default: int8, and f32 where it is known]
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Independent draws of so many pictures each; from two on, scores have a 95 % confidence interval
    #[arg(long, value_name = "N", default_value = "1")]
    pub draws: NonZeroUsize,
    /// Folder with features and accuracy (.flq or .onnx), reference_mu.npy, reference_sigma.npy
    /// [default: what the table 'scoring' of model.toml names, or 'scoring' beside the model's folder]
    #[arg(long, value_name = "DIR", help_heading = "Networks")]
    pub scoring: Option<PathBuf>,
    /// Feature network: one picture in, one vector out; goes with --reference
    #[arg(long, value_name = "MODEL", help_heading = "Networks")]
    pub features: Option<PathBuf>,
    /// Real data in that network: mu (D) and sigma (D x D), as pytorch-fid writes them; features (N x D) for precision and
    /// recall
    #[arg(long, value_name = "FILE.npz", help_heading = "Networks")]
    pub reference: Option<PathBuf>,
    /// Classifier: one picture in, logits out. Do not take one that a loss used
    #[arg(long, value_name = "MODEL", help_heading = "Networks")]
    pub accuracy: Option<PathBuf>,
    /// Write what the pictures look like in the feature network, for --reference, and score nothing
    #[arg(long, value_name = "FILE.npz", help_heading = "Networks", conflicts_with_all = ["reference", "draws", "against"])]
    pub write_reference: Option<PathBuf>,
    /// Threads; the scores do not depend on it [default: all cores]
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The scores of one set of pictures, one for each draw.
struct Row {
    name: String,
    draws: Vec<Scores>,
}

/// What was scored.
struct Scored {
    rows: Vec<Row>,
    /// Name of the feature network: distances in two do not compare.
    features: String,
    /// SHA-256 over the s8 pictures of all draws, if they come from integer arithmetic: those of every board.
    digest: Option<String>,
}

impl Args {
    /// Scores so many pictures of a model, everything else by default.
    pub fn of(model: impl Into<PathBuf>, samples: NonZeroUsize) -> Self {
        Args {
            model: OptionalModel::of(model),
            samples: SampleSource::Count(samples),
            program: None,
            labels: None,
            against: None,
            precision: None,
            draws: NonZeroUsize::MIN,
            scoring: None,
            features: None,
            reference: None,
            accuracy: None,
            write_reference: None,
            threads: None,
            json: false,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// What is wrong with the model, an array or the networks.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let mut report = Report::new();
    let threads = threads(args.threads, all_threads());
    let scored = match (&args.samples, &args.model.0) {
        (SampleSource::File(path), None) => {
            let networks = Networks::load(args)?;
            if args.draws.get() > 1 {
                bail!("--draws: a file is one draw; give the number of pictures to a model instead");
            }
            let pictures = samples::read_pictures(path, args.labels.as_deref(), &networks)?;
            report.set("samples", path.display().to_string());
            report.line(format!("{}: {} pictures", path.display(), pictures.len()));
            report.set("scores_n", pictures.len());
            if let Some(out) = &args.write_reference {
                return write_reference(report, &networks, &pictures, threads, out);
            }
            let reference = args.against.as_ref();
            let reference = reference.map(|path| samples::read_pictures(path, args.labels.as_deref(), &networks));
            let reference = reference.transpose()?;
            if reference.as_ref().is_some_and(|r| r.len() != pictures.len()) {
                bail!("--against holds another number of pictures than --samples");
            }
            let scores = judge(networks.scorer()?, &pictures, reference.as_ref(), threads)?;
            let rows = vec![Row { name: "pictures".to_owned(), draws: vec![scores] }];
            Scored { rows, features: networks.features.name.clone(), digest: None }
        }
        (SampleSource::File(_), Some(_)) => bail!("give a model, or --samples FILE.npy, not both"),
        (SampleSource::Count(_), None) => {
            bail!("nothing to score: give a model, or pictures as --samples FILE.npy")
        }
        (SampleSource::Count(samples), Some(model)) => {
            if args.labels.is_some() {
                bail!("--labels are those of the pictures of a file; a model is asked for every label in turn");
            }
            let source = Source::load(model, args.program.as_deref())?;
            report.notes = source.notes();
            report.set("model", source.name());
            report.set("scores_n", samples.get());
            report.set("draws", args.draws.get());
            let networks = Networks::load(args)?;
            if let Some(out) = &args.write_reference {
                let pictures = source.ready(args.precision)?.draw(&networks, samples.get(), 0, threads)?;
                return write_reference(report, &networks, &pictures, threads, out);
            }
            let draws = if args.draws.get() > 1 { format!("{} draws of ", args.draws) } else { String::new() };
            report.line(format!("{}: {draws}{samples} pictures", source.name()));
            score_source(&mut report, args, &source, samples.get(), &networks, threads)?
        }
    };
    report.set("scores", scored.rows.iter().map(|row| (row.name.clone(), table::fields(row))).collect::<Map<_, _>>());
    report.table(&table::table(&scored.rows));
    report.set("features", scored.features);
    report.set("bit_exact", scored.digest.is_some());
    report.set("digest", scored.digest.clone());
    if let Some(digest) = scored.digest {
        report
            .line(format!("int8: bit for bit the pictures of every board for these seeds and labels; digest {digest}"));
    }
    Ok(report)
}

/// Scores a model or a program draw by draw, so that only the pictures of one are in memory.
fn score_source(
    report: &mut Report,
    args: &Args,
    source: &Source,
    samples: usize,
    networks: &Networks,
    threads: NonZeroUsize,
) -> anyhow::Result<Scored> {
    let scorer = networks.scorer()?;
    let wanted = |precision| args.precision.is_none_or(|only| only == precision);
    let against = args.against.as_ref().map(|path| Source::load(&ModelArgs::of(path), None)).transpose()?;
    let float = against.as_ref().or((source.precision() == Precision::F32).then_some(source));
    // A file of int8 alone is asked for f32 only where somebody wants that, and then says why there is none.
    let asked = float.or((args.precision == Some(Precision::F32)).then_some(source));
    let float = asked.map(|source| source.ready(Some(Precision::F32))).transpose()?;
    let can_int8 = wanted(Precision::Int8) && !(source.is_file_of_f32() && args.precision.is_none());
    let int8 = can_int8.then(|| source.ready(Some(Precision::Int8))).transpose()?;
    if let Some(ready) = int8.as_ref().or(float.as_ref()) {
        let passes = ready.passes();
        report.set("passes", passes);
        if passes > 1 {
            report.line(format!("{passes} network passes a picture"));
        }
    }
    let (mut rows, mut digester, mut exact) = (Vec::new(), Digester::new(), int8.is_some());
    let mut keep = |precision: Precision, scores| match rows.iter_mut().find(|r: &&mut Row| r.name == precision.name())
    {
        Some(row) => row.draws.push(scores),
        None => rows.push(Row { name: precision.name().to_owned(), draws: vec![scores] }),
    };
    for number in 0..args.draws.get() {
        let reference = float.as_ref().map(|float| float.draw(networks, samples, number, threads)).transpose()?;
        if let Some(pictures) = reference.as_ref().filter(|_| wanted(Precision::F32)) {
            keep(Precision::F32, judge(scorer, pictures, None, threads)?);
        }
        if let Some(int8) = &int8 {
            let pictures = int8.draw(networks, samples, number, threads)?;
            exact &= !pictures.raw().is_empty();
            digester.add_bytes(pictures.raw());
            keep(Precision::Int8, judge(scorer, &pictures, reference.as_ref(), threads)?);
        }
    }
    Ok(Scored { rows, features: networks.features.name.clone(), digest: exact.then(|| digester.finish().to_string()) })
}

fn judge(
    scorer: &Scorer,
    pictures: &Pictures,
    reference: Option<&Pictures>,
    threads: NonZeroUsize,
) -> anyhow::Result<Scores> {
    let bar = Bar::new("scoring", scorer.work(pictures.len()));
    Ok(scorer.score(pictures, reference, threads, &|done| bar.at(done))?)
}

fn write_reference(
    mut report: Report,
    networks: &Networks,
    pictures: &Pictures,
    threads: NonZeroUsize,
    out: &std::path::Path,
) -> anyhow::Result<Report> {
    let bar = Bar::new("features", pictures.len());
    let rows = flowlet_score::features(&networks.features, pictures, threads, &|done| bar.at(done))?;
    let reference = Reference::fit(rows, networks.feature_count()?)?;
    write(out, &reference.to_npz()?)?;
    let (count, width) = (pictures.len(), reference.gaussian().dims());
    report.line(format!(
        "wrote {}: mean and covariance of {width} features, and those of {count} pictures",
        out.display()
    ));
    report.set("reference", out.display().to_string());
    Ok(report)
}

/// The scoring folder: the one given, or `scoring` beside the folder of a model.
fn scoring_folder(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(folder) = &args.scoring {
        return Ok(folder.clone());
    }
    // A program lies a folder deeper than its model.
    let beside = |model: &PathBuf| {
        let path = model.canonicalize().ok()?;
        let depth = if source::is_program(&path) { 4 } else { 3 };
        path.ancestors().take(depth).skip(2).map(|folder| folder.join("scoring")).find(|folder| folder.is_dir())
    };
    let models = args.model.0.iter().map(|m| &m.model).chain(&args.against);
    models.filter_map(beside).next().ok_or_else(|| {
        anyhow!(
            "there is no folder 'scoring' beside the model's: give --scoring DIR, as models/scoring, or a network as \
             --features MODEL --reference FILE.npz"
        )
    })
}
