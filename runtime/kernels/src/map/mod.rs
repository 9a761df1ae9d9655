//! Elementwise table: `out = table[in]`, or a copy.

pub mod reference;
pub mod scalar;

use crate::plan::{Isa, Map};

/// The instruction set whose kernel [`run`] takes.
pub fn isa() -> Isa {
    Isa::Scalar
}

/// Runs the step; the output may be the same place as the operand.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes. With a constant step and an arena
/// of constant size the test is made at compile time.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Map<'_>) {
    assert!(step.fits(arena.len()), "the map does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { scalar::run(arena.as_mut_ptr(), step) }
}
