//! The norms sixteen channels at a time, whose slopes and intercepts stay in registers: for compilers of vector code.

use super::{POINT, Statistics};
use crate::bytes::i32_at;
use crate::plan::{Norm, NormKind};
use crate::requant::saturate;

/// Channels treated together.
const BLOCK: usize = 16;
/// Most channels whose groups are normalised together, row by row; more are normalised group by group.
const MOST: usize = 1024;
/// Pixels whose squares fit a u32.
const PIXELS: usize = 1 << 16;

/// Sixteen values.
pub(super) type Block = [i8; BLOCK];
/// Slopes and intercepts of sixteen channels.
pub(super) type Line = [[i32; BLOCK]; 2];

/// What an instruction set does in its own way.
pub(super) trait Vector {
    /// What the step's table makes of sixteen values.
    fn look(&self, values: Block) -> Block;

    /// The line of channels whose gains and offsets these are.
    #[inline(always)]
    fn line(&self, statistics: &Statistics, gains: &[i32; BLOCK], gain_shift: u8, offsets: &[i32; BLOCK]) -> Line {
        let slopes = gains.map(|gain| statistics.slope(gain, gain_shift));
        let mut intercepts = *offsets;
        for (intercept, &slope) in intercepts.iter_mut().zip(&slopes) {
            *intercept = statistics.intercept(slope, *intercept);
        }
        [slopes, intercepts]
    }
}

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
#[inline(always)]
pub(super) unsafe fn run(arena: *mut i8, step: &Norm<'_>, vector: &impl Vector) {
    let channels = step.input.channels as usize;
    let pixels = step.input.pixels();
    // SAFETY: pixel and channel ranges are inside the tensor.
    unsafe {
        match step.kind {
            NormKind::Layer | NormKind::Rms => {
                for pixel in 0..pixels {
                    normalise(arena, step, vector, [pixel, pixel + 1], [0, channels]);
                }
            }
            NormKind::Group { groups } if channels <= MOST => run_groups(arena, step, vector, groups as usize),
            NormKind::Group { groups } => {
                let size = channels / groups as usize;
                for group in 0..groups as usize {
                    normalise(arena, step, vector, [0, pixels], [group * size, (group + 1) * size]);
                }
            }
        }
    }
}

/// # Safety
/// As [`run`], with both ranges inside the tensor and not empty.
#[inline(always)]
unsafe fn normalise(arena: *mut i8, step: &Norm<'_>, vector: &impl Vector, pixels: [usize; 2], channels: [usize; 2]) {
    let (in_pitch, out_pitch) = (step.input.pitch as usize, step.output.pitch as usize);
    let width = channels[1] - channels[0];
    // SAFETY: `fits` puts both spans inside the arena and makes the constants a word for each channel; every value is
    // read for the statistics before the first is written, and again before its own place is.
    unsafe {
        let input = arena.add(step.input.offset as usize).cast_const();
        let output = arena.add(step.output.offset as usize);
        let (mut sum, mut squares) = (0i32, 0u64);
        for pixel in pixels[0]..pixels[1] {
            let row = input.add(pixel * in_pitch + channels[0]);
            // Squares of 65,535 channels fit a u32.
            let (mut part, mut square) = (0i32, 0u32);
            for i in 0..width {
                let q = row.add(i).read() as i32;
                part += q;
                square += (q * q) as u32;
            }
            sum += part;
            squares += square as u64;
        }
        let statistics = Statistics::of(step, (pixels[1] - pixels[0]) * width, sum, squares);
        let mut first = channels[0];
        while first < channels[1] {
            let count = (channels[1] - first).min(BLOCK);
            let (gains, offsets) = (words(step.gain, first, count), words(step.offset, first, count));
            let [slopes, intercepts] = vector.line(&statistics, &gains, step.gain_shift, &offsets);
            for pixel in pixels[0]..pixels[1] {
                let from = input.add(pixel * in_pitch + first);
                let to = output.add(pixel * out_pitch + first);
                store(to, count, vector.look(apply(load(from, count), &slopes, &intercepts)));
            }
            first += count;
        }
    }
}

/// Group norm of up to `MOST` channels: sums of each channel, then of each group, then all pixels row by row.
///
/// # Safety
/// As [`run`].
#[inline(always)]
unsafe fn run_groups(arena: *mut i8, step: &Norm<'_>, vector: &impl Vector, groups: usize) {
    let (channels, pixels) = (step.input.channels as usize, step.input.pixels());
    let (in_pitch, out_pitch) = (step.input.pitch as usize, step.output.pitch as usize);
    let (mut sums, mut squares) = ([0i32; MOST], [0u64; MOST]);
    let (mut slopes, mut intercepts) = ([0i32; MOST], [0i32; MOST]);
    // SAFETY: `fits` puts both spans inside the arena and makes the constants a word for each channel, of which there are
    // at most `MOST`, a multiple of a block; every value is read for the statistics before the first is written, and again
    // before its own place is.
    unsafe {
        let input = arena.add(step.input.offset as usize).cast_const();
        let output = arena.add(step.output.offset as usize);
        for first in (0..channels).step_by(BLOCK) {
            let count = (channels - first).min(BLOCK);
            for start in (0..pixels).step_by(PIXELS) {
                let (mut sum, mut square) = ([0i32; BLOCK], [0u32; BLOCK]);
                for pixel in start..(start + PIXELS).min(pixels) {
                    let values = load(input.add(pixel * in_pitch + first), count);
                    for ((q, sum), square) in values.iter().zip(&mut sum).zip(&mut square) {
                        let q = *q as i32;
                        *sum += q;
                        *square += (q * q) as u32;
                    }
                }
                for i in 0..BLOCK {
                    sums[first + i] += sum[i];
                    squares[first + i] += square[i] as u64;
                }
            }
        }
        let size = channels / groups;
        for first in (0..channels).step_by(size) {
            let of = first..first + size;
            let sum = sums[of.clone()].iter().sum();
            let square = squares[of.clone()].iter().sum();
            let statistics = Statistics::of(step, pixels * size, sum, square);
            for channel in of {
                slopes[channel] = statistics.slope(i32_at(step.gain.as_ptr(), channel), step.gain_shift);
                intercepts[channel] = statistics.intercept(slopes[channel], i32_at(step.offset.as_ptr(), channel));
            }
        }
        for pixel in 0..pixels {
            for first in (0..channels).step_by(BLOCK) {
                let count = (channels - first).min(BLOCK);
                let values = load(input.add(pixel * in_pitch + first), count);
                let constants = |of: &[i32; MOST]| of.as_ptr().add(first).cast::<[i32; BLOCK]>().read();
                let values = apply(values, &constants(&slopes), &constants(&intercepts));
                store(output.add(pixel * out_pitch + first), count, vector.look(values));
            }
        }
    }
}

/// `count` words of a constant from word `first` on; the others are zero.
///
/// # Safety
/// The constant must have them.
#[inline(always)]
unsafe fn words(constant: &[u8], first: usize, count: usize) -> [i32; BLOCK] {
    let mut words = [0; BLOCK];
    for (i, word) in words.iter_mut().enumerate().take(count) {
        // SAFETY: the caller's bound.
        *word = unsafe { i32_at(constant.as_ptr(), first + i) };
    }
    words
}

/// The normalised values before the table.
#[inline(always)]
fn apply(mut values: Block, slopes: &[i32; BLOCK], intercepts: &[i32; BLOCK]) -> Block {
    for ((q, slope), intercept) in values.iter_mut().zip(slopes).zip(intercepts) {
        *q = saturate((*q as i32 * slope + intercept + (1 << (POINT - 1))) >> POINT);
    }
    values
}

/// # Safety
/// `from` must be readable for `count` bytes, at most a block.
#[inline(always)]
unsafe fn load(from: *const i8, count: usize) -> Block {
    // SAFETY: a whole block is read only where all of it exists.
    unsafe {
        if count == BLOCK {
            return from.cast::<Block>().read_unaligned();
        }
        let mut values = [0; BLOCK];
        values.as_mut_ptr().copy_from_nonoverlapping(from, count);
        values
    }
}

/// # Safety
/// `to` must be writable for `count` bytes, at most a block.
#[inline(always)]
unsafe fn store(to: *mut i8, count: usize, values: Block) {
    // SAFETY: as above.
    unsafe {
        if count == BLOCK {
            to.cast::<Block>().write_unaligned(values);
        } else {
            to.copy_from_nonoverlapping(values.as_ptr(), count);
        }
    }
}
