//! Sum of two s8 tensors of different scales: `sat8((a*ma + b*mb + c + 2^(shift-1)) >> shift)`.

#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) mod avx2;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
mod params;
pub mod reference;
pub mod scalar;

pub use params::{Term, add_params};

use crate::isa::is_available;
use crate::plan::{Add, AddParams, Isa};
use crate::requant::saturate;
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

/// The sum of two s8 values; ties round up.
#[inline(always)]
pub const fn sum(a: i8, b: i8, params: &AddParams) -> i8 {
    let scaled = a as i32 * params.ma as i32 + b as i32 * params.mb as i32;
    let shift = params.shift as u32;
    saturate(scaled.wrapping_add(params.c).wrapping_add(1i32.wrapping_shl(shift.wrapping_sub(1))).wrapping_shr(shift))
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

/// Runs the step; the output may be the same place as either operand.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes. With a constant step and an arena
/// of constant size the test is made at compile time.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Add<'_>) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Add<'_>) {
    assert!(step.fits(arena.len()), "the sum does not fit the arena");
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if is_available(Isa::Avx2) {
        // SAFETY: the assertion is the callee's condition, and the processor was asked.
        return unsafe { avx2::run(arena.cast(), step) };
    }
    // SAFETY: the assertion is the callee's condition.
    unsafe { kernel::run(arena.cast(), step) }
}
