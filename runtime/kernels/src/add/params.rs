//! Offline: the integer constants of a sum.

use crate::plan::{AddParams, Quant};
use crate::round::{power_of_two, ties_even};

/// One operand of a real sum: `gain * (q - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Term {
    /// How the operand's values map to reals.
    pub quant: Quant,
    /// Real factor of the operand.
    pub gain: f64,
}

/// Constants for `gain_a * a + gain_b * b + offset`, quantised to `output`.
///
/// The shift is the largest of 1 to 30 for which both multipliers fit an i16 and no sum overflows an i32; `None` if
/// there is none (a gain of 2^14 output steps or more for one step of an operand, or a number that is not finite).
///
/// In f64 and in this order: `r_a = gain_a * scale_a / scale_out`, `ma = rne(r_a * 2^shift)`, the same for b, and
/// `c = rne((zp_out + offset / scale_out) * 2^shift) - zp_a * ma - zp_b * mb`, so that two operands at their zero
/// points give exactly the quantised offset. The result is within `1/2 + (|a - zp_a| + |b - zp_b| + 1) * 2^-(shift+1)`
/// steps of the real sum, saturation aside.
///
/// ```
/// use flowlet_kernels::add::{Term, add_params, sum};
/// use flowlet_kernels::plan::Quant;
/// let quant = Quant { scale: 0.1, zero_point: 5 };
/// let term = Term { quant, gain: 1.0 };
/// let params = add_params(term, term, 0.0, quant).expect("gains are near 1");
/// assert_eq!(sum(15, 25, &params), 35); // 1.0 + 2.0 = 3.0
/// ```
pub fn add_params(a: Term, b: Term, offset: f64, output: Quant) -> Option<AddParams> {
    let scale_out = f64::from(output.scale);
    let ra = a.gain * f64::from(a.quant.scale) / scale_out;
    let rb = b.gain * f64::from(b.quant.scale) / scale_out;
    let rc = f64::from(output.zero_point) + offset / scale_out;
    if !(ra.is_finite() && rb.is_finite() && rc.is_finite()) {
        return None;
    }
    (1..=30).rev().find_map(|shift| at_shift([ra, rb, rc], [a.quant.zero_point, b.quant.zero_point], shift))
}

fn at_shift(real: [f64; 3], zero_points: [i8; 2], shift: u8) -> Option<AddParams> {
    let [ra, rb, rc] = real.map(|r| r * power_of_two(i32::from(shift)));
    // Also keeps the rounding inside its range.
    if ra.abs() > 32768.0 || rb.abs() > 32768.0 || rc.abs() > power_of_two(32) {
        return None;
    }
    let ma = i16::try_from(ties_even(ra) as i32).ok()?;
    let mb = i16::try_from(ties_even(rb) as i32).ok()?;
    let (wide_a, wide_b) = (i64::from(ma), i64::from(mb));
    let c = ties_even(rc) as i64 - i64::from(zero_points[0]) * wide_a - i64::from(zero_points[1]) * wide_b;
    let (low, high) = ((-128 * wide_a).min(127 * wide_a), (-128 * wide_a).max(127 * wide_a));
    let low = low + (-128 * wide_b).min(127 * wide_b) + c;
    let high = high + (-128 * wide_b).max(127 * wide_b) + c + (1 << (shift - 1));
    // The partial sums of the kernel wrap, so only the ends matter.
    if low < i64::from(i32::MIN) || high > i64::from(i32::MAX) {
        return None;
    }
    Some(AddParams { ma, mb, c: i32::try_from(c).ok()?, shift })
}
