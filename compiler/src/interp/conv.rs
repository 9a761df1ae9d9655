//! Convolutions and linear layers: patches times a weight matrix whose columns are output channels.

use super::{bad, floats, index, int8s, lookup};
use crate::ir::{ConvGeometry, Data, InferError, Op, Tensor, TransposedGeometry};
use flowlet_kernels::{add, requant};
use std::ops::{Add, Mul};

/// Columns that one inner loop computes side by side.
const LANES: usize = 16;

/// Weights as `[group][column block][k][LANES]`, `k` counting (input channel, row, column).
pub struct PackedConv {
    groups: usize,
    out_channels: usize,
    k: usize,
    kernel: [usize; 2],
    weights: PackedData,
}

enum PackedData {
    F32(Vec<f32>),
    S32(Vec<i32>),
}

impl PackedConv {
    /// Packs `[O, I/g, kh, kw]` or `[O, K]`; `None` for another rank or type.
    pub fn new(weight: &Tensor, groups: usize) -> Option<Self> {
        let (&out_channels, rest) = weight.dims.split_first()?;
        let k: usize = rest.iter().product();
        let kernel = match *rest {
            [_, kh, kw] => [kh, kw],
            [_] => [1, 1],
            _ => return None,
        };
        if groups == 0 || out_channels % groups != 0 {
            return None;
        }
        let weights = match &weight.data {
            Data::F32(v) => PackedData::F32(pack(v, out_channels, k, groups)),
            Data::S8(v) => {
                let wide: Vec<i32> = v.iter().map(|&w| w.into()).collect();
                PackedData::S32(pack(&wide, out_channels, k, groups))
            }
            Data::I64(_) | Data::I32(_) => return None,
        };
        Some(PackedConv { groups, out_channels, k, kernel, weights })
    }
}

fn pack<T: Copy + Default>(w: &[T], out_channels: usize, k: usize, groups: usize) -> Vec<T> {
    let per_group = out_channels / groups;
    let blocks = per_group.div_ceil(LANES);
    let mut packed = vec![T::default(); groups * blocks * k * LANES];
    for o in 0..out_channels {
        let (g, c) = (o / per_group, o % per_group);
        for i in 0..k {
            packed[((g * blocks + c / LANES) * k + i) * LANES + c % LANES] = w[o * k + i];
        }
    }
    packed
}

/// `out[pixel][o] = sum over k, in sequence, of patch[pixel][k] * w[k][o]`, for one group.
fn product<T>(patches: &[T], k: usize, packed: &[T], columns: usize) -> Vec<T>
where
    T: Copy + Default + Add<Output = T> + Mul<Output = T> + Send + Sync,
{
    let pixels = patches.len().checked_div(k).unwrap_or(0);
    let mut out = vec![T::default(); pixels * columns];
    if out.is_empty() {
        return out;
    }
    // Threads share the pixels, never a sum: the result does not depend on their number.
    let threads =
        if pixels * k * columns < PARALLEL { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let share = pixels.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        let mut parts = patches.chunks(share * k).zip(out.chunks_mut(share * columns));
        let first = parts.next();
        for (patches, out) in parts {
            scope.spawn(move || multiply(patches, k, packed, columns, out));
        }
        if let Some((patches, out)) = first {
            multiply(patches, k, packed, columns, out);
        }
    });
    out
}

/// Multiplications from which a product is shared among threads.
const PARALLEL: usize = 1 << 22;

fn multiply<T>(patches: &[T], k: usize, packed: &[T], columns: usize, out: &mut [T])
where
    T: Copy + Default + Add<Output = T> + Mul<Output = T>,
{
    let pixels = patches.len() / k;
    for block in 0..columns.div_ceil(LANES) {
        let w = &packed[block * k * LANES..(block + 1) * k * LANES];
        let width = LANES.min(columns - block * LANES);
        let mut pixel = 0;
        while pixel < pixels {
            let pair = [pixel, (pixel + 1).min(pixels - 1)];
            let (a, b) = (&patches[pair[0] * k..][..k], &patches[pair[1] * k..][..k]);
            let mut acc = [[T::default(); LANES]; 2];
            for ((row, &x), &y) in w.chunks_exact(LANES).zip(a).zip(b) {
                for lane in 0..LANES {
                    acc[0][lane] = acc[0][lane] + x * row[lane];
                    acc[1][lane] = acc[1][lane] + y * row[lane];
                }
            }
            for (p, sums) in pair.iter().zip(&acc) {
                out[p * columns + block * LANES..][..width].copy_from_slice(&sums[..width]);
            }
            pixel += 2;
        }
    }
}

/// The windows of one sample and group as rows `[pixel][k]`; padding reads `fill`.
fn windows<T: Copy>(
    g: &ConvGeometry,
    x: &[T],
    dims: &[usize],
    channels: std::ops::Range<usize>,
    kernel: [usize; 2],
    out: [usize; 2],
    fill: T,
) -> Vec<T> {
    let (h, w) = (dims[2], dims[3]);
    let mut rows = Vec::with_capacity(out[0] * out[1] * channels.len() * kernel[0] * kernel[1]);
    for oy in 0..out[0] {
        for ox in 0..out[1] {
            for c in channels.clone() {
                for ky in 0..kernel[0] {
                    for kx in 0..kernel[1] {
                        let y = (oy * g.stride[0] + ky * g.dilation[0]).wrapping_sub(g.pad[0]);
                        let x_ = (ox * g.stride[1] + kx * g.dilation[1]).wrapping_sub(g.pad[1]);
                        let inside = y < h * g.upsample && x_ < w * g.upsample;
                        rows.push(if inside { x[(c * h + y / g.upsample) * w + x_ / g.upsample] } else { fill });
                    }
                }
            }
        }
    }
    rows
}

/// f32 convolution; `x = [input, weight, [bias, [index]]]`.
pub(super) fn float(
    g: &ConvGeometry,
    x: &[&Tensor],
    out: &[usize],
    packed: Option<&PackedConv>,
) -> Result<Tensor, InferError> {
    let fresh = if packed.is_none() { PackedConv::new(x[1], g.groups) } else { None };
    let Some(packed) = packed.or(fresh.as_ref()) else { return Err(bad("the weights cannot be packed")) };
    let PackedData::F32(weights) = &packed.weights else { return Err(bad("expected f32 weights")) };
    let bias = bias_row(x)?;
    let (n, o, plane) = (out[0], out[1], out[2] * out[3]);
    let input = floats(x[0])?;
    let sample = input.len() / n.max(1);
    let (in_group, out_group) = (x[0].dims[1] / packed.groups, packed.out_channels / packed.groups);
    let group_len = out_group.div_ceil(LANES) * packed.k * LANES;
    let mut result = vec![0.0; n * o * plane];
    for s in 0..n {
        for group in 0..packed.groups {
            let channels = group * in_group..(group + 1) * in_group;
            let rows =
                windows(g, &input[s * sample..][..sample], &x[0].dims, channels, packed.kernel, [out[2], out[3]], 0.0);
            let sums = product(&rows, packed.k, &weights[group * group_len..][..group_len], out_group);
            for c in 0..out_group {
                let channel = group * out_group + c;
                let b = bias.map_or(0.0, |b| b[channel]);
                let target = &mut result[(s * o + channel) * plane..][..plane];
                for (p, y) in target.iter_mut().enumerate() {
                    *y = sums[p * out_group + c] + b;
                }
            }
        }
    }
    Ok(Tensor::f32(out, result))
}

/// f32 transposed convolution; `x = [input, weight[I, O/g, kh, kw], [bias]]`. Each output sums kernel places in order,
/// input channels inside.
pub(super) fn transposed(g: &TransposedGeometry, x: &[&Tensor], out: &[usize]) -> Result<Tensor, InferError> {
    let (input, weight) = (floats(x[0])?, floats(x[1])?);
    let bias = x.get(2).map(|t| floats(t)).transpose()?;
    let [_, c, h, w] = x[0].dims[..] else { return Err(bad("an image has four dimensions")) };
    let [_, per_group, kh, kw] = x[1].dims[..] else { return Err(bad("weights have four dimensions")) };
    let (oh, ow, in_group) = (out[2], out[3], c / g.groups);
    // Where output row or column `o` finds tap `k`: an input place, if there is one.
    let source = |o: usize, k: usize, a: usize, size: usize| {
        let at = (o + g.pad[a]).checked_sub(k * g.dilation[a])?;
        (at % g.stride[a] == 0 && at / g.stride[a] < size).then(|| at / g.stride[a])
    };
    let mut result = vec![0.0f32; out.iter().product()];
    for (plane, target) in result.chunks_exact_mut(oh * ow).enumerate() {
        let (n, o) = (plane / out[1], plane % out[1]);
        let first = o / per_group * in_group;
        for (y, target) in target.chunks_exact_mut(ow).enumerate() {
            for (ky, iy) in (0..kh).filter_map(|k| Some((k, source(y, k, 0, h)?))) {
                for kx in 0..kw {
                    for i in first..first + in_group {
                        let factor = weight[((i * per_group + o % per_group) * kh + ky) * kw + kx];
                        let row = &input[((n * c + i) * h + iy) * w..][..w];
                        for (x, sum) in target.iter_mut().enumerate() {
                            if let Some(ix) = source(x, kx, 1, w) {
                                *sum += factor * row[ix];
                            }
                        }
                    }
                }
            }
            let b = bias.map_or(0.0, |b| b[o]);
            target.iter_mut().for_each(|sum| *sum += b);
        }
    }
    Ok(Tensor::f32(out, result))
}

/// f32 linear layer; `x = [input[N,K], weight[O,K], [bias, [index]]]`.
pub(super) fn linear(x: &[&Tensor], out: &[usize], packed: Option<&PackedConv>) -> Result<Tensor, InferError> {
    let fresh = if packed.is_none() { PackedConv::new(x[1], 1) } else { None };
    let Some(packed) = packed.or(fresh.as_ref()) else { return Err(bad("the weights cannot be packed")) };
    let PackedData::F32(weights) = &packed.weights else { return Err(bad("expected f32 weights")) };
    let mut result = product(floats(x[0])?, packed.k, weights, packed.out_channels);
    if let Some(bias) = bias_row(x)? {
        for row in result.chunks_exact_mut(bias.len()) {
            for (y, b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }
    Ok(Tensor::f32(out, result))
}

fn bias_row<'t>(x: &[&'t Tensor]) -> Result<Option<&'t [f32]>, InferError> {
    let Some(bias) = x.get(2) else { return Ok(None) };
    let all = floats(bias)?;
    let Some(key) = x.get(3) else { return Ok(Some(all)) };
    let channels = bias.dims[1];
    let row = index(key)?;
    all.get(row * channels..(row + 1) * channels).map(Some).ok_or_else(|| bad(format!("there is no bias row {row}")))
}

/// The quantised convolution with its fused residual and table.
pub(super) fn quantised(
    op: &Op,
    x: &[&Tensor],
    input_zero_point: i8,
    out: &[usize],
    packed: Option<&PackedConv>,
) -> Result<Tensor, InferError> {
    let Op::QConv { geometry, left_shift, zero_point, indexed, residual, table: has_table } = op else {
        return Err(bad("not a quantised convolution"));
    };
    let fresh = if packed.is_none() { PackedConv::new(x[1], geometry.groups) } else { None };
    let Some(packed) = packed.or(fresh.as_ref()) else { return Err(bad("the weights cannot be packed")) };
    let PackedData::S32(weights) = &packed.weights else { return Err(bad("expected s8 weights")) };
    let mut dims = x[0].dims.clone();
    dims.resize(4, 1);
    let spatial = [out.get(2).copied().unwrap_or(1), out.get(3).copied().unwrap_or(1)];
    let (Some(multipliers), Some(bias)) = (x[2].as_i32(), x[3].as_i32()) else {
        return Err(bad("multipliers and biases are i32"));
    };
    let mut next = 4;
    let mut operand = |present: bool| {
        next += usize::from(present);
        present.then(|| x[next - 1])
    };
    let row = operand(*indexed).map_or(Ok(0), index)?;
    let skip = operand(residual.is_some()).map(int8s).transpose()?;
    let lut = operand(*has_table).map(int8s).transpose()?;
    let channels = packed.out_channels;
    let Some(bias) = bias.get(row * channels..(row + 1) * channels) else {
        return Err(bad(format!("there is no bias row {row}")));
    };
    let fill = i32::from(input_zero_point);
    let input: Vec<i32> = int8s(x[0])?.iter().map(|&q| q.into()).collect();
    let (in_group, out_group) = (dims[1] / packed.groups, channels / packed.groups);
    let group_len = out_group.div_ceil(LANES) * packed.k * LANES;
    let sums: Vec<Vec<i32>> = (0..packed.groups)
        .map(|group| {
            let own = group * in_group..(group + 1) * in_group;
            let rows = windows(geometry, &input, &dims, own, packed.kernel, spatial, fill);
            product(&rows, packed.k, &weights[group * group_len..][..group_len], out_group)
        })
        .collect();
    let plane = spatial[0] * spatial[1];
    let mut result = vec![0i8; channels * plane];
    for (c, target) in result.chunks_exact_mut(plane).enumerate() {
        for (p, y) in target.iter_mut().enumerate() {
            let acc = sums[c / out_group][p * out_group + c % out_group].wrapping_add(bias[c]);
            let mut q = requant::requantise(acc, *left_shift, multipliers[c], *zero_point);
            if let (Some(params), Some(skip)) = (residual, skip) {
                q = add::sum(q, skip[c * plane + p], params);
            }
            *y = lut.map_or(q, |lut| lookup(lut, q));
        }
    }
    Ok(Tensor::s8(out, result))
}
