//! What depends on slow inputs alone becomes an entry point of its own.
//!
//! A policy looks at the world less often than it acts: its camera's encoder need not run for every action. The static
//! graph is cut where values that only slow inputs decide meet the rest: `encode` computes them, they are held (int8 as
//! they are, so nothing is rounded twice), and `act` starts from them. The two are networks of one [`Program`], so they
//! share an arena and weights; `encode` then `act` gives the bits of the whole graph.

use crate::ir::{Def, Graph, InputKind, ValueId};
use crate::passes::depends_only_on;
use crate::program::{At, Builder, Code, LaneKind, Net, Program, ProgramError, Row};
use crate::{flq, ir};

/// The entry point, and the network, of slow inputs.
pub const ENCODE: &str = "encode";
/// The entry point, and the network, of everything else.
pub const ACT: &str = "act";

/// Fact of a graph that will be cut: its slow inputs, with commas between. Quantisation then lets no layer of [`ENCODE`] take in
/// a sum of [`ACT`].
pub const SLOW: &str = "slow";

/// The inputs that the fact [`SLOW`] names.
pub(crate) fn slow_inputs(graph: &Graph) -> Vec<ValueId> {
    let names: Vec<&str> = graph.meta(SLOW).map_or_else(Vec::new, |names| names.split(',').collect());
    graph.inputs.iter().copied().filter(|&id| names.contains(&graph.value(id).name.as_str())).collect()
}

/// Why a graph cannot be cut.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum HoistError {
    /// A slow input that the graph does not have.
    UnknownInput {
        /// The name.
        name: String,
        /// Inputs that the graph has.
        known: Vec<String>,
    },
    /// Nothing is computed from slow inputs alone, or everything is.
    NothingToCut {
        /// The slow inputs.
        slow: Vec<String>,
        /// Which, and where they meet other inputs first.
        reason: String,
    },
    /// The program of both parts is refused.
    Program(ProgramError),
}

impl std::fmt::Display for HoistError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HoistError::UnknownInput { name, known } => {
                write!(f, "the model has no input '{name}'; its inputs are {}", known.join(", "))
            }
            HoistError::NothingToCut { slow, reason } => {
                write!(f, "slow inputs {}: {reason}", slow.join(", "))
            }
            HoistError::Program(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HoistError {}

impl From<ProgramError> for HoistError {
    fn from(error: ProgramError) -> Self {
        HoistError::Program(error)
    }
}

/// Cuts a static graph, f32 or int8, into [`ENCODE`] and [`ACT`]; `slow` are names of inputs, label inputs too.
///
/// # Errors
/// A name that is no input, or a graph without a part that slow inputs alone decide.
pub fn hoist(graph: &Graph, slow: &[String]) -> Result<(Program, Vec<Graph>), HoistError> {
    let name = |id: ValueId| graph.value(id).name.clone();
    let mut sources = Vec::new();
    for wanted in slow {
        let known = || graph.inputs.iter().map(|&id| name(id)).collect();
        let found = graph.inputs.iter().copied().find(|&id| name(id) == *wanted);
        sources.push(found.ok_or_else(|| HoistError::UnknownInput { name: wanted.clone(), known: known() })?);
    }
    let early = depends_only_on(graph, &sources);
    let is_early = |id: ValueId| early[id.0 as usize];
    let cut = |reason: String| HoistError::NothingToCut { slow: slow.to_vec(), reason };
    // Values of slow nodes that fast ones read, in the order of the graph.
    let mut held: Vec<ValueId> = Vec::new();
    for node in graph.nodes.iter().filter(|n| !is_early(n.output)) {
        for &id in &node.inputs {
            if is_early(id) && graph.value(id).def == Def::Node && !held.contains(&id) {
                held.push(id);
            }
        }
    }
    let early_outputs: Vec<ValueId> = graph.outputs.iter().copied().filter(|&id| is_early(id)).collect();
    if early_outputs.len() == graph.outputs.len() {
        return Err(cut("they decide every output, so that nothing is left to do without them".to_owned()));
    }
    if held.is_empty() {
        let meets = |n: &&ir::Node| n.inputs.iter().any(|&id| is_early(id)) && !is_early(n.output);
        let first = graph.nodes.iter().find(meets).map_or_else(String::new, |n| format!(", first at '{}'", n.origin));
        return Err(cut(format!(
            "every operation that reads them reads others too{first}; nothing can be computed ahead"
        )));
    }
    let mut encode = graph.clone();
    encode.name = ENCODE.to_owned();
    encode.outputs = held.iter().chain(early_outputs.iter().filter(|id| !held.contains(id))).copied().collect();
    encode.inputs.retain(|id| sources.contains(id));
    let mut act = graph.clone();
    act.name = ACT.to_owned();
    act.outputs.retain(|id| !early_outputs.contains(id));
    act.nodes.retain(|n| !is_early(n.output));
    act.inputs.retain(|id| !sources.contains(id) || act.nodes.iter().any(|n| n.inputs.contains(id)));
    for &id in &held {
        act.value_mut(id).def = Def::Input(InputKind::Tensor);
        act.inputs.push(id);
    }
    let program = program(graph, [&encode, &act], &held)?;
    for part in [&mut encode, &mut act] {
        let own: Vec<String> = part.nodes.iter().map(|n| n.origin.clone()).collect();
        part.sweep();
        let (kept, parameters): (Vec<_>, _) =
            (part.nodes.iter().map(|n| n.origin.clone()).collect(), part.parameters());
        part.remarks.retain(|r| kept.contains(&r.node) || !own.contains(&r.node));
        part.set_meta("parameters", parameters.to_string());
    }
    Ok((program, vec![encode, act]))
}

/// A name as programs take it.
fn word(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name != "r" { name } else { format!("n{name}") }
}

fn program(graph: &Graph, parts: [&Graph; 2], held: &[ValueId]) -> Result<Program, ProgramError> {
    let kind = if flq::is_quantized(graph) { LaneKind::Held } else { LaneKind::Kept };
    let mut b = Builder::new(&graph.name);
    b.meta("sampler", "hoisted");
    let count = |id: ValueId| match graph.value(id).def {
        Def::Input(InputKind::Index { count }) => Some(count),
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => None,
    };
    b.labels(graph.inputs.iter().filter_map(|&id| count(id)).max().unwrap_or(0));
    let mut lanes: Vec<(ValueId, At)> = Vec::new();
    let mut taken: Vec<String> = Vec::new();
    let mut lane = |b: &mut Builder, id: ValueId, kind: LaneKind| {
        let value = graph.value(id);
        let first = word(&value.name);
        let mut free = std::iter::once(first.clone()).chain((1..).map(|i| format!("{first}_{i}")));
        let name = free.find(|n| !taken.contains(n)).unwrap_or(first);
        taken.push(name.clone());
        let unit = graph.meta(&format!("unit.{}", value.name)).unwrap_or("");
        lanes.push((id, b.lane(&name, value.ty.elements(), kind, unit)));
    };
    for &id in graph.inputs.iter().filter(|&&id| count(id).is_none()) {
        lane(&mut b, id, LaneKind::Input);
    }
    held.iter().for_each(|&id| lane(&mut b, id, kind));
    graph.outputs.iter().for_each(|&id| lane(&mut b, id, LaneKind::Output));
    // What is held and an output too has two lanes; the first is read.
    let places = |id: ValueId| lanes.iter().filter(move |(own, _)| *own == id).map(|(_, at)| *at);
    for part in parts {
        let tensors: Vec<ValueId> = part.inputs.iter().copied().filter(|&id| count(id).is_none()).collect();
        let rows = part.inputs.iter().find_map(|&id| count(id)).unwrap_or(0);
        let ports = |list: &[ValueId]| -> Vec<(String, usize)> {
            list.iter().map(|&id| (graph.value(id).name.clone(), graph.ty(id).elements())).collect()
        };
        let net = b.net(Net {
            name: part.name.clone(),
            inputs: ports(&tensors),
            outputs: ports(&part.outputs),
            rows,
            of: None,
            twin: false,
        });
        let reads = tensors.iter().enumerate().flat_map(|(port, &id)| places(id).take(1).map(move |at| (port, at)));
        let writes = part.outputs.iter().enumerate().flat_map(|(port, &id)| places(id).map(move |at| (port, at)));
        let (reads, writes): (Vec<_>, Vec<_>) = (reads.collect(), writes.collect());
        let row = Row { base: 0, step: 0, label: rows > 0 };
        let mut code = Code::new();
        code.call(net, &reads, row, &writes);
        b.entry(&part.name).block(1, code);
    }
    b.finish()
}
