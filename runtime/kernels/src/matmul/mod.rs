//! Batched product of two s8 tensors: `acc = sum_k (a - za) * b`, then the law of [`crate::requant`].

pub mod reference;
pub mod scalar;

use crate::plan::{Isa, MatMul};

/// The instruction set whose kernel [`run`] takes.
pub fn isa() -> Isa {
    Isa::Scalar
}

/// Runs the step.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &MatMul) {
    assert!(step.fits(arena.len()), "the matrix product does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { scalar::run(arena.as_mut_ptr(), step) }
}
