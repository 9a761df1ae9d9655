//! The portable product.

use super::product;
use crate::plan::Mul;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Mul<'_>) {
    // SAFETY: `fits` puts each slot's span inside the arena, and the loops below stay inside the spans.
    let (mut a, mut b, mut out) = unsafe {
        (
            arena.add(step.a.offset as usize).cast_const(),
            arena.add(step.b.offset as usize).cast_const(),
            arena.add(step.output.offset as usize),
        )
    };
    let b_pitch = if step.is_broadcast() { 0 } else { step.b.pitch as usize };
    for _ in 0..step.output.pixels() {
        for channel in 0..step.output.channels as usize {
            // SAFETY: pixel `p`, channel `c` is at most the end of each span; a broadcast operand has one pixel. Each
            // byte is read before the same byte is written, and raw pointers may alias.
            unsafe { out.add(channel).write(product(a.add(channel).read(), b.add(channel).read(), step)) };
        }
        a = a.wrapping_add(step.a.pitch as usize);
        b = b.wrapping_add(b_pitch);
        out = out.wrapping_add(step.output.pitch as usize);
    }
}
