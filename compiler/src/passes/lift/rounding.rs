//! Quantised models round before and behind each operation; where elements are only moved, once is enough.

use crate::ir::{Graph, Op, ValueId};
use std::collections::HashMap;

/// Drops roundings of numbers that are on the grid already, and puts those between a mean or a norm and a
/// reshape behind both, where the two can be recognised as one operation.
pub(super) fn repeated(graph: &mut Graph) {
    let producers = graph.producers();
    let mut on_grid: HashMap<ValueId, (u32, i8)> = HashMap::new();
    let mut dropped: Vec<(ValueId, ValueId)> = Vec::new();
    for node in &graph.nodes {
        let own = match &node.op {
            Op::FakeQuant { scale, zero_point } => {
                let grid = (scale.to_bits(), *zero_point);
                if on_grid.get(&node.inputs[0]) == Some(&grid) {
                    dropped.push((node.output, node.inputs[0]));
                }
                Some(grid)
            }
            Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Expand { .. }
            | Op::Gather { .. }
            | Op::MaxPool(_)
            | Op::Upsample { .. } => on_grid.get(&node.inputs[0]).copied(),
            Op::Concat { .. } => {
                let first = on_grid.get(&node.inputs[0]).copied();
                first.filter(|grid| node.inputs.iter().all(|id| on_grid.get(id) == Some(grid)))
            }
            _ => None,
        };
        on_grid.extend(own.map(|grid| (node.output, grid)));
    }
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let (Op::Reshape { dims }, Some(&p)) = (&node.op, producers.get(&node.inputs[0])) else { continue };
        let (rounding, dims) = (&graph.nodes[p], dims.clone());
        let statistics = matches!(rounding.op, Op::FakeQuant { .. })
            && producers
                .get(&rounding.inputs[0])
                .is_some_and(|&m| matches!(graph.nodes[m].op, Op::ReduceMean { .. } | Op::Norm { .. }))
            && graph.use_counts()[rounding.output.0 as usize] == 1;
        if statistics {
            let between = rounding.output;
            let op = std::mem::replace(&mut graph.nodes[p].op, Op::Reshape { dims: dims.clone() });
            graph.nodes[i].op = op;
            let reshape = graph.nodes[i].origin.clone();
            graph.nodes[i].origin = std::mem::replace(&mut graph.nodes[p].origin, reshape);
            graph.value_mut(between).ty.dims = dims;
        }
    }
    // The last first, as a dropped rounding may read another one.
    for (old, new) in dropped.iter().rev() {
        if graph.outputs.contains(old) {
            continue;
        }
        graph.replace_uses(*old, *new);
    }
    graph.sweep();
}
