//! Every exporter's spelling back to one operation: functions, norms, upsampling, pooling, pixel shuffles, linear layers.

mod functions;
mod movement;
mod norms;
mod rounding;

use super::rewrite::per_channel;
use super::{Options, PassError, fold_constants, rewrite};
use crate::ir::{Graph, Op, Tensor, ValueId};
use std::collections::HashMap;

const PASS: &str = "lift";

pub(super) fn run(graph: &mut Graph, options: &Options) -> Result<(), PassError> {
    fold_constants::run(graph, options)?;
    graph.sweep();
    rounding::repeated(graph);
    let spellings = [
        functions::function,
        norms::spelled,
        movement::moved,
        movement::mean_pool,
        movement::global_mean,
        movement::resampling_kernel,
    ];
    for rule in spellings {
        rewrite_all(graph, rule);
    }
    affines(graph);
    rewrite_all(graph, norms::regrouped);
    while rewrite_all(graph, norms::absorbed) {}
    Ok(())
}

/// Upsampling and pixel shuffles that only show once tokens lie in images (a transformer's unpatchify).
pub(super) fn resampling(graph: &mut Graph) {
    rewrite_all(graph, movement::moved);
}

/// Linear layers and per-channel affines, on tensors whose channels are axis 1.
pub(super) fn affines(graph: &mut Graph) {
    for rule in [linear, start_affine] {
        rewrite_all(graph, rule);
    }
    while rewrite_all(graph, merge_affine) {}
    while rewrite_all(graph, norms::absorbed) {}
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
