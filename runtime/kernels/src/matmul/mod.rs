//! Batched product of two s8 tensors: `acc = sum_k (a - za) * b`, then the law of [`crate::requant`].

#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
pub mod reference;
pub mod scalar;

use crate::isa::is_available;
use crate::plan::{Isa, MatMul};
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

/// The instruction set whose kernel [`run`] takes.
pub fn isa() -> Isa {
    if is_available(Isa::ArmMve) {
        Isa::ArmMve
    } else if is_available(Isa::ArmDsp) {
        Isa::ArmDsp
    } else if is_available(Isa::Avx2) {
        Isa::Avx2
    } else if is_available(Isa::NeonDot) {
        Isa::NeonDot
    } else if is_available(Isa::Neon) {
        Isa::Neon
    } else {
        Isa::Scalar
    }
}

/// Runs the step.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &MatMul) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &MatMul) {
    assert!(step.fits(arena.len()), "the matrix product does not fit the arena");
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if is_available(Isa::Avx2) {
        // SAFETY: the assertion is the callee's condition, and the processor was asked.
        return unsafe { avx2::run(arena.cast(), step) };
    }
    // SAFETY: the assertion is the callee's condition.
    unsafe { kernel::run(arena.cast(), step) }
}
