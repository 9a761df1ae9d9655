//! The sum on cores with the vector extension: four elements in nine instructions.

use core::mem::offset_of;
use core::ptr::null;

use crate::arm_mve::runs;
use crate::plan::Add;

/// Constants, as the assembler reads them.
#[repr(C)]
struct Constants {
    ma: i32,
    mb: i32,
    /// The constant term with the rounding.
    constant: i32,
    /// Left shift: negative.
    shift: i32,
    /// The middle of the table, or null.
    table: *const u8,
}

unsafe extern "C" {
    /// Sums `n` elements.
    fn flowlet_mve_add(out: *mut i8, a: *const i8, b: *const i8, n: usize, constants: *const Constants);
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Add<'_>) {
    let params = &step.params;
    let constants = Constants {
        ma: params.ma.into(),
        mb: params.mb.into(),
        constant: params.c.wrapping_add(1i32.wrapping_shl(u32::from(params.shift).wrapping_sub(1))),
        shift: -i32::from(params.shift),
        table: step.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
    };
    let [count, n] = runs(&[&step.a, &step.b, &step.output]);
    for run in 0..count {
        let at = |offset: u32, pitch: u16| arena.wrapping_add(offset as usize + run * pitch as usize);
        let (a, b) = (at(step.a.offset, step.a.pitch), at(step.b.offset, step.b.pitch));
        // SAFETY: `fits` puts each slot's span inside the arena, and a run lies inside the spans. Four elements are read
        // before the same bytes are written.
        unsafe { flowlet_mve_add(at(step.output.offset, step.output.pitch), a, b, n, &constants) };
    }
}

mve_function!(
    "flowlet_mve_add",
    [
        "push {{r4-r7, r11, lr}}",
        "ldr r12, [sp, #24]",
        "ldrd r4, r5, [r12, #{ma}]",
        "ldrd r6, r7, [r12, #{constant}]",
        "vdup.32 q3, r4",
        "ldr r4, [r12, #{table}]",
        "cbnz r4, 4f",
        "wlstp.32 lr, r3, 3f",
        "2:",
        "vldrb.s32 q0, [r1], #4",
        "vldrb.s32 q1, [r2], #4",
        "vmlas.s32 q0, q3, r6",
        "vmla.s32 q0, q1, r5",
        "vshl.s32 q0, r7",
        "vqmovnb.s32 q0, q0",
        "vqmovnb.s16 q0, q0",
        "vstrb.32 q0, [r0], #4",
        "letp lr, 2b",
        "3:",
        "pop {{r4-r7, r11, pc}}",
        "4:",
        "wlstp.32 lr, r3, 6f",
        "5:",
        "vldrb.s32 q0, [r1], #4",
        "vldrb.s32 q1, [r2], #4",
        "vmlas.s32 q0, q3, r6",
        "vmla.s32 q0, q1, r5",
        "vshl.s32 q0, r7",
        "vqshl.s32 q0, q0, #24",
        "vshr.s32 q0, q0, #24",
        // Lanes are signed offsets from the middle of the table.
        "vldrb.u32 q1, [r4, q0]",
        "vstrb.32 q1, [r0], #4",
        "letp lr, 5b",
        "6:",
        "pop {{r4-r7, r11, pc}}",
    ],
    ma = const offset_of!(Constants, ma),
    constant = const offset_of!(Constants, constant),
    table = const offset_of!(Constants, table),
);
