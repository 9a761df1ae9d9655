//! Fixed-statistics norms and conditioning biases become weights of the linear layer beside them.
//!
//! - after a convolution or linear layer: `W' = diag(a) W`, `b' = a b + d`; exact with any padding
//! - before a linear layer or a convolution without padding: `W' = W diag(a)`, `b' = b + W d`; exact. With padding the
//!   scale still moves and the shift only when it is zero, because the border reads zeros that the shift would change
//! - a constant, or a table row, added per channel: a bias, or a bank of biases with one row for each value
//! - the factors of a norm with statistics of the sample: into the layers after it; its centring: into the layers that write
//!   its input; behind a concatenation: into each layer that was joined
//!
//! Rules: Yang et al., "Unified Normalization for Accelerating and Stabilizing Transformers" (2022), section 3.3, and
//! their extension to padded convolutions in ARCHITECTURE.md.

mod centre;
mod concat;
mod readers;
mod scalars;
mod split;

pub(super) use readers::scale_readers;

use super::rewrite::{per_channel, sole_producer};
use super::{Options, PassError};
use crate::ir::{Graph, Node, Op, Tensor, ValueId};

const PASS: &str = "fold_norm";

pub(super) fn run(graph: &mut Graph, options: &Options) -> Result<(), PassError> {
    fold_all(graph, options.keep_factors);
    let left: Vec<(String, String)> = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Affine))
        .map(|n| (n.origin.clone(), why_kept(graph, n)))
        .collect();
    for (node, message) in left {
        graph.remark(PASS, &node, message);
    }
    Ok(())
}

/// Every fold, until there is none left; with `keep_factors` none that multiplies the inputs of a layer channel by channel.
pub(super) fn fold_all(graph: &mut Graph, keep_factors: bool) {
    loop {
        let mut changed = false;
        let mut i = 0;
        while i < graph.nodes.len() {
            // A fold may remove nodes; what comes next stands in their place.
            if fold_into_producer(graph, i) {
                changed = true;
                continue;
            }
            let folded = scalars::fold(graph, i)
                || readers::fold(graph, i, keep_factors)
                || concat::fold(graph, i)
                || split::split(graph, i)
                || centre::centre(graph, i);
            changed |= folded;
            i += 1;
        }
        graph.sweep();
        if !changed {
            break;
        }
    }
}

pub(super) fn is_linear(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Linear)
}

/// The bias bank of a linear node as `[rows][channels]` and the index that selects among its rows.
pub(super) struct Bank {
    pub(super) rows: Vec<Vec<f32>>,
    pub(super) index: Option<ValueId>,
}

pub(super) fn bank(graph: &Graph, node: &Node) -> Option<Bank> {
    let channels = graph.ty(node.output).dims[1];
    let rows = match node.inputs.get(2) {
        None => vec![vec![0.0; channels]],
        Some(&id) => graph.constant(id)?.as_f32()?.chunks(channels).map(<[f32]>::to_vec).collect(),
    };
    Some(Bank { rows, index: node.inputs.get(3).copied() })
}

/// What a node adds to or multiplies onto its producer's channels.
struct Tail {
    input: ValueId,
    scale: Vec<f32>,
    shifts: Vec<Vec<f32>>,
    index: Option<ValueId>,
    what: &'static str,
}

fn tail(graph: &Graph, node: &Node, producers: &std::collections::HashMap<ValueId, usize>) -> Option<Tail> {
    if node.op == Op::Affine {
        return Some(Tail {
            input: node.inputs[0],
            scale: graph.constant(node.inputs[1])?.as_f32()?.to_vec(),
            shifts: vec![graph.constant(node.inputs[2])?.as_f32()?.to_vec()],
            index: None,
            what: "the norm became weights and biases of the layer before it",
        });
    }
    let Op::Add { alpha, beta, gamma } = node.op else { return None };
    let dims = &graph.ty(node.output).dims;
    for (x, other, factor, weight) in
        [(node.inputs[0], node.inputs[1], alpha, beta), (node.inputs[1], node.inputs[0], beta, alpha)]
    {
        if graph.ty(x).dims != *dims || dims.len() < 2 {
            continue;
        }
        let apply = |row: Vec<f32>| row.iter().map(|v| weight * v + gamma).collect::<Vec<f32>>();
        let scale = vec![factor; dims[1]];
        if let Some(row) = graph.constant(other).and_then(|t| per_channel(t, dims)) {
            let what = "the added constant became a bias";
            return Some(Tail { input: x, scale, shifts: vec![apply(row)], index: None, what });
        }
        if let Some((table, index)) = selected(graph, other, producers) {
            let rows = table.dims[0];
            let row_dims: Vec<usize> = std::iter::once(1).chain(table.dims[1..].iter().copied()).collect();
            let values = table.as_f32()?;
            let shifts: Option<Vec<Vec<f32>>> = (0..rows)
                .map(|r| {
                    let row = values[r * values.len() / rows..(r + 1) * values.len() / rows].to_vec();
                    per_channel(&Tensor::f32(&row_dims, row), dims).map(apply)
                })
                .collect();
            let what = "the conditioning table became a bank of biases";
            return Some(Tail { input: x, scale, shifts: shifts?, index: Some(index), what });
        }
    }
    None
}

/// The constant table and index behind a value, through reshapes that keep the rows.
fn selected<'g>(
    graph: &'g Graph,
    id: ValueId,
    producers: &std::collections::HashMap<ValueId, usize>,
) -> Option<(Tensor, ValueId)> {
    let node: &'g Node = &graph.nodes[*producers.get(&id)?];
    match &node.op {
        Op::Select => Some((graph.constant(node.inputs[0])?.clone(), node.inputs[1])),
        Op::Reshape { dims } if dims.first() == Some(&1) => {
            let (mut table, index) = selected(graph, node.inputs[0], producers)?;
            let rows = table.dims[0];
            table.dims = std::iter::once(rows).chain(dims[1..].iter().copied()).collect();
            Some((table, index))
        }
        _ => None,
    }
}

fn fold_into_producer(graph: &mut Graph, i: usize) -> bool {
    let (producers, uses) = (graph.producers(), graph.use_counts());
    let Some(tail) = tail(graph, &graph.nodes[i], &producers) else { return false };
    let Some(linear) = sole_producer(graph, &producers, &uses, tail.input) else { return false };
    if !is_linear(&linear.op) {
        return false;
    }
    let (Some(old), Some(weight)) = (bank(graph, linear), graph.constant(linear.inputs[1])) else { return false };
    let index = match (old.index, tail.index) {
        (Some(a), Some(b)) if a != b => return false,
        (a, b) => a.or(b),
    };
    let Some(values) = weight.as_f32() else { return false };
    let channels = tail.scale.len();
    let per = values.len() / channels;
    let scaled: Vec<f32> = values.iter().enumerate().map(|(j, w)| w * tail.scale[j / per]).collect();
    let count = old.rows.len().max(tail.shifts.len());
    let rows: Vec<Vec<f32>> = (0..count)
        .map(|r| {
            let (b, d) = (&old.rows[r % old.rows.len()], &tail.shifts[r % tail.shifts.len()]);
            (0..channels).map(|c| tail.scale[c] * b[c] + d[c]).collect()
        })
        .collect();
    let (position, what, origin) = (producers[&tail.input], tail.what, graph.nodes[i].origin.clone());
    install(graph, position, Tensor::f32(&weight.dims.clone(), scaled), rows, index);
    let old = graph.nodes[i].output;
    let new = graph.nodes[position].output;
    graph.replace_uses(old, new);
    graph.nodes.remove(i);
    graph.swap_names(old, new);
    graph.remark(PASS, &origin, what);
    true
}

/// Gives the linear node at `position` new weights and biases.
pub(super) fn install(graph: &mut Graph, position: usize, weight: Tensor, rows: Vec<Vec<f32>>, index: Option<ValueId>) {
    let name = graph.value(graph.nodes[position].inputs[1]).name.trim_end_matches(".folded").to_owned();
    let (x, channels) = (graph.nodes[position].inputs[0], rows[0].len());
    let weight = graph.add_const(&format!("{name}.folded"), weight);
    let dims: Vec<usize> = if index.is_some() { vec![rows.len(), channels] } else { vec![channels] };
    let bias = graph.add_const(&format!("{name}.bias"), Tensor::f32(&dims, rows.concat()));
    graph.nodes[position].inputs = [x, weight, bias].into_iter().chain(index).collect();
}

/// Why an affine stayed.
fn why_kept(graph: &Graph, node: &Node) -> String {
    let readers: Vec<&Node> = graph.nodes.iter().filter(|n| n.inputs.contains(&node.output)).collect();
    let producers = graph.producers();
    let before = producers.get(&node.inputs[0]).map(|&p| &graph.nodes[p]);
    let before_name = before.map_or("a graph input", |p| p.op.name());
    let padded = readers.iter().any(|n| matches!(&n.op, Op::Conv(g) if g.pad != [0; 4]));
    let after = match (readers.len(), readers.first()) {
        (1, Some(n)) if padded && is_linear(&n.op) => "a zero-padded convolution, whose border the shift would change",
        (1, Some(n)) => n.op.name(),
        (0, _) => "an output",
        _ => "several readers",
    };
    let shared = before.is_some_and(|p| is_linear(&p.op));
    let shared = if shared { " that others read too" } else { "" };
    format!("kept: it stands between {before_name}{shared} and {after}")
}
