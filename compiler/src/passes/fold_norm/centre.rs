//! Layer norm takes off the mean of a stream that linear layers write: centred writers make it a root mean square norm.
//!
//! A stream is what sums, joins of pixels and renumberings connect. If every reader of it is a centred layer norm and
//! every writer a layer or a constant, then each writer may drop its mean over channels: `W' = W - mean_o W`,
//! `b' = b - mean b`. All values of the stream then have mean zero, as sums of such; the norms need not take it off.

use super::{PASS, bank, install, is_linear};
use crate::ir::{Def, Graph, NormKind, Op, Tensor, ValueId};

/// The parts of a stream.
#[derive(Default)]
struct Stream {
    values: Vec<ValueId>,
    layers: Vec<usize>,
    constants: Vec<ValueId>,
    norms: Vec<usize>,
}

/// Centres the writers of the stream that the norm at node `i` reads.
pub(super) fn centre(graph: &mut Graph, i: usize) -> bool {
    if !is_centred_norm(&graph.nodes[i].op) {
        return false;
    }
    let Some(stream) = stream(graph, graph.nodes[i].inputs[0]) else { return false };
    for &n in &stream.layers {
        let node = &graph.nodes[n];
        let (Some(weight), Some(old)) = (graph.constant(node.inputs[1]).cloned(), bank(graph, node)) else {
            return false;
        };
        let Some(values) = weight.as_f32() else { return false };
        let rows = old.rows.iter().map(|b| centred(b, 1)).collect();
        let weight = Tensor::f32(&weight.dims, centred(values, values.len() / weight.dims[0]));
        install(graph, n, weight, rows, old.index);
    }
    for id in stream.constants {
        if let Def::Const(tensor) = &graph.value(id).def
            && let (Some(values), &[1, c, ..]) = (tensor.as_f32(), &tensor.dims[..])
        {
            let tensor = Tensor::f32(&tensor.dims, centred(values, values.len() / c));
            let name = format!("{}.centred", graph.value(id).name);
            let new = graph.add_const(&name, tensor);
            for node in graph.nodes.iter_mut().filter(|n| stream.values.contains(&n.output)) {
                node.inputs.iter_mut().filter(|x| **x == id).for_each(|x| *x = new);
            }
        }
    }
    for &n in &stream.norms {
        if let Op::Norm { kind, .. } = &mut graph.nodes[n].op {
            *kind = NormKind::Rms;
        }
        let origin = graph.nodes[n].origin.clone();
        graph.remark(PASS, &origin, "the layers that write its input are centred; the norm takes no mean off");
    }
    true
}

fn is_centred_norm(op: &Op) -> bool {
    matches!(op, Op::Norm { kind: NormKind::Layer, axis: 1, groups: 1, .. })
}

/// `v[o][k] - mean over o`.
fn centred(values: &[f32], per: usize) -> Vec<f32> {
    let n = values.len() / per.max(1);
    let mut means = vec![0.0f64; per];
    for (k, v) in values.iter().enumerate() {
        means[k % per] += f64::from(*v) / n as f64;
    }
    values.iter().enumerate().map(|(k, v)| (f64::from(*v) - means[k % per]) as f32).collect()
}

fn stream(graph: &Graph, start: ValueId) -> Option<Stream> {
    let producers = graph.producers();
    let mut stream = Stream::default();
    let channels = *graph.ty(start).dims.get(1)?;
    let mut open = vec![start];
    while let Some(id) = open.pop() {
        if stream.values.contains(&id) || stream.constants.contains(&id) {
            continue;
        }
        if let Some(tensor) = graph.constant(id) {
            // A constant without a channel axis of its own would shift the mean.
            if tensor.dims.len() != 4 || tensor.dims[..2] != [1, channels] {
                return None;
            }
            stream.constants.push(id);
            continue;
        }
        if graph.outputs.contains(&id) || graph.ty(id).dims.get(..2) != Some(&[1, channels]) {
            return None;
        }
        stream.values.push(id);
        let n = *producers.get(&id)?;
        if joins(&graph.nodes[n].op) {
            open.extend(&graph.nodes[n].inputs);
        } else if is_linear(&graph.nodes[n].op) && bank(graph, &graph.nodes[n]).is_some() {
            stream.layers.push(n);
        } else {
            return None;
        }
        for (r, reader) in graph.nodes.iter().enumerate().filter(|(_, r)| r.inputs.contains(&id)) {
            if joins(&reader.op) {
                open.push(reader.output);
            } else if is_centred_norm(&reader.op) {
                if !stream.norms.contains(&r) {
                    stream.norms.push(r);
                }
            } else {
                return None;
            }
        }
    }
    Some(stream)
}

/// Operations under which values of mean zero stay so.
fn joins(op: &Op) -> bool {
    match op {
        Op::Add { gamma, .. } => *gamma == 0.0,
        Op::Concat { axis } => *axis != 1,
        Op::Reshape { .. } => true,
        Op::Slice { axis, .. } => *axis != 1,
        _ => false,
    }
}
