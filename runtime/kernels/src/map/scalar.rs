//! The portable map.

use crate::plan::Map;
use crate::table::lookup;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Map<'_>) {
    let channels = step.output.channels as usize;
    // SAFETY: `fits` puts both spans inside the arena.
    let (mut input, mut out) =
        unsafe { (arena.add(step.input.offset as usize).cast_const(), arena.add(step.output.offset as usize)) };
    for _ in 0..step.output.pixels() {
        for channel in 0..channels {
            // SAFETY: pixel `p`, channel `c` is at most at `(pixels - 1) * pitch + channels - 1`, the end of the span.
            unsafe {
                let q = input.add(channel).read();
                out.add(channel).write(match step.table {
                    Some(table) => lookup(table, q),
                    None => q,
                });
            }
        }
        input = input.wrapping_add(step.input.pitch as usize);
        out = out.wrapping_add(step.output.pitch as usize);
    }
}
