//! Evaluates nodes whose operands are all constants, and drops nodes that change nothing.

use super::{Options, PassError};
use crate::interp;
use crate::ir::{Def, Graph, Op, Tensor};

/// Broadcasting a small constant to a huge one would cost more than it saves.
const MAX_ELEMENTS: usize = 1 << 26;

pub(super) fn run(graph: &mut Graph, _: &Options) -> Result<(), PassError> {
    let mut kept = Vec::new();
    for node in std::mem::take(&mut graph.nodes) {
        let operands: Option<Vec<&Tensor>> = node.inputs.iter().map(|&id| graph.constant(id)).collect();
        let small = graph.ty(node.output).elements() <= MAX_ELEMENTS;
        match operands {
            Some(operands) if small && !operands.is_empty() => {
                let folded = interp::eval(&node.op, &operands).map_err(|e| e.at(&node.origin))?;
                graph.value_mut(node.output).def = Def::Const(folded);
            }
            Some(_) | None => kept.push(node),
        }
    }
    graph.nodes = kept;
    drop_identities(graph);
    Ok(())
}

/// Makes the readers of nodes that change nothing read past them.
pub(super) fn drop_identities(graph: &mut Graph) {
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let same = graph.ty(node.output) == graph.ty(node.inputs[0]);
        let identity = match &node.op {
            Op::Reshape { .. } | Op::Expand { .. } | Op::Slice { .. } | Op::Cast { .. } => same,
            Op::Transpose { perm } => perm.iter().enumerate().all(|(i, &p)| i == p),
            Op::Upsample { factor } => *factor == 1,
            Op::PixelShuffle { block } | Op::PixelUnshuffle { block } => *block == 1,
            Op::Concat { .. } => node.inputs.len() == 1,
            _ => false,
        };
        if identity {
            let (old, new) = (node.output, node.inputs[0]);
            graph.replace_uses(old, new);
        }
    }
}
