//! The scale and zero point of a tensor: the clipping range with the least mean square error on observed values, the
//! error measured after the function that the table applies.

use crate::ir::Quant;
use flowlet_kernels::round::ties_even;

/// Values kept for the search over all samples.
const KEPT: usize = 16384;

/// Steps of the search on each side, down to 30 % of the observed extreme.
const STEPS: usize = 15;

/// Extremes of a tensor and an even selection of its values.
#[derive(Clone, Debug, Default)]
pub(super) struct Observer {
    lo: f32,
    hi: f32,
    values: Vec<f32>,
    broken: bool,
}

impl Observer {
    /// Adds the tensor computed from sample `i` of `n`. The selection moves by a prime stride from sample to sample, so
    /// that every position is seen.
    pub(super) fn observe(&mut self, values: &[f32], i: usize, n: usize) {
        for &v in values {
            self.broken |= !v.is_finite();
            self.lo = if v < self.lo { v } else { self.lo };
            self.hi = if v > self.hi { v } else { self.hi };
        }
        let budget = (KEPT / n).max(1);
        let stride = values.len().div_ceil(budget).max(1);
        self.values.extend(values.iter().skip(i * 7 % stride).step_by(stride));
    }
}

/// The quantisation of the range `[lo, hi]` with `lo` at the lowest s8 value.
pub(super) fn exact(lo: f32, hi: f32) -> Option<Quant> {
    let scale = ((f64::from(hi) - f64::from(lo)) / 255.0) as f32;
    if !(scale.is_finite() && scale > 0.0) {
        return None;
    }
    let zero_point = (-128.0 - ties_even(f64::from(lo) / f64::from(scale))).clamp(-128.0, 127.0) as i8;
    Some(Quant { scale, zero_point })
}

fn symmetric_range(hi: f32) -> Option<Quant> {
    let scale = (f64::from(hi) / 127.0) as f32;
    (scale.is_finite() && scale > 0.0).then_some(Quant { scale, zero_point: 0 })
}

/// The best range for the observed values. `function` is what a table computes from them; `symmetric` keeps the zero
/// point at 0. `None` when a value is not finite.
pub(super) fn choose_range(
    observer: &Observer,
    function: Option<&dyn Fn(f32) -> f32>,
    symmetric: bool,
) -> Option<Quant> {
    if observer.broken {
        return None;
    }
    let (lo, hi) = (observer.lo, observer.hi);
    if lo == hi {
        return exact(0.0, 1.0);
    }
    let targets: Vec<f32> = observer.values.iter().map(|&x| function.map_or(x, |f| f(x))).collect();
    let fraction = |i: usize| 1.0 - 0.7 * i as f32 / (STEPS - 1) as f32;
    let mut best: Option<(f64, Quant)> = None;
    let mut consider = |candidate: Option<Quant>| {
        let Some(quant) = candidate else { return };
        let error = mean_square_error(&observer.values, &targets, quant, function);
        if best.is_none_or(|(e, _)| error < e) {
            best = Some((error, quant));
        }
    };
    for i in 0..STEPS {
        if symmetric {
            consider(symmetric_range(hi.max(-lo) * fraction(i)));
            continue;
        }
        for j in 0..if lo < 0.0 { STEPS } else { 1 } {
            consider(exact(lo * fraction(j), hi * fraction(i)));
            if hi <= 0.0 {
                break;
            }
        }
    }
    best.map(|(_, quant)| quant)
}

fn mean_square_error(values: &[f32], targets: &[f32], quant: Quant, function: Option<&dyn Fn(f32) -> f32>) -> f64 {
    let inverse = 1.0 / quant.scale;
    let real: Vec<f32> = (-128..=127)
        .map(|q: i32| {
            let x = (q - i32::from(quant.zero_point)) as f32 * quant.scale;
            function.map_or(x, |f| f(x))
        })
        .collect();
    let squares = values.iter().zip(targets).map(|(&x, &y)| {
        let q = flowlet_kernels::port::quantise_finite(x, inverse, quant.zero_point);
        let error = f64::from(real[(i32::from(q) + 128) as usize]) - f64::from(y);
        error * error
    });
    squares.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(values: &[f32]) -> Observer {
        let mut o = Observer::default();
        o.observe(values, 0, 1);
        o
    }

    #[test]
    fn a_clamp_to_the_unit_range_uses_every_code() {
        assert_eq!(exact(0.0, 1.0), Some(Quant { scale: 1.0 / 255.0, zero_point: -128 }));
    }

    #[test]
    fn one_outlier_is_clipped_when_that_lowers_the_error() {
        let mut values: Vec<f32> = (0..16000).map(|i| (i as f32 / 8000.0) - 1.0).collect();
        values.push(1.3);
        let q = choose_range(&observed(&values), None, false).unwrap();
        assert!(q.scale < 2.29 / 255.0, "{q:?}");
    }

    #[test]
    fn a_function_that_flattens_negatives_moves_the_range_up() {
        let values: Vec<f32> = (0..4000).map(|i| i as f32 / 100.0 - 30.0).collect();
        let relu = |x: f32| x.max(0.0);
        let with = choose_range(&observed(&values), Some(&relu), false).unwrap();
        let without = choose_range(&observed(&values), None, false).unwrap();
        assert!(with.scale < 0.6 * without.scale, "{with:?} {without:?}");
    }

    #[test]
    fn infinity_is_refused() {
        assert_eq!(choose_range(&observed(&[1.0, f32::INFINITY]), None, false), None);
    }
}
