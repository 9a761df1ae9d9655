//! The port rules: real numbers to s8 and back.
//!
//! `quantise(x) = sat8(zp + rne(x * inverse_scale))`: one f32 multiplication, ties to even. NaN and infinity are
//! refused. `dequantise(q) = (q - zp) as f32 * scale`.

use crate::requant::saturate;

/// The s8 value of a real number, or `None` for NaN and infinity. `inverse_scale` is finite and positive.
///
/// ```
/// use flowlet_kernels::port::quantise;
/// assert_eq!(quantise(0.625, 4.0, 0), Some(2)); // 2.5 ties to even
/// assert_eq!(quantise(1e30, 4.0, 0), Some(127));
/// assert_eq!(quantise(f32::NAN, 4.0, 0), None);
/// ```
#[inline]
pub const fn quantise(x: f32, inverse_scale: f32, zero_point: i8) -> Option<i8> {
    if x.is_finite() { Some(quantise_finite(x, inverse_scale, zero_point)) } else { None }
}

/// [`quantise`] for a number that is known to be finite; without branches.
#[inline]
pub const fn quantise_finite(x: f32, inverse_scale: f32, zero_point: i8) -> i8 {
    // 1.5 * 2^23: the sum has no fraction bits, so the addition rounds, and its low bits are the integer.
    const MAGIC: f32 = 12_582_912.0;
    // Past +-256 every zero point saturates, and clamping at an integer commutes with rounding.
    let y = (x * inverse_scale).max(-256.0).min(256.0);
    let rounded = (y + MAGIC).to_bits() as i32 - MAGIC.to_bits() as i32;
    saturate(zero_point as i32 + rounded)
}

/// The real number that an s8 value stands for.
#[inline]
pub const fn dequantise(q: i8, scale: f32, zero_point: i8) -> f32 {
    (q as i32 - zero_point as i32) as f32 * scale
}
