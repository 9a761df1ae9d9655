//! The product on cores with the vector extension: four columns of the right side are packed as a panel, which then
//! meets every row of the left side. The zero point of the left side is in the sums that a row starts with.

use core::mem::{MaybeUninit, offset_of};

use super::scalar;
use crate::plan::MatMul;

/// Columns of a panel.
const COLUMNS: usize = 4;
/// Products that lie together in a panel, one vector.
const STEP: usize = 16;
/// Longest dot product that a panel, which is on the stack, has room for; longer ones take the portable kernel.
const MOST: usize = 512;
/// Largest distance along a column: eight places of it are 16-bit offsets.
const MOST_STRIDE: usize = u16::MAX as usize / 8;

/// One panel and all rows of the left side.
#[repr(C)]
struct Panel {
    /// First sums.
    bias: [i32; COLUMNS],
    a: *const i8,
    /// `[k / 16][4][16]`.
    weights: *const i8,
    out: *mut i8,
    rows: usize,
    /// Bytes from row to row.
    a_step: usize,
    k: usize,
    columns: usize,
    out_step: usize,
    left_shift: u32,
    multiplier: i32,
    zero_point: i32,
}

unsafe extern "C" {
    /// Packs `k` values, `stride` bytes apart, as one column of a panel; returns their sum.
    fn flowlet_mve_matmul_pack(into: *mut i8, from: *const i8, k: usize, stride: usize) -> i32;
    fn flowlet_mve_matmul_panel(panel: *const Panel);
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &MatMul) {
    let pitch = step.b.slot.pitch as usize;
    let (along_k, along_n) = if step.transposed { (1, pitch) } else { (pitch, 1) };
    let (k, n) = (step.k(), step.n());
    if k > MOST || along_k > MOST_STRIDE {
        // SAFETY: the same condition.
        return unsafe { scalar::run(arena, step) };
    }
    let mut room = MaybeUninit::<[i8; COLUMNS * MOST]>::uninit();
    let room: *mut i8 = room.as_mut_ptr().cast();
    let mut panel = Panel {
        bias: [0; COLUMNS],
        a: arena,
        weights: room,
        out: arena,
        rows: step.m(),
        a_step: step.a.slot.pitch as usize,
        k,
        columns: 0,
        out_step: step.output.slot.pitch as usize,
        left_shift: step.left_shift.into(),
        multiplier: step.multiplier,
        zero_point: step.zero_point.into(),
    };
    for matrix in 0..step.batch as usize {
        let b = arena.wrapping_add(step.b.row(step.batch, matrix, 0));
        panel.a = arena.wrapping_add(step.a.row(step.batch, matrix, 0));
        let mut first = 0;
        while first < n {
            panel.columns = if n - first < COLUMNS { n - first } else { COLUMNS };
            for (c, bias) in panel.bias.iter_mut().enumerate().take(panel.columns) {
                // SAFETY: column `first + c` of the matrix is inside its slot, and a column of a panel has room for
                // `MOST` values.
                let sum = unsafe {
                    let column = b.add((first + c) * along_n);
                    flowlet_mve_matmul_pack(room.add(c * STEP), column, k, along_k)
                };
                *bias = sum.wrapping_mul(-i32::from(step.a_zero_point));
            }
            panel.out = arena.wrapping_add(step.output.row(step.batch, matrix, 0) + first);
            // SAFETY: `fits` puts every row of every matrix inside its slot and each slot inside the arena; of the
            // result only columns that exist are written. Columns of the panel that do not exist are read as bytes of
            // `room`, whatever they are.
            unsafe { flowlet_mve_matmul_panel(&raw const panel) };
            first += COLUMNS;
        }
    }
}

mve_function!(
    "flowlet_mve_matmul_pack",
    [
        "push {{r4-r6, lr}}",
        "mov r4, #0",
        "vidup.u16 q1, r4, #1",
        "vmul.i16 q1, q1, r3",
        "lsl r3, r3, #3",
        "mov r4, #0",
        "add r5, r2, #15",
        "lsr r5, r5, #4",
        "dls lr, r5",
        "2:",
        "vctp.16 r2",
        "vpst",
        "vldrbt.u16 q0, [r1, q1]",
        "add r1, r3",
        "sub r2, #8",
        "bic r2, r2, r2, asr #31",
        "vstrb.16 q0, [r0]",
        "vctp.16 r2",
        "vpst",
        "vldrbt.u16 q0, [r1, q1]",
        "add r1, r3",
        "sub r2, #8",
        "bic r2, r2, r2, asr #31",
        "vstrb.16 q0, [r0, #8]",
        "vldrb.s8 q0, [r0], #64",
        "vaddva.s8 r4, q0",
        "le lr, 2b",
        "mov r0, r4",
        "pop {{r4-r6, pc}}",
    ],
);

mve_function!(
    "flowlet_mve_matmul_panel",
    [
        "push {{r4-r11, lr}}",
        "vpush {{d8-d15}}",
        "mov r11, r0",
        "ldrd r2, r3, [r11, #{left_shift}]",
        "ldr r4, [r11, #{zero_point}]",
        "vdup.32 q5, r3",
        "vdup.32 q6, r2",
        "vdup.32 q7, r4",
        "ldrd r1, r8, [r11, #{a}]",
        "ldrd r5, r9, [r11, #{out}]",
        "ldrd r10, r12, [r11, #{a_step}]",
        "ldr r2, [r11, #{columns}]",
        "vctp.32 r2",
        "2:",
        "mov r3, r1",
        "mov r7, r8",
        "ldrd r0, r2, [r11, #{bias}]",
        "ldrd r4, r6, [r11, #{bias} + 8]",
        "wlstp.8 lr, r12, 4f",
        "3:",
        "vldrb.8 q0, [r3], #16",
        "vldrb.8 q1, [r7, #16]",
        "vmladava.s8 r2, q0, q1",
        "vldrb.8 q2, [r7, #32]",
        "vmladava.s8 r4, q0, q2",
        "vldrb.8 q3, [r7, #48]",
        "vmladava.s8 r6, q0, q3",
        "vldrb.8 q4, [r7], #64",
        "vmladava.s8 r0, q0, q4",
        "letp lr, 3b",
        "4:",
        "vmov d1, r4, r6",
        "ldr r3, [r11, #{out_step}]",
        "vmov d0, r0, r2",
        "add r1, r10",
        "vshl.s32 q0, q0, q6",
        "subs r9, #1",
        "vrmulh.s32 q0, q0, q5",
        "vadd.i32 q0, q0, q7",
        "vqmovnb.s32 q0, q0",
        "vqmovnb.s16 q0, q0",
        "vpst",
        "vstrbt.32 q0, [r5]",
        "add r5, r3",
        "bne 2b",
        "vpop {{d8-d15}}",
        "pop {{r4-r11, pc}}",
    ],
    left_shift = const offset_of!(Panel, left_shift),
    zero_point = const offset_of!(Panel, zero_point),
    a = const offset_of!(Panel, a),
    out = const offset_of!(Panel, out),
    a_step = const offset_of!(Panel, a_step),
    columns = const offset_of!(Panel, columns),
    out_step = const offset_of!(Panel, out_step),
    bias = const offset_of!(Panel, bias),
);
