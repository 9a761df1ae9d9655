//! What each node of a graph costs.

use flowlet_compiler::ir::{DType, Graph, Node, Op, Quant, ValueId};
use serde_json::{Value, json};

/// One node.
pub(super) struct Layer {
    pub name: String,
    pub op: &'static str,
    pub origin: String,
    pub dims: Vec<usize>,
    pub macs: u64,
    pub params: usize,
    pub bytes: usize,
    pub quant: Option<Quant>,
}

impl Layer {
    pub fn json(&self) -> Value {
        json!({ "name": self.name, "op": self.op, "node": self.origin, "shape": self.dims, "macs": self.macs,
                "params": self.params, "bytes": self.bytes, "scale": self.quant.map(|q| q.scale),
                "zero_point": self.quant.map(|q| q.zero_point) })
    }
}

/// The nodes in order.
pub(super) fn layers(graph: &Graph) -> Vec<Layer> {
    graph
        .nodes
        .iter()
        .map(|node| {
            let value = graph.value(node.output);
            let constants = || node.inputs.iter().filter_map(|&id| graph.constant(id));
            Layer {
                name: value.name.clone(),
                op: node.op.name(),
                origin: node.origin.clone(),
                dims: value.ty.dims.clone(),
                macs: macs(graph, node),
                params: constants().filter(|t| t.dtype() != DType::I64).map(|t| t.elements()).sum(),
                bytes: constants().map(|t| t.elements() * t.dtype().size_bytes()).sum(),
                quant: value.ty.quant,
            }
        })
        .collect()
}

/// Multiply-accumulates, padding counted.
fn macs(graph: &Graph, node: &Node) -> u64 {
    let elements = graph.ty(node.output).elements() as u64;
    let dims = |input: Option<&ValueId>| input.map_or(&[][..], |&id| &graph.ty(id).dims[..]);
    match node.op {
        Op::Conv(_) | Op::Linear | Op::QConv { .. } => {
            elements * dims(node.inputs.get(1)).iter().skip(1).product::<usize>() as u64
        }
        Op::MatMul => elements * dims(node.inputs.first()).last().copied().unwrap_or(0) as u64,
        _ => 0,
    }
}
