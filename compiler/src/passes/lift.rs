//! Every exporter's spelling back to one operation: SiLU, 2x2 pixel shuffles, fixed-statistics norms, linear layers.

use super::rewrite::per_channel;
use super::{Options, PassError, fold_constants, rewrite};
use crate::ir::{Graph, Op, Tensor, Unary, ValueId};
use std::collections::HashMap;

const PASS: &str = "lift";

pub(super) fn run(graph: &mut Graph, options: &Options) -> Result<(), PassError> {
    fold_constants::run(graph, options)?;
    graph.sweep();
    for rule in [silu, shuffle, linear, start_affine] {
        rewrite_all(graph, rule);
    }
    while rewrite_all(graph, merge_affine) {}
    Ok(())
}

/// What replaces a node: an operation on operands (new constants are appended by the rule).
type Rewrite = Option<(Op, Vec<ValueId>, String)>;

struct Context {
    producers: HashMap<ValueId, usize>,
    uses: Vec<usize>,
}

impl Context {
    fn producer<'g>(&self, graph: &'g Graph, id: ValueId) -> Option<&'g crate::ir::Node> {
        self.producers.get(&id).map(|&i| &graph.nodes[i])
    }

    fn sole<'g>(&self, graph: &'g Graph, id: ValueId) -> Option<&'g crate::ir::Node> {
        rewrite::sole_producer(graph, &self.producers, &self.uses, id)
    }
}

fn rewrite_all(graph: &mut Graph, rule: fn(&mut Graph, &Context, usize) -> Rewrite) -> bool {
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        let context = Context { producers: graph.producers(), uses: graph.use_counts() };
        if let Some((op, inputs, message)) = rule(graph, &context, i) {
            let origin = graph.nodes[i].origin.clone();
            graph.nodes[i].op = op;
            graph.nodes[i].inputs = inputs;
            if !message.is_empty() {
                graph.remark(PASS, &origin, message);
            }
            changed = true;
        }
    }
    graph.sweep();
    changed
}

/// `x * sigmoid(x)`, either order.
fn silu(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    if node.op != Op::Mul {
        return None;
    }
    let [a, b] = node.inputs[..] else { return None };
    let is_sigmoid_of = |gate: ValueId, x: ValueId| {
        cx.producer(graph, gate).is_some_and(|p| p.op == Op::Unary(Unary::Sigmoid) && p.inputs == [x])
    };
    let x = if is_sigmoid_of(b, a) {
        a
    } else if is_sigmoid_of(a, b) {
        b
    } else {
        return None;
    };
    Some((Op::Unary(Unary::Silu), vec![x], "sigmoid and mul became silu".to_owned()))
}

/// Reshape, Transpose, Reshape in the two orders of PyTorch's pixel_unshuffle and pixel_shuffle.
fn shuffle(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let last = &graph.nodes[i];
    let Op::Reshape { dims: out } = &last.op else { return None };
    // Chains of reshapes between the three nodes (from squeezed or split axes) mean the same.
    let skip_reshapes = |mut id: ValueId| {
        while let Some(node) = cx.sole(graph, id)
            && matches!(node.op, Op::Reshape { .. })
        {
            id = node.inputs[0];
        }
        id
    };
    let moved = cx.sole(graph, skip_reshapes(last.inputs[0]))?;
    let Op::Transpose { perm } = &moved.op else { return None };
    let wide = &graph.ty(moved.inputs[0]).dims;
    let source = skip_reshapes(moved.inputs[0]);
    let from = &graph.ty(source).dims;
    if from.len() != 4 || out.len() != 4 || from[0] != 1 || out[0] != 1 {
        return None;
    }
    // Both are judged without axes of size 1, so that a squeezed batch or channel axis does not matter.
    let squeezed: Vec<usize> = (0..wide.len()).filter(|&a| wide[a] != 1).collect();
    let rank = |a: usize| squeezed.iter().position(|&s| s == a);
    let order: Vec<usize> = perm.iter().filter_map(|&p| rank(p)).collect();
    let wide: Vec<usize> = squeezed.iter().map(|&a| wide[a]).collect();
    let without_ones = |dims: &[usize]| dims.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    let canonical = |dims: &[usize], perm: &[usize]| -> (Vec<usize>, Vec<usize>) {
        let kept: Vec<usize> = (0..dims.len()).filter(|&a| dims[a] != 1).collect();
        (without_ones(dims), perm.iter().filter_map(|p| kept.iter().position(|k| k == p)).collect())
    };
    let (c, h, w) = (from[1], from[2], from[3]);
    if out[2] > 0 && h % out[2] == 0 && h > out[2] {
        let b = h / out[2];
        if w == out[3] * b && out[1] == c * b * b {
            let expected = canonical(&[1, c, h / b, b, w / b, b], &[0, 1, 3, 5, 2, 4]);
            if expected == (wide, order) {
                return Some((Op::PixelUnshuffle { block: b }, vec![source], format!("became pixel_unshuffle by {b}")));
            }
        }
        return None;
    }
    if h > 0 && out[2] % h == 0 && out[2] > h {
        let b = out[2] / h;
        if out[3] == w * b && c == out[1] * b * b {
            let expected = canonical(&[1, out[1], b, b, h, w], &[0, 1, 4, 2, 5, 3]);
            if expected == (wide, order) {
                return Some((Op::PixelShuffle { block: b }, vec![source], format!("became pixel_shuffle by {b}")));
            }
        }
    }
    None
}

/// A matrix product with a constant on the right is a linear layer.
fn linear(graph: &mut Graph, _: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    if node.op != Op::MatMul || graph.ty(node.inputs[0]).dims.len() != 2 {
        return None;
    }
    let weight = graph.constant(node.inputs[1])?;
    let [k, o] = weight.dims[..] else { return None };
    let values = weight.as_f32()?;
    let transposed = (0..o * k).map(|i| values[i % k * o + i / k]).collect();
    let (x, name) = (node.inputs[0], graph.value(node.inputs[1]).name.clone());
    let id = graph.add_const(&format!("{name}.t"), Tensor::f32(&[o, k], transposed));
    Some((Op::Linear, vec![x, id], String::new()))
}

/// A product or quotient with a per-channel constant opens an affine; a Mul or Div by a constant of rank 4 is how
/// Unified Normalization and BatchNormalization arrive.
fn start_affine(graph: &mut Graph, _: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    if !matches!(node.op, Op::Mul | Op::Div) {
        return None;
    }
    let [a, b] = node.inputs[..] else { return None };
    let (x, constant) = match (graph.constant(a), graph.constant(b)) {
        (None, Some(t)) => (a, t),
        (Some(t), None) if node.op == Op::Mul => (b, t),
        _ => return None,
    };
    let dims = graph.ty(x).dims.clone();
    if graph.ty(node.output).dims != dims || dims.len() < 2 || dims[1] < 2 {
        return None;
    }
    let mut scale = per_channel(constant, &dims)?;
    if node.op == Op::Div {
        scale.iter_mut().for_each(|s| *s = 1.0 / *s);
    }
    if scale.iter().any(|s| !s.is_finite()) {
        return None;
    }
    let channels = scale.len();
    let origin = node.origin.clone();
    let scale = graph.add_const(&format!("{origin}.scale"), Tensor::f32(&[channels], scale));
    let shift = graph.add_const(&format!("{origin}.shift"), Tensor::f32(&[channels], vec![0.0; channels]));
    Some((Op::Affine, vec![x, scale, shift], "a per-channel factor became an affine".to_owned()))
}

/// Affine after affine, and a constant added to an affine, become one affine.
fn merge_affine(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    let (inner_id, scale, shift) = match &node.op {
        Op::Affine => {
            let (s, t) = (graph.constant(node.inputs[1])?.as_f32()?, graph.constant(node.inputs[2])?.as_f32()?);
            (node.inputs[0], s.to_vec(), t.to_vec())
        }
        Op::Add { alpha, beta, gamma } => {
            let [a, b] = node.inputs[..] else { return None };
            let (x, factor, constant, weight) = match (graph.constant(a), graph.constant(b)) {
                (None, Some(t)) => (a, *alpha, t, *beta),
                (Some(t), None) => (b, *beta, t, *alpha),
                _ => return None,
            };
            let dims = &graph.ty(x).dims;
            if graph.ty(node.output).dims != *dims {
                return None;
            }
            let added = per_channel(constant, dims)?;
            (x, vec![factor; added.len()], added.iter().map(|c| weight * c + gamma).collect::<Vec<_>>())
        }
        _ => return None,
    };
    let inner = cx.sole(graph, inner_id)?;
    if inner.op != Op::Affine {
        return None;
    }
    let (s, t) = (graph.constant(inner.inputs[1])?.as_f32()?, graph.constant(inner.inputs[2])?.as_f32()?);
    let new_scale: Vec<f32> = s.iter().zip(&scale).map(|(s, f)| s * f).collect();
    let new_shift: Vec<f32> = t.iter().zip(&scale).zip(&shift).map(|((t, f), d)| t * f + d).collect();
    let (x, origin, channels) = (inner.inputs[0], inner.origin.clone(), new_scale.len());
    let scale = graph.add_const(&format!("{origin}.scale"), Tensor::f32(&[channels], new_scale));
    let shift = graph.add_const(&format!("{origin}.shift"), Tensor::f32(&[channels], new_shift));
    Some((Op::Affine, vec![x, scale, shift], String::new()))
}
