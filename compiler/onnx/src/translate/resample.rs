//! Nearest-neighbour upsampling by whole factors.

use super::{At, Binding, Refused, Translator};
use flowlet_compiler::ir::Op;
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::ops::nn::resize::{CoordTransformer, Interpolator, NearestUpsample};
use tract_onnx_opl::resize::{CoordTransform, Nearest, Resize};

impl Translator<'_> {
    /// `None` if the operation belongs to another family.
    pub(super) fn resample(&mut self, at: &At<'_>, op: &dyn TypedOp) -> Result<Option<Binding>, Refused> {
        let resize = op.downcast_ref::<Resize>();
        if resize.is_none() && !op.is::<NearestUpsample>() {
            return Ok(None);
        }
        let (from, to) = (self.input_dims(at, 0)?, self.output_dims(at)?);
        if from == to {
            return self.binding(at, 0).map(Some);
        }
        let factors: Option<Vec<usize>> =
            from.iter().zip(&to).map(|(&a, &b)| (a > 0 && b % a == 0).then(|| b / a)).collect();
        let Some(factors) = factors.filter(|_| from.len() == to.len()) else {
            return Err(format!("resizing {from:?} to {to:?} is not supported; every axis must grow by an integer"));
        };
        if let Some(op) = resize {
            repeats_elements(op, &from, &factors)?;
        }
        if let [1, 1, factor, w] = factors[..]
            && factor == w
        {
            return self.unary(at, Op::Upsample { factor }).map(Some);
        }
        // Any other repetition: each axis gets a neighbour of 1, which is widened.
        let pairs = |second: &[usize]| from.iter().zip(second).flat_map(|(&d, &n)| [d, n]).collect::<Vec<usize>>();
        let x = self.operand(at, 0)?;
        let split = self.emit(at, Op::Reshape { dims: pairs(&vec![1; from.len()]) }, &[x])?;
        let wide = self.emit(at, Op::Expand { dims: pairs(&factors) }, &[split])?;
        self.emit(at, Op::Reshape { dims: to }, &[wide]).map(|id| Some(Binding::Value(id)))
    }
}

/// Checks that every output element is the input element it lies in; ONNX has modes that read neighbours instead.
fn repeats_elements(op: &Resize, sizes: &[usize], factors: &[usize]) -> Result<(), Refused> {
    if op.interpolator != Interpolator::Nearest {
        return Err(format!(
            "{} interpolation is not supported; use nearest-neighbour upsampling",
            op.interpolator.as_str()
        ));
    }
    let CoordTransform::Plain(transform) = &op.coord_transformer else {
        return Err("resizing of a crop is not supported".to_owned());
    };
    let repeats = |size: usize, factor: usize| {
        (0..size * factor).all(|x| source(transform, &op.nearest, x, size, factor) == x / factor)
    };
    let fits = |size: usize, factor: usize| size.checked_mul(factor).is_some_and(|n| n < 1 << 20);
    if sizes.iter().zip(factors).all(|(&s, &f)| f == 1 || (fits(s, f) && repeats(s, f))) {
        return Ok(());
    }
    Err(format!(
        "nearest-neighbour resizing with '{}' and '{}' does not repeat elements; export with 'asymmetric' and 'floor'",
        transform.as_str(),
        op.nearest.as_str()
    ))
}

/// The input pixel that output pixel `x` reads.
fn source(transform: &CoordTransformer, nearest: &Nearest, x: usize, size: usize, factor: usize) -> usize {
    let at = transform.transform(x, factor as f32, size, size * factor);
    let fraction = at - at.floor();
    let up = match nearest {
        Nearest::Floor => false,
        Nearest::Ceil => fraction > 0.0,
        Nearest::RoundPreferFloor => fraction > 0.5,
        Nearest::RoundPreferCeil => fraction >= 0.5,
    };
    let pixel = at.floor() + if up { 1.0 } else { 0.0 };
    pixel.clamp(0.0, size.saturating_sub(1) as f32) as usize
}
