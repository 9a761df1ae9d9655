//! The map on cores with the vector extension: sixteen elements in five instructions.

use crate::arm_mve::runs;
use crate::plan::Map;

unsafe extern "C" {
    /// Looks `n` elements up.
    fn flowlet_mve_map(out: *mut i8, input: *const i8, n: usize, table: *const u8);
    /// Copies `n` elements.
    fn flowlet_mve_map_copy(out: *mut i8, input: *const i8, n: usize);
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Map<'_>) {
    let [count, n] = runs(&[&step.input, &step.output]);
    for run in 0..count {
        let input = arena.wrapping_add(step.input.offset as usize + run * step.input.pitch as usize);
        let out = arena.wrapping_add(step.output.offset as usize + run * step.output.pitch as usize);
        // SAFETY: `fits` puts both spans inside the arena, and a run lies inside the spans. Elements are read before
        // the same bytes are written.
        unsafe {
            match step.table {
                Some(table) => flowlet_mve_map(out, input, n, table.as_ptr()),
                None => flowlet_mve_map_copy(out, input, n),
            }
        }
    }
}

mve_function!(
    "flowlet_mve_map",
    [
        "push {{r7, lr}}",
        "vmov.i8 q2, #0x80",
        "wlstp.8 lr, r2, 3f",
        "2:",
        "vldrb.8 q0, [r1], #16",
        "veor q0, q0, q2",
        "vldrb.u8 q1, [r3, q0]",
        "vstrb.8 q1, [r0], #16",
        "letp lr, 2b",
        "3:",
        "pop {{r7, pc}}",
    ],
);

mve_function!(
    "flowlet_mve_map_copy",
    [
        "push {{r7, lr}}",
        "wlstp.8 lr, r2, 3f",
        "2:",
        "vldrb.8 q0, [r1], #16",
        "vstrb.8 q0, [r0], #16",
        "letp lr, 2b",
        "3:",
        "pop {{r7, pc}}",
    ],
);
