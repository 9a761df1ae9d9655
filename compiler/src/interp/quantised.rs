//! Quantised operations other than convolutions: the kernels' own definitions, on tensors in the device's layout.

use super::{bad, int8s};
use crate::ir::{DType, InferError, NormKind, Op, Product, Split, Tensor, Type, Window};
use flowlet_kernels::{matmul, mul, norm, pool, softmax};
use flowlet_plan as plan;

/// Operands and result in one arena, pixels with contiguous channels.
struct Arena {
    bytes: Vec<i8>,
    slots: Vec<plan::Slot>,
}

impl Arena {
    fn new(operands: &[&Tensor], out: &[usize]) -> Result<Self, InferError> {
        let mut arena = Arena { bytes: Vec::new(), slots: Vec::new() };
        for tensor in operands {
            arena.push(&tensor.dims)?;
            arena.bytes.extend(nhwc(int8s(tensor)?, &tensor.dims));
        }
        arena.push(out)?;
        arena.bytes.resize(arena.bytes.len() + out.iter().product::<usize>(), 0);
        Ok(arena)
    }

    fn push(&mut self, dims: &[usize]) -> Result<(), InferError> {
        let narrow = |d: usize| u16::try_from(d).map_err(|_| bad(format!("{d} is more than 65535")));
        let of = |a: usize| dims.get(a).copied().unwrap_or(1);
        let channels = narrow(of(1))?;
        self.slots.push(plan::Slot {
            offset: u32::try_from(self.bytes.len()).map_err(|_| bad("the operands are too large"))?,
            height: narrow(of(2))?,
            width: narrow(of(3))?,
            channels,
            pitch: channels,
            dtype: plan::DType::S8,
            tensor: self.slots.len() as u16,
        });
        Ok(())
    }

    /// Runs `definition(before, after)` and takes the result out.
    fn run(mut self, out: &[usize], definition: impl FnOnce(&[i8], &mut [i8])) -> Tensor {
        let before = self.bytes.clone();
        definition(&before, &mut self.bytes);
        let first = self.slots.last().map_or(0, |s| s.offset as usize);
        Tensor::s8(out, nchw(&self.bytes[first..], out))
    }
}

fn nhwc(values: &[i8], dims: &[usize]) -> Vec<i8> {
    let c = dims.get(1).copied().unwrap_or(1);
    let pixels = values.len() / c.max(1);
    (0..values.len()).map(|i| values[i % c * pixels + i / c]).collect()
}

fn nchw(values: &[i8], dims: &[usize]) -> Vec<i8> {
    let c = dims.get(1).copied().unwrap_or(1);
    let pixels = values.len() / c.max(1);
    (0..values.len()).map(|i| values[i % pixels * c + i / pixels]).collect()
}

fn bytes_of(t: &Tensor) -> Vec<u8> {
    t.to_le_bytes()
}

fn table(t: Option<&&Tensor>) -> Result<Option<[u8; 256]>, InferError> {
    let Some(t) = t else { return Ok(None) };
    let bytes = bytes_of(t);
    <[u8; 256]>::try_from(bytes.as_slice()).map(Some).map_err(|_| bad("a table is s8[256]"))
}

/// Evaluates one of these operations, if `op` is one.
pub(super) fn eval(op: &Op, x: &[&Tensor], types: &[Type], out: &[usize]) -> Result<Tensor, InferError> {
    let zero = |i: usize| types[i].quant.map_or(0, |q| q.zero_point);
    let fits = |ok: bool| if ok { Ok(()) } else { Err(bad("the constants do not fit the kernel")) };
    match op {
        Op::QNorm { kind, groups, epsilon, gain_shift, .. } => {
            let arena = Arena::new(&x[..1], out)?;
            let (gain, offset, lut) = (bytes_of(x[1]), bytes_of(x[2]), table(x.get(3))?);
            let step = plan::Norm {
                input: arena.slots[0],
                output: arena.slots[1],
                kind: plan_kind(*kind, *groups)?,
                input_zero_point: zero(0),
                epsilon: *epsilon,
                gain: &gain,
                gain_shift: *gain_shift,
                offset: &offset,
                table: lut.as_ref(),
            };
            fits(step.fits(arena.bytes.len()))?;
            Ok(arena.run(out, |before, after| norm::reference::run(before, after, &step)))
        }
        Op::QSoftmax => {
            let arena = Arena::new(&x[..1], out)?;
            let lut = bytes_of(x[1]);
            let lut = <&[u8; 512]>::try_from(lut.as_slice()).map_err(|_| bad("a table is s8[512]"))?;
            let step = plan::Softmax { input: arena.slots[0], output: arena.slots[1], table: lut };
            fits(step.fits(arena.bytes.len()))?;
            Ok(arena.run(out, |before, after| softmax::reference::run(before, after, &step)))
        }
        Op::QHeadProduct { product, multiplier, left_shift, zero_point } => {
            let arena = Arena::new(&x[..2], out)?;
            let matrices = |i: usize, split: Split| plan::Matrices { slot: arena.slots[i], split: plan_split(split) };
            let step = plan::MatMul {
                a: matrices(0, product.a),
                b: matrices(1, product.b),
                output: matrices(2, product.out),
                batch: batch(product)?,
                transposed: product.transposed,
                a_zero_point: zero(0),
                multiplier: *multiplier,
                left_shift: *left_shift,
                zero_point: *zero_point,
                scratch: None,
            };
            fits(step.fits(arena.bytes.len()))?;
            Ok(arena.run(out, |before, after| matmul::reference::run(before, after, &step)))
        }
        Op::QAveragePool { window, multiplier, left_shift, zero_point } => {
            let arena = Arena::new(&x[..1], out)?;
            let kind = plan::PoolKind::Average {
                input_zero_point: zero(0),
                multiplier: *multiplier,
                left_shift: *left_shift,
                zero_point: *zero_point,
            };
            let step = pool_step(&arena, window, kind)?;
            fits(step.fits(arena.bytes.len()))?;
            Ok(arena.run(out, |before, after| pool::reference::run(before, after, &step)))
        }
        Op::MaxPool(window) => {
            let arena = Arena::new(&x[..1], out)?;
            let step = pool_step(&arena, window, plan::PoolKind::Max)?;
            fits(step.fits(arena.bytes.len()))?;
            Ok(arena.run(out, |before, after| pool::reference::run(before, after, &step)))
        }
        Op::QMul { multiplier, left_shift, zero_point, .. } => {
            let arena = Arena::new(&x[..2], out)?;
            let lut = table(x.get(2))?;
            let step = plan::Mul {
                a: arena.slots[0],
                b: arena.slots[1],
                output: arena.slots[2],
                a_zero_point: zero(0),
                b_zero_point: zero(1),
                multiplier: *multiplier,
                left_shift: *left_shift,
                zero_point: *zero_point,
                table: lut.as_ref(),
            };
            fits(step.fits(arena.bytes.len()))?;
            Ok(arena.run(out, |before, after| mul::reference::run(before, after, &step)))
        }
        _ => Err(bad(format!("'{}' is not a quantised operation", op.name()))),
    }
}

fn pool_step(arena: &Arena, window: &Window, kind: plan::PoolKind) -> Result<plan::Pool, InferError> {
    let narrow = |v: [usize; 2]| -> Result<[u16; 2], InferError> {
        match (u16::try_from(v[0]), u16::try_from(v[1])) {
            (Ok(a), Ok(b)) => Ok([a, b]),
            _ => Err(bad("a window is too large")),
        }
    };
    Ok(plan::Pool {
        input: arena.slots[0],
        output: arena.slots[1],
        kernel: narrow(window.kernel)?,
        stride: narrow(window.stride)?,
        pad: narrow([window.pad[0], window.pad[1]])?,
        kind,
    })
}

fn batch(product: &Product) -> Result<u16, InferError> {
    u16::try_from(product.batch).map_err(|_| bad("a product has at most 65535 matrices"))
}

/// The plan's name of a norm.
pub(crate) fn plan_kind(kind: NormKind, groups: usize) -> Result<plan::NormKind, InferError> {
    match kind {
        NormKind::Layer => Ok(plan::NormKind::Layer),
        NormKind::Rms => Ok(plan::NormKind::Rms),
        NormKind::Group => {
            let groups = u16::try_from(groups).map_err(|_| bad("a norm has at most 65535 groups"))?;
            Ok(plan::NormKind::Group { groups })
        }
    }
}

/// The plan's name of a split.
pub(crate) fn plan_split(split: Split) -> plan::Split {
    match split {
        Split::Rows => plan::Split::Rows,
        Split::Channels => plan::Split::Channels,
    }
}

/// Transposed convolution: a sum over the taps that meet an input, on values without their zero point.
pub(super) fn conv_transpose(op: &Op, x: &[&Tensor], zero: i8, out: &[usize]) -> Result<Tensor, InferError> {
    let Op::QConvTranspose { geometry: g, left_shift, zero_point, .. } = op else {
        return Err(bad("not a quantised transposed convolution"));
    };
    let (input, weight) = (int8s(x[0])?, int8s(x[1])?);
    let (Some(multipliers), Some(bias)) = (x[2].as_i32(), x[3].as_i32()) else {
        return Err(bad("multipliers and biases are i32"));
    };
    let lut = x.get(4).map(|t| int8s(t)).transpose()?;
    let (&[_, c, h, w], &[_, o, kh, kw]) = (&x[0].dims[..], &x[1].dims[..]) else { return Err(bad("not images")) };
    let (oh, ow) = (out[2], out[3]);
    let mut sums = vec![0i32; o * oh * ow];
    for (i, &q) in input.iter().enumerate().take(c * h * w) {
        let (ch, iy, ix) = (i / (h * w), i / w % h, i % w);
        let q = i32::from(q) - i32::from(zero);
        for tap in 0..o * kh * kw {
            let (oc, ky, kx) = (tap / (kh * kw), tap / kw % kh, tap % kw);
            let y = (iy * g.stride[0] + ky).wrapping_sub(g.pad[0]);
            let x_ = (ix * g.stride[1] + kx).wrapping_sub(g.pad[1]);
            if y < oh && x_ < ow {
                let place = &mut sums[(oc * oh + y) * ow + x_];
                *place = place.wrapping_add(q * i32::from(weight[ch * o * kh * kw + tap]));
            }
        }
    }
    let result = sums.iter().enumerate().map(|(i, &acc)| {
        let c = i / (oh * ow);
        let acc = acc.wrapping_add(bias[c]);
        let q = flowlet_kernels::requant::requantise(acc, *left_shift, multipliers[c], *zero_point);
        lut.map_or(q, |lut| super::lookup(lut, q))
    });
    debug_assert_eq!(x[0].dtype(), DType::S8);
    Ok(Tensor::s8(out, result.collect()))
}
