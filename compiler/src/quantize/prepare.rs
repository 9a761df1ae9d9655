//! Kernels read tensors, so operands that are not tensors yet are made into some, before calibration:
//!
//! - the constant part of a concatenation that layers read becomes their bias;
//! - a table row, or a constant that differs from place to place, becomes the bias of a layer with no weights;
//! - a constant of each channel becomes an affine;
//! - a constant part of an image (a class token) becomes one as well;
//! - one pixel that is added to every pixel is spread by a product with ones;
//! - a norm over runs of the channels of one position (queries and keys of each head) becomes a norm of more positions.
//!
//! All are exact in f32 up to the rounding of a sum.

use crate::interp;
use crate::ir::{
    ConvGeometry, Def, Graph, InferError, InputKind, NormKind, Op, Product, Remark, Split, Tensor, ValueId, Window,
};
use crate::passes::per_channel;

const PASS: &str = "quantize";

/// Most elements of a constant that becomes a layer.
const MAX_CONSTANT: usize = 65535;

/// The same graph with fewer operands that no kernel reads.
pub(super) fn prepare(graph: &Graph) -> Result<Graph, InferError> {
    let mut graph = graph.clone();
    let rules =
        [function_of_parts, constant_parts, constant_tokens, table_row, constant_term, spread_pixel, norm_of_heads];
    for rule in rules {
        // Rules append nodes and move those behind them further back.
        let mut i = 0;
        while i < graph.nodes.len() {
            rule(&mut graph, i)?;
            i += 1;
        }
        graph.sort().map_err(|node| InferError { node, message: "the graph has a cycle".to_owned() })?;
        graph.sweep();
    }
    Ok(graph)
}

fn remark(graph: &mut Graph, i: usize, message: &str) {
    let node = graph.nodes[i].origin.clone();
    graph.remarks.push(Remark { pass: PASS.to_owned(), node, message: message.to_owned() });
}

/// The concatenation of vectors behind a value, if some of its parts are constant.
fn mixed_vector(graph: &Graph, id: ValueId) -> Option<Vec<ValueId>> {
    let node = graph.nodes.iter().find(|n| n.output == id)?;
    let vectors = matches!(node.op, Op::Concat { axis: 1 }) && graph.ty(id).dims.len() == 2;
    (vectors && node.inputs.iter().any(|&p| graph.constant(p).is_some())).then(|| node.inputs.clone())
}

/// A function of a concatenation with constant parts is the concatenation of the functions of its parts.
fn function_of_parts(graph: &mut Graph, i: usize) -> Result<(), InferError> {
    let node = &graph.nodes[i];
    let (op, origin) = (node.op.clone(), node.origin.clone());
    let (Op::Unary(_) | Op::FakeQuant { .. }, Some(parts)) = (&op, mixed_vector(graph, node.inputs[0])) else {
        return Ok(());
    };
    let name = graph.value(node.output).name.clone();
    let mut results = Vec::new();
    for part in parts {
        results.push(match graph.constant(part) {
            Some(tensor) => {
                let tensor = interp::eval(&op, &[tensor])?;
                graph.add_const(&format!("{name}.constant"), tensor)
            }
            None => graph.add_node(&format!("{name}.part"), op.clone(), &[part], &origin)?,
        });
    }
    graph.nodes[i].op = Op::Concat { axis: 1 };
    graph.nodes[i].inputs = results;
    graph.sort().map_err(|node| InferError { node, message: "the graph has a cycle".to_owned() })
}

/// `W [x; c] + b = W_x x + (b + W_c c)`.
fn constant_parts(graph: &mut Graph, i: usize) -> Result<(), InferError> {
    let node = &graph.nodes[i];
    let Some(parts) = mixed_vector(graph, node.inputs[0]).filter(|_| node.op == Op::Linear) else { return Ok(()) };
    let Some(weight) = graph.constant(node.inputs[1]).cloned() else { return Ok(()) };
    let bias = node.inputs.get(2).and_then(|&id| graph.constant(id)).cloned();
    let (Some(w), &[o, k]) = (weight.as_f32(), &weight.dims[..]) else { return Ok(()) };
    let mut bias = bias.unwrap_or_else(|| Tensor::f32(&[o], vec![0.0; o]));
    let mut kept: Vec<Vec<f32>> = vec![Vec::new(); o];
    let mut live = Vec::new();
    let mut first = 0;
    for part in parts {
        let n = graph.ty(part).dims[1];
        match graph.constant(part).and_then(Tensor::as_f32) {
            Some(values) => {
                if let crate::ir::Data::F32(b) = &mut bias.data {
                    for (j, b) in b.iter_mut().enumerate() {
                        let row = &w[j % o * k + first..][..n];
                        *b += row.iter().zip(values).map(|(w, c)| w * c).sum::<f32>();
                    }
                }
            }
            None => {
                live.push(part);
                kept.iter_mut().enumerate().for_each(|(j, row)| row.extend(&w[j * k + first..][..n]));
            }
        }
        first += n;
    }
    let (origin, name) = (node.origin.clone(), graph.value(node.output).name.clone());
    let index = node.inputs.get(3).copied();
    let x = match live[..] {
        [] => return Ok(()),
        [one] => one,
        _ => graph.add_node(&format!("{name}.parts"), Op::Concat { axis: 1 }, &live, &origin)?,
    };
    let width = kept[0].len();
    let weight = graph.add_const(&format!("{name}.weight"), Tensor::f32(&[o, width], kept.concat()));
    let bias = graph.add_const(&format!("{name}.bias"), bias);
    graph.nodes[i].inputs = [x, weight, bias].into_iter().chain(index).collect();
    remark(graph, i, "the constant part of its input became a bias");
    graph.sort().map_err(|node| InferError { node, message: "the graph has a cycle".to_owned() })
}

/// A vector computed from an input, for layers that only have biases.
fn anchor(graph: &mut Graph) -> Result<Option<ValueId>, InferError> {
    let input = graph.inputs.iter().copied().find(|&id| {
        graph.value(id).def == Def::Input(InputKind::Tensor) && matches!(graph.ty(id).dims[..], [1, _] | [1, _, _, _])
    });
    let Some(input) = input else { return Ok(None) };
    let dims = graph.ty(input).dims.clone();
    let &[_, c, h, w] = &dims[..] else { return Ok(Some(input)) };
    if let Some(found) = graph.find("anchor") {
        return Ok(Some(found));
    }
    let window = Window { kernel: [h, w], stride: [1, 1], pad: [0; 4] };
    let pooled = graph.add_node("anchor.pool", Op::AveragePool { window, count_pad: false }, &[input], "constants")?;
    graph.add_node("anchor", Op::Reshape { dims: vec![1, c] }, &[pooled], "constants").map(Some)
}

/// A layer without weights: its bias, or the row of its bias bank.
fn bias_layer(
    graph: &mut Graph,
    name: &str,
    bias: Tensor,
    index: Option<ValueId>,
    origin: &str,
) -> Result<Option<ValueId>, InferError> {
    let Some(anchor) = anchor(graph)? else { return Ok(None) };
    let (o, k) = (bias.dims[bias.dims.len() - 1], graph.ty(anchor).dims[1]);
    let weight = graph.add_const(&format!("{name}.none"), Tensor::f32(&[o, k], vec![0.0; o * k]));
    let bias = graph.add_const(&format!("{name}.values"), bias);
    let inputs: Vec<ValueId> = [anchor, weight, bias].into_iter().chain(index).collect();
    graph.add_node(&format!("{name}.layer"), Op::Linear, &inputs, origin).map(Some)
}

/// A row of a table that meets a tensor.
fn table_row(graph: &mut Graph, i: usize) -> Result<(), InferError> {
    let node = &graph.nodes[i];
    let (Op::Select, Some(table)) = (&node.op, graph.constant(node.inputs[0]).cloned()) else { return Ok(()) };
    let (output, index, origin) = (node.output, node.inputs[1], node.origin.clone());
    let dims = graph.ty(output).dims.clone();
    let (rows, width) = (table.dims[0], table.elements() / table.dims[0].max(1));
    let Some(values) = table.as_f32().filter(|_| width <= MAX_CONSTANT) else { return Ok(()) };
    let name = graph.value(output).name.clone();
    let bank = Tensor::f32(&[rows, width], values.to_vec());
    let Some(layer) = bias_layer(graph, &name, bank, Some(index), &origin)? else { return Ok(()) };
    graph.nodes[i].op = Op::Reshape { dims };
    graph.nodes[i].inputs = vec![layer];
    remark(graph, i, "the table row became the bias of a layer without weights");
    Ok(())
}

/// A layer without weights that computes a constant image, given in ONNX order.
fn constant_image(
    graph: &mut Graph,
    name: &str,
    values: &[f32],
    [c, h, w]: [usize; 3],
    origin: &str,
) -> Result<Option<ValueId>, InferError> {
    if values.len() > MAX_CONSTANT {
        return Ok(None);
    }
    let pixels = h * w;
    // In the device's order, so that the reshapes behind the layer move nothing.
    let stored: Vec<f32> = (0..values.len()).map(|k| values[k % c * pixels + k / c]).collect();
    let Some(layer) = bias_layer(graph, name, Tensor::f32(&[stored.len()], stored), None, origin)? else {
        return Ok(None);
    };
    let rows = graph.add_node(&format!("{name}.rows"), Op::Reshape { dims: vec![1, pixels, c] }, &[layer], origin)?;
    let turned = graph.add_node(&format!("{name}.turned"), Op::Transpose { perm: vec![0, 2, 1] }, &[rows], origin)?;
    graph.add_node(&format!("{name}.image"), Op::Reshape { dims: vec![1, c, h, w] }, &[turned], origin).map(Some)
}

/// A constant part of an image.
fn constant_tokens(graph: &mut Graph, i: usize) -> Result<(), InferError> {
    let node = &graph.nodes[i];
    let (Op::Concat { .. }, origin) = (&node.op, node.origin.clone()) else { return Ok(()) };
    for slot in 0..graph.nodes[i].inputs.len() {
        let part = graph.nodes[i].inputs[slot];
        let Some(tensor) = graph.constant(part) else { continue };
        let (Some(values), &[1, c, h, w]) = (tensor.as_f32().map(<[f32]>::to_vec), &tensor.dims[..]) else { continue };
        let name = graph.value(part).name.clone();
        let Some(image) = constant_image(graph, &name, &values, [c, h, w], &origin)? else { continue };
        graph.nodes[i].inputs[slot] = image;
        remark(graph, i, "the constant part became the bias of a layer without weights");
    }
    Ok(())
}

/// A norm over each of several runs of channels (heads): the runs are positions of their own in memory.
fn norm_of_heads(graph: &mut Graph, i: usize) -> Result<(), InferError> {
    let node = &graph.nodes[i];
    let &Op::Norm { kind, axis: 1, groups, eps } = &node.op else { return Ok(()) };
    let dims = graph.ty(node.output).dims.clone();
    let &[1, c, h, w] = &dims[..] else { return Ok(()) };
    if kind == NormKind::Group || groups == 1 {
        return Ok(());
    }
    let (name, origin, own, pixels) = (graph.value(node.output).name.clone(), node.origin.clone(), c / groups, h * w);
    let row = |slot: usize, default: f32| match node.inputs.get(slot) {
        Some(&id) => graph.constant(id).and_then(Tensor::as_f32).map(<[f32]>::to_vec),
        None => Some(vec![default; c]),
    };
    let (Some(gamma), Some(beta)) = (row(1, 1.0), row(2, 0.0)) else { return Ok(()) };
    let same = |v: &[f32]| v.chunks(own).all(|head| head == &v[..own]);
    let shared = same(&gamma) && same(&beta);
    let (scale, shift) =
        if shared { (gamma[..own].to_vec(), beta[..own].to_vec()) } else { (vec![1.0; own], vec![0.0; own]) };
    let mut x = node.inputs[0];
    let mut then = |graph: &mut Graph, what: &str, op: Op, more: &[ValueId]| -> Result<(), InferError> {
        let inputs: Vec<ValueId> = std::iter::once(x).chain(more.iter().copied()).collect();
        x = graph.add_node(&format!("{name}.{what}"), op, &inputs, &origin)?;
        Ok(())
    };
    then(graph, "heads", Op::Reshape { dims: vec![1, groups, own, pixels] }, &[])?;
    then(graph, "positions", Op::Transpose { perm: vec![0, 2, 3, 1] }, &[])?;
    let scale = graph.add_const(&format!("{origin}.scale"), Tensor::f32(&[own], scale));
    let shift = graph.add_const(&format!("{origin}.shift"), Tensor::f32(&[own], shift));
    then(graph, "norm", Op::Norm { kind, axis: 1, groups: 1, eps }, &[scale, shift])?;
    then(graph, "turned", Op::Transpose { perm: vec![0, 3, 1, 2] }, &[])?;
    if shared {
        graph.nodes[i].op = Op::Reshape { dims };
        graph.nodes[i].inputs = vec![x];
    } else {
        then(graph, "channels", Op::Reshape { dims }, &[])?;
        graph.nodes[i].op = Op::Affine;
        graph.nodes[i].inputs[0] = x;
    }
    remark(graph, i, "the norm of each head became a norm of more positions");
    Ok(())
}

/// A constant that is added to a tensor.
fn constant_term(graph: &mut Graph, i: usize) -> Result<(), InferError> {
    let node = &graph.nodes[i];
    let &Op::Add { alpha, beta, gamma } = &node.op else { return Ok(()) };
    let (x, constant, own, other) = match (graph.constant(node.inputs[0]), graph.constant(node.inputs[1])) {
        (None, Some(t)) => (node.inputs[0], t.clone(), alpha, beta),
        (Some(t), None) => (node.inputs[1], t.clone(), beta, alpha),
        _ => return Ok(()),
    };
    let dims = graph.ty(x).dims.clone();
    if graph.ty(node.output).dims != dims || dims.len() < 2 {
        return Ok(());
    }
    let (name, origin) = (graph.value(node.output).name.clone(), node.origin.clone());
    if let Some(row) = per_channel(&constant, &dims) {
        let c = dims[1];
        let scale = graph.add_const(&format!("{name}.scale"), Tensor::f32(&[c], vec![own; c]));
        let shift = row.iter().map(|v| other * v + gamma).collect();
        let shift = graph.add_const(&format!("{name}.shift"), Tensor::f32(&[c], shift));
        graph.nodes[i].op = Op::Affine;
        graph.nodes[i].inputs = vec![x, scale, shift];
        return Ok(());
    }
    let &[1, c, h, w] = &dims[..] else { return Ok(()) };
    let full = interp::eval(&Op::Expand { dims: dims.clone() }, &[&constant])?;
    let Some(values) = full.as_f32() else { return Ok(()) };
    let values: Vec<f32> = values.iter().map(|v| other * v + gamma).collect();
    let Some(image) = constant_image(graph, &name, &values, [c, h, w], &origin)? else { return Ok(()) };
    graph.nodes[i].op = Op::Add { alpha: own, beta: 1.0, gamma: 0.0 };
    graph.nodes[i].inputs = vec![x, image];
    remark(graph, i, "the constant became the bias of a layer without weights");
    Ok(())
}

/// One pixel that is added to all.
fn spread_pixel(graph: &mut Graph, i: usize) -> Result<(), InferError> {
    let node = &graph.nodes[i];
    let (Op::Add { .. }, &[a, b]) = (&node.op, &node.inputs[..]) else { return Ok(()) };
    let dims = graph.ty(node.output).dims.clone();
    let &[1, c, h, w] = &dims[..] else { return Ok(()) };
    let pixel = [1, c, 1, 1];
    let slot = match (graph.ty(a).dims == dims, graph.ty(b).dims == dims) {
        (true, false) if graph.ty(b).dims == pixel => 1,
        (false, true) if graph.ty(a).dims == pixel => 0,
        _ => return Ok(()),
    };
    let (x, row) = if slot == 1 { (a, b) } else { (b, a) };
    if graph.constant(x).is_some() || graph.constant(row).is_some() {
        return Ok(());
    }
    let (name, origin) = (graph.value(node.output).name.clone(), node.origin.clone());
    let none = graph.add_const(&format!("{name}.none"), Tensor::f32(&[1, c, 1, 1], vec![0.0; c]));
    let one = graph.add_const(&format!("{name}.one"), Tensor::f32(&[1], vec![1.0]));
    let conv = Op::Conv(ConvGeometry::default());
    let ones = graph.add_node(&format!("{name}.ones"), conv, &[x, none, one], &origin)?;
    let product = Product {
        batch: 1,
        a: Split::Channels,
        b: Split::Channels,
        out: Split::Channels,
        transposed: false,
        alpha: 1.0,
    };
    let spread = graph.add_node(&format!("{name}.spread"), Op::HeadProduct(product), &[ones, row], &origin)?;
    let image =
        graph.add_node(&format!("{name}.pixels"), Op::Reshape { dims: vec![1, c, h, w] }, &[spread], &origin)?;
    graph.nodes[i].inputs[slot] = image;
    remark(graph, i, "the pixel that is added to all is spread by a product with ones");
    Ok(())
}
