//! `flowlet program`: samplers, inversion, steering and edits around a network, as static programs.

mod describe;
mod drive;
mod make;

pub use describe::{Kind, ProgramToml};
pub use drive::{Given, Outcome, Repair, Task, drive, repair};
pub use make::{Made, load, make, make_trajectory, range};

use crate::model::Model;
use crate::model_toml::ModelToml;
use crate::options::{ModelArgs, Precision, read, write};
use crate::progress::Bar;
use crate::report::{Report, Table, bytes, hex};
use crate::sheet::Sheet;
use anyhow::{Context, anyhow};
use clap::Subcommand;
use flowlet::Digester;
use flowlet_compiler::codegen::grouped;
use flowlet_compiler::flq;
use flowlet_compiler::ir::Graph;
use flowlet_compiler::lower::Lowered;
use flowlet_compiler::program::{Block, Instruction, LoweredProgram, Program, file, float, lower, text};
use flowlet_compiler::target::Target;
use flowlet_score::{Pictures, ProgramEngine, all_threads, map_samples, share_right};
use serde_json::json;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Arguments of `flowlet program`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub action: Action,
    /// Print one JSON object instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

const EXAMPLES: &str = "A model.toml names programs:
  [programs.euler_4]
  sampler = \"euler\"        # or heun, midpoint, rf-solver, reanchor, stochastic, stream, turbo, invert, rf-edit, flowchef, cycle, chain
  steps = 4

  flowlet program build models/digits/model.toml euler_4 -o euler_4.flp
  flowlet program run euler_4.flp --label all --out sheet.png
  flowlet program show euler_4.flp";

/// What `flowlet program` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Action {
    /// List the programs that a model.toml describes
    List {
        /// The model.toml
        config: PathBuf,
    },
    /// Fold, calibrate and quantise a program's networks, and write a .flp
    Build {
        /// The model.toml
        config: PathBuf,
        /// Name of the program in it
        name: String,
        /// The .flp to write
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
        /// Arithmetic of the networks
        #[arg(long, value_enum, default_value_t = Precision::Int8)]
        precision: Precision,
    },
    /// Run a program and look at what it makes
    Run(RunArgs),
    /// Print a program, what it needs and what each step costs
    Show {
        /// A .flp
        program: PathBuf,
        /// Lower for this target
        #[arg(long, default_value = "host")]
        target: String,
    },
}

/// Arguments of `flowlet program run`.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// A .flp
    pub program: PathBuf,
    /// First seed
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Number of seeds
    #[arg(long, default_value = "1")]
    pub count: NonZeroUsize,
    /// A label, several with commas, or 'all'
    #[arg(long)]
    pub label: Option<String>,
    /// Label of the second entry point of an edit
    #[arg(long)]
    pub to_label: Option<u16>,
    /// Array of samples that are inverted, encoded or observed, one a seed
    #[arg(long, value_name = "FILE.npy")]
    pub data: Option<PathBuf>,
    /// Labels of the data, in place of --label
    #[arg(long, value_name = "FILE.npy")]
    pub data_labels: Option<PathBuf>,
    /// Array of ones where a sample is observed [default: all but a box in the middle]
    #[arg(long, value_name = "FILE.npy")]
    pub mask: Option<PathBuf>,
    /// A classifier (.flq or .onnx): report the share of pictures that it gives to the label that was asked for
    #[arg(long, value_name = "MODEL")]
    pub accuracy: Option<PathBuf>,
    /// A picture (.png), or a folder for an array; a data range that is stated is mapped to 0..1
    #[arg(long, value_name = "PATH")]
    pub out: Option<PathBuf>,
}

/// Runs `flowlet program`.
///
/// # Errors
/// What is wrong with a file, a description or an argument.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    match &args.action {
        Action::List { config } => list(config),
        Action::Build { config, name, out, precision } => build(config, name, out, *precision),
        Action::Run(args) => execute(args),
        Action::Show { program, target } => show(program, target),
    }
}

fn list(config: &Path) -> anyhow::Result<Report> {
    let toml = describe(config)?;
    let mut report = Report::new();
    let mut table = Table::titled(&["program", "sampler", "steps"]);
    for (name, program) in &toml.programs {
        let times = program.times().with_context(|| format!("[programs.{name}]"))?;
        table.row([name.clone(), program.sampler.clone(), (times.len() - 1).to_string()]);
    }
    report.table(&table);
    report.set("programs", toml.programs.keys().cloned().collect::<Vec<_>>());
    Ok(report)
}

fn describe(config: &Path) -> anyhow::Result<ModelToml> {
    ModelToml::parse(&String::from_utf8_lossy(&read(config)?), config)
}

fn build(config: &Path, name: &str, out: &Path, precision: Precision) -> anyhow::Result<Report> {
    let made = make(config, name, precision)?;
    let bytes = file::write(&made.program, &made.graphs);
    write(out, &bytes)?;
    let mut report = Report::new();
    report.line(format!("{}: {} bytes, program {}", out.display(), bytes.len(), hex(&flq::hash(&bytes))));
    costs(&mut report, &made.program, &made.graphs, flq::hash(&bytes), &Target::host())?;
    report.set("out", out.display().to_string());
    Ok(report)
}

/// A program with its networks, lowered for a target or bound to f32 networks.
fn bind(program: &Program, graphs: &[Graph], hash: [u8; 32], target: &Target) -> anyhow::Result<LoweredProgram> {
    let int8 = graphs.iter().all(flq::is_quantized);
    let bound = if int8 { lower(program, hash, graphs, target) } else { float(program, graphs) };
    bound.map_err(|e| anyhow!("{e}"))
}

fn costs(
    report: &mut Report,
    program: &Program,
    graphs: &[Graph],
    hash: [u8; 32],
    target: &Target,
) -> anyhow::Result<()> {
    let lowered = bind(program, graphs, hash, target)?;
    let evaluations: Vec<(String, usize)> =
        program.entries.iter().map(|e| (e.name.clone(), program.evaluations(&e.name))).collect();
    for (entry, n) in &evaluations {
        report.line(format!("entry {entry}: {n} network passes"));
    }
    report.line(format!(
        "RAM {}: arena {}, lanes {}, held tensors {}",
        bytes(lowered.ram_bytes()),
        bytes(lowered.arena_bytes()),
        bytes(4 * lowered.words),
        bytes(lowered.held_bytes)
    ));
    report.line(format!(
        "flash {}: weights and tables {}, constants {}",
        bytes(lowered.weights().len() + 4 * lowered.constants.len()),
        bytes(lowered.weights().len()),
        bytes(4 * lowered.constants.len())
    ));
    // A derived network reads its base's tables.
    let own = lowered.nets.iter().zip(&program.nets).filter(|(_, net)| net.of.is_none());
    let tables: usize = own.map(|(net, _)| net.row_bytes()).sum();
    if tables > 0 {
        report.line(format!("one more step and label: {} of i32 biases", bytes(tables)));
    }
    report.set("evaluations", json!(evaluations.into_iter().collect::<std::collections::BTreeMap<_, _>>()));
    let calls = |block: &Block| -> u64 {
        let nets =
            block.code.iter().filter_map(|i| if let Instruction::Call { net, .. } = i { Some(*net) } else { None });
        block.rounds as u64 * nets.filter_map(|net| lowered.nets.get(net)).map(Lowered::macs).sum::<u64>()
    };
    let macs: u64 = program.entries.iter().flat_map(|entry| &entry.blocks).map(calls).sum();
    if macs > 0 {
        report.line(format!("{} multiply-accumulates, each entry run once", grouped(macs)));
    }
    report.set("macs", macs);
    report.set("ram_bytes", lowered.ram_bytes());
    report.set("arena_bytes", lowered.arena_bytes());
    report.set("weights_bytes", lowered.weights().len());
    report.set("constants_bytes", 4 * lowered.constants.len());
    report.set("flash_per_step_bytes", tables);
    Ok(())
}

fn show(path: &Path, target: &str) -> anyhow::Result<Report> {
    let (program, graphs, hash) = load(path)?;
    let target = Target::named(target).map_err(|e| anyhow!("{e}"))?;
    let mut report = Report::new();
    report.line(text::print(&program).trim_end());
    costs(&mut report, &program, &graphs, hash, &target)?;
    report.set("text", text::print(&program));
    Ok(report)
}

/// Calls `f` with the engine of a program.
///
/// # Errors
/// When it cannot be lowered, or what `f` fails with.
pub fn with_program<R>(
    program: &Program,
    graphs: &[Graph],
    hash: [u8; 32],
    f: impl FnOnce(&ProgramEngine<'_>) -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    let lowered = bind(program, graphs, hash, &Target::native())?;
    if lowered.nets.is_empty() {
        return f(&ProgramEngine::float(&lowered, graphs));
    }
    let owned: Vec<_> = lowered.nets.iter().map(Lowered::plan).collect();
    let checked: Result<Vec<_>, _> = owned.iter().map(|plan| plan.borrow().check()).collect();
    let checked = checked.map_err(|e| anyhow!("defect in lowering: {e}; please report it"))?;
    f(&ProgramEngine::plans(&lowered, checked))
}

fn execute(args: &RunArgs) -> anyhow::Result<Report> {
    let (program, graphs, hash) = load(&args.program)?;
    let task = Task::new(&program, args)?;
    let labels = match &args.label {
        None => vec![task.label(0, program.labels)],
        Some(label) => labels(&program, label)?,
    };
    let draws: Vec<(u64, u16)> = (0..args.count.get() as u64)
        .flat_map(|i| labels.iter().map(move |&label| (args.seed.wrapping_add(i), label)).collect::<Vec<_>>())
        .collect();
    let bar = Bar::new("running", draws.len());
    let mut report = Report::new();
    let outcomes = with_program(&program, &graphs, hash, |engine| {
        if task.repairs() {
            let seeds = args.seed..args.seed + args.count.get() as u64;
            repaired(&mut report, repair(engine, &task, seeds, labels[0])?, range(&program));
        }
        let run = |i: usize| drive(engine, &task, draws[i].0, draws[i].1);
        let worker = || ();
        Ok(map_samples(draws.len(), all_threads(), &|done| bar.at(done), worker, |(), i| run(i))?)
    })?;
    let mut digester = Digester::new();
    for outcome in &outcomes {
        let bytes: Vec<i8> = outcome.sample.iter().flat_map(|v| v.to_le_bytes()).map(|b| b as i8).collect();
        digester.add_bytes(&bytes);
    }
    let exact = graphs.iter().all(flq::is_quantized);
    report.line(format!("{}: {} samples", program.name, outcomes.len()));
    if exact {
        let digest = digester.finish().to_string();
        report.line(format!("digest {digest}"));
        report.set("digest", digest);
    } else {
        report.line("f32 networks: bounded, not exact, so no digest");
    }
    kept(&mut report, &program, &task, &outcomes);
    if let Some(path) = &args.accuracy {
        let wanted = draws.iter().map(|(_, label)| usize::from(args.to_label.unwrap_or(*label))).collect();
        let rate = class_rate(path, &program, &outcomes, wanted)?;
        report.line(format!("class rate: {rate:.3} of the pictures have the label that was asked for"));
        report.set("class_rate", rate);
    }
    if let Some(out) = &args.out {
        save(&program, &outcomes, labels.len(), out)?;
        report.line(format!("wrote {}", out.display()));
    }
    report.set("samples", outcomes.len());
    Ok(report)
}

/// PSNR on the hidden values.
fn repaired(report: &mut Report, found: Repair, [lo, hi]: [f32; 2]) {
    let psnr = |square: f64| 10.0 * (f64::from(hi - lo).powi(2) / square).log10();
    let [steered, unsteered, filled] = [found.steered, found.unsteered, found.filled].map(psnr);
    report.line(format!(
        "PSNR of hidden values: {steered:.2} dB; unsteered {unsteered:.2} dB, straight lines between neighbours {filled:.2} dB"
    ));
    report.set("psnr_hidden_db", json!({ "steered": steered, "unsteered": unsteered, "bilinear": filled }));
}

fn labels(program: &Program, asked: &str) -> anyhow::Result<Vec<u16>> {
    let count = program.labels as u16;
    if asked == "all" {
        return Ok((0..count.max(1)).collect());
    }
    let one = |text: &str| text.trim().parse::<u16>().ok().filter(|label| *label < count);
    let listed: Option<Vec<u16>> = asked.split(',').map(one).collect();
    listed.ok_or_else(|| {
        anyhow!("--label {asked}: the program takes 0 to {}, several with commas, or 'all'", count.saturating_sub(1))
    })
}

/// How much of its data an edit keeps.
fn kept(report: &mut Report, program: &Program, task: &Task, outcomes: &[Outcome]) {
    if !task.reads_data() {
        return;
    }
    let pairs = outcomes.iter().flat_map(|o| o.shown.first().into_iter().flatten().zip(&o.sample));
    let (sum, n) = pairs.fold((0.0, 0usize), |(sum, n), (a, b)| (sum + f64::from(a - b).powi(2), n + 1));
    let [lo, hi] = make::range(program);
    let psnr = 10.0 * (f64::from(hi - lo).powi(2) * n as f64 / sum).log10();
    report.line(format!("PSNR of the samples against the data: {psnr:.2} dB"));
    report.set("psnr_data_db", psnr);
}

fn class_rate(path: &Path, program: &Program, outcomes: &[Outcome], wanted: Vec<usize>) -> anyhow::Result<f64> {
    let dims = dims(program);
    let [lo, hi] = make::range(program);
    let real = |o: &Outcome| flowlet_score::layout::channels_first(&dims, &o.sample);
    let values = outcomes.iter().flat_map(real).map(|v| ((v - lo) / (hi - lo)).clamp(0.0, 1.0)).collect();
    let model = Model::load(&ModelArgs::of(path))?;
    let rate = share_right(model.float()?, &Pictures::new(&dims, values, wanted)?, all_threads(), &|_| {});
    rate.with_context(|| format!("the classifier {} cannot be used", path.display()))
}

/// Dimensions of a sample, as the model has them.
fn dims(program: &Program) -> Vec<usize> {
    program.meta("dims").unwrap_or("").split(',').filter_map(|d| d.parse().ok()).collect()
}

fn save(program: &Program, outcomes: &[Outcome], columns: usize, out: &Path) -> anyhow::Result<()> {
    let dims = dims(program);
    let [lo, hi] = make::range(program);
    if out.extension().is_none_or(|e| e != "png") {
        let len = outcomes.first().map_or(0, |o| o.sample.len());
        let shape: Vec<usize> = std::iter::once(outcomes.len())
            .chain(if dims.iter().product::<usize>() == len { dims[1..].to_vec() } else { vec![len] })
            .collect();
        let ordered = |o: &Outcome| flowlet_score::layout::channels_first(&dims, &o.sample);
        let values = outcomes.iter().flat_map(ordered).map(|v| (v - lo) / (hi - lo)).collect();
        let array = flowlet_score::npy::Array::f32(&shape, values);
        return write(&out.join("sample.npy"), &array.write());
    }
    let mut sheet = Sheet::new(&dims, if columns > 1 { columns } else { 10 })?;
    for outcome in outcomes {
        for values in outcome.shown.iter().chain([&outcome.sample]) {
            let real: Vec<f32> = values.iter().map(|v| (v - lo) / (hi - lo)).collect();
            sheet.push(&flowlet_score::layout::channels_first(&dims, &real));
        }
    }
    sheet.save(out)
}
