//! Norms with statistics of the sample, softmax, pooling and batched products of images.

use super::{bad, floats};
use crate::ir::{InferError, NormKind, Product, Split, Tensor, Window};

/// Sums of one statistic are taken in f64, in memory order.
pub(super) fn norm(x: &[&Tensor], kind: NormKind, axis: usize, groups: usize, eps: f32) -> Result<Tensor, InferError> {
    let v = floats(x[0])?;
    let dims = &x[0].dims;
    let (c, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
    let outer: usize = dims[..axis].iter().product();
    let per_group = c / groups;
    let affine = if x.len() == 3 { Some((floats(x[1])?, floats(x[2])?)) } else { None };
    let mut out = vec![0.0f32; v.len()];
    // One statistic covers `run` neighbouring positions.
    let run = if kind == NormKind::Group { inner } else { 1 };
    for (o, g) in (0..outer).flat_map(|o| (0..groups).map(move |g| (o, g))) {
        for first in (0..inner).step_by(run.max(1)) {
            let places = || {
                (g * per_group..(g + 1) * per_group)
                    .flat_map(move |ch| (first..first + run).map(move |p| (ch, (o * c + ch) * inner + p)))
            };
            let n = (per_group * run) as f64;
            let mean = match kind {
                NormKind::Rms => 0.0,
                NormKind::Group | NormKind::Layer => places().map(|(_, i)| f64::from(v[i])).sum::<f64>() / n,
            };
            let variance = places().map(|(_, i)| (f64::from(v[i]) - mean).powi(2)).sum::<f64>() / n;
            let factor = 1.0 / (variance + f64::from(eps)).sqrt();
            for (ch, i) in places() {
                let y = ((f64::from(v[i]) - mean) * factor) as f32;
                out[i] = affine.map_or(y, |(gamma, beta)| y * gamma[ch] + beta[ch]);
            }
        }
    }
    Ok(Tensor::f32(dims, out))
}

pub(super) fn softmax(x: &Tensor, axis: usize) -> Result<Tensor, InferError> {
    let v = floats(x)?;
    let (n, inner) = (x.dims[axis], x.dims[axis + 1..].iter().product::<usize>());
    let outer: usize = x.dims[..axis].iter().product();
    let mut out = vec![0.0f32; v.len()];
    for (o, p) in (0..outer).flat_map(|o| (0..inner).map(move |p| (o, p))) {
        let place = |k: usize| (o * n + k) * inner + p;
        let largest = (0..n).map(|k| v[place(k)]).fold(f32::MIN, f32::max);
        let mut sum = 0.0f32;
        for k in 0..n {
            let e = libm::expf(v[place(k)] - largest);
            out[place(k)] = e;
            sum += e;
        }
        (0..n).for_each(|k| out[place(k)] /= sum);
    }
    Ok(Tensor::f32(&x.dims, out))
}

/// Pools each window with `f`, which sees the values inside the image and the number of places inside the padded one.
fn pool(x: &Tensor, window: &Window, dims: &[usize], f: impl Fn(&[f32], usize) -> f32) -> Result<Tensor, InferError> {
    let v = floats(x)?;
    let (h, w) = (x.dims[2], x.dims[3]);
    let (kernel, stride, pad) = (window.kernel, window.stride, window.pad);
    let mut out = Vec::with_capacity(dims.iter().product());
    let mut values = Vec::with_capacity(kernel[0] * kernel[1]);
    for plane in v.chunks_exact(h * w) {
        for (oy, ox) in (0..dims[2]).flat_map(|y| (0..dims[3]).map(move |x| (y, x))) {
            values.clear();
            for (ky, kx) in (0..kernel[0]).flat_map(|y| (0..kernel[1]).map(move |x| (y, x))) {
                let y = (oy * stride[0] + ky).wrapping_sub(pad[0]);
                let x = (ox * stride[1] + kx).wrapping_sub(pad[1]);
                if y < h && x < w {
                    values.push(plane[y * w + x]);
                }
            }
            out.push(f(&values, kernel[0] * kernel[1]));
        }
    }
    Ok(Tensor::f32(dims, out))
}

pub(super) fn max_pool(x: &Tensor, window: &Window, dims: &[usize]) -> Result<Tensor, InferError> {
    pool(x, window, dims, |values, _| values.iter().copied().fold(f32::MIN, f32::max))
}

pub(super) fn average_pool(x: &Tensor, window: &Window, count_pad: bool, dims: &[usize]) -> Result<Tensor, InferError> {
    pool(x, window, dims, |values, places| {
        let n = if count_pad { places } else { values.len() };
        values.iter().sum::<f32>() / n as f32
    })
}

/// The greatest over axes, which stay as 1.
pub(super) fn reduce_max(x: &Tensor, axes: &[usize]) -> Result<Tensor, InferError> {
    let dims: Vec<usize> = x.dims.iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect();
    let at = super::elementwise::broadcast_index(&dims, &x.dims);
    let mut out = vec![f32::MIN; dims.iter().product()];
    for (i, &v) in floats(x)?.iter().enumerate() {
        let place = &mut out[at(i)];
        *place = place.max(v);
    }
    Ok(Tensor::f32(&dims, out))
}

/// Flat index of `(matrix, row, column)` in `[1, C, H, W]`.
fn place(dims: &[usize], split: Split, batch: usize, n: usize, row: usize, column: usize) -> usize {
    let (c, pixels) = (dims[1], dims[2] * dims[3]);
    match split {
        Split::Rows => column * pixels + n * dims[3] + row,
        Split::Channels => (n * (c / batch) + column) * pixels + row,
    }
}

pub(super) fn head_product(x: &[&Tensor], p: &Product, dims: &[usize]) -> Result<Tensor, InferError> {
    let (a, b) = (floats(x[0])?, floats(x[1])?);
    let (da, db) = (&x[0].dims, &x[1].dims);
    let (m, k) = match p.a {
        Split::Rows => (da[3], da[1]),
        Split::Channels => (da[2] * da[3], da[1] / p.batch),
    };
    let n = if p.out == Split::Rows { dims[1] } else { dims[1] / p.batch };
    if [m, n, k].contains(&0) {
        return Err(bad("a product of empty matrices"));
    }
    let mut out = vec![0.0f32; dims.iter().product()];
    let mut right = vec![0.0f32; k * n];
    let mut row = vec![0.0f32; n];
    for s in 0..p.batch {
        for (i, j) in (0..k).flat_map(|i| (0..n).map(move |j| (i, j))) {
            let (r, c) = if p.transposed { (j, i) } else { (i, j) };
            right[i * n + j] = b[place(db, p.b, p.batch, s, r, c)];
        }
        for r in 0..m {
            row.fill(0.0);
            for i in 0..k {
                let left = a[place(da, p.a, p.batch, s, r, i)];
                for (y, w) in row.iter_mut().zip(&right[i * n..][..n]) {
                    *y += left * w;
                }
            }
            for (j, y) in row.iter().enumerate() {
                out[place(dims, p.out, p.batch, s, r, j)] = p.alpha * y;
            }
        }
    }
    Ok(Tensor::f32(dims, out))
}
