//! The norms on AArch64.

use core::arch::aarch64::*;

use super::blocks::{self, Block};
use crate::neon::Lookup;
use crate::plan::Norm;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    // SAFETY: the same condition; a block is a vector.
    unsafe {
        let Some(table) = step.table.map(Lookup::load) else { return blocks::run(arena, step, |values| values) };
        blocks::run(arena, step, |mut values: Block| {
            vst1q_s8(values.as_mut_ptr(), table.all(vld1q_s8(values.as_ptr())));
            values
        });
    }
}
