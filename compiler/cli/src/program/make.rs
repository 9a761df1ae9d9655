//! From a `model.toml` to a program with quantised networks.

use super::describe::{Kind, ProgramToml};
use super::drive::{Given, Task, drive_on};
use crate::import::import;
use crate::model_toml::{FlowToml, ModelToml};
use crate::options::{Precision, read};
use crate::progress::Bar;
use anyhow::{Context, anyhow, bail};
use flowlet_compiler::ir::{DType, Def, Graph, InputKind, Tensor, ValueId};
use flowlet_compiler::passes::{self, Options, Schedule};
use flowlet_compiler::program::samplers::{
    Field, Guidance, Network, Prediction, Sampled, generate, stream, trajectory, turbo, turbo_blocks,
};
use flowlet_compiler::program::steer::{Cache, Critic, crank_nicolson, edit, flowchef, invert};
use flowlet_compiler::program::{Image, Net, Program, cycle, derived, file, float};
use flowlet_compiler::quantize::Calibration;
use flowlet_compiler::{compile, flq};
use flowlet_score::{ProgramEngine, calibrations};
use std::path::Path;

/// A program with its networks.
#[derive(Clone, Debug)]
pub struct Made {
    /// The program.
    pub program: Program,
    /// Its networks, in its order.
    pub graphs: Vec<Graph>,
}

/// Reads a `.flp`.
///
/// # Errors
/// When it cannot be read or is not one.
pub fn load(path: &Path) -> anyhow::Result<(Program, Vec<Graph>, [u8; 32])> {
    let bytes = read(path)?;
    let (program, graphs) = file::read(&bytes).with_context(|| format!("cannot use {}", path.display()))?;
    Ok((program, graphs, flq::hash(&bytes)))
}

/// A velocity network as it was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The graph as the ONNX file holds it.
    pub graph: Graph,
    /// Its conventions.
    pub network: Network,
    time: String,
    indices: Vec<(String, usize)>,
}

impl Imported {
    /// Reads an ONNX file that the conventions of `config` describe.
    ///
    /// # Errors
    /// What is wrong with the file or the description.
    pub fn read(path: &Path, name: &str, config: &ModelToml, program: &ProgramToml) -> anyhow::Result<Self> {
        let flow = config.flow.as_ref().ok_or_else(|| anyhow!("a program needs the section [flow]"))?;
        let graph = import(&read(path)?, &[], name).with_context(|| format!("cannot use {}", path.display()))?;
        Self::of(graph, name, flow, config, program).with_context(|| format!("cannot use {}", path.display()))
    }

    fn of(
        graph: Graph,
        name: &str,
        flow: &FlowToml,
        config: &ModelToml,
        program: &ProgramToml,
    ) -> anyhow::Result<Self> {
        let input = |wanted: &str| {
            graph.inputs.iter().copied().find(|&id| graph.value(id).name == wanted).ok_or_else(|| {
                let known: Vec<&str> = graph.inputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
                anyhow!("the network has no input '{wanted}'; its inputs are {}", known.join(", "))
            })
        };
        let noise = input(&flow.noise)?;
        let time = flow.time.clone().ok_or_else(|| anyhow!("[flow] names no time input"))?;
        input(&time)?;
        let Some(&output) = graph.outputs.first() else { bail!("the network has no output") };
        let len = graph.ty(noise).elements();
        if graph.ty(output).elements() != len {
            bail!(
                "the output '{}' has {} elements and '{}' has {len}: a velocity has as many",
                graph.value(output).name,
                graph.ty(output).elements(),
                flow.noise
            );
        }
        let integers: Vec<String> = graph
            .inputs
            .iter()
            .filter(|&&id| graph.ty(id).dtype == DType::I64)
            .map(|&id| graph.value(id).name.clone())
            .collect();
        let mut labels = 1;
        let mut indices = Vec::new();
        for name in &integers {
            let count = config.inputs.get(name).map(|input| input.count);
            let count = count.ok_or_else(|| anyhow!("[inputs.{name}] must state count = N"))?;
            labels *= count;
            indices.push((name.clone(), count));
        }
        let none = program.none.or_else(|| (program.guidance.is_some() && labels > 1).then(|| labels - 1));
        let guidance = match (program.guidance, none) {
            (None, _) => None,
            (Some(weight), Some(none)) if none < labels && weight.is_finite() => {
                Some(Guidance { weight, none, one_pass: program.guidance_in_one_pass })
            }
            (Some(weight), _) => bail!("guidance = {weight} needs a label input and none = one of its {labels} values"),
        };
        let velocity_input = graph
            .inputs
            .iter()
            .filter(|&&id| id != noise && graph.value(id).name != time && graph.ty(id).dtype == DType::F32)
            .map(|&id| graph.value(id).name.clone())
            .next();
        let prediction = match flow.prediction.as_deref() {
            None => Prediction::Velocity,
            Some(text) => text.parse().map_err(|why| anyhow!("[flow] prediction: {why}"))?,
        };
        let network = Network {
            name: word(name),
            input: flow.noise.clone(),
            output: graph.value(output).name.clone(),
            len,
            labels,
            noise_at_zero: flow.noise_at != Some(1),
            time_scale: flow.time_scale.unwrap_or(1.0).into(),
            prediction,
            guidance,
            velocity_input,
        };
        Ok(Imported { graph, network, time, indices })
    }

    /// The f32 graph whose time takes these values.
    fn scheduled(&self, times: &[f64]) -> anyhow::Result<Graph> {
        let values = times.iter().map(|&t| t as f32).collect();
        let options = Options {
            indices: self.indices.clone(),
            schedule: Some(Schedule { time: self.time.clone(), values }),
            ..Options::default()
        };
        let mut graph = compile::optimise(self.graph.clone(), &options)?;
        graph.name = self.network.name.clone();
        Ok(graph)
    }
}

impl Imported {
    /// The elements of tensors inside the network, as it is after the float passes.
    fn sized(&self, cache: Cache) -> anyhow::Result<Cache> {
        let graph = self.scheduled(&[0.0, 1.0])?;
        let mut tensors = Vec::new();
        for (name, _) in cache.tensors {
            let outputs = passes::expose(&graph, std::slice::from_ref(&name))?;
            let len = outputs.outputs.last().map_or(0, |&id| outputs.ty(id).elements());
            tensors.push((name, len));
        }
        Ok(Cache { tensors, ..cache })
    }
}

/// A network that looks at samples, and its graph.
fn critic(path: &Path, own: &str) -> anyhow::Result<(Critic, Graph)> {
    let wrong = || format!("cannot use {}", path.display());
    let graph = import(&read(path)?, &[], "critic").with_context(wrong)?;
    let mut graph = compile::optimise(graph, &Options::default()).with_context(wrong)?;
    graph.name = word(&format!("{own}_critic"));
    let ([input], [output]) = (&graph.inputs[..], &graph.outputs[..]) else {
        let (inputs, outputs) = (graph.inputs.len(), graph.outputs.len());
        return Err(anyhow!("it has {inputs} inputs and {outputs} outputs: a critic has one of each"))
            .with_context(wrong);
    };
    let port = |id| (graph.value(id).name.clone(), graph.ty(id).elements());
    Ok((Critic { name: graph.name.clone(), input: port(*input), output: port(*output) }, graph))
}

/// A name as programs take it.
fn word(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("n{name}") }
}

/// The data range of the model that a program was made for.
pub fn range(program: &Program) -> [f32; 2] {
    let parsed = program.meta("range").and_then(|r| {
        let (lo, hi) = r.split_once(',')?;
        Some([lo.parse().ok()?, hi.parse().ok()?])
    });
    parsed.unwrap_or([0.0, 1.0])
}

/// Makes the program `name` of a `model.toml`.
///
/// # Errors
/// What is wrong with the description, the networks, or their calibration.
pub fn make(config_path: &Path, name: &str, precision: Precision) -> anyhow::Result<Made> {
    let config = super::describe(config_path)?;
    let described = config.programs.get(name).ok_or_else(|| {
        let known: Vec<&str> = config.programs.keys().map(String::as_str).collect();
        anyhow!("{} describes no program '{name}'; it describes {}", config_path.display(), known.join(", "))
    })?;
    make_program(config_path, &config, name, described, precision).with_context(|| format!("[programs.{name}]"))
}

/// Makes a described program.
///
/// # Errors
/// As [`make`].
pub fn make_program(
    config_path: &Path,
    config: &ModelToml,
    name: &str,
    described: &ProgramToml,
    precision: Precision,
) -> anyhow::Result<Made> {
    let beside = |file: &str| config_path.with_file_name(file);
    let onnx = config.onnx.as_ref().ok_or_else(|| anyhow!("{} names no onnx", config_path.display()))?;
    let own = config.name.clone().unwrap_or_else(|| "network".to_owned());
    let main = Imported::read(&beside(onnx), &own, config, described)?;
    let mut others = Vec::new();
    for (file, suffix) in [(&described.refiner, "refiner"), (&described.to, "to")] {
        if let Some(file) = file {
            others.push(Imported::read(&beside(file), &format!("{own}_{suffix}"), config, described)?);
        }
    }
    let noise = main.graph.inputs.iter().find(|&&id| main.graph.value(id).name == main.network.input);
    let dims = noise.map_or_else(Vec::new, |&id| main.graph.ty(id).dims.clone());
    let image = match dims[..] {
        [1, c, h, w] => Some(Image { height: h as u16, width: w as u16, channels: c as u16 }),
        _ => None,
    };
    let critic = described.critic.as_ref().map(|file| critic(&beside(file), &own)).transpose()?;
    let seen = critic.as_ref().map(|(critic, _)| critic.clone());
    let mut sampled = sketch(&word(name), described, (&main, &others), image, seen)?;
    let mut meta = |key: &str, value: String| sampled.program.meta.push((key.to_owned(), value));
    meta("sampler", described.sampler.clone());
    if let Some(observe) = &described.observe {
        meta("observe", observe.clone());
    }
    meta("dims", dims.iter().map(usize::to_string).collect::<Vec<_>>().join(","));
    if let Some([lo, hi]) = config.flow.as_ref().and_then(|f| f.pixel_range) {
        meta("range", format!("{lo:?},{hi:?}"));
    }
    let imported: Vec<&Imported> = std::iter::once(&main).chain(&others).collect();
    let mut graphs = Vec::new();
    for (network, times) in &sampled.networks {
        let one = imported.iter().find(|i| i.network.name == network.name);
        graphs.push(one.ok_or_else(|| anyhow!("defect: no network '{}'", network.name))?.scheduled(times)?);
    }
    graphs.extend(critic.map(|(_, graph)| graph));
    let program = sampled.program;
    let graphs = derived(&program, graphs).map_err(|e| anyhow!("{e}"))?;
    if precision == Precision::F32 {
        return Ok(Made { program, graphs });
    }
    let data = described.data.as_ref().map(|file| crate::options::read_npy(&beside(file))).transpose()?;
    let labels = described.data_labels.as_ref().map(|file| crate::options::read_npy(&beside(file))).transpose()?;
    let given = Given { data: data.as_ref(), labels: labels.as_ref(), ..Given::default() };
    let task = Task::of(&program, &dims, &given)?;
    let graphs = calibrated(&program, graphs, &task, described.calibration.unwrap_or(64))?;
    Ok(Made { program, graphs })
}

/// Quantises a program's networks on what they read in runs of the program.
fn calibrated(program: &Program, graphs: Vec<Graph>, task: &Task, runs: usize) -> anyhow::Result<Vec<Graph>> {
    let bound = float(program, &graphs).map_err(|e| anyhow!("{e}"))?;
    let engine = ProgramEngine::float(&bound, &graphs);
    let bar = Bar::new("running", runs);
    let labels = program.labels.max(1);
    let samples = calibrations(&engine, runs, |number, runner, nets| {
        bar.at(number);
        // Seeds of calibration lie far from those that people draw.
        drive_on(task, runner, nets, CALIBRATION + number as u64, task.label(number, labels)).map(|_| ())
    })?;
    let mut out = Vec::new();
    for ((graph, net), own) in graphs.iter().zip(&program.nets).zip(&samples).filter(|((_, net), _)| net.of.is_none()) {
        // A derived network has its base's numbers, so the base is calibrated on what both read.
        let mut own = own.clone();
        let of_base = |(_, other): &(&Calibration, &Net)| other.of.as_ref() == Some(&net.name);
        for (derived, other) in samples.iter().zip(&program.nets).filter(of_base) {
            for sample in &derived.samples {
                own.samples.push(sample[..graph.inputs.len()].to_vec());
                if other.twin {
                    own.samples.push(second_row(graph, sample));
                }
            }
        }
        let bar = Bar::new("calibrating", own.samples.len());
        out.push(compile::quantize(graph, &own, &mut |done, _| bar.at(done))?);
    }
    derived(program, out).map_err(|e| anyhow!("{e}"))
}

/// What the second half of a twin reads: its base's inputs with the twin's row, which is the last of its own inputs.
fn second_row(graph: &Graph, sample: &[Tensor]) -> Vec<Tensor> {
    let input = |(i, &id): (usize, &ValueId)| match graph.value(id).def {
        Def::Input(InputKind::Index { .. }) => sample[sample.len() - 1].clone(),
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => sample[i].clone(),
    };
    graph.inputs.iter().enumerate().map(input).collect()
}

/// First seed of calibration.
const CALIBRATION: u64 = 1 << 32;

/// A program that records Euler runs of the model along `times`, under the guidance of `described`.
///
/// # Errors
/// As [`make`].
pub fn make_trajectory(
    config_path: &Path,
    described: &ProgramToml,
    times: &[f64],
    precision: Precision,
) -> anyhow::Result<Made> {
    let config = super::describe(config_path)?;
    let onnx = config.onnx.as_ref().ok_or_else(|| anyhow!("{} names no onnx", config_path.display()))?;
    let own = config.name.clone().unwrap_or_else(|| "network".to_owned());
    let main = Imported::read(&config_path.with_file_name(onnx), &own, &config, described)?;
    let sampled = trajectory("trajectory", Field::Network(main.network.clone()), times).map_err(|e| anyhow!("{e}"))?;
    let graphs: anyhow::Result<Vec<Graph>> = sampled.networks.iter().map(|(_, times)| main.scheduled(times)).collect();
    let (program, graphs) = (sampled.program, graphs?);
    if precision == Precision::F32 {
        return Ok(Made { program, graphs });
    }
    let graphs = calibrated(&program, graphs, &Task::noise(), described.calibration.unwrap_or(16))?;
    Ok(Made { program, graphs })
}

fn sketch(
    name: &str,
    described: &ProgramToml,
    (main, others): (&Imported, &[Imported]),
    image: Option<Image>,
    critic: Option<Critic>,
) -> anyhow::Result<Sampled> {
    let times = described.times()?;
    let field = || Field::Network(main.network.clone());
    let other = |suffix: &str| {
        let one = others.iter().find(|o| o.network.name.ends_with(suffix));
        one.map(|o| Field::Network(o.network.clone()))
    };
    let sampled = match described.kind(image, critic)? {
        Kind::Generate(sampler) => generate(name, field(), sampler, &times),
        Kind::Stream { keep } => stream(name, field(), &times, keep),
        Kind::Turbo { blocks } => {
            let blocks = turbo_blocks(&blocks).map_err(|e| anyhow!("{e}"))?;
            turbo(name, field(), other("_refiner"), &blocks, &times)
        }
        Kind::Invert(sampler) => invert(name, field(), sampler, &times),
        Kind::Edit(cache) => edit(name, field(), &times, &main.sized(cache)?),
        Kind::FlowChef { observation, strength } => flowchef(name, field(), &times, &observation, strength),
        Kind::Cycle { eta } => cycle::translate(name, field(), other("_to"), &times, eta),
        Kind::Chain { observation, chain } => crank_nicolson(name, field(), &times, &observation, chain),
    };
    sampled.map_err(|e| anyhow!("{e}"))
}
