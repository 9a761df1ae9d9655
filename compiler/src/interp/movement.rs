//! Operations that only move elements.

use super::{bad, rearrange};
use crate::ir::{Data, InferError, Tensor};

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

pub(super) fn transpose(x: &Tensor, perm: &[usize], out: &[usize]) -> Tensor {
    let (from, to) = (strides(&x.dims), strides(out));
    rearrange(x, out, |i| to.iter().zip(out).zip(perm).map(|((s, d), &p)| i / s % d * from[p]).sum())
}

pub(super) fn slice(x: &Tensor, axis: usize, start: usize, step: usize, out: &[usize]) -> Tensor {
    let (from, to) = (strides(&x.dims), strides(out));
    rearrange(x, out, |i| {
        let position = |a: usize| i / to[a] % out[a];
        (0..out.len()).map(|a| from[a] * if a == axis { start + position(a) * step } else { position(a) }).sum()
    })
}

pub(super) fn expand(x: &Tensor, out: &[usize]) -> Tensor {
    let (from, to) = (strides(&x.dims), strides(out));
    let lead = out.len() - x.dims.len();
    rearrange(x, out, |i| {
        let own = x.dims.iter().enumerate().filter(|(_, d)| **d > 1);
        own.map(|(a, _)| i / to[a + lead] % out[a + lead] * from[a]).sum()
    })
}

pub(super) fn upsample(x: &Tensor, factor: usize, out: &[usize]) -> Tensor {
    let (h, w) = (out[2], out[3]);
    rearrange(x, out, |i| {
        let (plane, y, column) = (i / (h * w), i / w % h, i % w);
        (plane * (h / factor) + y / factor) * (w / factor) + column / factor
    })
}

pub(super) fn pixel_unshuffle(x: &Tensor, block: usize, out: &[usize]) -> Tensor {
    let (c, h, w) = (out[1], out[2], out[3]);
    rearrange(x, out, |i| {
        let (n, channel, y, column) = (i / (c * h * w), i / (h * w) % c, i / w % h, i % w);
        let (source, dy, dx) = (channel / (block * block), channel / block % block, channel % block);
        let plane = n * (c / (block * block)) + source;
        (plane * h * block + y * block + dy) * w * block + column * block + dx
    })
}

pub(super) fn pixel_shuffle(x: &Tensor, block: usize, out: &[usize]) -> Tensor {
    let (c, h, w) = (out[1], out[2], out[3]);
    rearrange(x, out, |i| {
        let (n, channel, y, column) = (i / (c * h * w), i / (h * w) % c, i / w % h, i % w);
        let source = channel * block * block + y % block * block + column % block;
        ((n * c * block * block + source) * (h / block) + y / block) * (w / block) + column / block
    })
}

pub(super) fn concat(x: &[&Tensor], axis: usize, out: &[usize]) -> Result<Tensor, InferError> {
    let inner: usize = out[axis + 1..].iter().product();
    let outer: usize = out[..axis].iter().product();
    fn join<T: Copy>(parts: &[(&[T], usize)], outer: usize) -> Vec<T> {
        let mut joined = Vec::new();
        for o in 0..outer {
            for (part, run) in parts {
                joined.extend_from_slice(&part[o * run..(o + 1) * run]);
            }
        }
        joined
    }
    macro_rules! gather {
        ($variant:ident) => {{
            let parts: Option<Vec<_>> = x
                .iter()
                .map(|t| match &t.data {
                    Data::$variant(v) => Some((v.as_slice(), t.dims[axis] * inner)),
                    _ => None,
                })
                .collect();
            Data::$variant(join(&parts.ok_or_else(|| bad("operands of one type expected"))?, outer))
        }};
    }
    let data = match &x[0].data {
        Data::F32(_) => gather!(F32),
        Data::I64(_) => gather!(I64),
        Data::I32(_) => gather!(I32),
        Data::S8(_) => gather!(S8),
    };
    Ok(Tensor { dims: out.to_vec(), data })
}

pub(super) fn gather(x: &Tensor, indices: &Tensor, axis: usize, out: &[usize]) -> Result<Tensor, InferError> {
    let Some(indices) = indices.as_i64() else { return Err(bad("gather needs i64 indices")) };
    let size = x.dims[axis];
    let wrapped: Result<Vec<usize>, InferError> = indices
        .iter()
        .map(|&k| {
            let k_from_end = if k < 0 { k + size as i64 } else { k };
            usize::try_from(k_from_end)
                .ok()
                .filter(|k| *k < size)
                .ok_or_else(|| bad(format!("index {k} is out of range; valid are 0 to {}", size.saturating_sub(1))))
        })
        .collect();
    let wrapped = wrapped?;
    let inner: usize = x.dims[axis + 1..].iter().product();
    let count = wrapped.len();
    Ok(rearrange(x, out, |i| (i / (inner * count) * size + wrapped[i / inner % count]) * inner + i % inner))
}

pub(super) fn select(table: &Tensor, row: usize, out: &[usize]) -> Result<Tensor, InferError> {
    if row >= table.dims[0] {
        return Err(bad(format!("{row} is out of range; valid are 0 to {}", table.dims[0] - 1)));
    }
    let inner: usize = out.iter().product();
    Ok(rearrange(table, out, |i| row * inner + i))
}
