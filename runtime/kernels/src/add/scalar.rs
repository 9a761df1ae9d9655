//! The portable sum.

use super::sum;
use crate::plan::Add;
use crate::table::lookup;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Add<'_>) {
    let channels = step.output.channels as usize;
    // SAFETY: `fits` puts each slot's span inside the arena, and the loops below stay inside the spans.
    let (mut a, mut b, mut out) = unsafe {
        (
            arena.add(step.a.offset as usize).cast_const(),
            arena.add(step.b.offset as usize).cast_const(),
            arena.add(step.output.offset as usize),
        )
    };
    let params = step.params;
    for _ in 0..step.output.pixels() {
        for channel in 0..channels {
            // SAFETY: pixel `p`, channel `c` is at most at `(pixels - 1) * pitch + channels - 1`, the end of the span.
            // Each byte is read before the same byte is written, and raw pointers may alias.
            unsafe {
                let s = sum(a.add(channel).read(), b.add(channel).read(), &params);
                out.add(channel).write(match step.table {
                    Some(table) => lookup(table, s),
                    None => s,
                });
            }
        }
        a = a.wrapping_add(step.a.pitch as usize);
        b = b.wrapping_add(step.b.pitch as usize);
        out = out.wrapping_add(step.output.pitch as usize);
    }
}
