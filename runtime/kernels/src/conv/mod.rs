//! 2-D convolution with its epilogue: requantise, residual, table. A fully connected layer is a 1x1 convolution of
//! one pixel.
//!
//! `[H, W, I] -> [P, Q, O]`, weights `[O, kh, kw, I]`:
//! `acc[o] = bias[row][o] + sum w[o][ky][kx][i] * x[...]`, where padding reads the input's zero point, then the law of
//! [`crate::requant`], then the sum of [`crate::add`] with the residual, then the table. Bit-exact.

pub mod reference;
pub mod scalar;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub mod x86_avx2;

use crate::plan::Conv;

/// Runs the step with bias row `row`, the last one if there are fewer. The residual may be the same place as the
/// output; an input that overlaps the output gives unspecified bytes, which [`crate::plan::Plan::check`] excludes.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes too. With a constant step and an
/// arena of constant size the test is made at compile time.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Conv<'_>, row: usize) {
    assert!(step.fits(arena.len()), "the convolution does not fit the arena");
    let last = step.rows() - 1;
    // SAFETY: the assertion is the callee's condition, and the row is clamped to the bank.
    unsafe { best(arena.as_mut_ptr(), step, if row < last { row } else { last }) }
}

/// The fastest kernel that this processor runs; all give the same bits.
///
/// # Safety
/// As [`scalar::run`].
#[inline(always)]
unsafe fn best(arena: *mut i8, step: &Conv<'_>, row: usize) {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    if x86_avx2::is_available() {
        // SAFETY: the caller's condition, and the processor was asked.
        return unsafe { x86_avx2::run(arena, step, row) };
    }
    // SAFETY: the caller's condition.
    unsafe { scalar::run(arena, step, row) }
}
