//! Undoes the import library's splitting of one ONNX node into several operations.
//!
//! Only operations that come from the same ONNX node are merged, so that the graph reads like the model. What the
//! model's author wrote in several nodes is the compiler's to recognise.

use crate::names::readable;
use flowlet_compiler::ir::{Def, Graph, Node, Op, Tensor, Unary, ValueId};
use std::collections::{HashMap, HashSet};

/// Merges until nothing changes.
pub(crate) fn tidy(graph: &mut Graph) {
    while pass(graph) {}
    graph.sweep();
    name_results(graph);
}

/// Names the result of every ONNX node after it; the outputs of the model keep theirs.
fn name_results(graph: &mut Graph) {
    let mut last: HashMap<&str, ValueId> = HashMap::new();
    for node in &graph.nodes {
        last.insert(&node.origin, node.output);
    }
    let mut taken: HashSet<String> = graph.values.iter().map(|v| v.name.clone()).collect();
    let mut names: Vec<(ValueId, String)> = last.into_iter().map(|(origin, id)| (id, readable(origin))).collect();
    names.sort_by_key(|(id, _)| *id);
    for (id, name) in names {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
        if !name.is_empty() && !graph.outputs.contains(&id) && taken.insert(name.clone()) {
            graph.value_mut(id).name = name;
        }
    }
}

/// One operation in place of two, and a constant to reshape for it.
struct Merged {
    op: Op,
    inputs: Vec<ValueId>,
    flatten: Option<ValueId>,
}

impl Merged {
    fn new(op: Op, inputs: &[ValueId]) -> Option<Self> {
        Some(Merged { op, inputs: inputs.to_vec(), flatten: None })
    }
}

fn pass(graph: &mut Graph) -> bool {
    let producers = graph.producers();
    let uses = graph.use_counts();
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        for (slot, operand) in node.inputs.iter().enumerate() {
            let Some(&p) = producers.get(operand) else { continue };
            let before = &graph.nodes[p];
            if before.origin != node.origin || uses[operand.0 as usize] != 1 {
                continue;
            }
            if let Some(mut merged) = merged(graph, before, node, slot) {
                flatten(graph, &mut merged);
                let i = replace(graph, i, p, merged);
                drop_identity(graph, i);
                return true;
            }
        }
    }
    false
}

/// Gives a constant row the one axis of a bias: in place, or as a copy if others read it.
fn flatten(graph: &mut Graph, merged: &mut Merged) {
    let Some(id) = merged.flatten else { return };
    let Def::Const(tensor) = &graph.value(id).def else { return };
    let flat = Tensor { dims: vec![tensor.elements()], data: tensor.data.clone() };
    if graph.use_counts()[id.0 as usize] > 1 {
        let name = graph.value(id).name.clone();
        let copy = graph.add_const(&name, flat);
        merged.inputs.iter_mut().filter(|i| **i == id).for_each(|i| *i = copy);
        return;
    }
    let value = graph.value_mut(id);
    value.ty.dims.clone_from(&flat.dims);
    value.def = Def::Const(flat);
}

/// Gives node `i` the work of its producer `p` as well and drops the producer. Returns where the node is now.
fn replace(graph: &mut Graph, i: usize, p: usize, merged: Merged) -> usize {
    graph.nodes[i].op = merged.op;
    graph.nodes[i].inputs = merged.inputs;
    graph.nodes.remove(p);
    i - usize::from(p < i)
}

/// Removes a transposition or reshape that merging has left without effect.
fn drop_identity(graph: &mut Graph, i: usize) {
    let node = &graph.nodes[i];
    let turned = matches!(&node.op, Op::Transpose { perm } if perm.is_sorted());
    let shaped = matches!(&node.op, Op::Reshape { dims } if graph.ty(node.inputs[0]).dims == *dims);
    let idle = turned || shaped;
    if idle && !graph.outputs.contains(&node.output) {
        let (from, to) = (node.output, node.inputs[0]);
        graph.nodes.remove(i);
        graph.replace_uses(from, to);
    }
}

/// The single operation that does `before` and then `after`, which reads it as operand `slot`.
fn merged(graph: &Graph, before: &Node, after: &Node, slot: usize) -> Option<Merged> {
    match (&before.op, &after.op) {
        (Op::Reshape { .. }, Op::Reshape { dims }) => Merged::new(Op::Reshape { dims: dims.clone() }, &before.inputs),
        (Op::Transpose { perm: first }, Op::Transpose { perm: second }) => {
            let perm = second.iter().map(|&s| first[s]).collect();
            Merged::new(Op::Transpose { perm }, &before.inputs)
        }
        (Op::Clip { lo: lo1, hi: hi1 }, Op::Clip { lo: lo2, hi: hi2 }) => {
            // The second bound wins where they contradict each other.
            let (lo, hi) = (lo1.max(*lo2).min(*hi2), hi1.min(*hi2).max(*lo2));
            Merged::new(Op::Clip { lo, hi }, &before.inputs)
        }
        (Op::Unary(Unary::Relu), Op::Clip { lo, hi }) if *lo <= 0.0 && *hi >= 0.0 => {
            Merged::new(Op::Clip { lo: 0.0, hi: *hi }, &before.inputs)
        }
        (Op::Linear, Op::Add { alpha, beta, gamma })
            if before.inputs.len() == 2 && [*alpha, *beta, *gamma] == [1.0, 1.0, 0.0] =>
        {
            linear_bias(graph, before, after.inputs[1 - slot])
        }
        (Op::ReduceSum { axes }, Op::Mul) => mean(graph, before, after, axes, slot, |n, v| v == 1.0 / n),
        (Op::ReduceSum { axes }, Op::Div) if slot == 0 => mean(graph, before, after, axes, slot, |n, v| v == n),
        _ => None,
    }
}

/// A constant row that is added to a fully connected layer is its bias.
fn linear_bias(graph: &Graph, linear: &Node, other: ValueId) -> Option<Merged> {
    let features = *graph.ty(linear.output).dims.get(1)?;
    let dims = &graph.constant(other)?.dims;
    let fits = *dims == [features] || *dims == [1, features];
    let flatten = (dims.len() == 2).then_some(other);
    fits.then(|| Merged { op: Op::Linear, inputs: vec![linear.inputs[0], linear.inputs[1], other], flatten })
}

/// A sum times the reciprocal of its count, or divided by it, is a mean.
fn mean(
    graph: &Graph,
    sum: &Node,
    after: &Node,
    axes: &[usize],
    slot: usize,
    fits: impl Fn(f32, f32) -> bool,
) -> Option<Merged> {
    let values = graph.constant(after.inputs[1 - slot])?.as_f32()?;
    let dims = &graph.ty(sum.inputs[0]).dims;
    let count = axes.iter().map(|&axis| dims[axis]).product::<usize>() as f32;
    let mean = Op::ReduceMean { axes: axes.to_vec() };
    let same_shape = graph.ty(sum.output).dims == graph.ty(after.output).dims;
    if same_shape && values.iter().all(|&v| fits(count, v)) { Merged::new(mean, &sum.inputs) } else { None }
}
