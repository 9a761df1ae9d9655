//! The norms on AArch64.

use core::arch::aarch64::*;

use super::blocks::{self, Block, Vector};
use crate::neon::Lookup;
use crate::plan::Norm;

/// The step's table, if it has one.
struct Neon(Option<Lookup>);

impl Vector for Neon {
    #[inline(always)]
    fn look(&self, mut values: Block) -> Block {
        if let Some(table) = &self.0 {
            // SAFETY: a block is a vector.
            unsafe { vst1q_s8(values.as_mut_ptr(), table.all(vld1q_s8(values.as_ptr()))) };
        }
        values
    }
}

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    // SAFETY: the same condition.
    unsafe { blocks::run(arena, step, &Neon(step.table.map(Lookup::load))) };
}
