//! The portable kernel, compiled for AVX2.

use super::scalar;
use crate::plan::Conv;

/// Runs the step.
///
/// # Safety
/// As [`scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { scalar::body(arena, step, bias) }
}
