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

use crate::isa::is_available;
use crate::plan::{Isa, Softmax};
use crate::round::ties_even;
#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
use arm_dsp as kernel;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
use arm_mve as kernel;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
use neon as kernel;
#[cfg(not(any(
    all(any(feature = "arm_dsp", feature = "arm_mve"), target_arch = "arm"),
    all(feature = "std", target_arch = "aarch64")
)))]
use scalar as kernel;

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

/// The instruction set whose kernel [`run`] takes.
pub fn isa() -> Isa {
    if is_available(Isa::Avx2) {
        Isa::Avx2
    } else if is_available(Isa::ArmMve) {
        Isa::ArmMve
    } else if is_available(Isa::ArmDsp) {
        Isa::ArmDsp
    } else if is_available(Isa::Neon) {
        Isa::Neon
    } else {
        Isa::Scalar
    }
}

/// Runs the step; the output may be the same place as the operand.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Softmax<'_>) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Softmax<'_>) {
    assert!(step.fits(arena.len()), "the softmax does not fit the arena");
    // The vector kernel gathers whole entries of the table. A lowered model's tables are aligned.
    #[cfg(all(feature = "arm_mve", target_arch = "arm"))]
    if !step.table.as_ptr().addr().is_multiple_of(2) {
        // SAFETY: the assertion is the callee's condition.
        return unsafe { scalar::run(arena.cast(), step) };
    }
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if is_available(Isa::Avx2) {
        // SAFETY: the assertion is the callee's condition, and the processor was asked.
        return unsafe { avx2::run(arena.cast(), step) };
    }
    // SAFETY: the assertion is the callee's condition.
    unsafe { kernel::run(arena.cast(), step) }
}
