//! Norms with statistics of the sample, spelled out or regrouped by reshapes, become one operation.

use super::{Context, Rewrite};
use crate::ir::{Graph, Node, NormKind, Op, Tensor, Unary, ValueId};
use crate::passes::rewrite::per_axis;

/// `(x - mean) / sqrt(var + eps)` and `x / sqrt(mean(x^2) + eps)`.
pub(super) fn spelled(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    let (numerator, deviation) = quotient(graph, cx, node)?;
    let (variance, eps) = plus_number(graph, cx, deviation)?;
    let mut mean_square = cx.producer(graph, variance)?;
    // An axis of 1 may have been dropped and put back.
    while matches!(mean_square.op, Op::Reshape { .. }) {
        mean_square = cx.producer(graph, mean_square.inputs[0])?;
    }
    let Op::ReduceMean { axes } = &mean_square.op else { return None };
    let base = squared(graph, cx, mean_square.inputs[0])?;
    let (x, centred) = match centred(graph, cx, base, axes) {
        Some(x) if centred(graph, cx, numerator, axes) == Some(x) => (x, true),
        _ if base == numerator => (base, false),
        _ => return None,
    };
    let dims = &graph.ty(x).dims;
    if graph.ty(node.output).dims != *dims {
        return None;
    }
    let last = dims.len() - 1;
    let (kind, axis, groups) = match (&axes[..], centred) {
        ([a], true) if *a == last => (NormKind::Layer, last, 1),
        ([a], false) if *a == last => (NormKind::Rms, last, 1),
        (axes, true) if dims.len() > 2 && axes.iter().copied().eq(2..dims.len()) => (NormKind::Group, 1, dims[1]),
        _ => return None,
    };
    let what = if kind == NormKind::Rms { "root mean square norm" } else { "norm" };
    Some((Op::Norm { kind, axis, groups, eps }, vec![x], format!("a spelled-out {what} became one operation")))
}

/// Numerator and the operand of the square root of `a / sqrt(b)`, `a * (1 / sqrt(b))` or `a * b^-0.5`.
fn quotient(graph: &Graph, cx: &Context, node: &Node) -> Option<(ValueId, ValueId)> {
    let unary =
        |id: ValueId, unary: Unary| cx.producer(graph, id).filter(|p| p.op == Op::Unary(unary)).map(|p| p.inputs[0]);
    let number = |id: ValueId| graph.constant(id).and_then(Tensor::as_f32).filter(|v| v.len() == 1).map(|v| v[0]);
    match node.op {
        Op::Div => Some((node.inputs[0], unary(node.inputs[1], Unary::Sqrt)?)),
        Op::Mul => [(0, 1), (1, 0)].into_iter().find_map(|(a, b)| {
            let (a, b) = (node.inputs[a], node.inputs[b]);
            let root = unary(b, Unary::Reciprocal).and_then(|r| unary(r, Unary::Sqrt));
            let divided = || {
                let p = cx.producer(graph, b).filter(|p| p.op == Op::Div && number(p.inputs[0]) == Some(1.0))?;
                unary(p.inputs[1], Unary::Sqrt)
            };
            let power = || {
                let p = cx.producer(graph, b).filter(|p| p.op == Op::Pow && number(p.inputs[1]) == Some(-0.5))?;
                Some(p.inputs[0])
            };
            Some((a, root.or_else(divided).or_else(power)?))
        }),
        _ => None,
    }
}

/// `x` and the number of `x + number`.
fn plus_number(graph: &Graph, cx: &Context, id: ValueId) -> Option<(ValueId, f32)> {
    let node = cx.producer(graph, id)?;
    let Op::Add { alpha, beta, gamma } = node.op else { return None };
    let number = |id: ValueId| graph.constant(id).and_then(Tensor::as_f32).filter(|v| v.len() == 1).map(|v| v[0]);
    match (number(node.inputs[0]), number(node.inputs[1])) {
        (None, Some(n)) if alpha == 1.0 => Some((node.inputs[0], beta * n + gamma)),
        (Some(n), None) if beta == 1.0 => Some((node.inputs[1], alpha * n + gamma)),
        _ => None,
    }
}

/// `x` of `x * x`.
fn squared(graph: &Graph, cx: &Context, id: ValueId) -> Option<ValueId> {
    let node = cx.producer(graph, id)?;
    match node.op {
        Op::Unary(Unary::Square) => Some(node.inputs[0]),
        Op::Mul if node.inputs[0] == node.inputs[1] => Some(node.inputs[0]),
        _ => None,
    }
}

/// `x` of `x - mean(x)` over these axes.
fn centred(graph: &Graph, cx: &Context, id: ValueId, axes: &[usize]) -> Option<ValueId> {
    let node = cx.producer(graph, id)?;
    if node.op != Op::sub() {
        return None;
    }
    let mean = cx.producer(graph, node.inputs[1])?;
    (matches!(&mean.op, Op::ReduceMean { axes: a } if a == axes) && mean.inputs == [node.inputs[0]])
        .then_some(node.inputs[0])
}

/// A norm between two reshapes that only cut the channels into groups; a factor for each group may follow it.
pub(super) fn regrouped(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let Op::Reshape { dims } = &graph.nodes[i].op else { return None };
    let dims = dims.clone();
    let mut before = cx.sole(graph, graph.nodes[i].inputs[0])?;
    let mut factors: Option<(Vec<f32>, Vec<f32>)> = None;
    if before.op == Op::Affine {
        factors = Some((row(graph, before.inputs[1])?, row(graph, before.inputs[2])?));
        before = cx.sole(graph, before.inputs[0])?;
    }
    let Op::Norm { kind, axis, groups, eps } = before.op else { return None };
    let inner = cx.producer(graph, before.inputs[0])?;
    let Op::Reshape { dims: cut } = &inner.op else { return None };
    let cut = cut.clone();
    let x = inner.inputs[0];
    // A reshape that an earlier one was merged into leads from other dimensions with the same channels.
    let other = graph.ty(x).dims != dims;
    let alike = graph.ty(x).dims.get(..2) == dims.get(..2);
    if dims[0] != cut[0] || cut[0] != 1 || (other && (!alike || cx.uses[inner.output.0 as usize] != 1)) {
        return None;
    }
    let own = match before.inputs[..] {
        [_, gamma, beta] => Some((row(graph, gamma)?, row(graph, beta)?)),
        _ => None,
    };
    let last = cut.len() - 1;
    let per_group = kind == NormKind::Group && groups == cut[1];
    let uniform = |v: &[f32]| v.iter().all(|x| x.to_bits() == v[0].to_bits());
    let even = own.as_ref().is_none_or(|(g, b)| uniform(g) && uniform(b));
    let over_rest = kind == NormKind::Layer && axis == 2 && last == 2 && groups == 1 && even;
    if dims.len() > 2 && (per_group || over_rest) && dims[1] % cut[1] == 0 {
        let (groups, run) = (cut[1], dims[1] / cut[1]);
        let (mut gamma, mut beta) = match own {
            Some(own) if per_group => own,
            Some((gamma, beta)) => (vec![gamma[0]; groups], vec![beta[0]; groups]),
            None => (vec![1.0; groups], vec![0.0; groups]),
        };
        if let Some((scale, shift)) = &factors {
            for g in 0..groups {
                (gamma[g], beta[g]) = (gamma[g] * scale[g], beta[g] * scale[g] + shift[g]);
            }
        }
        let spread = |v: Vec<f32>| (0..dims[1]).map(|c| v[c / run]).collect::<Vec<f32>>();
        let op = Op::Norm { kind: NormKind::Group, axis: 1, groups, eps };
        let x = if other { recut(graph, cx, i, &dims)? } else { x };
        let inputs = with_affine(graph, i, x, spread(gamma), spread(beta));
        return Some((op, inputs, format!("reshapes and a norm became a group norm of {groups} groups")));
    }
    let split =
        dims.len() == last && dims[..last - 1] == cut[..last - 1] && dims[last - 1] == cut[last - 1] * cut[last];
    if split && !other && kind != NormKind::Group && axis == last && groups == 1 && own.is_none() && factors.is_none() {
        let op = Op::Norm { kind, axis: last - 1, groups: cut[last - 1], eps };
        return Some((op, vec![x], format!("reshapes and a norm became a norm of {} groups", cut[last - 1])));
    }
    None
}

/// Gives the reshape before a norm the dimensions of the one after it.
fn recut(graph: &mut Graph, cx: &Context, i: usize, dims: &[usize]) -> Option<ValueId> {
    let mut id = graph.nodes[i].inputs[0];
    loop {
        let n = *cx.producers.get(&id)?;
        if matches!(graph.nodes[n].op, Op::Reshape { .. }) {
            graph.nodes[n].op = Op::Reshape { dims: dims.to_vec() };
            graph.value_mut(id).ty.dims = dims.to_vec();
            return Some(id);
        }
        id = graph.nodes[n].inputs[0];
    }
}

fn row(graph: &Graph, id: ValueId) -> Option<Vec<f32>> {
    Some(graph.constant(id)?.as_f32()?.to_vec())
}

/// Operands of a norm with these factors and shifts; without them when they change nothing.
fn with_affine(graph: &mut Graph, i: usize, x: ValueId, gamma: Vec<f32>, beta: Vec<f32>) -> Vec<ValueId> {
    if gamma.iter().all(|&g| g == 1.0) && beta.iter().all(|&b| b == 0.0) {
        return vec![x];
    }
    let (name, c) = (graph.value(graph.nodes[i].output).name.clone(), gamma.len());
    let gamma = graph.add_const(&format!("{name}.gamma"), Tensor::f32(&[c], gamma));
    let beta = graph.add_const(&format!("{name}.beta"), Tensor::f32(&[c], beta));
    vec![x, gamma, beta]
}

/// A factor or shift for each channel behind a norm joins the norm's own.
pub(super) fn absorbed(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    let (id, constant) = match (&node.op, &node.inputs[..]) {
        (Op::Affine, &[x, ..]) => (x, None),
        (Op::Mul | Op::Add { .. }, &[a, b]) => match (graph.constant(a), graph.constant(b)) {
            (None, Some(t)) => (a, Some((t, false))),
            (Some(t), None) => (b, Some((t, true))),
            _ => return None,
        },
        (Op::Div, &[a, b]) => (a, Some((graph.constant(b)?, false))),
        _ => return None,
    };
    let norm = cx.sole(graph, id)?;
    let Op::Norm { axis, .. } = norm.op else { return None };
    let dims = &graph.ty(id).dims;
    if graph.ty(node.output).dims != *dims {
        return None;
    }
    let c = dims[axis];
    let (scale, shift) = match constant {
        None if axis == 1 => (row(graph, node.inputs[1])?, row(graph, node.inputs[2])?),
        None => return None,
        Some((constant, swapped)) => {
            let values = per_axis(constant, dims, axis)?;
            match node.op {
                Op::Add { alpha, beta, gamma } => {
                    let (own, other) = if swapped { (beta, alpha) } else { (alpha, beta) };
                    (vec![own; c], values.iter().map(|v| other * v + gamma).collect())
                }
                Op::Div => (values.iter().map(|v| 1.0 / v).collect(), vec![0.0; c]),
                _ => (values, vec![0.0; c]),
            }
        }
    };
    if scale.iter().any(|s| !s.is_finite()) {
        return None;
    }
    let (mut gamma, mut beta) = match norm.inputs[..] {
        [_, gamma, beta] => (row(graph, gamma)?, row(graph, beta)?),
        _ => (vec![1.0; c], vec![0.0; c]),
    };
    for k in 0..c {
        (gamma[k], beta[k]) = (gamma[k] * scale[k], beta[k] * scale[k] + shift[k]);
    }
    let (op, x) = (norm.op.clone(), norm.inputs[0]);
    let inputs = with_affine(graph, i, x, gamma, beta);
    Some((op, inputs, String::new()))
}
