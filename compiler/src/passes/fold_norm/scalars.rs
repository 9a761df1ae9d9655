//! One factor for a whole tensor joins the product or the sum beside it: attention's `1/sqrt(d)`, a residual's `1/sqrt(2)`.

use super::PASS;
use crate::ir::{Graph, Op, Tensor, ValueId};
use crate::passes::rewrite::sole_producer;

/// The factor and shift of a uniform affine.
fn uniform(graph: &Graph, scale: ValueId, shift: ValueId) -> Option<(f32, f32)> {
    let one = |id: ValueId| {
        let values = graph.constant(id).and_then(Tensor::as_f32)?;
        let first = *values.first()?;
        values.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
    };
    Some((one(scale)?, one(shift)?))
}

/// Folds the affine at node `i` into the sum or product before it, or the affine before the product at node `i`.
pub(super) fn fold(graph: &mut Graph, i: usize) -> bool {
    let (producers, uses) = (graph.producers(), graph.use_counts());
    let node = &graph.nodes[i];
    match node.op.clone() {
        Op::Affine => {
            let Some((scale, shift)) = uniform(graph, node.inputs[1], node.inputs[2]) else { return false };
            let Some(before) = sole_producer(graph, &producers, &uses, node.inputs[0]) else { return false };
            let op = match &before.op {
                Op::Add { alpha, beta, gamma } => {
                    Op::Add { alpha: alpha * scale, beta: beta * scale, gamma: gamma * scale + shift }
                }
                Op::HeadProduct(p) if shift == 0.0 => {
                    Op::HeadProduct(crate::ir::Product { alpha: p.alpha * scale, ..*p })
                }
                _ => return false,
            };
            let what = format!("the factor {scale} joined the {} before it", op.name());
            let inputs = before.inputs.clone();
            let origin = node.origin.clone();
            graph.nodes[i].op = op;
            graph.nodes[i].inputs = inputs;
            graph.remark(PASS, &origin, what);
            true
        }
        Op::HeadProduct(product) => {
            for slot in 0..2 {
                let Some(before) = sole_producer(graph, &producers, &uses, graph.nodes[i].inputs[slot]) else {
                    continue;
                };
                if before.op != Op::Affine {
                    continue;
                }
                let Some((scale, 0.0)) = uniform(graph, before.inputs[1], before.inputs[2]) else { continue };
                let (x, origin) = (before.inputs[0], before.origin.clone());
                graph.nodes[i].op = Op::HeadProduct(crate::ir::Product { alpha: product.alpha * scale, ..product });
                graph.nodes[i].inputs[slot] = x;
                graph.remark(PASS, &origin, format!("the factor {scale} joined the product after it"));
                return true;
            }
            false
        }
        _ => false,
    }
}
