//! Pools on cores with the vector extension. A maximum takes four places at a time, for all neighbouring outputs whose
//! windows have them; an average adds up 16 channels in 16-bit lanes, which hold 256 places.

use core::mem::offset_of;

use super::scalar;
use crate::plan::{Pool, PoolKind};

/// Channels of a vector of bytes.
const VECTOR: usize = 16;
/// Places of a window that a 16-bit sum of s8 holds.
const PLACES: usize = 256;

/// What a maximum over four places reads, for neighbouring outputs; a place may come twice.
#[repr(C)]
struct Maxima {
    places: [*const i8; 4],
    out: *mut i8,
    channels: usize,
    pixels: usize,
    /// Bytes from the end of a pixel's last vector to the next pixel's first, for `places[0]`, the others and `out`.
    first_step: usize,
    step: usize,
    out_step: usize,
}

/// What an average reads.
#[repr(C)]
struct Average {
    place: *const i8,
    out: *mut i8,
    channels: usize,
    rows: usize,
    columns: usize,
    /// Bytes from column to column, and from the end of a row to the next.
    pitch: usize,
    row_step: usize,
    /// Minus the zero points of all places.
    term: i32,
    left_shift: u32,
    multiplier: i32,
    zero_point: i32,
}

unsafe extern "C" {
    fn flowlet_mve_pool_max(maxima: *const Maxima);
    fn flowlet_mve_pool_average(average: *const Average);
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Pool) {
    // SAFETY: the same condition.
    unsafe {
        match step.kind {
            PoolKind::Max => run_max(arena, step),
            PoolKind::Average { .. } if step.kernel[0] as usize * step.kernel[1] as usize <= PLACES => {
                run_average(arena, step);
            }
            PoolKind::Average { .. } => scalar::run(arena, step),
        }
    }
}

/// Input rows (axis 0) or columns that output `at` sees, as a half-open range.
#[inline(always)]
fn range(step: &Pool, axis: usize, at: usize) -> [usize; 2] {
    let size = if axis == 0 { step.input.height } else { step.input.width } as usize;
    let first = at * step.stride[axis] as usize;
    let (kernel, pad) = (step.kernel[axis] as usize, step.pad[axis] as usize);
    let end = first + kernel - pad;
    [first.saturating_sub(pad), if end < size { end } else { size }]
}

/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn run_max(arena: *mut i8, step: &Pool) {
    let width = step.output.width as usize;
    for y in 0..step.output.height as usize {
        let rows = range(step, 0, y);
        let mut x = 0;
        while x < width {
            let columns = range(step, 1, x);
            let whole = columns[1] - columns[0] == step.kernel[1] as usize;
            let mut end = x + 1;
            while whole && end < width && range(step, 1, end)[1] - range(step, 1, end)[0] == step.kernel[1] as usize {
                end += 1;
            }
            // SAFETY: the windows of outputs `x..end` have as many columns, and are cut to the input.
            unsafe { max_of(arena, step, rows, columns, y * width + x, end - x) };
            x = end;
        }
    }
}

/// Maxima of neighbouring outputs: `pixels` of them from number `pixel` on, the first with this window.
///
/// # Safety
/// As [`run`], with the windows inside the input.
#[inline(always)]
unsafe fn max_of(arena: *mut i8, step: &Pool, rows: [usize; 2], columns: [usize; 2], pixel: usize, pixels: usize) {
    let (input, output) = (&step.input, &step.output);
    let channels = output.channels as usize;
    let moved = channels.next_multiple_of(VECTOR);
    let out = arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize);
    let in_step = (step.stride[1] as usize * input.pitch as usize).wrapping_sub(moved);
    let out_step = (output.pitch as usize).wrapping_sub(moved);
    let place = |iy: usize, ix: usize| {
        arena.wrapping_add(input.offset as usize + (iy * input.width as usize + ix) * input.pitch as usize).cast_const()
    };
    let mut maxima = Maxima {
        places: [place(rows[0], columns[0]); 4],
        out,
        channels,
        pixels,
        first_step: in_step,
        step: in_step,
        out_step,
    };
    let mut used = 0;
    for iy in rows[0]..rows[1] {
        for ix in columns[0]..columns[1] {
            if used == maxima.places.len() {
                // SAFETY: the places are pixels of the input or the output; each has `channels` elements.
                unsafe { flowlet_mve_pool_max(&raw const maxima) };
                maxima.places[0] = out;
                maxima.first_step = out_step;
                used = 1;
            }
            // What is left over repeats the last place.
            for next in maxima.places.iter_mut().skip(used) {
                *next = place(iy, ix);
            }
            used += 1;
        }
    }
    // SAFETY: as above.
    unsafe { flowlet_mve_pool_max(&raw const maxima) };
}

/// # Safety
/// As [`run`], for an average over at most [`PLACES`] places.
#[inline(always)]
unsafe fn run_average(arena: *mut i8, step: &Pool) {
    let PoolKind::Average { input_zero_point, multiplier, left_shift, zero_point } = step.kind else { return };
    let (input, output) = (&step.input, &step.output);
    let (pitch, width) = (input.pitch as usize, input.width as usize);
    for y in 0..output.height as usize {
        let [top, bottom] = range(step, 0, y);
        for x in 0..output.width as usize {
            let [left, right] = range(step, 1, x);
            let pixel = y * output.width as usize + x;
            let (mut rows, mut columns) = (bottom - top, right - left);
            let places = rows * columns;
            let row_step = (width - columns) * pitch;
            if columns == width {
                (rows, columns) = (1, places);
            }
            let average = Average {
                place: arena.wrapping_add(input.offset as usize + (top * width + left) * pitch),
                out: arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize),
                channels: output.channels as usize,
                rows,
                columns,
                pitch,
                row_step,
                term: -(places as i32 * i32::from(input_zero_point)),
                left_shift: left_shift.into(),
                multiplier,
                zero_point: zero_point.into(),
            };
            // SAFETY: the ranges are cut to the input, whose span is inside the arena; the pixel is inside the output.
            unsafe { flowlet_mve_pool_average(&raw const average) };
        }
    }
}

mve_function!(
    "flowlet_mve_pool_max",
    [
        "push {{r4-r11, lr}}",
        "ldrd r1, r2, [r0, #{places}]",
        "ldrd r3, r4, [r0, #{places} + 8]",
        "ldrd r5, r6, [r0, #{out}]",
        "ldrd r7, r8, [r0, #{pixels}]",
        "ldrd r9, r10, [r0, #{step}]",
        "2:",
        "wlstp.8 lr, r6, 4f",
        "3:",
        "vldrb.s8 q0, [r1], #16",
        "vldrb.s8 q1, [r2], #16",
        "vldrb.s8 q2, [r3], #16",
        "vmax.s8 q0, q0, q1",
        "vldrb.s8 q3, [r4], #16",
        "vmax.s8 q0, q0, q2",
        "vmax.s8 q0, q0, q3",
        "vstrb.8 q0, [r5], #16",
        "letp lr, 3b",
        "4:",
        "add r1, r8",
        "add r2, r9",
        "add r3, r9",
        "add r4, r9",
        "add r5, r10",
        "subs r7, #1",
        "bne 2b",
        "pop {{r4-r11, pc}}",
    ],
    places = const offset_of!(Maxima, places),
    out = const offset_of!(Maxima, out),
    pixels = const offset_of!(Maxima, pixels),
    step = const offset_of!(Maxima, step),
);

mve_function!(
    "flowlet_mve_pool_average",
    [
        // Requantises eight sums.
        ".macro flowlet_mve_average sums",
        "vmovlb.s16 q2, \\sums",
        "vmovlt.s16 q3, \\sums",
        "vadd.i32 q2, q2, r8",
        "vadd.i32 q3, q3, r8",
        "vshl.s32 q2, r9",
        "vshl.s32 q3, r9",
        "vrmulh.s32 q2, q2, q4",
        "vrmulh.s32 q3, q3, q4",
        "vqmovnb.s32 \\sums, q2",
        "vqmovnt.s32 \\sums, q3",
        "vqadd.s16 \\sums, \\sums, r10",
        "vqmovnb.s16 \\sums, \\sums",
        ".endm",
        "push {{r0, r4-r11, lr}}",
        "vpush {{d8-d9}}",
        "ldrd r1, r2, [r0, #{place}]",
        "ldr r3, [r0, #{channels}]",
        "ldrd r5, r6, [r0, #{columns}]",
        "ldrd r7, r8, [r0, #{row_step}]",
        "ldrd r9, r10, [r0, #{left_shift}]",
        "vdup.32 q4, r10",
        "ldr r10, [r0, #{zero_point}]",
        "subs r3, #16",
        "blt 5f",
        "2:",
        "mov r4, r1",
        "ldr r11, [r0, #{rows}]",
        "vmov.i32 q0, #0",
        "vmov.i32 q1, #0",
        "3:",
        "dls lr, r5",
        "4:",
        "vldrb.s16 q2, [r4]",
        "vldrb.s16 q3, [r4, #8]",
        "vadd.i16 q0, q0, q2",
        "add r4, r6",
        "vadd.i16 q1, q1, q3",
        "le lr, 4b",
        "add r4, r7",
        "subs r11, #1",
        "bne 3b",
        "flowlet_mve_average q0",
        "flowlet_mve_average q1",
        "vstrb.16 q0, [r2], #8",
        "vstrb.16 q1, [r2], #8",
        "add r1, #16",
        "subs r3, #16",
        "bge 2b",
        "5:",
        "adds r3, #16",
        "ble 9f",
        "6:",
        "vctp.16 r3",
        "mov r4, r1",
        "ldr r11, [r0, #{rows}]",
        "vmov.i32 q0, #0",
        "7:",
        "dls lr, r5",
        "8:",
        "vpst",
        "vldrbt.s16 q2, [r4]",
        "add r4, r6",
        "vadd.i16 q0, q0, q2",
        "le lr, 8b",
        "add r4, r7",
        "subs r11, #1",
        "bne 7b",
        "flowlet_mve_average q0",
        "vpst",
        "vstrbt.16 q0, [r2]",
        "add r2, #8",
        "add r1, #8",
        "subs r3, #8",
        "bgt 6b",
        "9:",
        "vpop {{d8-d9}}",
        "pop {{r0, r4-r11, pc}}",
        ".purgem flowlet_mve_average",
    ],
    place = const offset_of!(Average, place),
    channels = const offset_of!(Average, channels),
    rows = const offset_of!(Average, rows),
    columns = const offset_of!(Average, columns),
    row_step = const offset_of!(Average, row_step),
    left_shift = const offset_of!(Average, left_shift),
    zero_point = const offset_of!(Average, zero_point),
);
