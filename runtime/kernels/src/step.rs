//! Runs a step of any kind.

use crate::plan::Step;
use crate::{add, conv, map, matmul, mul, norm, pool, shuffle, softmax, transpose};

/// Runs the step with bias row `row`, if it has a bank (the last row if there are fewer).
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes, or its weights are packed for
/// kernels that are not here ([`conv::is_readable`]).
#[inline]
pub fn run(arena: &mut [i8], step: &Step<'_>, row: usize) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step, row) }
}

/// Runs the step by its definition, which reads any packing: from `before` into `after`, both whole arenas.
pub fn run_reference(before: &[i8], after: &mut [i8], step: &Step<'_>, row: usize) {
    match step {
        Step::Conv(step) => conv::reference::run(before, after, step, row),
        Step::ConvTranspose(step) => conv::reference::run_transpose(before, after, step, row),
        Step::MatMul(step) => matmul::reference::run(before, after, step),
        Step::Add(step) => add::reference::run(before, after, step),
        Step::Mul(step) => mul::reference::run(before, after, step),
        Step::Map(step) => map::reference::run(before, after, step),
        Step::Softmax(step) => softmax::reference::run(before, after, step),
        Step::Norm(step) => norm::reference::run(before, after, step),
        Step::Pool(step) => pool::reference::run(before, after, step),
        Step::Shuffle(step) => shuffle::reference::run(before, after, step),
        Step::Transpose(step) => transpose::reference::run(before, after, step),
    }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Step<'_>, row: usize) {
    // SAFETY: the same condition.
    unsafe {
        match step {
            Step::Conv(step) => conv::run_part(arena, step, row),
            Step::ConvTranspose(step) => conv::run_transpose_part(arena, step, row),
            Step::MatMul(step) => matmul::run_part(arena, step),
            Step::Add(step) => add::run_part(arena, step),
            Step::Mul(step) => mul::run_part(arena, step),
            Step::Map(step) => map::run_part(arena, step),
            Step::Softmax(step) => softmax::run_part(arena, step),
            Step::Norm(step) => norm::run_part(arena, step),
            Step::Pool(step) => pool::run_part(arena, step),
            Step::Shuffle(step) => shuffle::run_part(arena, step),
            Step::Transpose(step) => transpose::run_part(arena, step),
        }
    }
}
