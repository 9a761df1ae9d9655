//! Pixel shuffle and unshuffle: moves pixels between space and channels, with ONNX's channel orders.

pub mod reference;
pub mod scalar;

use crate::plan::{Isa, Shuffle};

/// The instruction set whose kernel [`run`] takes.
pub fn isa() -> Isa {
    Isa::Scalar
}

/// Runs the step. An output that overlaps the input gives unspecified bytes, which [`crate::plan::Plan::check`]
/// excludes.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes too. With a constant step and an
/// arena of constant size the test is made at compile time.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Shuffle) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Shuffle) {
    assert!(step.fits(arena.len()), "the shuffle does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { scalar::run(arena.cast(), step) }
}
