//! Norms on Cortex-M cores with the DSP extension: sums of four values by SMLAD, then four channels at a time down all
//! their pixels, their slopes and intercepts in registers.

use core::array::from_fn;

use super::{POINT, Statistics};
use crate::bytes::i32_at;
use crate::dsp::{even, finish, load, mac_pair, middle, odd, pair, shift_saturate, store};
use crate::plan::{Norm, NormKind};

/// What a channel does to a value: `sat8((q * slope + intercept) >> 16)`, the rounding inside the intercept.
#[derive(Clone, Copy)]
struct Line {
    slope: i32,
    intercept: i32,
}

impl Line {
    /// The normalised value, as a word.
    #[inline(always)]
    fn at(self, q: i8) -> u32 {
        shift_saturate((q as i32).wrapping_mul(self.slope).wrapping_add(self.intercept) as u32)
    }
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
    // SAFETY: the ranges are inside the tensor, which is the callee's condition.
    unsafe {
        match step.kind {
            NormKind::Layer | NormKind::Rms => {
                for pixel in 0..pixels {
                    normalise(arena, step, Part { pixel, pixels: 1, channel: 0, channels });
                }
            }
            NormKind::Group { groups } => {
                // No plan has no groups; the division must not leave a panic in firmware.
                let size = channels.checked_div(groups as usize).unwrap_or(channels);
                for group in 0..groups as usize {
                    let part = Part { pixel: 0, pixels, channel: group * size, channels: size };
                    normalise(arena, step, part);
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
unsafe fn normalise(arena: *mut i8, step: &Norm<'_>, part: Part) {
    // SAFETY: the caller's bound. Every value is read for the statistics before the first is written, and again before
    // its own place is.
    unsafe {
        let (sum, squares) = sums(arena, step, &part);
        let statistics = Statistics::of(step, part.pixels * part.channels, sum, squares);
        if step.table.is_some() {
            apply_lines::<true>(arena, step, &statistics, &part);
        } else {
            apply_lines::<false>(arena, step, &statistics, &part);
        }
    }
}

/// # Safety
/// As [`run`], with the channel inside the tensor.
#[inline(always)]
unsafe fn line(step: &Norm<'_>, statistics: &Statistics, channel: usize) -> Line {
    // SAFETY: the constants hold a word for each channel.
    let (gain, offset) = unsafe { (i32_at(step.gain.as_ptr(), channel), i32_at(step.offset.as_ptr(), channel)) };
    let slope = statistics.slope(gain, step.gain_shift);
    Line { slope, intercept: statistics.intercept(slope, offset) + (1 << (POINT - 1)) }
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
/// As [`normalise`]; `TABLE` says whether there is one.
#[inline(never)]
unsafe fn apply_lines<const TABLE: bool>(arena: *mut i8, step: &Norm<'_>, statistics: &Statistics, part: &Part) {
    let middle = middle(step.table);
    let (in_pitch, out_pitch) = (step.input.pitch as usize, step.output.pitch as usize);
    let input = arena.wrapping_add(step.input.offset as usize + part.pixel * in_pitch).cast_const();
    let out = arena.wrapping_add(step.output.offset as usize + part.pixel * out_pitch);
    let end = part.channel + part.channels;
    let mut channel = part.channel;
    // SAFETY: the caller's bound; saturated values are s8.
    unsafe {
        while channel + 4 <= end {
            let lines = from_fn::<_, 4, _>(|i| line(step, statistics, channel + i));
            let (mut input, mut out) = (input.wrapping_add(channel), out.wrapping_add(channel));
            for _ in 0..part.pixels {
                let word = load(input);
                let bytes = [word as i8, (word >> 8) as i8, (word >> 16) as i8, (word >> 24) as i8];
                store(out, finish::<TABLE>(from_fn(|i| lines[i].at(bytes[i])), middle));
                (input, out) = (input.wrapping_add(in_pitch), out.wrapping_add(out_pitch));
            }
            channel += 4;
        }
        while channel < end {
            let line = line(step, statistics, channel);
            let (mut input, mut out) = (input.wrapping_add(channel), out.wrapping_add(channel));
            for _ in 0..part.pixels {
                let q = line.at(input.read());
                out.write(if TABLE { middle.wrapping_offset(q as i32 as isize).read() } else { q as u8 } as i8);
                (input, out) = (input.wrapping_add(in_pitch), out.wrapping_add(out_pitch));
            }
            channel += 1;
        }
    }
}
