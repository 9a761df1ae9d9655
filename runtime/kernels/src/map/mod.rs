//! Elementwise table: `out = table[in]`, or a copy.

#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
pub mod reference;
pub mod scalar;

use crate::isa::is_available;
use crate::plan::{Isa, Map};
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
    } else if is_available(Isa::Neon) {
        Isa::Neon
    } else {
        Isa::Scalar
    }
}

/// Runs the step; the output may be the same place as the operand.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes. With a constant step and an arena
/// of constant size the test is made at compile time.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Map<'_>) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Map<'_>) {
    assert!(step.fits(arena.len()), "the map does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { kernel::run(arena.cast(), step) }
}
