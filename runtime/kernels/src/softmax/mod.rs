//! Softmax over channels in integers: `out = sat8(-128 + (256 * e + sum / 2) / sum)`, `e = table[max - q]`; scale
//! 1/256, zero point -128. The largest value saturates at 127, that is 255/256.

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

use crate::plan::Softmax;
use crate::round::ties_even;

/// Largest entry of the table; it keeps the sum of 65,535 terms inside a u32.
pub const ONE: f64 = 65535.0;

/// Offline: `rne(65535 * exp(-d * scale))` for `d = 0..256` as little-endian u16, `exp` given by the caller so that
/// the bytes do not depend on the machine.
///
/// ```
/// let table = flowlet_kernels::softmax::tabulate(|x| if x == 0.0 { 1.0 } else { 0.5 }, 0.1);
/// assert_eq!([table[0], table[1], table[2], table[3]], [255, 255, 0, 128]);
/// ```
pub fn tabulate(exp: impl Fn(f64) -> f64, scale: f32) -> [u8; 512] {
    let mut table = [0; 512];
    for (d, entry) in table.chunks_exact_mut(2).enumerate() {
        let e = ties_even((exp(-(d as f64) * f64::from(scale)) * ONE).clamp(0.0, ONE)) as u16;
        entry.copy_from_slice(&e.to_le_bytes());
    }
    table
}

/// The share `e / sum` as s8.
#[inline(always)]
pub(crate) const fn share(e: u32, sum: u32) -> i8 {
    // No sum is zero, since the largest value's entry is not; the division must not leave a panic in firmware.
    let q = match (256 * e + sum / 2).checked_div(sum) {
        Some(q) => q,
        None => 0,
    };
    (if q > 255 { 127 } else { q as i32 - 128 }) as i8
}

entry_points! {
    /// Runs the step; the output may be the same place as the operand.
    Softmax<'_>, [ArmMve, ArmDsp, Avx2, Neon], "the softmax does not fit the arena"
}
