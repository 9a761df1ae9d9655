//! Nearest-neighbour upsampling.

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
        let factor = match factors.as_deref() {
            Some(&[1, 1, h, w]) if h == w => h,
            Some(_) | None => {
                return Err(format!(
                    "resizing {from:?} to {to:?} is not supported; height and width of an image must grow by one \
                     integer factor"
                ));
            }
        };
        if let Some(op) = resize {
            repeats_pixels(op, &from[2..], factor)?;
        }
        self.unary(at, Op::Upsample { factor }).map(Some)
    }
}

/// Checks that every output pixel is the input pixel it lies in; ONNX has modes that read neighbours instead.
fn repeats_pixels(op: &Resize, sizes: &[usize], factor: usize) -> Result<(), Refused> {
    if op.interpolator != Interpolator::Nearest {
        return Err(format!(
            "{} interpolation is not supported; use nearest-neighbour upsampling",
            op.interpolator.as_str()
        ));
    }
    let CoordTransform::Plain(transform) = &op.coord_transformer else {
        return Err("resizing of a crop is not supported".to_owned());
    };
    let repeats =
        |size: usize| (0..size * factor).all(|x| source(transform, &op.nearest, x, size, factor) == x / factor);
    if sizes.iter().all(|&size| size.checked_mul(factor).is_some_and(|n| n < 1 << 20) && repeats(size)) {
        return Ok(());
    }
    Err(format!(
        "nearest-neighbour resizing with '{}' and '{}' does not repeat pixels; export with 'asymmetric' and 'floor'",
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
