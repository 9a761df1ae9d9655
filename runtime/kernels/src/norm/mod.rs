//! Norms with statistics at run time, in fixed point: s8 in, s8 out, integers only, the same number of steps whatever
//! the data.
//!
//! For `N` elements with `S = sum q` and `Q = sum q^2` the variance in input steps, times `N^2`, is `V = N*Q - S^2`
//! (layer, group, instance) or `V = N * sum (q - zp)^2` (root mean square), to which the plan's `epsilon = N^2 * eps /
//! scale^2` is added. Then
//!
//! - `N / sqrt(V) = mantissa * 2^(exponent - 30)` with 30 bits of mantissa, from a 32-bit integer square root of the
//!   normalised `V` and a 31-bit integer reciprocal ([`Statistics::of`]);
//! - `A_c = rnd(gain_c * 2^-gain_shift * N / sqrt(V) * 2^16)`, saturated to 24 bits ([`Statistics::slope`]);
//! - the mean with 12 bits below the point, `B_c = offset_c - rnd(mean * A_c)`, saturated to 31 bits
//!   ([`Statistics::intercept`]);
//! - `q' = sat8((q * A_c + B_c + 2^15) >> 16)`, then the table.
//!
//! The relative error of `A_c` is below `2^-29`, plus half a unit of its last place, `2^-17` output steps for each
//! input step.

#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod blocks;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
pub mod reference;
pub mod scalar;

use crate::plan::{Norm, NormKind};
use crate::requant::saturate;
use crate::round::{power_of_two, ties_even};
use crate::table::lookup;

/// Bits below the point of a slope and an intercept.
pub const POINT: u32 = 16;
/// Bits below the point of the mean.
const MEAN_POINT: u32 = 12;
/// Largest slope: `128 * slope` leaves room for an intercept of 30 bits.
const MAX_SLOPE: i64 = (1 << 23) - 1;
const MAX_INTERCEPT: i32 = (1 << 30) - (1 << 16);

/// What one group of elements has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// What is taken off each value, in input steps with 12 bits below the point.
    mean: i32,
    /// `N / sqrt(V) = mantissa * 2^(exponent - 30)`.
    mantissa: u32,
    exponent: i32,
}

impl Statistics {
    /// Statistics of `n` elements, fewer than 2^20, with sum `sum` and sum of squares `squares`.
    #[inline(always)]
    pub const fn of(step: &Norm<'_>, n: usize, sum: i32, squares: u64) -> Statistics {
        let (s, wide) = (sum as i64, n as u64);
        let zero_point = step.input_zero_point as i64;
        let (spread, mean) = match step.kind {
            NormKind::Layer | NormKind::Group { .. } => {
                // The quotient depends on the shape only. No plan has no elements; no panic may stay in firmware.
                let reciprocal = match (1i64 << 40).checked_div(n as i64) {
                    Some(reciprocal) => reciprocal,
                    None => 0,
                };
                let mean = (s * reciprocal + (1 << (39 - MEAN_POINT))) >> (40 - MEAN_POINT);
                (wide * squares - (s * s) as u64, mean as i32)
            }
            NormKind::Rms => {
                let centred = squares as i64 - 2 * zero_point * s + n as i64 * zero_point * zero_point;
                (wide * centred as u64, (zero_point as i32) << MEAN_POINT)
            }
        };
        let spread = spread + step.epsilon;
        // An even shift, so that the root of the shift is a shift.
        let shift = spread.leading_zeros() & !1;
        let root = square_root(spread << shift);
        let inverse = reciprocal(root) as u64;
        // N / sqrt(V) = N * inverse * 2^(shift / 2) / 2^62.
        let product = wide * inverse;
        let down = 34i32 - product.leading_zeros() as i32;
        let mantissa = if down > 0 { product >> down } else { product << -down };
        Statistics { mean, mantissa: mantissa as u32, exponent: down + (shift / 2) as i32 - 62 + 30 }
    }

    /// `A_c`.
    #[inline(always)]
    pub const fn slope(&self, gain: i32, gain_shift: u8) -> i32 {
        // |product| < 2^61, since a mantissa has 30 bits. So beyond either end of the range of shifts nothing changes:
        // 62 or more gives 0, and less than 1 saturates unless the gain is zero.
        let product = gain as i64 * self.mantissa as i32 as i64;
        let down = self.slope_shift(gain_shift);
        clamp(product.wrapping_add(1i64.wrapping_shl(down - 1)).wrapping_shr(down), MAX_SLOPE) as i32
    }

    /// By how much the product of a gain and the mantissa is shifted right, from 1 to 62.
    #[inline(always)]
    const fn slope_shift(&self, gain_shift: u8) -> u32 {
        clamp_i32(gain_shift as i32 + 30 - self.exponent - POINT as i32, 1, 62) as u32
    }

    /// `B_c`.
    #[inline(always)]
    pub const fn intercept(&self, slope: i32, offset: i32) -> i32 {
        // |mean| <= 2^19 and |slope| < 2^23, so what is taken off fits a word.
        let moved = (self.mean as i64 * slope as i64 + (1 << (MEAN_POINT - 1))) >> MEAN_POINT;
        clamp_i32(offset.saturating_sub(moved as i32), -MAX_INTERCEPT, MAX_INTERCEPT)
    }
}

/// The normalised value before the table.
#[inline(always)]
pub const fn apply(q: i8, slope: i32, intercept: i32) -> i8 {
    saturate((q as i32 * slope + intercept + (1 << (POINT - 1))) >> POINT)
}

/// The normalised value.
#[inline(always)]
pub(crate) const fn finish(q: i8, slope: i32, intercept: i32, step: &Norm<'_>) -> i8 {
    let q = apply(q, slope, intercept);
    match step.table {
        Some(table) => lookup(table, q),
        None => q,
    }
}

const fn clamp(x: i64, limit: i64) -> i64 {
    if x > limit {
        limit
    } else if x < -limit {
        -limit
    } else {
        x
    }
}

const fn clamp_i32(x: i32, low: i32, high: i32) -> i32 {
    if x > high {
        high
    } else if x < low {
        low
    } else {
        x
    }
}

/// `floor(sqrt(x))` for `x` with one of the two highest bits set: the high half by digits, 16 rounds, the low half by
/// one division (Zimmermann, Karatsuba square root, 1999). The same steps whatever the data.
const fn square_root(x: u64) -> u32 {
    let high = (x >> 32) as u32;
    let (mut root, mut rest) = (0u32, 0u32);
    let mut i = 0;
    while i < 16 {
        rest = (rest << 2) | (high >> (30 - 2 * i)) & 3;
        let trial = (root << 2) | 1;
        let take = (rest >= trial) as u32;
        rest -= trial & take.wrapping_neg();
        root = (root << 1) | take;
        i += 1;
    }
    // The highest bit is set already; said again, it leaves no check of the divisor in firmware.
    let root = root | 1 << 15;
    let low = ((rest << 15) | (x as u32 >> 17)) / root;
    // At most one too large.
    let near = ((root as u64) << 16) + low as u64;
    let near = if near > u32::MAX as u64 { u32::MAX as u64 } else { near };
    (near - (near * near > x) as u64) as u32
}

/// `floor(2^62 / x)`, at most `2^31 - 1`, for `x` with the highest bit set: two digits of 16 bits, each estimated by the
/// divisor's high half and at most two too large (Knuth, TAOCP 4.3.1, algorithm D). The same steps whatever the data.
const fn reciprocal(x: u32) -> u32 {
    let divisor = x >> 16 | 1 << 15;
    let (mut rest, mut quotient) = (1u32 << 30, 0u32);
    let mut i = 0;
    while i < 2 {
        let estimate = rest / divisor;
        let mut digit = if estimate > 0xffff { 0xffff } else { estimate };
        let mut left = ((rest as u64) << 16).wrapping_sub(digit as u64 * x as u64) as i64;
        let mut j = 0;
        while j < 2 {
            let over = left >> 63;
            digit = digit.wrapping_add(over as u32);
            left += x as i64 & over;
            j += 1;
        }
        quotient = (quotient << 16) | digit;
        rest = left as u32;
        i += 1;
    }
    // Only the quotient of 2^31 is larger.
    if quotient > i32::MAX as u32 { i32::MAX as u32 } else { quotient }
}

/// Offline: the constants of a norm with real `gamma`, `beta`, `eps`: gains with a common binary point, offsets, and
/// the plan's `epsilon`. `None` if a number is not finite or a gain is 2^29 output steps or more.
pub fn constants(
    gamma: &[f64],
    beta: &[f64],
    [scale_in, scale_out]: [f64; 2],
    zero_point_out: i8,
    gains: &mut [i32],
    offsets: &mut [i32],
) -> Option<u8> {
    let gain = |g: f64| g / scale_out;
    let largest = gamma.iter().fold(0.0f64, |most, &g| most.max(gain(g).abs()));
    if !(largest.is_finite() && beta.iter().all(|b| b.is_finite()) && scale_in > 0.0 && scale_out > 0.0) {
        return None;
    }
    let shift = (0..=30u8).rev().find(|&s| largest * power_of_two(i32::from(s)) < power_of_two(30) - 1.0)?;
    for (to, &g) in gains.iter_mut().zip(gamma) {
        *to = ties_even(gain(g) * power_of_two(i32::from(shift))) as i32;
    }
    for (to, &b) in offsets.iter_mut().zip(beta) {
        let steps = (b / scale_out + f64::from(zero_point_out)) * power_of_two(POINT as i32);
        *to = ties_even(steps.clamp(-power_of_two(30), power_of_two(30))) as i32;
    }
    Some(shift)
}

/// Offline: the plan's `epsilon` for statistics over `n` elements.
pub fn epsilon(eps: f64, scale_in: f64, n: usize) -> u64 {
    let real = eps * (n as f64 / scale_in) * (n as f64 / scale_in);
    // Beyond 2^50 the last bits are below the precision of the root.
    if real < power_of_two(50) { (ties_even(real) as u64).max(1) } else { (real.min(power_of_two(61))) as u64 }
}

entry_points! {
    /// Runs the step; the output may be the same place as the operand.
    Norm<'_>, [ArmMve, ArmDsp, Avx2, Neon], "the norm does not fit the arena"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with the highest bit set: at both ends, around halves of 16 bits, and spread over the range.
    fn words() -> impl Iterator<Item = u32> {
        let near = [1 << 31, u32::MAX, 0xffff_0000, 0x8000_8000, 0x8001_0000, 0xc000_0000];
        let near = near.into_iter().flat_map(|x: u32| (0..2000).map(move |d| x.wrapping_sub(1000).wrapping_add(d)));
        near.chain((0..200_000u32).map(|i| i.wrapping_mul(2_654_435_761))).map(|x| x | 1 << 31)
    }

    #[test]
    fn roots_are_rounded_down() {
        for root in words().map(u64::from) {
            let squares = [root * root, root * root - 1, root * root + root, root.wrapping_mul(0x9e37_79b9_7f4a_7c15)];
            for x in squares.map(|x| x | 1 << 62) {
                let found = u128::from(square_root(x));
                assert!(found * found <= x.into() && (found + 1) * (found + 1) > x.into(), "{x:#x}");
            }
        }
    }

    #[test]
    fn reciprocals_are_rounded_down() {
        for x in words() {
            assert_eq!(u64::from(reciprocal(x)), ((1u64 << 62) / u64::from(x)).min((1 << 31) - 1), "{x:#x}");
        }
    }
}
