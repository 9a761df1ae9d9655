//! A layer whose result is only read in slices of its channels becomes one layer for each slice: queries, keys and values;
//! factors and shifts of FiLM. Each gets scales of its own, and nothing is moved.

use super::{PASS, bank, is_linear};
use crate::ir::{Graph, Op, Tensor, ValueId};

/// Splits the layer at node `i`.
pub(super) fn split(graph: &mut Graph, i: usize) -> bool {
    let node = &graph.nodes[i];
    let grouped = matches!(&node.op, Op::Conv(g) if g.groups != 1);
    if !is_linear(&node.op) || grouped {
        return false;
    }
    // Slices of channels, directly or behind a reshape that only renumbers pixels.
    let channels = graph.ty(node.output).dims[1];
    let mut slices = Vec::new();
    let mut open = vec![node.output];
    while let Some(id) = open.pop() {
        if graph.outputs.contains(&id) {
            return false;
        }
        for (n, reader) in graph.nodes.iter().enumerate().filter(|(_, r)| r.inputs.contains(&id)) {
            match &reader.op {
                Op::Slice { axis: 1, .. } => slices.push(n),
                Op::Reshape { dims } if dims.get(..2) == Some(&[1, channels]) => open.push(reader.output),
                _ => return false,
            }
        }
    }
    let (Some(weight), Some(bank)) = (graph.constant(node.inputs[1]).cloned(), bank(graph, node)) else { return false };
    let Some(values) = weight.as_f32() else { return false };
    if slices.is_empty() {
        return false;
    }
    let (op, x, origin) = (node.op.clone(), node.inputs[0], node.origin.clone());
    let name = graph.value(node.inputs[1]).name.clone();
    let per = values.len() / channels;
    slices.sort_unstable();
    for &n in &slices {
        let Op::Slice { start, end, step, .. } = graph.nodes[n].op else { continue };
        let rows: Vec<usize> = (start..end).step_by(step).collect();
        let picked: Vec<f32> = rows.iter().flat_map(|&r| &values[r * per..(r + 1) * per]).copied().collect();
        let mut dims = weight.dims.clone();
        dims[0] = rows.len();
        let part = graph.add_const(&format!("{name}.{start}"), Tensor::f32(&dims, picked));
        let biases: Vec<f32> = bank.rows.iter().flat_map(|b| rows.iter().map(|&r| b[r])).collect();
        let bias_dims = if bank.index.is_some() { vec![bank.rows.len(), rows.len()] } else { vec![rows.len()] };
        let bias = graph.add_const(&format!("{name}.{start}.bias"), Tensor::f32(&bias_dims, biases));
        let inputs: Vec<ValueId> = [x, part, bias].into_iter().chain(bank.index).collect();
        let sliced = graph.nodes[n].output;
        let out = graph.ty(sliced).dims.clone();
        let value = graph.value(sliced).name.clone();
        let Ok(new) = graph.add_node(&format!("{value}.layer"), op.clone(), &inputs, &origin) else { return false };
        // The slice's place is taken by a reshape to its pixels, or by nothing.
        if graph.ty(new).dims == out {
            graph.replace_uses(sliced, new);
        } else {
            graph.nodes[n].op = Op::Reshape { dims: out };
            graph.nodes[n].inputs = vec![new];
        }
    }
    graph.remark(PASS, &origin, format!("the layer is read in {} slices and became as many layers", slices.len()));
    graph.sort().is_ok()
}
