//! The requantise law: how an i32 accumulator becomes s8.
//!
//! A layer's accumulator stands for `acc * M_c` output steps above the zero point, with a real multiplier
//! `M_c = scale_in * scale_w[c] / scale_out` for each output channel. The law is
//!
//! `q = sat8(zp + (((acc << ls) * m_c + 2^31) >> 32))`, `m_c = 2 * rne(M_c * 2^(31 - ls))`
//!
//! Derivation: without rounding `(acc * 2^ls) * (2 * M_c * 2^(31 - ls)) / 2^32 = acc * M_c`. The left shift `ls`, one
//! for the layer, is the smallest that lets every `m_c` fit an i32, that is `M_c < 2^(ls - 1)`. `acc << ls` must not
//! overflow, so a layer needs `|bias| + 128 * sum|w| < 2^(31 - ls)` for each channel and each row of its bias bank.
//! Intermediate sums may wrap; the bound is on the end.
//!
//! Error against `acc * M_c`: `m_c` is within 1 of `2 * M_c * 2^(31 - ls)` and `|acc << ls| < 2^31`, so the scaled
//! product is off by less than `|acc << ls| / 2^32 < 1/2` step, and in proportion less for the small accumulators that
//! do not saturate; the final rounding adds half a step, ties up.
//!
//! Why this form: it is one SMMULR on Cortex-M4/M7/M33, SQRDMULH on NEON and VQRDMULH on MVE with `m_c / 2` (`m_c` is
//! even for their sake), and a widening multiply, an addition and a shift elsewhere: the same bits.

use crate::round::{power_of_two, ties_even};

/// The law.
///
/// ```
/// use flowlet_kernels::requant::{choose, multiplier, requantise};
/// let ls = choose(&[0.01]).expect("a sane multiplier");
/// assert_eq!(requantise(1234, ls, multiplier(0.01, ls), -3), 9); // 12.34 - 3
/// ```
#[inline(always)]
pub const fn requantise(acc: i32, left_shift: u8, multiplier: i32, zero_point: i8) -> i8 {
    let product = (acc.wrapping_shl(left_shift as u32) as i64) * multiplier as i64;
    saturate(zero_point as i32 + ((product + (1 << 31)) >> 32) as i32)
}

/// The nearest s8.
#[inline(always)]
pub const fn saturate(x: i32) -> i8 {
    let low = if x < -128 { -128 } else { x };
    (if low > 127 { 127 } else { low }) as i8
}

/// The smallest left shift for which every [`multiplier`] fits, or `None` if a real multiplier is negative, not
/// finite or 2^29 or more.
pub fn choose(multipliers: &[f64]) -> Option<u8> {
    if multipliers.iter().any(|m| !m.is_finite() || *m < 0.0) {
        return None;
    }
    (0..=30).find(|&ls| multipliers.iter().all(|m| half(*m, ls) < (1 << 30) as f64))
}

/// `m_c = 2 * rne(real * 2^(31 - left_shift))` for a shift from [`choose`]; a larger real multiplier saturates.
pub fn multiplier(real: f64, left_shift: u8) -> i32 {
    2 * (half(real, left_shift).min(((1 << 30) - 1) as f64) as i32)
}

/// What `|bias| + 128 * sum|w|` must stay below.
pub const fn accumulator_bound(left_shift: u8) -> i64 {
    1 << (31 - left_shift)
}

fn half(real: f64, left_shift: u8) -> f64 {
    // Beyond the range where the rounding trick holds the value is refused anyway.
    ties_even((real * power_of_two(31 - left_shift as i32)).min(power_of_two(40)))
}
