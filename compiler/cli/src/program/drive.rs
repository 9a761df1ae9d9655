//! Runs a program from end to end: which inputs it gets, and in which order its entry points run.

use super::RunArgs;
use crate::options::read_npy;
use anyhow::{anyhow, bail};
use flowlet::RunError;
use flowlet::program::{Nets, Runner};
use flowlet_compiler::program::{LaneKind, Program};
use flowlet_score::layout::channels_last;
use flowlet_score::npy::Array;
use flowlet_score::{ProgramEngine, ScoreError};

/// The inputs of a program that are no noise.
#[derive(Clone, Debug, Default)]
pub struct Task {
    entries: Vec<String>,
    inputs: Vec<String>,
    outputs_len: usize,
    /// Samples in NHWC order.
    data: Vec<Vec<f32>>,
    /// Their labels; those that are given to a run take their place.
    labels: Vec<u16>,
    mask: Vec<f32>,
    factor: usize,
    /// Elements of what a critic shall say: 1 for the label that is asked for, 0 for all others.
    classes: Option<usize>,
    dims: Vec<usize>,
    to_label: Option<u16>,
}

/// Arrays that a task reads, in the order of the model's own tensors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// Samples, one a seed.
    pub data: Option<&'a Array>,
    /// Their labels.
    pub labels: Option<&'a Array>,
    /// Ones where a sample is observed.
    pub mask: Option<&'a Array>,
    /// Label of the second entry point.
    pub to_label: Option<u16>,
}

/// What a run made.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What it started from, for people: data, and what of it was observed.
    pub shown: Vec<Vec<f32>>,
    /// The sample, in NHWC order.
    pub sample: Vec<f32>,
}

impl Task {
    /// The task of a command line.
    ///
    /// # Errors
    /// Data that are missing or have another size.
    pub fn new(program: &Program, args: &RunArgs) -> anyhow::Result<Task> {
        let dims = super::dims(program);
        let array = |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| read_npy(p)).transpose();
        let (data, labels, mask) = (array(&args.data)?, array(&args.data_labels)?, array(&args.mask)?);
        let given =
            Given { data: data.as_ref(), labels: labels.as_ref(), mask: mask.as_ref(), to_label: args.to_label };
        Task::of(program, &dims, &given)
    }

    /// The task of a program that reads noise only and whose sample nobody wants.
    pub fn noise() -> Task {
        Task { entries: vec!["generate".to_owned()], inputs: vec!["noise".to_owned()], ..Task::default() }
    }

    /// A task over arrays in the order of the model's own tensors, of `dims` each.
    ///
    /// # Errors
    /// Data that are missing or have another size.
    pub fn of(program: &Program, dims: &[usize], given: &Given<'_>) -> anyhow::Result<Task> {
        let Given { data, labels, mask, to_label } = *given;
        let lane = |name: &str| program.lanes.iter().find(|l| l.name == name);
        let len = lane("sample").map(|l| l.len).ok_or_else(|| anyhow!("the program has no lane 'sample'"))?;
        let dims = if dims.iter().product::<usize>() == len { dims.to_vec() } else { vec![1, len] };
        let inputs: Vec<String> =
            program.lanes.iter().filter(|l| l.kind == LaneKind::Input).map(|l| l.name.clone()).collect();
        let classes = lane("observed").filter(|_| program.meta("observe") == Some("critic")).map(|l| l.len);
        let wants = |name: &str| inputs.iter().any(|i| i == name) && classes.is_none();
        let rows = |array: &Array, what: &str| -> anyhow::Result<Vec<Vec<f32>>> {
            let values = array.to_f32();
            if values.is_empty() || !values.len().is_multiple_of(len) {
                bail!("{what} of shape {:?} is no list of samples of {len} numbers", array.shape);
            }
            Ok(values.chunks(len).map(|one| channels_last(&dims, one)).collect())
        };
        let data = match data {
            Some(array) => rows(array, "the data")?,
            None if wants("data") || wants("observed") => {
                bail!("the program reads data: give --data FILE.npy, or data = \"FILE.npy\" in its description")
            }
            None => Vec::new(),
        };
        let labels: Vec<u16> = labels.map_or_else(Vec::new, |array| array.to_f32().iter().map(|&l| l as u16).collect());
        if !labels.is_empty() && labels.len() != data.len() {
            bail!("{} labels for {} samples", labels.len(), data.len());
        }
        let mask = match mask {
            Some(array) => rows(array, "the mask")?.remove(0),
            None => outside_box(&dims, len),
        };
        let observed = lane("observed").map_or(len, |l| l.len);
        let factor = (1..=len).find(|f| observed * f * f == len).unwrap_or(1);
        let entries = program.entries.iter().map(|e| e.name.clone()).collect();
        Ok(Task { entries, inputs, outputs_len: len, data, labels, mask, factor, classes, dims, to_label })
    }

    /// The label of run `number`, where nobody has chosen one. What starts from data goes without a class: the last label
    /// stands for none.
    pub fn label(&self, number: usize, labels: usize) -> u16 {
        let label = if self.data.is_empty() { number % labels.max(1) } else { labels.max(1) - 1 };
        label as u16
    }

    /// Whether part of each sample is observed.
    pub fn repairs(&self) -> bool {
        self.wants("mask")
    }

    /// Whether it starts from whole samples.
    pub fn reads_data(&self) -> bool {
        self.wants("data")
    }

    fn wants(&self, name: &str) -> bool {
        self.inputs.iter().any(|i| i == name)
    }

    /// The picture with hidden values on straight lines between the observed ones beside them.
    fn filled(&self, picture: &[f32]) -> Vec<f32> {
        let (c, h, w) = match self.dims[..] {
            [_, c, h, w] => (c, h, w),
            _ => (1, 1, picture.len()),
        };
        let at = |y: usize, x: usize, k: usize| (y * w + x) * c + k;
        let along = |n: usize, here: usize, index: &dyn Fn(usize) -> usize| -> Option<f32> {
            let seen = |i: &usize| self.mask[index(*i)] != 0.0;
            let before = (0..here).rev().find(seen);
            let after = (here + 1..n).find(seen);
            match (before, after) {
                (Some(a), Some(b)) => {
                    let share = (here - a) as f32 / (b - a) as f32;
                    Some(picture[index(a)] * (1.0 - share) + picture[index(b)] * share)
                }
                (Some(a), None) | (None, Some(a)) => Some(picture[index(a)]),
                (None, None) => None,
            }
        };
        let mut out = picture.to_vec();
        for (i, value) in out.iter_mut().enumerate().filter(|(i, _)| self.mask[*i] == 0.0) {
            let (y, x, k) = (i / c / w, i / c % w, i % c);
            let lines = [along(w, x, &|x| at(y, x, k)), along(h, y, &|y| at(y, x, k))];
            let found: Vec<f32> = lines.into_iter().flatten().collect();
            *value = if found.is_empty() { 0.0 } else { found.iter().sum::<f32>() / found.len() as f32 };
        }
        out
    }

    /// Means of blocks, as [`flowlet_compiler::program::Instruction::Average`] takes them.
    fn averaged(&self, picture: &[f32]) -> Vec<f32> {
        let [_, c, h, w] = self.dims[..] else { return picture.to_vec() };
        let f = self.factor;
        let share = 1.0 / (f * f) as f32;
        let mut out = Vec::new();
        for y in 0..h / f {
            for x in 0..w / f {
                for k in 0..c {
                    let pixels = (0..f * f).map(|i| picture[((y * f + i / f) * w + x * f + i % f) * c + k]);
                    out.push(pixels.sum::<f32>() * share);
                }
            }
        }
        out
    }
}

/// A mask that hides a box of half the height and width in the middle; of what is no picture, the middle half.
fn outside_box(dims: &[usize], len: usize) -> Vec<f32> {
    let (c, h, w) = match *dims {
        [_, c, h, w] => (c, h, w),
        _ => (1, 1, len),
    };
    let inner = |i: usize, n: usize| n == 1 || (n / 4..n - n / 4).contains(&i);
    (0..len).map(|i| if inner(i / c / w, h) && inner(i / c % w, w) { 0.0 } else { 1.0 }).collect()
}

/// How well hidden values are found again: mean squared errors over the hidden values of many runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Repair {
    /// Of the program.
    pub steered: f64,
    /// Of the same program when nothing is observed.
    pub unsteered: f64,
    /// Of a straight line between the observed neighbours, along rows and columns, averaged.
    pub filled: f64,
}

/// Runs the program on each of `seeds` with its mask, and with an empty one.
///
/// # Errors
/// What the runtime refuses.
pub fn repair(
    engine: &ProgramEngine<'_>,
    task: &Task,
    seeds: std::ops::Range<u64>,
    label: u16,
) -> Result<Repair, ScoreError> {
    let blind = Task { mask: vec![0.0; task.mask.len()], ..task.clone() };
    let mut sums = Repair::default();
    let runs = (seeds.end - seeds.start).max(1) as f64;
    for seed in seeds {
        let truth = &task.data[seed as usize % task.data.len()];
        let miss = |found: &[f32]| {
            let hidden = (0..truth.len()).filter(|&i| task.mask[i] == 0.0);
            let (sum, n) =
                hidden.fold((0.0, 0usize), |(sum, n), i| (sum + f64::from(found[i] - truth[i]).powi(2), n + 1));
            sum / n.max(1) as f64 / runs
        };
        sums.steered += miss(&drive(engine, task, seed, label)?.sample);
        sums.unsteered += miss(&drive(engine, &blind, seed, label)?.sample);
        sums.filled += miss(&task.filled(truth));
    }
    Ok(sums)
}

/// Runs the program once.
///
/// # Errors
/// What the runtime refuses.
pub fn drive(engine: &ProgramEngine<'_>, task: &Task, seed: u64, label: u16) -> Result<Outcome, ScoreError> {
    engine.with(|runner, nets| drive_on(task, runner, nets, seed, label))
}

/// Runs the program once, in a runner's memory.
///
/// # Errors
/// What the runtime refuses.
pub fn drive_on(
    task: &Task,
    runner: &mut Runner<'_, '_>,
    nets: &mut impl Nets,
    seed: u64,
    label: u16,
) -> Result<Outcome, RunError> {
    let mut shown = Vec::new();
    let labels = runner.program().labels;
    if labels > 0 {
        let own = task.labels.get(seed as usize % task.labels.len().max(1));
        // Where a critic knows the class, the network is asked for none.
        runner.set_label(if task.classes.is_some() { labels - 1 } else { own.copied().unwrap_or(label) })?;
    }
    if task.wants("noise") {
        runner.fill_noise("noise", seed, 0)?;
    }
    let datum = if task.data.is_empty() { &[][..] } else { &task.data[seed as usize % task.data.len()] };
    if task.wants("data") {
        runner.write("data", datum)?;
        shown.push(datum.to_vec());
    }
    if task.wants("mask") {
        runner.write("mask", &task.mask)?;
    }
    if let Some(classes) = task.classes {
        let wanted: Vec<f32> = (0..classes).map(|class| f32::from(u8::from(class == usize::from(label)))).collect();
        runner.write("observed", &wanted)?;
    } else if task.wants("observed") {
        let observed = if task.factor > 1 { task.averaged(datum) } else { datum.to_vec() };
        runner.write("observed", &observed)?;
        shown.push(datum.to_vec());
    }
    for (number, entry) in task.entries.iter().enumerate() {
        if let (1, Some(to)) = (number, task.to_label) {
            runner.set_label(to)?;
        }
        runner.run(nets, entry.as_str(), seed)?;
    }
    let sample = if task.outputs_len > 0 { runner.read("sample")?.to_vec() } else { Vec::new() };
    Ok(Outcome { shown, sample })
}
