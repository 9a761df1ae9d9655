//! Packs: the same network under other norm factors, for a domain, a style or a user, over one copy of the weights.
//!
//! A fixed norm after a layer is a factor and a shift of each output channel. int8 weights have a scale of each output channel,
//! so the factor is in the requantisation and the weights' bytes do not know it: a network whose norms alone were trained
//! again differs in multipliers, biases and tables. Each pack is quantised in full, on its own calibration samples, under one
//! constraint: its weights are the bytes of the first. All packs are networks of one [`Program`] with an entry point each, whose
//! equal constants are stored once, so that a pack costs its constants and the caller chooses one at every call.
//!
//! Factors that would scale the *inputs* of a layer change its weights. They stay where they are with
//! [`crate::passes::Options::keep_factors`], as factors of the norm's own kernel.

use crate::ir::{Def, Graph, InputKind, Op};
use crate::program::{At, Builder, Code, LaneKind, Net, Program, ProgramError, Row};

/// Why networks are no packs of one another.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PackError {
    /// A name is given twice, or there is a single network.
    Names(String),
    /// A network has other ports than the first.
    Ports {
        /// The pack.
        pack: String,
        /// What differs.
        message: String,
    },
    /// A layer has other weights than the same layer of the first network.
    Weights {
        /// The pack.
        pack: String,
        /// ONNX name of the layer.
        node: String,
    },
    /// The program of all packs is refused.
    Program(ProgramError),
}

impl std::fmt::Display for PackError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PackError::Names(message) => f.write_str(message),
            PackError::Ports { pack, message } => write!(f, "pack '{pack}': {message}"),
            PackError::Weights { pack, node } => write!(
                f,
                "pack '{pack}': the weights of '{node}' are not those of the first network; only norms may differ"
            ),
            PackError::Program(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PackError {}

impl From<ProgramError> for PackError {
    fn from(error: ProgramError) -> Self {
        PackError::Program(error)
    }
}

/// One program of int8 networks that differ in the constants of their norms alone, with an entry point for each under its
/// name. [`crate::quantize::Quantizer::take_weights_of`] makes them so.
///
/// # Errors
/// What differs besides, by the names of pack and layer.
pub fn packs(networks: &[(String, Graph)]) -> Result<(Program, Vec<Graph>), PackError> {
    let ((_, first), others) = match networks {
        [first, others @ ..] if !others.is_empty() => (first, others),
        _ => return Err(PackError::Names("packs are at least two networks".to_owned())),
    };
    for (pack, graph) in others {
        same_ports(first, graph).map_err(|message| PackError::Ports { pack: pack.clone(), message })?;
        same_weights(first, graph).map_err(|node| PackError::Weights { pack: pack.clone(), node })?;
    }
    let mut b = Builder::new(&first.name);
    b.meta("sampler", "packs");
    let index = |graph: &Graph| {
        graph.inputs.iter().find_map(|&id| match graph.value(id).def {
            Def::Input(InputKind::Index { count }) => Some(count),
            Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => None,
        })
    };
    let rows = index(first).unwrap_or(0);
    b.labels(rows);
    let ports = |ids: &[crate::ir::ValueId], graph: &Graph| -> Vec<(String, usize)> {
        let tensors = ids.iter().filter(|&&id| !matches!(graph.value(id).def, Def::Input(InputKind::Index { .. })));
        tensors.map(|&id| (graph.value(id).name.clone(), graph.ty(id).elements())).collect()
    };
    let (inputs, outputs) = (ports(&first.inputs, first), ports(&first.outputs, first));
    let mut lanes = |list: &[(String, usize)], kind: LaneKind| -> Vec<(usize, At)> {
        let unit = |name: &str| first.meta(&format!("unit.{name}")).unwrap_or("").to_owned();
        list.iter().enumerate().map(|(port, (name, len))| (port, b.lane(name, *len, kind, &unit(name)))).collect()
    };
    let (reads, writes) = (lanes(&inputs, LaneKind::Input), lanes(&outputs, LaneKind::Output));
    let mut graphs = Vec::new();
    for (name, graph) in networks {
        let net =
            Net { name: name.clone(), inputs: inputs.clone(), outputs: outputs.clone(), rows, of: None, twin: false };
        let net = b.net(net);
        let mut code = Code::new();
        code.call(net, &reads, Row { base: 0, step: 0, label: rows > 0 }, &writes);
        b.entry(name).block(1, code);
        let mut graph = graph.clone();
        graph.name.clone_from(name);
        graphs.push(graph);
    }
    Ok((b.finish()?, graphs))
}

fn same_ports(first: &Graph, other: &Graph) -> Result<(), String> {
    let shown = |g: &Graph| -> Vec<String> {
        let ids = g.inputs.iter().chain(&g.outputs);
        ids.map(|&id| format!("{} {:?} {:?}", g.value(id).name, g.value(id).ty.dims, g.value(id).ty.dtype)).collect()
    };
    match (shown(first), shown(other)) {
        (a, b) if a == b => Ok(()),
        (a, b) => Err(format!("its ports are [{}] and those of the first network [{}]", b.join("; "), a.join("; "))),
    }
}

/// The node whose weights differ.
fn same_weights(first: &Graph, other: &Graph) -> Result<(), String> {
    let weights = |g: &Graph| -> Vec<(String, usize)> {
        let layers = g.nodes.iter().filter(|n| matches!(n.op, Op::QConv { .. } | Op::QConvTranspose { .. }));
        layers.map(|n| (n.origin.clone(), n.inputs[1].0 as usize)).collect()
    };
    let (own, theirs) = (weights(first), weights(other));
    for ((node, a), (origin, b)) in own.iter().zip(&theirs) {
        if node != origin || first.values[*a].def != other.values[*b].def {
            return Err(origin.clone());
        }
    }
    match own.len() == theirs.len() {
        true => Ok(()),
        false => Err(own.iter().chain(&theirs).next_back().map_or_else(String::new, |(node, _)| node.clone())),
    }
}
