//! Channels that are the same for every input leave the graph: a filter of zeros gives its bias at every pixel, and what a
//! function makes of that goes into the bias of the layers that read it. Channels that no reader weighs leave as well.
//! Lossless: `W [x; c] + b = W_x x + (b + W_c c)`. A zero-padded reader keeps a constant that is not zero, because its
//! border does not read it.

use super::fold_norm::{Bank, bank, install, is_linear};
use super::{Options, PassError};
use crate::ir::{ConvGeometry, Graph, Node, Op, Tensor, ValueId};

const PASS: &str = "prune_dead";

pub(super) fn run(graph: &mut Graph, _: &Options) -> Result<(), PassError> {
    let mut i = 0;
    while i < graph.nodes.len() {
        // A layer that lost inputs may have filters of zeros now.
        i = if prune(graph, i) { 0 } else { i + 1 };
    }
    Ok(())
}

/// A layer, the functions behind it that nothing else reads, and the layers that read the result.
struct Run {
    functions: Vec<usize>,
    readers: Vec<usize>,
}

fn run_of(graph: &Graph, i: usize) -> Option<Run> {
    let mut run = Run { functions: Vec::new(), readers: Vec::new() };
    let mut value = graph.nodes[i].output;
    loop {
        if graph.outputs.contains(&value) {
            return None;
        }
        let readers: Vec<usize> = (0..graph.nodes.len()).filter(|&r| graph.nodes[r].inputs.contains(&value)).collect();
        match readers[..] {
            [f] if matches!(graph.nodes[f].op, Op::Unary(_) | Op::Clip { .. }) => {
                run.functions.push(f);
                value = graph.nodes[f].output;
            }
            [] => return None,
            _ => {
                let plain = |&r: &usize| is_plain(&graph.nodes[r]) && reads_only(&graph.nodes[r], value);
                run.readers.clone_from(&readers);
                return readers.iter().all(plain).then_some(run);
            }
        }
    }
}

/// A layer that reads all channels for each output.
fn is_plain(node: &Node) -> bool {
    is_linear(&node.op) && !matches!(node.op, Op::Conv(ConvGeometry { groups: 2.., .. }))
}

fn reads_only(node: &Node, value: ValueId) -> bool {
    node.inputs[0] == value && !node.inputs[1..].contains(&value)
}

fn prune(graph: &mut Graph, i: usize) -> bool {
    if !is_plain(&graph.nodes[i]) {
        return false;
    }
    let Some(run) = run_of(graph, i) else { return false };
    let (Some((weights, dims)), Some(own)) = (weights(graph, i), bank(graph, &graph.nodes[i])) else { return false };
    let mut readers = Vec::new();
    for &r in &run.readers {
        match (self::weights(graph, r), bank(graph, &graph.nodes[r])) {
            (Some((w, d)), Some(b)) if d[1] == dims[0] => readers.push((r, w, d, b)),
            _ => return false,
        }
    }
    let (channels, per) = (dims[0], weights.len() / dims[0]);
    let fixed: Vec<Option<f32>> =
        (0..channels).map(|c| constant(graph, &run, &weights[c * per..(c + 1) * per], &own, c)).collect();
    let removable = |c: usize| {
        readers.iter().all(|(r, w, d, _)| {
            let padded = matches!(&graph.nodes[*r].op, Op::Conv(g) if g.pad != [0; 4]);
            let unread = column(w, d, c).all(|v| v == 0.0);
            unread || fixed[c].is_some_and(|v| v == 0.0 || !padded)
        })
    };
    let gone: Vec<usize> = (0..channels).filter(|&c| removable(c)).collect();
    if gone.is_empty() || gone.len() == channels {
        return false;
    }
    let kept: Vec<usize> = (0..channels).filter(|c| !gone.contains(c)).collect();
    let pixels = |graph: &Graph, n: usize| graph.ty(graph.nodes[n].output).dims.iter().skip(2).product::<usize>();
    let (mut bytes, mut macs) = (gone.len() * (per + WORDS), gone.len() * per * pixels(graph, i));
    for (r, w, d, b) in readers {
        let taps: usize = d[2..].iter().product();
        let added: Vec<f32> = (0..d[0])
            .map(|o| {
                let term = |&c: &usize| {
                    let own = &w[(o * d[1] + c) * taps..][..taps];
                    own.iter().map(|v| v * fixed[c].unwrap_or(0.0)).sum::<f32>()
                };
                gone.iter().map(term).sum()
            })
            .collect();
        let rows = b.rows.iter().map(|row| row.iter().zip(&added).map(|(b, a)| b + a).collect()).collect();
        let filters = w.chunks(d[1] * taps);
        let left: Vec<f32> = filters
            .flat_map(|filter| kept.iter().flat_map(|&c| filter[c * taps..(c + 1) * taps].iter().copied()))
            .collect();
        bytes += w.len() - left.len();
        macs += (w.len() - left.len()) * pixels(graph, r);
        let mut dims = d;
        dims[1] = kept.len();
        install(graph, r, Tensor::f32(&dims, left), rows, b.index);
    }
    let left = kept.iter().flat_map(|c| weights[c * per..(c + 1) * per].iter().copied()).collect();
    let rows = own.rows.iter().map(|row| kept.iter().map(|&c| row[c]).collect()).collect();
    let mut left_dims = dims;
    left_dims[0] = kept.len();
    install(graph, i, Tensor::f32(&left_dims, left), rows, own.index);
    for n in run.functions.iter().copied().chain([i]) {
        let output = graph.nodes[n].output;
        graph.value_mut(output).ty.dims[1] = kept.len();
    }
    let origin = graph.nodes[i].origin.clone();
    let message = format!(
        "{} of {channels} channels are the same for every input and left: {bytes} bytes of int8 constants, {macs} \
         multiply-accumulates",
        gone.len()
    );
    graph.remark(PASS, &origin, message);
    true
}

/// Bytes of an output channel's multiplier and bias.
const WORDS: usize = 8;

fn weights(graph: &Graph, i: usize) -> Option<(Vec<f32>, Vec<usize>)> {
    let tensor = graph.constant(graph.nodes[i].inputs[1])?;
    Some((tensor.as_f32()?.to_vec(), tensor.dims.clone()))
}

/// Weights that multiply input channel `c`.
fn column<'w>(w: &'w [f32], dims: &[usize], c: usize) -> impl Iterator<Item = f32> + use<'w> {
    let taps: usize = dims[2..].iter().product();
    w.chunks(dims[1] * taps).flat_map(move |filter| filter[c * taps..(c + 1) * taps].iter().copied())
}

/// What readers see of channel `c` if its filter is zero and its bias the same in all rows.
fn constant(graph: &Graph, run: &Run, filter: &[f32], bank: &Bank, c: usize) -> Option<f32> {
    let first = bank.rows[0][c];
    if filter.iter().any(|w| *w != 0.0) || bank.rows.iter().any(|row| row[c].to_bits() != first.to_bits()) {
        return None;
    }
    let apply = |x: f32, &f: &usize| {
        let y = crate::interp::eval(&graph.nodes[f].op, &[&Tensor::f32(&[1], vec![x])]).ok()?;
        y.as_f32().map(|v| v[0])
    };
    run.functions.iter().try_fold(first, apply).filter(|v| v.is_finite())
}
