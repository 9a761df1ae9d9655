//! Operations over images that exporters spell with reshapes or with constant kernels: upsampling, pixel shuffles, mean pooling.

use super::{Context, Rewrite};
use crate::interp;
use crate::ir::{ConvGeometry, Graph, Op, Tensor, ValueId, Window};

/// Largest image that is traced element by element.
const MAX_ELEMENTS: usize = 1 << 22;

/// A chain of operations that only move elements is traced: where does each element come from?
pub(super) fn moved(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let Op::Reshape { dims: out } = &graph.nodes[i].op else { return None };
    let &[1, channels, height, width] = &out[..] else { return None };
    let mut chain = vec![i];
    let mut source = graph.nodes[i].inputs[0];
    let mut shapes = vec![source];
    while let Some(node) = cx.sole(graph, source)
        && matches!(node.op, Op::Reshape { .. } | Op::Transpose { .. } | Op::Expand { .. })
    {
        chain.push(*cx.producers.get(&source)?);
        source = node.inputs[0];
        shapes.push(source);
    }
    if chain.len() < 2 || out.iter().product::<usize>() > MAX_ELEMENTS {
        return None;
    }
    // The nearest value with an image's shape is where the spelling begins: longer chains hold other work.
    for (length, &from) in shapes.iter().enumerate().skip(1) {
        let &[1, c, h, w] = &graph.ty(from).dims[..] else { continue };
        if h == 0 || w == 0 || channels == 0 {
            continue;
        }
        let op = if c == channels && height % h == 0 && height > h && width == w * (height / h) {
            Op::Upsample { factor: height / h }
        } else if height % h == 0 && height > h && width == w * (height / h) && c == channels * (height / h).pow(2) {
            Op::PixelShuffle { block: height / h }
        } else if height > 0
            && h % height == 0
            && h > height
            && w == width * (h / height)
            && channels == c * (h / height).pow(2)
        {
            Op::PixelUnshuffle { block: h / height }
        } else {
            continue;
        };
        if trace(graph, &chain[..=length], from)? == interp::eval(&op, &[&positions(&graph.ty(from).dims)]).ok()? {
            let factor = if h > height { h / height } else { height / h };
            let message = format!("became {} by {factor}", op.name());
            return Some((op, vec![from], message));
        }
    }
    None
}

/// A tensor whose elements are their own positions.
fn positions(dims: &[usize]) -> Tensor {
    Tensor::i64(dims, (0..dims.iter().product::<usize>() as i64).collect())
}

/// The positions in `from` of the elements that a chain, last node first, leaves.
fn trace(graph: &Graph, chain: &[usize], from: ValueId) -> Option<Tensor> {
    chain.iter().rev().try_fold(positions(&graph.ty(from).dims), |t, &n| interp::eval(&graph.nodes[n].op, &[&t]).ok())
}

/// Reshape, mean over the new axes, reshape.
pub(super) fn mean_pool(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let Op::Reshape { dims: out } = &graph.nodes[i].op else { return None };
    let mean = cx.sole(graph, graph.nodes[i].inputs[0])?;
    let cut = cx.sole(graph, mean.inputs[0])?;
    let (Op::ReduceMean { axes }, Op::Reshape { dims: parts }) = (&mean.op, &cut.op) else { return None };
    let x = cut.inputs[0];
    let (&[n, c, h, w], &[pn, pc, ph, kh, pw, kw]) = (&graph.ty(x).dims[..], &parts[..]) else { return None };
    let fits = axes[..] == [3, 5] && out[..] == [n, c, ph, pw] && [pn, pc, ph * kh, pw * kw] == [n, c, h, w];
    let window = Window { kernel: [kh, kw], stride: [kh, kw], pad: [0; 4] };
    let message = format!("reshape and mean became average_pool of {kh}x{kw}");
    fits.then_some((Op::AveragePool { window, count_pad: false }, vec![x], message))
}

/// The mean over a whole image.
pub(super) fn global_mean(graph: &mut Graph, _: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    let Op::ReduceMean { axes } = &node.op else { return None };
    let &[_, _, h, w] = &graph.ty(node.inputs[0]).dims[..] else { return None };
    let window = Window { kernel: [h, w], stride: [1, 1], pad: [0; 4] };
    let message = "the mean over the image became average_pool".to_owned();
    (axes[..] == [2, 3]).then(|| (Op::AveragePool { window, count_pad: false }, vec![node.inputs[0]], message))
}

/// Depthwise kernels of equal weights: a mean over tiles, or a repetition of pixels.
pub(super) fn resampling_kernel(graph: &mut Graph, _: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    let &[x, weight] = &node.inputs[..] else { return None };
    let weight = graph.constant(weight)?;
    let (values, &[c, 1, kh, kw]) = (weight.as_f32()?, &weight.dims[..]) else { return None };
    let all = |wanted: f32| values.iter().all(|&v| v == wanted);
    match &node.op {
        Op::Conv(g) if g.groups == c && graph.ty(x).dims[1] == c => {
            let plain = ConvGeometry { stride: [kh, kw], groups: c, ..ConvGeometry::default() };
            let window = Window { kernel: [kh, kw], stride: [kh, kw], pad: [0; 4] };
            let op = Op::AveragePool { window, count_pad: false };
            let fits = *g == plain && kh * kw > 1 && all(1.0 / (kh * kw) as f32);
            fits.then(|| (op, vec![x], format!("a depthwise kernel became average_pool of {kh}x{kw}")))
        }
        Op::ConvTranspose(g) if g.groups == c && kh == kw => {
            let plain = crate::ir::TransposedGeometry { stride: [kh, kw], groups: c, ..Default::default() };
            let message = format!("a depthwise transposed kernel became upsample by {kh}");
            (*g == plain && kh > 1 && all(1.0)).then(|| (Op::Upsample { factor: kh }, vec![x], message))
        }
        _ => None,
    }
}
