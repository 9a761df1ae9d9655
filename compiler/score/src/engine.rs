//! One way to run a model, whatever its form: an f32 graph, a quantised graph, or a plan.

use crate::ScoreError;
use crate::layout::{channels_first, channels_last};
use flowlet::kernels::port::{dequantise, quantise_finite};
use flowlet::plan::CheckedPlan;
use flowlet::{ARENA_ALIGNMENT, Executor, Threads};
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{DType, Data, Def, Graph, InputKind, Tensor, Type, ValueId};
use flowlet_compiler::quantize::noise_tensor;
use flowlet_float::{FloatError, Memory, Network, Weights};

/// A model that is ready to run; shared by all threads.
pub struct Engine<'a> {
    graph: &'a Graph,
    form: Form<'a>,
}

enum Form<'a> {
    Interpreter(Box<Interpreter<'a>>),
    Plan(CheckedPlan<'a>),
    Float(Box<Network>),
}

/// What one input of one sample reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feed<'a> {
    /// Standard normal noise from a seed; the stream is the number of the input among the tensor inputs.
    Noise(u64),
    /// The value of an index input.
    Index(usize),
    /// Real numbers in the graph's axis order.
    Values(&'a [f32]),
}

/// The outputs of one sample, in the order of the graph's outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Real numbers, in the graph's axis order.
    pub values: Vec<Vec<f32>>,
    /// What the digest is taken over: the s8 values in NHWC order. Empty for float graphs.
    pub raw: Vec<Vec<i8>>,
}

impl<'a> Engine<'a> {
    /// Runs an f32 graph with the fast kernels of this host. Results are near those of the interpreter, and differ from
    /// processor to processor.
    ///
    /// # Errors
    /// The first node that they do not cover.
    pub fn float(graph: &'a Graph, weights: Weights) -> Result<Self, FloatError> {
        let network = Network::new(graph, weights)?;
        Ok(Engine { graph, form: Form::Float(Box::new(network)) })
    }

    /// Runs a graph, float or quantised, through the interpreter: the same numbers on every machine.
    pub fn interpreter(graph: &'a Graph) -> Self {
        Engine { graph, form: Form::Interpreter(Box::new(Interpreter::new(graph))) }
    }

    /// Runs the plan that `graph` was lowered to through the executor.
    pub fn plan(graph: &'a Graph, plan: CheckedPlan<'a>) -> Self {
        Engine { graph, form: Form::Plan(plan) }
    }

    /// The graph: names and types of inputs and outputs.
    pub fn graph(&self) -> &'a Graph {
        self.graph
    }

    /// What is needed to run one sample after another, on one thread.
    pub fn worker(&self) -> Worker<'_, 'a> {
        self.worker_on(1)
    }

    /// The same with `threads` that share the work of a sample; a graph in the interpreter takes one.
    pub fn worker_on(&self, threads: usize) -> Worker<'_, 'a> {
        let space = match &self.form {
            Form::Interpreter(_) => Space::None,
            Form::Plan(plan) => Space::Arena(vec![0; plan.plan().arena_bytes as usize + ARENA_ALIGNMENT]),
            Form::Float(network) => Space::Float(network.memory(threads)),
        };
        let threads = (threads > 1).then(|| Threads::new(threads));
        Worker { engine: self, space, threads }
    }
}

/// The memory of one sample, and the threads that share its work.
pub struct Worker<'e, 'a> {
    engine: &'e Engine<'a>,
    space: Space,
    threads: Option<Threads>,
}

enum Space {
    None,
    Arena(Vec<i8>),
    Float(Memory),
}

impl Worker<'_, '_> {
    /// Runs one sample; `feeds` are in the order of the graph's inputs.
    ///
    /// # Errors
    /// When a feed does not fit its input.
    pub fn run(&mut self, feeds: &[Feed<'_>]) -> Result<Outcome, ScoreError> {
        let graph = self.engine.graph;
        if feeds.len() != graph.inputs.len() {
            let message = format!("it takes {} inputs and {} were given", graph.inputs.len(), feeds.len());
            return Err(ScoreError::Model { name: graph.name.clone(), message });
        }
        let threads = self.threads.as_ref();
        match (&self.engine.form, &mut self.space) {
            (Form::Interpreter(interpreter), _) => interpret(graph, interpreter, feeds),
            (Form::Plan(plan), Space::Arena(arena)) => execute(graph, *plan, arena, threads, feeds),
            (Form::Float(network), Space::Float(memory)) => compute(graph, network, memory, threads, feeds),
            (Form::Plan(_) | Form::Float(_), _) => {
                let message = "defect: a worker without memory; please report it".to_owned();
                Err(ScoreError::Model { name: graph.name.clone(), message })
            }
        }
    }
}

fn interpret(graph: &Graph, interpreter: &Interpreter<'_>, feeds: &[Feed<'_>]) -> Result<Outcome, ScoreError> {
    let inputs = input_tensors(graph, feeds)?;
    let mut outcome = Outcome { values: Vec::new(), raw: Vec::new() };
    for (tensor, &id) in interpreter.run(&inputs)?.into_iter().zip(&graph.outputs) {
        let ty = graph.ty(id);
        match tensor.data {
            Data::F32(values) => outcome.values.push(values),
            Data::S8(q) => {
                outcome.values.push(real(ty, &q));
                outcome.raw.push(channels_last(&ty.dims, &q));
            }
            Data::I64(v) => outcome.values.push(v.iter().map(|&x| x as f32).collect()),
            Data::I32(v) => outcome.values.push(v.iter().map(|&x| x as f32).collect()),
        }
    }
    Ok(outcome)
}

fn compute(
    graph: &Graph,
    network: &Network,
    memory: &mut Memory,
    threads: Option<&Threads>,
    feeds: &[Feed<'_>],
) -> Result<Outcome, ScoreError> {
    for (i, (tensor, feed)) in input_tensors(graph, feeds)?.into_iter().zip(feeds).enumerate() {
        match (tensor.as_f32(), feed) {
            (Some(values), _) => network.write(memory, i, values)?,
            (None, Feed::Index(k)) => network.set_index(memory, i, *k)?,
            (None, Feed::Noise(_) | Feed::Values(_)) => match tensor.as_i64() {
                Some(&[k]) => network.set_index(memory, i, usize::try_from(k).unwrap_or(usize::MAX))?,
                Some(_) | None => return Err(wrong_feed(graph, graph.inputs[i], "numbers of another type")),
            },
        }
    }
    match threads {
        Some(threads) => network.run_on(memory, threads),
        None => network.run(memory),
    }
    let mut outcome = Outcome { values: Vec::new(), raw: Vec::new() };
    for (i, &id) in graph.outputs.iter().enumerate() {
        let mut values = vec![0.0; graph.ty(id).elements()];
        network.read(memory, i, &mut values);
        outcome.values.push(values);
    }
    Ok(outcome)
}

/// The tensors that an interpreter of `graph` reads for these feeds: real numbers are quantised by the port rule.
///
/// # Errors
/// When a feed does not fit its input.
pub fn input_tensors(graph: &Graph, feeds: &[Feed<'_>]) -> Result<Vec<Tensor>, ScoreError> {
    let mut stream = 0;
    let mut tensors = Vec::with_capacity(feeds.len());
    for (&id, feed) in graph.inputs.iter().zip(feeds) {
        let ty = graph.ty(id);
        tensors.push(match feed {
            Feed::Index(k) => Tensor::i64(&ty.dims, vec![*k as i64; ty.elements()]),
            Feed::Noise(seed) => tensor(graph, id, &noise_tensor(&Type::f32(&ty.dims), *seed, stream))?,
            Feed::Values(values) => {
                if values.len() != ty.elements() {
                    return Err(wrong_feed(graph, id, &format!("{} values", values.len())));
                }
                tensor(graph, id, &Tensor::f32(&ty.dims, values.to_vec()))?
            }
        });
        if ty.dtype != DType::I64 {
            stream += 1;
        }
    }
    Ok(tensors)
}

fn tensor(graph: &Graph, id: ValueId, real: &Tensor) -> Result<Tensor, ScoreError> {
    let (ty, values) = (graph.ty(id), real.as_f32().unwrap_or(&[]));
    if let Some(i) = values.iter().position(|x| !x.is_finite()) {
        return Err(wrong_feed(graph, id, &format!("element {i} is {}", values[i])));
    }
    match (ty.dtype, ty.quant) {
        (DType::F32, _) => Ok(real.clone()),
        (DType::S8, Some(q)) => {
            let inverse = 1.0 / q.scale;
            let quantised = values.iter().map(|&x| quantise_finite(x, inverse, q.zero_point)).collect();
            Ok(Tensor::s8(&ty.dims, quantised))
        }
        (DType::I64, _) if values.iter().all(|x| x.fract() == 0.0) => {
            Ok(Tensor::i64(&ty.dims, values.iter().map(|&x| x as i64).collect()))
        }
        (DType::I64 | DType::I32 | DType::S8, _) => Err(wrong_feed(graph, id, "real numbers")),
    }
}

fn wrong_feed(graph: &Graph, id: ValueId, found: &str) -> ScoreError {
    let value = graph.value(id);
    let kind = match value.def {
        Def::Input(InputKind::Index { count }) => format!("an index below {count}"),
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => {
            format!("finite {} numbers of shape {:?}", value.ty.dtype.name(), value.ty.dims)
        }
    };
    ScoreError::Model {
        name: graph.name.clone(),
        message: format!("input '{}' takes {kind}, found {found}", value.name),
    }
}

fn execute(
    graph: &Graph,
    plan: CheckedPlan<'_>,
    arena: &mut [i8],
    threads: Option<&Threads>,
    feeds: &[Feed<'_>],
) -> Result<Outcome, ScoreError> {
    let skip = arena.as_ptr().align_offset(ARENA_ALIGNMENT).min(ARENA_ALIGNMENT);
    let mut model = Executor::new(plan, &mut arena[skip..])?;
    for (&id, feed) in graph.inputs.iter().zip(feeds) {
        let value = graph.value(id);
        match feed {
            Feed::Noise(seed) => model.fill_noise(value.name.as_str(), *seed)?,
            Feed::Index(k) => {
                let k = u16::try_from(*k).map_err(|_| wrong_feed(graph, id, &k.to_string()))?;
                model.set_index(value.name.as_str(), k)?;
            }
            Feed::Values(values) => model.write_f32(value.name.as_str(), &channels_last(&value.ty.dims, values))?,
        }
    }
    match threads {
        Some(threads) => model.run_on(threads, 0)?,
        None => model.run(0)?,
    }
    let mut outcome = Outcome { values: Vec::new(), raw: Vec::new() };
    for &id in &graph.outputs {
        let value = graph.value(id);
        let mut q = vec![0; value.ty.elements()];
        model.read_s8(value.name.as_str(), &mut q)?;
        outcome.values.push(real(&value.ty, &channels_first(&value.ty.dims, &q)));
        outcome.raw.push(q);
    }
    Ok(outcome)
}

fn real(ty: &Type, q: &[i8]) -> Vec<f32> {
    match ty.quant {
        Some(quant) => q.iter().map(|&q| dequantise(q, quant.scale, quant.zero_point)).collect(),
        None => q.iter().map(|&q| q.into()).collect(),
    }
}
