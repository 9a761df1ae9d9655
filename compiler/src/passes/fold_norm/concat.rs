//! An affine behind a concatenation is split among the layers that were joined, if each of them can take its part.

use super::{PASS, bank, install, is_linear};
use crate::ir::{Graph, Op, Tensor, ValueId};
use crate::passes::rewrite::sole_producer;

pub(super) fn fold(graph: &mut Graph, i: usize) -> bool {
    let (producers, uses) = (graph.producers(), graph.use_counts());
    let node = &graph.nodes[i];
    let (&Op::Affine, &[joined, scale, shift]) = (&node.op, &node.inputs[..]) else { return false };
    let Some(concat) = sole_producer(graph, &producers, &uses, joined) else { return false };
    if !matches!(concat.op, Op::Concat { axis: 1 }) {
        return false;
    }
    let row = |id: ValueId| graph.constant(id).and_then(Tensor::as_f32).map(<[f32]>::to_vec);
    let (Some(scale), Some(shift)) = (row(scale), row(shift)) else { return false };
    let parts = concat.inputs.clone();
    let takes = |&id: &ValueId| {
        sole_producer(graph, &producers, &uses, id).is_some_and(|p| {
            is_linear(&p.op)
                && bank(graph, p).is_some()
                && graph.constant(p.inputs[1]).and_then(Tensor::as_f32).is_some()
        })
    };
    let distinct = (0..parts.len()).all(|a| !parts[..a].contains(&parts[a]));
    if !distinct || !parts.iter().all(takes) {
        return false;
    }
    let mut first = 0;
    for id in parts {
        let Some(&n) = producers.get(&id) else { continue };
        let node = &graph.nodes[n];
        let (Some(weight), Some(old)) = (graph.constant(node.inputs[1]).cloned(), bank(graph, node)) else { continue };
        let Some(values) = weight.as_f32() else { continue };
        let channels = weight.dims[0];
        let per = values.len() / channels;
        let (s, d) = (&scale[first..first + channels], &shift[first..first + channels]);
        let scaled = values.iter().enumerate().map(|(j, w)| w * s[j / per]).collect();
        let rows = old.rows.iter().map(|b| (0..channels).map(|c| s[c] * b[c] + d[c]).collect()).collect();
        install(graph, n, Tensor::f32(&weight.dims, scaled), rows, old.index);
        first += channels;
    }
    let (origin, output) = (graph.nodes[i].origin.clone(), graph.nodes[i].output);
    graph.replace_uses(output, joined);
    graph.nodes.remove(i);
    graph.swap_names(output, joined);
    graph.remark(
        PASS,
        &origin,
        "the norm behind a concatenation became weights and biases of the layers that it joins",
    );
    true
}
