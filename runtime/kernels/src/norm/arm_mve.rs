//! Norms on cores with the vector extension: the values of up to 64 channels become slopes and intercepts first, then
//! four channels of a pixel take ten instructions.

use core::mem::offset_of;
use core::ptr::null;

use super::{POINT, Statistics, scalar};
use crate::bytes::i32_at;
use crate::plan::{Norm, NormKind};

/// Channels whose slopes are kept together.
const CHANNELS: usize = 64;
/// Pixels of which a lane holds the sum of squares.
const PIXELS: usize = 1 << 16;

/// What a channel does to a value, `sat8((q * slope + intercept) >> 16)`, with the rounding inside the intercept.
struct Lines {
    slopes: [i32; CHANNELS],
    intercepts: [i32; CHANNELS],
}

/// Sums over all pixels of each channel.
struct Sums {
    values: [i32; CHANNELS],
    squares: [u32; CHANNELS],
}

/// What the assembler reads to apply lines.
#[repr(C)]
struct Apply {
    input: *const i8,
    out: *mut i8,
    input_step: usize,
    out_step: usize,
    channels: usize,
    pixels: usize,
    slopes: *const i32,
    intercepts: *const i32,
    /// The middle of the table, or null.
    table: *const u8,
}

unsafe extern "C" {
    /// Sum and sum of squares of `n` neighbouring values, fewer than 2^17.
    fn flowlet_mve_norm_row(input: *const i8, n: usize, squares: *mut u32) -> i32;
    /// Sums over pixels, `step` bytes apart, of each of `channels` channels, written in whole vectors of four.
    fn flowlet_mve_norm_columns(
        input: *const i8,
        channels: usize,
        pixels: usize,
        step: usize,
        values: *mut i32,
        squares: *mut u32,
    );
    fn flowlet_mve_norm_apply(apply: *const Apply);
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    let pixels = step.input.pixels();
    let mut lines = Lines { slopes: [0; CHANNELS], intercepts: [0; CHANNELS] };
    // SAFETY: the same condition; there are fewer than `PIXELS` pixels where channels are summed up.
    unsafe {
        match step.kind {
            NormKind::Layer | NormKind::Rms => {
                for pixel in 0..pixels {
                    by_pixel(arena, step, &mut lines, pixel);
                }
            }
            NormKind::Group { groups } if pixels < PIXELS => by_group(arena, step, &mut lines, groups as usize),
            NormKind::Group { .. } => scalar::run(arena, step),
        }
    }
}

/// Statistics over the channels of one pixel.
///
/// # Safety
/// As [`run`], with the pixel inside the tensor.
unsafe fn by_pixel(arena: *mut i8, step: &Norm<'_>, lines: &mut Lines, pixel: usize) {
    let channels = step.input.channels as usize;
    let input = arena.wrapping_add(step.input.offset as usize + pixel * step.input.pitch as usize);
    let mut squares = 0;
    // SAFETY: the channels of a pixel are inside the tensor.
    let sum = unsafe { flowlet_mve_norm_row(input, channels, &raw mut squares) };
    let statistics = Statistics::of(step, channels, sum, squares.into());
    let mut first = 0;
    while first < channels {
        let count = (channels - first).min(CHANNELS);
        // SAFETY: the channels are inside the tensor. The values of the pixel were summed up before the first is
        // written, and each is read again before its own place is written.
        unsafe {
            lines.fill(&statistics, step, first, 0, count);
            lines.apply(arena, step, [pixel, 1], [first, count]);
        }
        first += count;
    }
}

/// Statistics over all pixels of a group of channels.
///
/// # Safety
/// As [`run`], with fewer than [`PIXELS`] pixels.
unsafe fn by_group(arena: *mut i8, step: &Norm<'_>, lines: &mut Lines, groups: usize) {
    let channels = step.input.channels as usize;
    let pixels = step.input.pixels();
    let size = channels.checked_div(groups).unwrap_or(channels);
    // As many whole groups at a time as there is room for.
    let together = CHANNELS.checked_div(size).unwrap_or(1).max(1);
    let mut group = 0;
    while group < groups {
        let count = (groups - group).min(together);
        let start = group * size;
        // SAFETY: the channels of these groups are inside the tensor. Their values are summed up before the first is
        // written, and each is read again before its own place is written.
        unsafe {
            if size > CHANNELS {
                let (mut sum, mut squares) = (0, 0);
                let mut first = 0;
                while first < size {
                    let n = (size - first).min(CHANNELS);
                    let part = Sums::of(arena, step, start + first, n);
                    let [s, q] = part.total(0, n);
                    (sum, squares) = (sum + s as i32, squares + q);
                    first += n;
                }
                let statistics = Statistics::of(step, pixels * size, sum, squares as u64);
                let mut first = 0;
                while first < size {
                    let n = (size - first).min(CHANNELS);
                    lines.fill(&statistics, step, start + first, 0, n);
                    lines.apply(arena, step, [0, pixels], [start + first, n]);
                    first += n;
                }
            } else {
                let sums = Sums::of(arena, step, start, count * size);
                for g in 0..count {
                    let [sum, squares] = sums.total(g * size, size);
                    let statistics = Statistics::of(step, pixels * size, sum as i32, squares as u64);
                    lines.fill(&statistics, step, start + g * size, g * size, size);
                }
                lines.apply(arena, step, [0, pixels], [start, count * size]);
            }
        }
        group += count;
    }
}

impl Sums {
    /// Sums of `count` channels from `first` on, at most [`CHANNELS`].
    ///
    /// # Safety
    /// As [`by_group`], with the channels inside the tensor.
    #[inline(always)]
    unsafe fn of(arena: *mut i8, step: &Norm<'_>, first: usize, count: usize) -> Sums {
        let mut sums = Sums { values: [0; CHANNELS], squares: [0; CHANNELS] };
        let input = arena.wrapping_add(step.input.offset as usize + first);
        // SAFETY: the channels of all pixels are inside the tensor, and `count` rounded up to four fits the arrays.
        unsafe {
            flowlet_mve_norm_columns(
                input,
                count,
                step.input.pixels(),
                step.input.pitch as usize,
                sums.values.as_mut_ptr(),
                sums.squares.as_mut_ptr(),
            );
        }
        sums
    }

    /// Sum and sum of squares over `count` channels.
    #[inline(always)]
    fn total(&self, first: usize, count: usize) -> [i64; 2] {
        let mut total = [0; 2];
        for (value, square) in self.values.iter().zip(&self.squares).skip(first).take(count) {
            total[0] += i64::from(*value);
            total[1] += i64::from(*square);
        }
        total
    }
}

impl Lines {
    /// Lines of `count` channels from `channel` on, into places from `at` on.
    ///
    /// # Safety
    /// The channels must be inside the tensor.
    #[inline(always)]
    unsafe fn fill(&mut self, statistics: &Statistics, step: &Norm<'_>, channel: usize, at: usize, count: usize) {
        let places = self.slopes.iter_mut().zip(&mut self.intercepts).skip(at).take(count);
        for (c, (slope, intercept)) in places.enumerate() {
            // SAFETY: `fits` makes the constants a word for each channel.
            let [gain, offset] = unsafe { [&step.gain, &step.offset].map(|words| i32_at(words.as_ptr(), channel + c)) };
            *slope = statistics.slope(gain, step.gain_shift);
            *intercept = statistics.intercept(*slope, offset) + (1 << (POINT - 1));
        }
    }

    /// Applies the first `channels[1]` lines to channels from `channels[0]` on of `pixels[1]` pixels from `pixels[0]`.
    ///
    /// # Safety
    /// As [`run`], with pixels and channels inside the tensor.
    #[inline(always)]
    unsafe fn apply(&self, arena: *mut i8, step: &Norm<'_>, pixels: [usize; 2], channels: [usize; 2]) {
        let (input, output) = (&step.input, &step.output);
        let apply = Apply {
            input: arena.wrapping_add(input.offset as usize + pixels[0] * input.pitch as usize + channels[0]),
            out: arena.wrapping_add(output.offset as usize + pixels[0] * output.pitch as usize + channels[0]),
            input_step: input.pitch as usize,
            out_step: output.pitch as usize,
            channels: channels[1],
            pixels: pixels[1],
            slopes: self.slopes.as_ptr(),
            intercepts: self.intercepts.as_ptr(),
            table: step.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
        };
        // SAFETY: the caller's condition; four values are read before the same bytes are written.
        unsafe { flowlet_mve_norm_apply(&raw const apply) };
    }
}

mve_function!(
    "flowlet_mve_norm_row",
    [
        "push {{r4, lr}}",
        "mov r3, r0",
        "mov r0, #0",
        "mov r4, #0",
        "wlstp.8 lr, r1, 3f",
        "2:",
        "vldrb.s8 q0, [r3], #16",
        "vaddva.s8 r0, q0",
        "vmladava.s8 r4, q0, q0",
        "letp lr, 2b",
        "3:",
        "str r4, [r2]",
        "pop {{r4, pc}}",
    ],
);

mve_function!(
    "flowlet_mve_norm_columns",
    [
        "push {{r4-r7, r11, lr}}",
        "ldrd r4, r5, [sp, #24]",
        "2:",
        "vctp.32 r1",
        "mov r6, r0",
        "vmov.i32 q0, #0",
        "vmov.i32 q1, #0",
        "dls lr, r2",
        "3:",
        "vpst",
        "vldrbt.s32 q2, [r6]",
        "add r6, r3",
        "vmul.i32 q3, q2, q2",
        "vadd.i32 q0, q0, q2",
        "vadd.i32 q1, q1, q3",
        "le lr, 3b",
        "vstrw.32 q0, [r4], #16",
        "vstrw.32 q1, [r5], #16",
        "add r0, #4",
        "subs r1, #4",
        "bgt 2b",
        "pop {{r4-r7, r11, pc}}",
    ],
);

mve_function!(
    "flowlet_mve_norm_apply",
    [
        ".macro flowlet_mve_line",
        "vldrb.s32 q0, [r1], #4",
        "vldrw.32 q1, [r3], #16",
        "vldrw.32 q2, [r4], #16",
        "vmul.i32 q0, q0, q1",
        "vadd.i32 q0, q0, q2",
        "vshr.s32 q0, q0, #16",
        ".endm",
        "push {{r4-r11, lr}}",
        "ldrd r6, r7, [r0, #{input}]",
        "ldrd r8, r9, [r0, #{input_step}]",
        "ldrd r10, r11, [r0, #{channels}]",
        "ldr r12, [r0, #{table}]",
        "ldr r5, [r0, #{intercepts}]",
        "ldr r0, [r0, #{slopes}]",
        "cmp r12, #0",
        "bne 5f",
        "2:",
        "mov r1, r6",
        "mov r2, r7",
        "mov r3, r0",
        "mov r4, r5",
        "wlstp.32 lr, r10, 4f",
        "3:",
        "flowlet_mve_line",
        "vqmovnb.s32 q0, q0",
        "vqmovnb.s16 q0, q0",
        "vstrb.32 q0, [r2], #4",
        "letp lr, 3b",
        "4:",
        "add r6, r8",
        "add r7, r9",
        "subs r11, #1",
        "bne 2b",
        "pop {{r4-r11, pc}}",
        "5:",
        "mov r1, r6",
        "mov r2, r7",
        "mov r3, r0",
        "mov r4, r5",
        "wlstp.32 lr, r10, 7f",
        "6:",
        "flowlet_mve_line",
        "vqshl.s32 q0, q0, #24",
        "vshr.s32 q0, q0, #24",
        // Lanes are signed offsets from the middle of the table.
        "vldrb.u32 q1, [r12, q0]",
        "vstrb.32 q1, [r2], #4",
        "letp lr, 6b",
        "7:",
        "add r6, r8",
        "add r7, r9",
        "subs r11, #1",
        "bne 5b",
        "pop {{r4-r11, pc}}",
        ".purgem flowlet_mve_line",
    ],
    input = const offset_of!(Apply, input),
    input_step = const offset_of!(Apply, input_step),
    channels = const offset_of!(Apply, channels),
    slopes = const offset_of!(Apply, slopes),
    intercepts = const offset_of!(Apply, intercepts),
    table = const offset_of!(Apply, table),
);
