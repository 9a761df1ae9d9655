//! Small questions and edits that several passes share.

use crate::ir::{Def, Graph, InputKind, Node, Op, Remark, Tensor, ValueId};

impl Graph {
    /// Records what a pass did or declined to do.
    pub(super) fn remark(&mut self, pass: &str, node: &str, message: impl Into<String>) {
        self.remarks.push(Remark { pass: pass.to_owned(), node: node.to_owned(), message: message.into() });
    }
}

/// The per-channel factor that a constant applies to a tensor with these dimensions: the constant broadcasts along every
/// axis but 1. Scalars count.
pub(crate) fn per_channel(constant: &Tensor, dims: &[usize]) -> Option<Vec<f32>> {
    per_axis(constant, dims, 1)
}

/// The same along another axis.
pub(super) fn per_axis(constant: &Tensor, dims: &[usize], axis: usize) -> Option<Vec<f32>> {
    let values = constant.as_f32()?;
    let channels = *dims.get(axis)?;
    if constant.dims.len() > dims.len() {
        return None;
    }
    if values.len() == 1 {
        return Some(vec![values[0]; channels]);
    }
    let lead = dims.len() - constant.dims.len();
    let fits = constant.dims.iter().enumerate().all(|(i, &d)| d == 1 || (i + lead == axis && d == channels));
    (fits && values.len() == channels).then(|| values.to_vec())
}

/// The node at `position` if it defines `id` and nothing else reads it.
pub(super) fn sole_producer<'g>(
    graph: &'g Graph,
    producers: &std::collections::HashMap<ValueId, usize>,
    uses: &[usize],
    id: ValueId,
) -> Option<&'g Node> {
    let position = *producers.get(&id)?;
    (uses[id.0 as usize] == 1).then(|| &graph.nodes[position])
}

/// For each value: whether it is computed from constants and the inputs in `sources` only, and from at least one input.
pub(crate) fn depends_only_on(graph: &Graph, sources: &[ValueId]) -> Vec<bool> {
    let mut only: Vec<Option<bool>> = graph
        .values
        .iter()
        .enumerate()
        .map(|(i, v)| match v.def {
            Def::Const(_) => Some(false),
            Def::Input(_) => sources.contains(&ValueId(i as u32)).then_some(true),
            Def::Node => None,
        })
        .collect();
    for node in &graph.nodes {
        let states: Option<Vec<bool>> = node.inputs.iter().map(|id| only[id.0 as usize]).collect();
        only[node.output.0 as usize] = states.map(|s| s.contains(&true));
    }
    only.into_iter().map(|s| s == Some(true)).collect()
}

/// Operations left over from the conditioning path: computed from an index input and constants only.
pub(crate) fn conditioning_ops(graph: &Graph) -> usize {
    let indices: Vec<ValueId> = graph
        .inputs
        .iter()
        .copied()
        .filter(|&id| matches!(graph.value(id).def, Def::Input(InputKind::Index { .. })))
        .collect();
    let only = depends_only_on(graph, &indices);
    graph.nodes.iter().filter(|n| only[n.output.0 as usize]).count()
}

/// Norms that are left: those with statistics of the sample, and per-channel affines that were not folded away.
pub(crate) fn norm_ops(graph: &Graph) -> usize {
    graph.nodes.iter().filter(|n| matches!(n.op, Op::Affine | Op::Norm { .. })).count()
}
