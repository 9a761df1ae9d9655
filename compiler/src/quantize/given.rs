//! Scales that the model brings along.
//!
//! A model that was quantised before states the grid of each tensor as a `fake_quant`. The tensor before it takes that
//! grid, and the node is gone. What remains is a change of grid (a table): where two grids meet in an operation that
//! only moves elements, behind a softmax, and before the right operand of a product, which is symmetric.

use super::{SOFTMAX, fuse};
use crate::ir::{Def, Graph, InferError, InputKind, Node, Op, Quant, Remark, Unary, ValueId};
use std::collections::HashMap;

/// Scales by tensor.
pub(super) type Given = HashMap<ValueId, Quant>;

/// Whether some tensor has no scale of its own and none that follows from another, so that samples must be seen.
pub fn needs_calibration(graph: &Graph) -> bool {
    let Ok(mut graph) = super::prepare::prepare(graph) else { return true };
    match absorb(&mut graph) {
        Ok(given) => !complete(&graph, &given),
        Err(_) => true,
    }
}

/// Whether every tensor has a scale.
pub(super) fn complete(graph: &Graph, given: &Given) -> bool {
    let computed = |id: ValueId| match graph.value(id).def {
        Def::Input(kind) => kind == InputKind::Tensor,
        Def::Node => true,
        Def::Const(_) => false,
    };
    let read = graph.nodes.iter().flat_map(|n| n.inputs.iter().copied().chain([n.output]));
    read.chain(graph.outputs.iter().copied()).filter(|&id| computed(id)).all(|id| given.contains_key(&id))
}

/// Takes the grids of all `fake_quant` nodes. Tensors that an operation only moves share theirs.
pub(super) fn absorb(graph: &mut Graph) -> Result<Given, InferError> {
    let mut given = Given::new();
    if !graph.nodes.iter().any(|n| matches!(n.op, Op::FakeQuant { .. })) {
        return Ok(given);
    }
    let softmax: Vec<ValueId> =
        graph.nodes.iter().filter(|n| matches!(n.op, Op::Softmax { .. })).map(|n| n.output).collect();
    given.extend(softmax.iter().map(|&id| (id, SOFTMAX)));
    let mut kept: Vec<Node> = Vec::new();
    let mut replaced: HashMap<ValueId, ValueId> = HashMap::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        node.inputs.iter_mut().for_each(|id| *id = replaced.get(id).copied().unwrap_or(*id));
        if let Op::FakeQuant { scale, zero_point } = node.op {
            let quant = Quant { scale, zero_point };
            let x = node.inputs[0];
            if *given.entry(x).or_insert(quant) == quant {
                take_place(graph, node.output, x);
                replaced.insert(node.output, x);
                continue;
            }
            given.insert(node.output, quant);
        }
        kept.push(node);
    }
    graph.nodes = kept;
    clamps(graph, &mut given);
    movements(graph, &mut given)?;
    right_operands(graph, &mut given)?;
    graph.sort().map_err(|node| InferError { node, message: "the graph has a cycle".to_owned() })?;
    let roots = fuse::shared_scales(graph);
    let by_root: HashMap<ValueId, Quant> = given.iter().map(|(id, q)| (roots[id.0 as usize], *q)).collect();
    for (i, root) in roots.iter().enumerate() {
        let id = ValueId(i as u32);
        if let (Some(&quant), Def::Node | Def::Input(_)) = (by_root.get(root), &graph.value(id).def)
            && *given.entry(id).or_insert(quant) != quant
        {
            let message = format!("'{}' is moved together with a tensor of another scale", graph.value(id).name);
            return Err(InferError { node: graph.name.clone(), message });
        }
    }
    Ok(given)
}

/// Readers of `old` read `new`, which also takes its name if it is an output of the graph.
fn take_place(graph: &mut Graph, old: ValueId, new: ValueId) {
    if graph.outputs.contains(&old) && matches!(graph.value(new).def, Def::Node) && !graph.outputs.contains(&new) {
        graph.swap_names(old, new);
    }
    graph.replace_uses(old, new);
}

/// A clamp commutes with rounding, so that the tensor before it has the grid of the tensor behind it; where the ends of
/// the grid are the bounds of the clamp, it does nothing.
fn clamps(graph: &mut Graph, given: &mut Given) {
    let mut i = graph.nodes.len();
    while i > 0 {
        i -= 1;
        let node = &graph.nodes[i];
        let (x, y) = (node.inputs.first().copied(), node.output);
        let clamps = matches!(node.op, Op::Unary(Unary::Relu) | Op::Clip { .. });
        let (Some(x), Some(&quant), true) = (x, given.get(&y), clamps) else { continue };
        let alone = graph.use_counts()[x.0 as usize] == 1 && matches!(graph.value(x).def, Def::Node);
        if given.get(&x).is_some_and(|q| *q != quant) || !(alone || given.contains_key(&x)) {
            continue;
        }
        let Some(function) = fuse::function(&node.op) else { continue };
        given.insert(x, quant);
        let table = flowlet_kernels::table::tabulate(|v| f64::from(function(v as f32)), quant, quant);
        if table.iter().zip(-128i32..).all(|(&entry, q)| i32::from(entry as i8) == q) {
            graph.nodes.remove(i);
            take_place(graph, y, x);
        }
    }
}

/// Operands of operations that move elements get the grid of the result.
fn movements(graph: &mut Graph, given: &mut Given) -> Result<(), InferError> {
    let mut i = 0;
    while i < graph.nodes.len() {
        let node = &graph.nodes[i];
        let (inputs, output) = (node.inputs.clone(), node.output);
        let first = inputs.iter().find_map(|id| given.get(id));
        let target = given.get(&output).or(first).copied().filter(|_| fuse::moves(&node.op));
        i += 1;
        let Some(target) = target else { continue };
        given.insert(output, target);
        for (slot, &id) in inputs.iter().enumerate() {
            if graph.constant(id).is_none() && *given.entry(id).or_insert(target) != target {
                change_grid(graph, given, i - 1, slot, target)?;
            }
        }
    }
    Ok(())
}

/// Right operands of products are symmetric.
fn right_operands(graph: &mut Graph, given: &mut Given) -> Result<(), InferError> {
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let right = node.inputs.get(1).filter(|_| matches!(node.op, Op::HeadProduct(_)));
        let Some(q) = right.and_then(|id| given.get(id)).copied().filter(|q| q.zero_point != 0) else { continue };
        let largest = (127 - i32::from(q.zero_point)).max(128 + i32::from(q.zero_point));
        let scale = q.scale * (largest as f32 / 127.0);
        change_grid(graph, given, i, 1, Quant { scale, zero_point: 0 })?;
        let node = graph.nodes[i].origin.clone();
        let message = "the right operand of the product is rounded again, to a grid with zero point 0".to_owned();
        graph.remarks.push(Remark { pass: "quantize".to_owned(), node, message });
    }
    Ok(())
}

/// Puts a change of grid before operand `slot` of node `i`. The new node is the last; the caller sorts.
fn change_grid(graph: &mut Graph, given: &mut Given, i: usize, slot: usize, quant: Quant) -> Result<(), InferError> {
    let (x, origin) = (graph.nodes[i].inputs[slot], graph.nodes[i].origin.clone());
    let name = format!("{}.grid", graph.value(x).name);
    let op = Op::FakeQuant { scale: quant.scale, zero_point: quant.zero_point };
    let y = graph.add_node(&name, op, &[x], &origin)?;
    graph.nodes[i].inputs[slot] = y;
    given.insert(y, quant);
    Ok(())
}
