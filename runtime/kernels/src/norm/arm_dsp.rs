//! Norms on Cortex-M cores with the DSP extension: sums of four values by SMLAD, then the slopes and intercepts of up to
//! 64 channels, then four channels of a pixel at a time.

use super::{POINT, Statistics, apply};
use crate::bytes::i32_at;
use crate::dsp::{even, finish, load, mac_pair, middle, odd, pair, shift_saturate, store};
use crate::plan::{Norm, NormKind};

/// Channels whose lines are kept together.
const CHANNELS: usize = 64;

/// What a channel does to a value: `sat8((q * slope + intercept) >> 16)`, the rounding inside the intercept.
#[derive(Clone, Copy)]
struct Line {
    slope: i32,
    intercept: i32,
}

/// A range of pixels and a range of channels.
#[derive(Clone, Copy)]
struct Part {
    pixel: usize,
    pixels: usize,
    channel: usize,
    channels: usize,
}

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    let (pixels, channels) = (step.input.pixels(), step.input.channels as usize);
    let mut lines = [Line { slope: 0, intercept: 0 }; CHANNELS];
    // SAFETY: the ranges are inside the tensor, which is the callee's condition.
    unsafe {
        match step.kind {
            NormKind::Layer | NormKind::Rms => {
                for pixel in 0..pixels {
                    normalise(arena, step, &mut lines, Part { pixel, pixels: 1, channel: 0, channels });
                }
            }
            NormKind::Group { groups } => {
                // No plan has no groups; the division must not leave a panic in firmware.
                let size = channels.checked_div(groups as usize).unwrap_or(channels);
                for group in 0..groups as usize {
                    let part = Part { pixel: 0, pixels, channel: group * size, channels: size };
                    normalise(arena, step, &mut lines, part);
                }
            }
        }
    }
}

/// Normalises the elements of a part together.
///
/// # Safety
/// As [`run`], with the part inside the tensor and not empty.
#[inline(always)]
unsafe fn normalise(arena: *mut i8, step: &Norm<'_>, lines: &mut [Line; CHANNELS], part: Part) {
    // SAFETY: the caller's bound. Every value is read for the statistics before the first is written, and again before
    // its own place is.
    unsafe {
        let (sum, squares) = sums(arena, step, &part);
        let statistics = Statistics::of(step, part.pixels * part.channels, sum, squares);
        let mut done = 0;
        while done < part.channels {
            let channels = (part.channels - done).min(CHANNELS);
            let part = Part { channel: part.channel + done, channels, ..part };
            for (i, line) in lines.iter_mut().enumerate().take(channels) {
                let channel = part.channel + i;
                let slope = statistics.slope(i32_at(step.gain.as_ptr(), channel), step.gain_shift);
                let intercept = statistics.intercept(slope, i32_at(step.offset.as_ptr(), channel));
                *line = Line { slope, intercept: intercept + (1 << (POINT - 1)) };
            }
            if step.table.is_some() {
                apply_lines::<true>(arena, step, lines, &part);
            } else {
                apply_lines::<false>(arena, step, lines, &part);
            }
            done += channels;
        }
    }
}

/// Sum and sum of squares.
///
/// # Safety
/// As [`normalise`].
#[inline(always)]
unsafe fn sums(arena: *const i8, step: &Norm<'_>, part: &Part) -> (i32, u64) {
    let pitch = step.input.pitch as usize;
    let mut row = arena.wrapping_add(step.input.offset as usize + part.pixel * pitch + part.channel);
    let (mut sum, mut squares) = (0u32, 0u64);
    for _ in 0..part.pixels {
        // Squares of 65,535 channels fit a word.
        let mut squares_of_row = 0u32;
        let words = part.channels / 4 * 4;
        for i in (0..words).step_by(4) {
            // SAFETY: the caller's bound.
            let word = unsafe { load(row.add(i)) };
            for half in [even(word), odd(word)] {
                sum = mac_pair(half, pair(1), sum);
                squares_of_row = mac_pair(half, half, squares_of_row);
            }
        }
        for i in words..part.channels {
            // SAFETY: the caller's bound.
            let q = unsafe { row.add(i).read() } as i32;
            sum = sum.wrapping_add(q as u32);
            squares_of_row += (q * q) as u32;
        }
        squares += squares_of_row as u64;
        row = row.wrapping_add(pitch);
    }
    (sum as i32, squares)
}

/// Writes the normalised values.
///
/// # Safety
/// As [`normalise`], with a line for each channel; `TABLE` says whether there is one.
#[inline(always)]
unsafe fn apply_lines<const TABLE: bool>(arena: *mut i8, step: &Norm<'_>, lines: &[Line; CHANNELS], part: &Part) {
    let middle = middle(step.table);
    let place =
        |offset: u32, pitch: u16| arena.wrapping_add(offset as usize + part.pixel * pitch as usize + part.channel);
    let mut input = place(step.input.offset, step.input.pitch).cast_const();
    let mut out = place(step.output.offset, step.output.pitch);
    let words = part.channels / 4;
    for _ in 0..part.pixels {
        for (i, lines) in lines.chunks_exact(4).enumerate().take(words) {
            // SAFETY: the caller's bound; saturated values are s8.
            unsafe {
                let word = load(input.add(4 * i));
                let bytes = [word as i8, (word >> 8) as i8, (word >> 16) as i8, (word >> 24) as i8];
                let mut values = [0; 4];
                for ((value, q), line) in values.iter_mut().zip(bytes).zip(lines) {
                    *value = shift_saturate((q as i32).wrapping_mul(line.slope).wrapping_add(line.intercept) as u32);
                }
                store(out.add(4 * i), finish::<TABLE>(values, middle));
            }
        }
        for (i, line) in lines.iter().enumerate().take(part.channels).skip(4 * words) {
            // SAFETY: the caller's bound; a normalised value is s8.
            unsafe {
                let q = apply(input.add(i).read(), line.slope, line.intercept - (1 << (POINT - 1)));
                out.add(i).write(if TABLE { middle.wrapping_offset(q as isize).read() as i8 } else { q });
            }
        }
        input = input.wrapping_add(step.input.pitch as usize);
        out = out.wrapping_add(step.output.pitch as usize);
    }
}
