//! Softmax on cores with the vector extension. The quotient by the sum is a product with its 32-bit reciprocal, rounded
//! down, which is the quotient or one less; the remainder tells.

use crate::plan::Softmax;

unsafe extern "C" {
    /// Softmax of `n` elements; the table is aligned to two bytes.
    fn flowlet_mve_softmax(out: *mut i8, input: *const i8, n: usize, table: *const u8);
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, and the table be
/// aligned to two bytes.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Softmax<'_>) {
    for pixel in 0..step.input.pixels() {
        let input = arena.wrapping_add(step.input.offset as usize + pixel * step.input.pitch as usize);
        let out = arena.wrapping_add(step.output.offset as usize + pixel * step.output.pitch as usize);
        // SAFETY: `fits` puts both spans inside the arena; `max - q` is 0 to 255, a place in the table. Every element is
        // read twice before the first is written, and again before its own place is.
        unsafe { flowlet_mve_softmax(out, input, step.input.channels as usize, step.table.as_ptr()) };
    }
}

mve_function!(
    "flowlet_mve_softmax",
    [
        "push {{r4-r7, r11, lr}}",
        "vpush {{d8-d9}}",
        "mvn r4, #127",
        "mov r5, r1",
        "wlstp.8 lr, r2, 3f",
        "2:",
        "vldrb.s8 q0, [r5], #16",
        "vmaxv.s8 r4, q0",
        "letp lr, 2b",
        "3:",
        "sxtb r4, r4",
        "vdup.16 q3, r4",
        "mov r6, #0",
        "mov r5, r1",
        "wlstp.16 lr, r2, 5f",
        "4:",
        "vldrb.s16 q0, [r5], #8",
        "vsub.i16 q0, q3, q0",
        "vldrh.u16 q1, [r3, q0, uxtw #1]",
        "vaddva.u16 r6, q1",
        "letp lr, 4b",
        "5:",
        "vdup.32 q3, r4",
        "mov r5, #-1",
        "udiv r5, r5, r6",
        "vdup.32 q4, r5",
        "vmov.i32 q2, #256",
        "lsr r4, r6, #1",
        "rsb r5, r6, #0",
        "mov r7, #1",
        "mvn r12, #127",
        "wlstp.32 lr, r2, 7f",
        "6:",
        "vldrb.s32 q0, [r1], #4",
        "vsub.i32 q0, q3, q0",
        "vldrh.u32 q1, [r3, q0, uxtw #1]",
        "vmlas.u32 q1, q2, r4",
        "vmulh.u32 q0, q1, q4",
        "vmla.u32 q1, q0, r5",
        "vadd.i32 q0, q0, r12",
        "vpt.u32 cs, q1, r6",
        "vaddt.i32 q0, q0, r7",
        "vqmovnb.s32 q0, q0",
        "vqmovnb.s16 q0, q0",
        "vstrb.32 q0, [r0], #4",
        "letp lr, 6b",
        "7:",
        "vpop {{d8-d9}}",
        "pop {{r4-r7, r11, pc}}",
    ],
);
