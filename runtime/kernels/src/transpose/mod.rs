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
    assert!(step.fits(arena.len()), "the transposition does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { scalar::run(arena.as_mut_ptr(), step) }
}
