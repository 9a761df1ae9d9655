//! Softmax on x86-64 with AVX2: four divisions at a time.

use super::blocks;
use crate::plan::Softmax;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, step: &Softmax<'_>) {
    // SAFETY: the same condition.
    unsafe { blocks::run(arena, step) }
}
