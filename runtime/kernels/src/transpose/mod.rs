//! Pixels and channels exchanged.

pub mod reference;
pub mod scalar;

use crate::plan::{Isa, Transpose};

/// The instruction set whose kernel [`run`] takes.
pub fn isa() -> Isa {
    Isa::Scalar
}

/// Runs the step.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Transpose) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Transpose) {
    assert!(step.fits(arena.len()), "the transposition does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { scalar::run(arena.cast(), step) }
}
