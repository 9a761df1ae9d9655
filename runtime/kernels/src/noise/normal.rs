//! Standard normal deviates in Q16 from 32 random bits, by the inverse of the normal distribution, in integers.
//!
//! The top bit is the sign; the other 31, `v`, are the tail probability `p = (2 v + 1) / 2^33` in (0, 1/2). Each octave
//! of p has four cubics in Q26, so that the relative width of a segment, and with it the error, does not grow
//! towards the tail. One word gives one deviate, |z| <= 6.34, within 2^-16 of the exact quantile, with the same
//! instructions for every word.

use super::normal_table::TABLE;

/// log2 of the number of segments in an octave.
const SEGMENT_BITS: u32 = 2;
/// Segments in an octave.
const SEGMENTS: usize = 1 << SEGMENT_BITS;
/// Fraction bits of the coefficients.
const FRACTION_BITS: u32 = 26;

/// The deviate for 32 random bits, in Q16.
///
/// ```
/// use flowlet_kernels::noise::normal::from_word;
/// assert_eq!(from_word(0x4000_0000), 44203); // p = 1/4: 0.67449 standard deviations
/// assert_eq!(from_word(0xc000_0000), -44203);
/// ```
#[inline]
pub fn from_word(word: u32) -> i32 {
    let sign = word as i32 >> 31;
    let tail = word << 1 | 1;
    let octave = tail.leading_zeros();
    let mantissa = tail << octave;
    let segment = (octave as usize) << SEGMENT_BITS | (mantissa >> (31 - SEGMENT_BITS)) as usize & (SEGMENTS - 1);
    // Place inside the segment, in [0, 1) with 31 bits.
    let t = (mantissa << (SEGMENT_BITS + 1) >> 1) as i32;
    // An odd number has at most 31 leading zeros: the mask changes nothing but the bounds check.
    let [c0, c1, c2, c3] = TABLE[segment & (TABLE.len() - 1)];
    let z = mul(mul(mul(c3, t) + c2, t) + c1, t) + c0;
    let q16 = (z + (1 << (FRACTION_BITS - 17))) >> (FRACTION_BITS - 16);
    (q16 ^ sign) - sign
}

#[inline(always)]
fn mul(a: i32, t: i32) -> i32 {
    ((a as i64 * t as i64) >> 31) as i32
}

#[cfg(test)]
mod tests;
