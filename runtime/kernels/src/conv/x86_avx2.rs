//! The portable kernel, compiled for AVX2.

use super::scalar;
use crate::plan::Conv;

/// Whether this processor runs it.
pub fn is_available() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
}

/// Runs the step.
///
/// # Safety
/// As [`scalar::run`], and [`is_available`] must hold.
#[target_feature(enable = "avx2")]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, row: usize) {
    // SAFETY: the same condition.
    unsafe { scalar::body(arena, step, row) }
}
