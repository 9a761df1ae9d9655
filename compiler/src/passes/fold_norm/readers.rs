//! What stands before several linear layers goes into each of them: an affine, the factors of a norm with statistics of the
//! sample, a table row that is added. Exact where no reader pads; with padding a scale still moves and a shift does not.

use super::{PASS, bank, install, is_linear};
use crate::ir::{Graph, Op, Tensor, ValueId};
use crate::passes::fold_norm::selected;
use crate::passes::rewrite::per_channel;

/// What a node does to the channels of its operand.
struct Head {
    input: ValueId,
    scale: Vec<f32>,
    shifts: Vec<Vec<f32>>,
    index: Option<ValueId>,
    what: &'static str,
}

fn head(graph: &Graph, i: usize) -> Option<Head> {
    let node = &graph.nodes[i];
    let row = |id: ValueId| graph.constant(id).and_then(Tensor::as_f32).map(<[f32]>::to_vec);
    match (&node.op, &node.inputs[..]) {
        (Op::Affine, &[input, scale, shift]) => Some(Head {
            input,
            scale: row(scale)?,
            shifts: vec![row(shift)?],
            index: None,
            what: "the norm became weights and biases of",
        }),
        (Op::Norm { axis: 1, .. }, &[input, gamma, beta]) => Some(Head {
            input,
            scale: row(gamma)?,
            shifts: vec![row(beta)?],
            index: None,
            what: "the norm's factors and shifts became weights and biases of",
        }),
        (Op::Add { alpha, beta, gamma }, &[a, b]) => {
            let producers = graph.producers();
            let dims = &graph.ty(node.output).dims;
            [(a, b, *alpha, *beta), (b, a, *beta, *alpha)].into_iter().find_map(|(x, other, factor, weight)| {
                if graph.ty(x).dims != *dims {
                    return None;
                }
                let (table, index) = selected(graph, other, &producers)?;
                let (rows, values) = (table.dims[0], table.as_f32()?);
                let row_dims: Vec<usize> = std::iter::once(1).chain(table.dims[1..].iter().copied()).collect();
                let per = values.len() / rows.max(1);
                let shifts: Option<Vec<Vec<f32>>> = (0..rows)
                    .map(|r| {
                        let row = per_channel(&Tensor::f32(&row_dims, values[r * per..(r + 1) * per].to_vec()), dims)?;
                        Some(row.iter().map(|v| weight * v + gamma).collect())
                    })
                    .collect();
                Some(Head {
                    input: x,
                    scale: vec![factor; dims[1]],
                    shifts: shifts?,
                    index: Some(index),
                    what: "the conditioning table became banks of biases of",
                })
            })
        }
        _ => None,
    }
}

/// Folds what node `i` does into all of its readers, if each of them is a layer that can take it. With `keep_factors` a norm
/// stays that has a factor for each channel.
pub(super) fn fold(graph: &mut Graph, i: usize, keep_factors: bool) -> bool {
    let Some(head) = head(graph, i) else { return false };
    let one_for_all = head.scale.windows(2).all(|w| w[0].to_bits() == w[1].to_bits());
    let norm = matches!(graph.nodes[i].op, Op::Norm { .. });
    if keep_factors && (norm || graph.nodes[i].op == Op::Affine && !one_for_all) {
        return false;
    }
    let id = graph.nodes[i].output;
    // Choosing or renumbering pixels leaves the channels where they are.
    let channels = head.scale.len();
    let moves = |op: &Op| match op {
        Op::Slice { axis, .. } => *axis > 1,
        Op::Reshape { dims } => dims.get(..2) == Some(&[1, channels]),
        _ => false,
    };
    let Some((values, readers)) = readers_of(graph, id, moves) else { return false };
    let shifts = head.shifts.iter().flatten().any(|&d| d != 0.0);
    let takes = |&n: &usize| {
        let node = &graph.nodes[n];
        let padded = matches!(&node.op, Op::Conv(g) if g.pad != [0; 4]);
        let index = node.inputs.get(3).copied();
        is_linear(&node.op)
            && values.contains(&node.inputs[0])
            && node.inputs[1..].iter().all(|x| !values.contains(x))
            && !(padded && shifts)
            && (index.is_none() || head.index.is_none() || index == head.index)
            && graph.constant(node.inputs[1]).and_then(Tensor::as_f32).is_some()
            && bank(graph, node).is_some()
    };
    if !readers.iter().all(takes) {
        return false;
    }
    for &n in &readers {
        into(graph, n, &head);
    }
    let (input, origin) = (head.input, graph.nodes[i].origin.clone());
    if matches!(graph.nodes[i].op, Op::Norm { .. }) {
        graph.nodes[i].inputs = vec![input];
    } else {
        graph.replace_uses(id, input);
        graph.nodes.remove(i);
    }
    let layers = if readers.len() == 1 { "the layer" } else { "the layers" };
    graph.remark(PASS, &origin, format!("{} {layers} after it", head.what));
    true
}

/// `id` and what comes of it through operations that `moves` knows, and the numbers of the nodes that read any of these, in
/// order; `None` if one of them is an output of the graph or nobody reads them.
fn readers_of(graph: &Graph, id: ValueId, moves: impl Fn(&Op) -> bool) -> Option<(Vec<ValueId>, Vec<usize>)> {
    let (mut values, mut readers) = (vec![id], Vec::new());
    let mut next = 0;
    while let Some(&value) = values.get(next) {
        next += 1;
        if graph.outputs.contains(&value) {
            return None;
        }
        for (n, reader) in graph.nodes.iter().enumerate().filter(|(_, r)| r.inputs.contains(&value)) {
            match moves(&reader.op) {
                true => values.push(reader.output),
                false => readers.push(n),
            }
        }
    }
    readers.sort_unstable();
    readers.dedup();
    (!readers.is_empty()).then_some((values, readers))
}

/// Multiplies what `id` brings into all of its readers by `factor`, if each of them is a layer, behind operations that only
/// move elements. Whether it did.
pub(in crate::passes) fn scale_readers(graph: &mut Graph, id: ValueId, factor: f32) -> bool {
    let moves = |op: &Op| {
        matches!(op, Op::Slice { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::PixelUnshuffle { .. })
    };
    let Some((values, readers)) = readers_of(graph, id, moves) else { return false };
    let takes = |&n: &usize| {
        let node = &graph.nodes[n];
        is_linear(&node.op)
            && values.contains(&node.inputs[0])
            && node.inputs[1..].iter().all(|x| !values.contains(x))
            && graph.constant(node.inputs[1]).and_then(Tensor::as_f32).is_some()
            && bank(graph, node).is_some()
    };
    if !readers.iter().all(takes) {
        return false;
    }
    for n in readers {
        let channels = graph.ty(graph.nodes[n].inputs[0]).dims[1];
        let (scale, shifts) = (vec![factor; channels], vec![vec![0.0; channels]]);
        into(graph, n, &Head { input: id, scale, shifts, index: None, what: "" });
    }
    true
}

/// `W' = W diag(scale)`, `b'_k = b_k + W shift_k`.
fn into(graph: &mut Graph, n: usize, head: &Head) {
    let node = &graph.nodes[n];
    let groups = if let Op::Conv(g) = &node.op { g.groups } else { 1 };
    let (Some(weight), Some(old)) = (graph.constant(node.inputs[1]).cloned(), bank(graph, node)) else { return };
    let Some(values) = weight.as_f32() else { return };
    let (out, in_group) = (weight.dims[0], weight.dims[1]);
    let taps: usize = weight.dims[2..].iter().product();
    let channel = |j: usize| {
        let (o, i) = (j / (in_group * taps), j / taps % in_group);
        o / (out / groups) * in_group + i
    };
    let scaled: Vec<f32> = values.iter().enumerate().map(|(j, w)| w * head.scale[channel(j)]).collect();
    let count = old.rows.len().max(head.shifts.len());
    let rows = (0..count).map(|r| {
        let (b, shift) = (&old.rows[r % old.rows.len()], &head.shifts[r % head.shifts.len()]);
        let mut row = b.clone();
        for (j, w) in values.iter().enumerate() {
            row[j / (in_group * taps)] += w * shift[channel(j)];
        }
        row
    });
    let rows = rows.collect();
    install(graph, n, Tensor::f32(&weight.dims, scaled), rows, old.index.or(head.index));
}
