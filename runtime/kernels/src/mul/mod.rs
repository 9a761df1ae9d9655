//! Product of two s8 tensors: the requantise law on `(a - za) * (b - zb)`, then a table.

#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
pub mod reference;
pub mod scalar;

use crate::isa::is_available;
use crate::plan::{Isa, Mul};
use crate::requant::requantise;
use crate::table::lookup;
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

/// One element.
#[inline(always)]
pub const fn product(a: i8, b: i8, step: &Mul<'_>) -> i8 {
    let acc = (a as i32 - step.a_zero_point as i32) * (b as i32 - step.b_zero_point as i32);
    let q = requantise(acc, step.left_shift, step.multiplier, step.zero_point);
    match step.table {
        Some(table) => lookup(table, q),
        None => q,
    }
}

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

/// Runs the step; the output may be the same place as an operand of its shape.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Mul<'_>) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Mul<'_>) {
    assert!(step.fits(arena.len()), "the product does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { kernel::run(arena.cast(), step) }
}
