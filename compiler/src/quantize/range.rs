//! The scale and zero point of a tensor, from the values that calibration saw of it. By default the clipping range with
//! the least mean square error, the error measured after the function that the table applies.

use super::Ranges;
use crate::ir::Quant;
use flowlet_kernels::round::ties_even;

/// Bins on each side of 0: at least 32 for each of the 256 steps of a range that uses one side only.
const BINS: i32 = 8192;

/// Exponent of the narrowest bins.
const SMALLEST: i32 = -126;

/// Steps of the search on each side, down to 30 % of the observed extreme.
const STEPS: usize = 15;

/// Extremes of a tensor and a histogram of all its values: the few far ones decide where a range should end, and a
/// selection of values would miss them.
#[derive(Clone, Debug, Default)]
pub(super) struct Observer {
    lo: f32,
    hi: f32,
    /// The width of a bin is 2 to this power: the smallest that the largest magnitude fits with.
    exponent: i32,
    /// Bin `i` holds `[(i - BINS) * width, (i - BINS + 1) * width)`.
    counts: Vec<u64>,
    broken: bool,
}

impl Observer {
    /// Adds the values of a tensor.
    pub(super) fn observe(&mut self, values: &[f32]) {
        for &v in values {
            self.broken |= !v.is_finite();
            self.lo = if v < self.lo { v } else { self.lo };
            self.hi = if v > self.hi { v } else { self.hi };
        }
        if self.broken {
            return;
        }
        if self.counts.is_empty() {
            self.counts = vec![0; 2 * BINS as usize];
            self.exponent = SMALLEST;
        }
        let largest = self.hi.max(-self.lo);
        while f64::from(largest) >= self.width() * f64::from(BINS - 1) {
            self.double();
        }
        let inverse = 1.0 / self.width();
        for &v in values {
            let bin = (f64::from(v) * inverse).floor() as i32 + BINS;
            if let Some(count) = usize::try_from(bin).ok().and_then(|bin| self.counts.get_mut(bin)) {
                *count += 1;
            }
        }
    }

    fn width(&self) -> f64 {
        libm::scalbn(1.0, self.exponent)
    }

    /// Bins twice as wide.
    fn double(&mut self) {
        self.exponent += 1;
        if self.counts.iter().all(|&c| c == 0) {
            return;
        }
        let mut merged = vec![0; self.counts.len()];
        for (i, &count) in self.counts.iter().enumerate() {
            merged[((i as i32 - BINS).div_euclid(2) + BINS) as usize] += count;
        }
        self.counts = merged;
    }

    /// The centre of every bin that holds values, and how many.
    fn bins(&self) -> Vec<(f32, f64)> {
        let width = self.width();
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(i, &count)| (((i as i32 - BINS) as f64 + 0.5) as f32 * width as f32, count as f64)).collect()
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

/// The range for the observed values. `function` is what a table computes from them; `symmetric` keeps the zero
/// point at 0. `None` when a value is not finite.
pub(super) fn choose_range(
    observer: &Observer,
    function: Option<&dyn Fn(f32) -> f32>,
    symmetric: bool,
    ranges: Ranges,
) -> Option<Quant> {
    if observer.broken {
        return None;
    }
    let (lo, hi) = (observer.lo, observer.hi);
    if lo == hi {
        return exact(0.0, 1.0);
    }
    let within = |lo: f32, hi: f32| if symmetric { symmetric_range(hi.max(-lo)) } else { exact(lo, hi) };
    match ranges {
        Ranges::MinMax => return within(lo, hi),
        Ranges::Percentile(share) => {
            let (low, high) = quantiles(&observer.bins(), share);
            return if low == high { within(lo, hi) } else { within(low.max(lo), high.min(hi)) };
        }
        Ranges::Mse | Ranges::Entropy => {}
    }
    let bins = observer.bins();
    let histogram = (ranges == Ranges::Entropy).then(|| Histogram::of(observer, &bins));
    let targets: Vec<f32> = bins.iter().map(|&(x, _)| function.map_or(x, |f| f(x))).collect();
    let fraction = |i: usize| 1.0 - 0.7 * i as f32 / (STEPS - 1) as f32;
    let mut best: Option<(f64, Quant)> = None;
    let mut consider = |candidate: Option<Quant>| {
        let Some(quant) = candidate else { return };
        let error = match &histogram {
            Some(histogram) => histogram.divergence(quant),
            None => square_error(&bins, &targets, quant, function),
        };
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

fn square_error(bins: &[(f32, f64)], targets: &[f32], quant: Quant, function: Option<&dyn Fn(f32) -> f32>) -> f64 {
    let inverse = 1.0 / quant.scale;
    let real: Vec<f32> = (-128..=127)
        .map(|q: i32| {
            let x = (q - i32::from(quant.zero_point)) as f32 * quant.scale;
            function.map_or(x, |f| f(x))
        })
        .collect();
    let squares = bins.iter().zip(targets).map(|(&(x, count), &y)| {
        let q = flowlet_kernels::port::quantise_finite(x, inverse, quant.zero_point);
        let error = f64::from(real[(i32::from(q) + 128) as usize]) - f64::from(y);
        count * error * error
    });
    squares.sum()
}

/// The values beyond which a share of `1 - share` lies on each side, 0 between them.
fn quantiles(bins: &[(f32, f64)], share: f64) -> (f32, f32) {
    let total: f64 = bins.iter().map(|b| b.1).sum();
    let outside = (1.0 - share) * total;
    let find = |order: &[usize]| {
        let mut seen = 0.0;
        let found = order.iter().find(|&&i| {
            seen += bins[i].1;
            seen > outside
        });
        found.map_or(0.0, |&i| bins[i].0)
    };
    let up: Vec<usize> = (0..bins.len()).collect();
    let down: Vec<usize> = (0..bins.len()).rev().collect();
    (find(&up).min(0.0), find(&down).max(0.0))
}

/// Counts of values in bins of equal width.
struct Histogram {
    lo: f64,
    width: f64,
    counts: Vec<f64>,
}

impl Histogram {
    const BINS: usize = 2048;

    fn of(observer: &Observer, bins: &[(f32, f64)]) -> Self {
        let lo = f64::from(observer.lo);
        let width = (f64::from(observer.hi) - lo) / Self::BINS as f64;
        let mut counts = vec![0.0; Self::BINS];
        for &(v, count) in bins {
            counts[(((f64::from(v) - lo) / width) as usize).min(Self::BINS - 1)] += count;
        }
        Histogram { lo, width, counts }
    }

    /// Divergence of the histogram from what is left of it when every value takes the nearest of the 256 steps: values
    /// outside take the outermost, and bins of one step share their counts.
    fn divergence(&self, quant: Quant) -> f64 {
        let inverse = 1.0 / quant.scale;
        let step = |i: usize| {
            let centre = (self.lo + (i as f64 + 0.5) * self.width) as f32;
            usize::from((flowlet_kernels::port::quantise_finite(centre, inverse, quant.zero_point) as u8) ^ 0x80)
        };
        let first = f64::from(quant.scale) * (-128.5 - f64::from(quant.zero_point));
        let last = f64::from(quant.scale) * (127.5 - f64::from(quant.zero_point));
        let inside = |i: usize| (first..=last).contains(&(self.lo + (i as f64 + 0.5) * self.width));
        let (mut sums, mut bins) = ([0.0f64; 256], [0.0f64; 256]);
        // What is clipped lies in the outermost bins, as it does in the tensor.
        let mut clipped = self.counts.clone();
        let (low, high) = ((0..Self::BINS).find(|&i| inside(i)), (0..Self::BINS).rev().find(|&i| inside(i)));
        for (i, &count) in self.counts.iter().enumerate() {
            if inside(i) {
                sums[step(i)] += count;
                bins[step(i)] += f64::from(u8::from(count > 0.0));
            } else if let (Some(low), Some(high)) = (low, high) {
                clipped[i] = 0.0;
                clipped[if i < low { low } else { high }] += count;
            }
        }
        let (total, kept): (f64, f64) = (self.counts.iter().sum(), sums.iter().sum());
        let mut divergence = 0.0;
        for (i, &count) in clipped.iter().enumerate().filter(|(_, count)| **count > 0.0) {
            let (p, k) = (count / total, step(i));
            let q = if self.counts[i] > 0.0 { sums[k] / bins[k] / kept } else { 0.0 };
            divergence += p * libm::log(p / q.max(1e-9));
        }
        divergence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(values: &[f32]) -> Observer {
        let mut o = Observer::default();
        o.observe(values);
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
        let q = choose_range(&observed(&values), None, false, Ranges::Mse).unwrap();
        assert!(q.scale < 2.29 / 255.0, "{q:?}");
    }

    #[test]
    fn a_function_that_flattens_negatives_moves_the_range_up() {
        let values: Vec<f32> = (0..4000).map(|i| i as f32 / 100.0 - 30.0).collect();
        let relu = |x: f32| x.max(0.0);
        let with = choose_range(&observed(&values), Some(&relu), false, Ranges::Mse).unwrap();
        let without = choose_range(&observed(&values), None, false, Ranges::Mse).unwrap();
        assert!(with.scale < 0.6 * without.scale, "{with:?} {without:?}");
    }

    #[test]
    fn infinity_is_refused() {
        assert_eq!(choose_range(&observed(&[1.0, f32::INFINITY]), None, false, Ranges::Mse), None);
    }

    #[test]
    fn min_max_keeps_the_outlier_and_shares_of_values_do_not() {
        // A bell with one far value.
        let mut values: Vec<f32> = (0..16000)
            .map(|i| ((0..12).map(|k| (i * 7919 + k * 104_729) % 1000).sum::<i32>() - 5994) as f32 / 1000.0)
            .collect();
        values.push(40.0);
        let scale = |ranges| choose_range(&observed(&values), None, false, ranges).unwrap().scale;
        let whole = scale(Ranges::MinMax);
        assert!((whole - (40.0 - observed(&values).lo) / 255.0).abs() < 1e-3, "{whole}");
        for ranges in [Ranges::Percentile(0.999), Ranges::Entropy] {
            assert!(scale(ranges) < 0.6 * whole, "{ranges}: {} of {whole}", scale(ranges));
        }
    }

    #[test]
    fn the_histogram_does_not_depend_on_the_order() {
        let all = [0.0f32, 0.001, -3.0, 250.0, 7.5, -0.2];
        let (mut up, mut down) = (Observer::default(), Observer::default());
        all.iter().for_each(|&v| up.observe(&[v]));
        all.iter().rev().for_each(|&v| down.observe(&[v]));
        assert_eq!((up.exponent, &up.counts), (down.exponent, &down.counts));
        assert_eq!(up.counts.iter().sum::<u64>(), 6);
        assert!(up.bins().iter().all(|(x, _)| all.iter().any(|v| (v - x).abs() <= up.width() as f32)));
    }

    #[test]
    fn a_rare_far_value_weighs_as_much_as_it_errs() {
        // One value in 10,000 lies far out; clipping it costs more than the coarser steps that keep it.
        let mut o = Observer::default();
        for i in 0..40_000 {
            o.observe(&[if i % 10_000 == 77 { 12.0 } else { (i % 200) as f32 / 100.0 - 1.0 }]);
        }
        assert!(choose_range(&o, None, false, Ranges::Mse).unwrap().scale > 10.0 / 255.0);
    }
}
