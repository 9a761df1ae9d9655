//! Elementwise operations, reductions, matrix products and conversions.

use super::{bad, floats, int8s, lookup};
use crate::ir::{DType, Data, InferError, Tensor, Type};
use flowlet_kernels::{add as add_law, port};
use flowlet_plan::AddParams;

/// For each output position, the position in a broadcast operand.
pub(super) fn broadcast_index(dims: &[usize], out: &[usize]) -> impl Fn(usize) -> usize + use<> {
    let lead = out.len() - dims.len();
    let mut stride = 1;
    let mut steps: Vec<(usize, usize)> = Vec::with_capacity(out.len());
    for (i, &size) in out.iter().enumerate().rev() {
        let own = if i >= lead { dims[i - lead] } else { 1 };
        steps.push((size, if own == 1 { 0 } else { stride }));
        stride *= own;
    }
    move |mut position| {
        let mut at = 0;
        for &(size, stride) in &steps {
            at += position % size * stride;
            position /= size;
        }
        at
    }
}

/// ONNX's `DequantizeLinear(QuantizeLinear(x))`: a division, ties to even. NaN stays.
pub(super) fn fake_quant(x: f32, scale: f32, zero_point: i8) -> f32 {
    let zero = f32::from(zero_point);
    let code = ((x / scale).round_ties_even() + zero).clamp(-128.0, 127.0);
    (code - zero) * scale
}

/// A binary operation with broadcasting, on f32 or i64.
pub(super) fn binary(
    x: &[&Tensor],
    out: &[usize],
    float: impl Fn(f32, f32) -> f32,
    int: impl Fn(i64, i64) -> i64,
) -> Result<Tensor, InferError> {
    let n = out.iter().product::<usize>();
    let (ia, ib) = (broadcast_index(&x[0].dims, out), broadcast_index(&x[1].dims, out));
    match (&x[0].data, &x[1].data) {
        (Data::F32(a), Data::F32(b)) if x[0].dims == out && x[1].dims == out => {
            Ok(Tensor::f32(out, a.iter().zip(b).map(|(&a, &b)| float(a, b)).collect()))
        }
        (Data::F32(a), Data::F32(b)) => Ok(Tensor::f32(out, (0..n).map(|i| float(a[ia(i)], b[ib(i)])).collect())),
        (Data::I64(a), Data::I64(b)) => Ok(Tensor::i64(out, (0..n).map(|i| int(a[ia(i)], b[ib(i)])).collect())),
        _ => Err(bad("operands of one f32 or i64 type expected")),
    }
}

/// A comparison with broadcasting: 1 or 0.
pub(super) fn compare(
    x: &[&Tensor],
    out: &[usize],
    float: impl Fn(f32, f32) -> bool,
    int: impl Fn(i64, i64) -> bool,
) -> Result<Tensor, InferError> {
    let n = out.iter().product::<usize>();
    let (ia, ib) = (broadcast_index(&x[0].dims, out), broadcast_index(&x[1].dims, out));
    let holds: Vec<i64> = match (&x[0].data, &x[1].data) {
        (Data::F32(a), Data::F32(b)) => (0..n).map(|i| float(a[ia(i)], b[ib(i)]).into()).collect(),
        (Data::I64(a), Data::I64(b)) => (0..n).map(|i| int(a[ia(i)], b[ib(i)]).into()).collect(),
        _ => return Err(bad("operands of one f32 or i64 type expected")),
    };
    Ok(Tensor::i64(out, holds))
}

/// Elements of the second or third operand, as the first says.
pub(super) fn choose(x: &[&Tensor], out: &[usize]) -> Result<Tensor, InferError> {
    let Some(condition) = x[0].as_i64() else { return Err(bad("a condition is i64")) };
    let at = broadcast_index(&x[0].dims, out);
    let (ia, ib) = (broadcast_index(&x[1].dims, out), broadcast_index(&x[2].dims, out));
    let places = (0..out.iter().product::<usize>()).map(|i| (condition[at(i)] != 0, ia(i), ib(i)));
    match (&x[1].data, &x[2].data) {
        (Data::F32(a), Data::F32(b)) => {
            Ok(Tensor::f32(out, places.map(|(first, i, j)| if first { a[i] } else { b[j] }).collect()))
        }
        (Data::I64(a), Data::I64(b)) => {
            Ok(Tensor::i64(out, places.map(|(first, i, j)| if first { a[i] } else { b[j] }).collect()))
        }
        _ => Err(bad("alternatives of one f32 or i64 type expected")),
    }
}

/// `alpha * a + beta * b + gamma`.
pub(super) fn add(x: &[&Tensor], out: &[usize], alpha: f32, beta: f32, gamma: f32) -> Result<Tensor, InferError> {
    let (ia, ib) = (alpha as i64, beta as i64);
    binary(
        x,
        out,
        |a, b| alpha * a + beta * b + gamma,
        |a, b| ia.wrapping_mul(a).wrapping_add(ib.wrapping_mul(b)).wrapping_add(gamma as i64),
    )
}

/// An elementwise function; negation also works on i64.
pub(super) fn unary(x: &Tensor, f: impl Fn(f32) -> f32, negates: bool) -> Result<Tensor, InferError> {
    if let (Data::I64(v), true) = (&x.data, negates) {
        return Ok(Tensor::i64(&x.dims, v.iter().map(|&v| v.wrapping_neg()).collect()));
    }
    Ok(Tensor::f32(&x.dims, floats(x)?.iter().map(|&v| f(v)).collect()))
}

/// `x[:, c] * scale[c] + shift[c]`.
pub(super) fn affine(x: &[&Tensor]) -> Result<Tensor, InferError> {
    let (v, scale, shift) = (floats(x[0])?, floats(x[1])?, floats(x[2])?);
    let plane: usize = x[0].dims[2..].iter().product();
    let channels = scale.len();
    let out = v.iter().enumerate().map(|(i, &v)| {
        let c = i / plane % channels;
        v * scale[c] + shift[c]
    });
    Ok(Tensor::f32(&x[0].dims, out.collect()))
}

/// Batched matrix product with broadcast batch dimensions.
pub(super) fn matmul(x: &[&Tensor], out: &[usize]) -> Result<Tensor, InferError> {
    let (a, b) = (floats(x[0])?, floats(x[1])?);
    let rank = out.len();
    let (m, n) = (out[rank - 2], out[rank - 1]);
    let k = x[0].dims[x[0].dims.len() - 1];
    let batch_of = |t: &Tensor| t.dims[..t.dims.len() - 2].to_vec();
    let (ia, ib) =
        (broadcast_index(&batch_of(x[0]), &out[..rank - 2]), broadcast_index(&batch_of(x[1]), &out[..rank - 2]));
    let batches: usize = out[..rank - 2].iter().product();
    let mut result = vec![0.0f32; batches * m * n];
    for s in 0..batches {
        let (a, b) = (&a[ia(s) * m * k..][..m * k], &b[ib(s) * k * n..][..k * n]);
        for i in 0..m {
            let row = &mut result[(s * m + i) * n..][..n];
            for (j, &left) in a[i * k..][..k].iter().enumerate() {
                for (y, &right) in row.iter_mut().zip(&b[j * n..][..n]) {
                    *y += left * right;
                }
            }
        }
    }
    Ok(Tensor::f32(out, result))
}

/// Sum or mean over axes, which stay as 1; terms in memory order.
pub(super) fn reduce(x: &Tensor, axes: &[usize], mean: bool) -> Result<Tensor, InferError> {
    let dims: Vec<usize> = x.dims.iter().enumerate().map(|(i, &d)| if axes.contains(&i) { 1 } else { d }).collect();
    let n: usize = dims.iter().product();
    let at = broadcast_index(&dims, &x.dims);
    let mut sums = vec![0.0f32; n];
    for (i, &v) in floats(x)?.iter().enumerate() {
        sums[at(i)] += v;
    }
    if mean {
        let count = (x.elements() / n.max(1)) as f32;
        sums.iter_mut().for_each(|s| *s /= count);
    }
    Ok(Tensor::f32(&dims, sums))
}

/// Conversion between f32 and i64; floats are truncated towards zero.
pub(super) fn cast(x: &Tensor, to: DType) -> Result<Tensor, InferError> {
    let data = match (&x.data, to) {
        (Data::F32(v), DType::I64) => Data::I64(v.iter().map(|&v| v as i64).collect()),
        (Data::I64(v), DType::F32) => Data::F32(v.iter().map(|&v| v as f32).collect()),
        (data, to) if x.dtype() == to => data.clone(),
        _ => return Err(bad(format!("no conversion from {} to {}", x.dtype().name(), to.name()))),
    };
    Ok(Tensor { dims: x.dims.clone(), data })
}

/// f32 to s8 by the port rule.
pub(super) fn quantize(x: &Tensor, out: &Type) -> Result<Tensor, InferError> {
    let Some(q) = out.quant else { return Err(bad("a quantised type needs a scale")) };
    let inverse = 1.0 / q.scale;
    let quantised: Option<Vec<i8>> = floats(x)?.iter().map(|&v| port::quantise(v, inverse, q.zero_point)).collect();
    quantised.map(|v| Tensor::s8(&x.dims, v)).ok_or_else(|| bad("a value is not finite"))
}

/// s8 to f32.
pub(super) fn dequantize(x: &Tensor, ty: &Type) -> Result<Tensor, InferError> {
    let Some(q) = ty.quant else { return Err(bad("a quantised type needs a scale")) };
    let out = int8s(x)?.iter().map(|&v| port::dequantise(v, q.scale, q.zero_point));
    Ok(Tensor::f32(&x.dims, out.collect()))
}

/// The s8 sum.
pub(super) fn quantised_add(x: &[&Tensor], params: &AddParams, has_table: bool) -> Result<Tensor, InferError> {
    let (a, b) = (int8s(x[0])?, int8s(x[1])?);
    let lut = if has_table { Some(int8s(x[2])?) } else { None };
    let sums = a.iter().zip(b).map(|(&a, &b)| add_law::sum(a, b, params));
    Ok(Tensor::s8(&x[0].dims, sums.map(|q| lut.map_or(q, |lut| lookup(lut, q))).collect()))
}

/// An s8 table.
pub(super) fn quantised_map(x: &Tensor, lut: &Tensor) -> Result<Tensor, InferError> {
    let lut = int8s(lut)?;
    Ok(Tensor::s8(&x.dims, int8s(x)?.iter().map(|&q| lookup(lut, q)).collect()))
}
