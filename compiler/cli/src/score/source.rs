//! What draws the pictures: a model in one pass, or a program in many.

use super::Networks;
use crate::engines::{Float, with_engine};
use crate::model::{Model, Prepared};
use crate::options::{ModelArgs, Precision};
use crate::program::{Given, Made, Task, drive, load, make, range, with_program};
use crate::progress::Bar;
use anyhow::{anyhow, bail};
use flowlet_compiler::flq;
use flowlet_compiler::program::{LaneKind, Program, file};
use flowlet_float::Weights;
use flowlet_score::layout::channels_first;
use flowlet_score::{Pictures, ProgramEngine, generate, label_count, map_samples, scored_draws};
use std::borrow::Cow;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A file that draws pictures.
#[derive(Clone, Debug)]
pub enum Source {
    /// A `.flq` or an ONNX file.
    Model(Box<Model>),
    /// A `.flp`.
    Program(Box<Made>),
    /// A program that a `model.toml` describes, made in the arithmetic that is asked for.
    Described(PathBuf, String),
}

/// A source in one arithmetic.
#[derive(Clone, Debug)]
pub enum Ready<'s> {
    /// One pass of a graph a picture.
    Graph(Prepared<'s>),
    /// A run of a program a picture.
    Program(Cow<'s, Made>),
}

/// Whether a path names a program's file.
pub(super) fn is_program(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "flp")
}

impl Source {
    /// Reads a model, a `.flp`, or with `program` a `model.toml`.
    ///
    /// # Errors
    /// What is wrong with the file or the options.
    pub fn load(args: &ModelArgs, program: Option<&str>) -> anyhow::Result<Self> {
        let shown = args.model.display();
        let toml = args.model.extension().is_some_and(|e| e == "toml");
        let option = args.import_option();
        match (program, option) {
            (Some(_), _) if !toml => {
                bail!("--program names one of the programs of a model.toml: give that instead of {shown}")
            }
            (None, _) if toml => bail!("{shown} describes a model: add --program NAME, or give the model's file"),
            (None, _) if !is_program(&args.model) => Ok(Source::Model(Box::new(Model::load(args)?))),
            (_, Some(option)) => bail!("{shown} says all about its networks, so that {option} has no effect on it"),
            (Some(name), None) => Ok(Source::Described(args.model.clone(), name.to_owned())),
            (None, None) => {
                let (program, graphs, _) = load(&args.model)?;
                Ok(Source::Program(Box::new(Made { program, graphs })))
            }
        }
    }

    /// A name for reports.
    pub fn name(&self) -> &str {
        match self {
            Source::Model(model) => &model.graph.name,
            Source::Program(made) => &made.program.name,
            Source::Described(_, name) => name,
        }
    }

    /// What the importer did on its own.
    pub fn notes(&self) -> Vec<String> {
        match self {
            Source::Model(model) => model.notes(),
            Source::Program(_) | Source::Described(..) => Vec::new(),
        }
    }

    /// What the file holds: f32 where int8 can be made from it.
    pub fn precision(&self) -> Precision {
        match self {
            Source::Model(model) => model.precision(),
            Source::Program(made) if made.graphs.iter().all(flq::is_quantized) => Precision::Int8,
            Source::Program(_) | Source::Described(..) => Precision::F32,
        }
    }

    /// Whether it is a program's file over f32 networks, from which int8 cannot be made.
    pub fn is_file_of_f32(&self) -> bool {
        matches!(self, Source::Program(_)) && self.precision() == Precision::F32
    }

    /// The source in this arithmetic; without one, as the file holds it.
    ///
    /// # Errors
    /// When it cannot be had from this file.
    pub fn ready(&self, precision: Option<Precision>) -> anyhow::Result<Ready<'_>> {
        let held = self.precision();
        let wanted = precision.unwrap_or(held);
        Ok(match self {
            Source::Model(model) => Ready::Graph(model.prepare(precision, None)?),
            Source::Described(config, name) => Ready::Program(Cow::Owned(make(config, name, wanted)?)),
            Source::Program(made) if wanted == held => Ready::Program(Cow::Borrowed(made)),
            Source::Program(made) => bail!(
                "{} holds its networks in {} only: build it again with 'flowlet program build --precision {}'",
                made.program.name,
                held.name(),
                wanted.name()
            ),
        })
    }
}

impl Ready<'_> {
    /// Network passes of one picture.
    pub fn passes(&self) -> usize {
        match self {
            Ready::Graph(_) => 1,
            Ready::Program(made) => {
                let program = &made.program;
                program.entries.iter().map(|entry| program.evaluations(&entry.name)).sum()
            }
        }
    }

    /// Draw `number` of so many pictures.
    ///
    /// # Errors
    /// When the source reads more than noise and a label, or a run fails.
    pub fn draw(
        &self,
        networks: &Networks,
        samples: usize,
        number: usize,
        threads: NonZeroUsize,
    ) -> anyhow::Result<Pictures> {
        // A model may take a label that no classifier knows: none.
        let known = networks.labels().unwrap_or(usize::MAX);
        match self {
            Ready::Graph(prepared) => {
                let bar =
                    Bar::new(&format!("drawing in {}", prepared.graph.meta("precision").unwrap_or("f32")), samples);
                let draws = scored_draws(label_count(&prepared.graph).min(known), samples, number);
                let progress = |done: usize| bar.at(done);
                let float = Float::Fast(Weights::F32);
                with_engine(&prepared.graph, prepared.hash, float, |engine| {
                    Ok(generate(engine, &draws, threads, &progress)?)
                })
            }
            Ready::Program(made) => {
                let Made { program, graphs } = made.as_ref();
                let task = task(program)?;
                let draws = scored_draws(program.labels.min(known), samples, number);
                let hash = flq::hash(&file::write(program, graphs));
                with_program(program, graphs, hash, |engine| run(engine, &task, &draws, threads))
            }
        }
    }
}

/// One picture for each `(seed, label)`. The bytes of the f32 sample are what a digest is taken over, as `flowlet program
/// run` does; over int8 networks they are those of every board.
fn run(
    engine: &ProgramEngine<'_>,
    task: &Task,
    draws: &[(u64, usize)],
    threads: NonZeroUsize,
) -> anyhow::Result<Pictures> {
    let program = &engine.lowered().program;
    let dims = dims(program)?;
    let [lo, hi] = range(program);
    let bar = Bar::new("running", draws.len());
    let one = |i: usize| drive(engine, task, draws[i].0, draws[i].1 as u16);
    let outcomes = map_samples(draws.len(), threads, &|done| bar.at(done), || (), |(), i| one(i))?;
    let ordered = outcomes.iter().flat_map(|o| channels_first(&dims, &o.sample));
    let values = ordered.map(|v| (v - lo) / (hi - lo)).collect();
    let labels = draws.iter().map(|&(_, label)| label).collect();
    let pictures = Pictures::new(&dims, values, labels)?;
    let exact = !engine.lowered().nets.is_empty();
    let bytes = outcomes.iter().flat_map(|o| &o.sample).flat_map(|v| v.to_le_bytes()).map(|b| b as i8);
    Ok(if exact { pictures.with_raw(bytes.collect()) } else { pictures })
}

/// What a program that starts from noise is given.
fn task(program: &Program) -> anyhow::Result<Task> {
    let data = program.lanes.iter().find(|lane| lane.kind == LaneKind::Input && lane.name != "noise");
    if let Some(lane) = data {
        bail!("{} reads '{}': only programs that draw from noise alone can be scored", program.name, lane.name);
    }
    Task::of(program, &dims(program)?, &Given::default())
}

/// Dimensions of the program's sample.
fn dims(program: &Program) -> anyhow::Result<Vec<usize>> {
    let stated = program.meta("dims").unwrap_or("");
    let dims: Option<Vec<usize>> = stated.split(',').map(|d| d.parse().ok()).collect();
    dims.ok_or_else(|| anyhow!("{} does not say what dimensions its sample has: build it again", program.name))
}
