//! Softmax on AArch64: two divisions at a time.

use super::blocks;
use crate::plan::Softmax;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Softmax<'_>) {
    // SAFETY: the same condition.
    unsafe { blocks::run(arena, step) }
}
