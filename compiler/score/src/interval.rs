//! Confidence intervals over independent draws.

/// Mean of a score over independent draws, with the interval that a repetition's mean is expected in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Mean over the draws.
    pub mean: f64,
    /// Half of the width of the 95 % confidence interval of the mean, by Student's distribution; not a number for one
    /// draw.
    pub half_width: f64,
}

/// 97.5 % quantiles of Student's distribution with 1, 2, ... degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The same for more degrees of freedom than [`STUDENT`] lists: that of the normal distribution, narrower by at most 4 %.
const NORMAL: f64 = 1.960;

/// The mean of `values` and its 95 % confidence interval.
///
/// ```
/// let five = flowlet_score::interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
/// assert_eq!(five.mean, 3.0);
/// assert!((five.half_width - 2.776 * (2.5f64 / 5.0).sqrt()).abs() < 1e-12);
/// ```
pub fn interval(values: &[f64]) -> Interval {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    let quantile = STUDENT.get(values.len().saturating_sub(2)).copied().unwrap_or(NORMAL);
    Interval { mean, half_width: quantile * (variance / n).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_draw_has_no_interval() {
        let one = interval(&[2.0]);
        assert!(one.mean == 2.0 && one.half_width.is_nan());
    }

    #[test]
    fn two_draws_have_a_wide_one() {
        assert!((interval(&[0.0, 1.0]).half_width - 12.706 * 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_interval_narrows_with_the_draws() {
        let width = |n: usize| interval(&(0..n).map(|i| (i % 2) as f64).collect::<Vec<_>>()).half_width;
        assert!(width(4) > width(8) && width(31) > width(32) && width(32) > width(200));
    }
}
