//! The product on AArch64: sixteen elements at a time.

use core::arch::aarch64::*;

use crate::elements::blocks;
use crate::neon::{Lookup, Requantise, load, narrow, store};
use crate::plan::Mul;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Mul<'_>) {
    let law = Requantise::new(step.left_shift, step.multiplier, step.zero_point);
    let table = step.table.map(Lookup::load);
    let b_pitch = if step.is_broadcast() { 0 } else { step.b.pitch as usize };
    let is_contiguous = step.a.is_contiguous() && step.b.is_contiguous() && !step.is_broadcast();
    // SAFETY: `fits` puts each slot's span inside the arena, and blocks are elements of the spans; a broadcast operand has
    // one pixel. Each is read before it is written, and operands at the same place coincide.
    unsafe {
        let (a, b) = (arena.add(step.a.offset as usize), arena.add(step.b.offset as usize));
        let out = arena.add(step.output.offset as usize);
        let (a_zero_point, b_zero_point) = (vdup_n_s8(step.a_zero_point), vdup_n_s8(step.b_zero_point));
        blocks(&step.output, is_contiguous, |pixel, first, count| {
            let a = load(a.add(pixel * step.a.pitch as usize + first), count);
            let b = load(b.add(pixel * b_pitch + first), count);
            let eight = |a: int8x8_t, b: int8x8_t| {
                let (a, b) = (vsubl_s8(a, a_zero_point), vsubl_s8(b, b_zero_point));
                [law.of(vmull_s16(vget_low_s16(a), vget_low_s16(b))), law.of(vmull_high_s16(a, b))]
            };
            let [low, high] = [eight(vget_low_s8(a), vget_low_s8(b)), eight(vget_high_s8(a), vget_high_s8(b))];
            let mut q = narrow([low[0], low[1], high[0], high[1]]);
            if let Some(table) = &table {
                q = table.all(q);
            }
            store(out.add(pixel * step.output.pitch as usize + first), count, q);
        });
    }
}
