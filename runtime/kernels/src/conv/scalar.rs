//! The portable convolution: four output channels for each load of an activation, dot products over the longest run
//! that is contiguous in both operands.

use super::epilogue::finish;
use super::geometry::{Geometry, Window};
use crate::bytes::i32_at;
use crate::plan::{Conv, ConvTranspose, Epilogue, Slot};

/// Output channels computed together.
const BLOCK: usize = 4;

/// Runs a convolution whose weights are in the order `[o][ky][kx][i]`; `bias` is the first word of a row of the bank.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { body(arena, step, bias) }
}

/// The kernel itself, to be compiled again for other instruction sets.
///
/// # Safety
/// As [`run`].
#[inline(always)]
pub(super) unsafe fn body(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    let groups = step.groups as usize;
    let (inputs, outputs) = (step.inputs_per_group(), step.output.channels as usize / groups);
    let taps = step.kernel[0] as usize * step.kernel[1] as usize * inputs;
    let geometry = Geometry::of(step);
    for group in 0..groups {
        let part = Part {
            geometry: &geometry,
            // The channels of the group lie in the pixels of all.
            input: Slot { offset: step.input.offset + (group * inputs) as u32, channels: inputs as u16, ..step.input },
            zero_point: step.input_zero_point,
            epilogue: &step.epilogue,
            output: &step.output,
            outputs: [group * outputs, (group + 1) * outputs],
        };
        // SAFETY: `fits` makes the weights `taps` bytes for each output channel, and the rest is the same condition.
        unsafe {
            let filters = step.weights.as_ptr().cast::<i8>().add(group * outputs * taps);
            part.run(arena, filters, bias);
        };
    }
}

/// Runs a transposed convolution whose phases have their weights in the order `[o][ky][kx][i]`; `bias` is the part
/// of a row of the bank for the first phase.
///
/// # Safety
/// As [`run`].
#[inline(never)]
pub unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    for r in 0..step.stride[0] {
        for c in 0..step.stride[1] {
            let geometry = Geometry::of_phase(step, [r, c]);
            let part = Part {
                geometry: &geometry,
                input: step.input,
                zero_point: step.input_zero_point,
                epilogue: &step.epilogue,
                output: &step.output,
                outputs: [0, step.output.channels as usize],
            };
            let phase = r as usize * step.stride[1] as usize + c as usize;
            // SAFETY: each row of the bank has a part for each phase, and each phase has its weights.
            unsafe {
                let filters = step.weights.as_ptr().cast::<i8>().add(step.phase_offset([r, c]));
                part.run(arena, filters, bias.add(phase * step.epilogue.multipliers.len()));
            }
        }
    }
}

/// One group of a convolution, or one phase of a transposed one.
struct Part<'s> {
    geometry: &'s Geometry,
    /// The channels that the filters read.
    input: Slot,
    zero_point: i8,
    epilogue: &'s Epilogue<'s>,
    output: &'s Slot,
    /// Output channels that are computed, as a half-open range.
    outputs: [usize; 2],
}

impl Part<'_> {
    /// # Safety
    /// As [`run`], with `filters` the weights of the first output channel of the part and `bias` the first word of the
    /// bias row of all channels.
    #[inline(always)]
    unsafe fn run(&self, arena: *mut i8, filters: *const i8, bias: *const u8) {
        let taps = (self.geometry.kernel[0] * self.geometry.kernel[1]) as usize * self.input.channels as usize;
        let [first, end] = self.outputs;
        for y in 0..self.geometry.pixels[0] {
            for x in 0..self.geometry.pixels[1] {
                let window = self.geometry.window(&self.input, [y, x]);
                let pixel = self.geometry.pixel([y, x]);
                let mut o = first;
                // SAFETY: both blocks end at or before the last output channel, and the pixel is inside the output.
                unsafe {
                    while o + BLOCK <= end {
                        let acc = self.accumulate::<BLOCK>(arena, &window, filters.add((o - first) * taps), bias, o);
                        finish(arena, self.epilogue, self.output, pixel, o, acc);
                        o += BLOCK;
                    }
                    while o < end {
                        let acc = self.accumulate::<1>(arena, &window, filters.add((o - first) * taps), bias, o);
                        finish(arena, self.epilogue, self.output, pixel, o, acc);
                        o += 1;
                    }
                }
            }
        }
    }

    /// Accumulators of output channels `o..o + B`, whose filters begin at `filters`.
    ///
    /// # Safety
    /// As [`run`], with `o + B` at most the number of output channels and `bias` the row's first word.
    #[inline(always)]
    unsafe fn accumulate<const B: usize>(
        &self,
        arena: *const i8,
        window: &Window,
        filters: *const i8,
        bias: *const u8,
        o: usize,
    ) -> [i32; B] {
        let geometry = self.geometry;
        let channels = self.input.channels as usize;
        let line = geometry.kernel[1] as usize * channels;
        let taps = geometry.kernel[0] as usize * line;
        let [[top, bottom], [left, right]] = window.inside;
        let (before, inner) = (left as usize * channels, (right - left) as usize * channels);
        let contiguous = geometry.rows_are_contiguous(&self.input);
        let mut acc = [0; B];
        // SAFETY: there is a word of bias for each output channel, and `o + B` is at most their number. Each filter
        // has `taps` weights; every run below lies inside one kernel row of it. Input places are inside the input by
        // the construction of the window, and `fits` puts that inside the arena.
        unsafe {
            for (b, acc) in acc.iter_mut().enumerate() {
                *acc = i32_at(bias, o + b);
            }
            let input = arena.add(self.input.offset as usize);
            for ky in 0..geometry.kernel[0] {
                let weights = filters.add(ky as usize * line);
                if ky < top || ky >= bottom {
                    constant(&mut acc, self.zero_point, weights, taps, line);
                    continue;
                }
                constant(&mut acc, self.zero_point, weights, taps, before);
                constant(&mut acc, self.zero_point, weights.add(before + inner), taps, line - before - inner);
                if contiguous {
                    if inner > 0 {
                        let source = input.add(geometry.place(&self.input, window, [ky, left]));
                        dot(&mut acc, source, weights.add(before), taps, inner);
                    }
                } else {
                    for kx in left..right {
                        let source = input.add(geometry.place(&self.input, window, [ky, kx]));
                        dot(&mut acc, source, weights.add(kx as usize * channels), taps, channels);
                    }
                }
            }
        }
        acc
    }
}

/// Adds `sum x[i] * w[b][i]` to each accumulator.
///
/// # Safety
/// `x` must be readable for `n` bytes, and `w` for `(B - 1) * stride + n`.
#[inline(always)]
unsafe fn dot<const B: usize>(acc: &mut [i32; B], x: *const i8, w: *const i8, stride: usize, n: usize) {
    for i in 0..n {
        // SAFETY: `i < n` and `b < B`.
        unsafe {
            let value = x.add(i).read() as i32;
            for (b, acc) in acc.iter_mut().enumerate() {
                *acc = acc.wrapping_add(value * w.add(b * stride + i).read() as i32);
            }
        }
    }
}

/// Adds `value * sum w[b][i]` to each accumulator: what a run of padding contributes.
///
/// # Safety
/// `w` must be readable for `(B - 1) * stride + n` bytes.
#[inline(always)]
unsafe fn constant<const B: usize>(acc: &mut [i32; B], value: i8, w: *const i8, stride: usize, n: usize) {
    for i in 0..n {
        for (b, acc) in acc.iter_mut().enumerate() {
            // SAFETY: `i < n` and `b < B`.
            *acc = acc.wrapping_add(value as i32 * unsafe { w.add(b * stride + i).read() } as i32);
        }
    }
}
