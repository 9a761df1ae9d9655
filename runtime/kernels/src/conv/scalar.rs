//! The portable convolution: four output channels for each load of an activation, dot products over the longest run
//! that is contiguous in both operands.

use crate::add::sum;
use crate::bytes::i32_at;
use crate::plan::Conv;
use crate::requant::requantise;
use crate::table::lookup;

/// Output channels computed together.
const BLOCK: usize = 4;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, and `row` must
/// be less than `step.rows()`.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, row: usize) {
    // SAFETY: the same condition.
    unsafe { body(arena, step, row) }
}

/// The kernel itself, to be compiled again for other instruction sets.
///
/// # Safety
/// As [`run`].
#[inline(always)]
pub(super) unsafe fn body(arena: *mut i8, step: &Conv<'_>, row: usize) {
    let channels = step.output.channels as usize;
    // SAFETY: `fits` makes the bank `rows * channels` words long.
    let bias = unsafe { step.bias.as_ptr().add(4 * row * channels) };
    for y in 0..step.output.height as usize {
        for x in 0..step.output.width as usize {
            let window = Window::new(step, y, x);
            let pixel = y * step.output.width as usize + x;
            let mut o = 0;
            // SAFETY: both blocks end at or before the last output channel, and the pixel is inside the output.
            unsafe {
                while o + BLOCK <= channels {
                    let acc = window.accumulate::<BLOCK>(arena, step, bias, o);
                    finish(arena, step, pixel, o, acc);
                    o += BLOCK;
                }
                while o < channels {
                    let acc = window.accumulate::<1>(arena, step, bias, o);
                    finish(arena, step, pixel, o, acc);
                    o += 1;
                }
            }
        }
    }
}

/// The input pixels that one output pixel sees: kernel rows and columns outside `inside` read padding.
struct Window {
    /// (Upsampled) input place of the kernel's first row and column; negative in the padding.
    origin: [i32; 2],
    /// Kernel rows and columns that lie inside the input, as half-open ranges inside the kernel.
    inside: [[i32; 2]; 2],
}

impl Window {
    #[inline(always)]
    fn new(step: &Conv<'_>, y: usize, x: usize) -> Window {
        let upsample = step.upsample as i32;
        let axis = |at: usize, stride: u8, pad: u8, kernel: u8, size: u16| {
            let origin = at as i32 * stride as i32 - pad as i32;
            let kernel = kernel as i32;
            let low = (-origin).max(0).min(kernel);
            let high = (size as i32 * upsample - origin).min(kernel).max(low);
            (origin, [low, high])
        };
        let (oy, rows) = axis(y, step.stride[0], step.pad[0], step.kernel[0], step.input.height);
        let (ox, columns) = axis(x, step.stride[1], step.pad[1], step.kernel[1], step.input.width);
        Window { origin: [oy, ox], inside: [rows, columns] }
    }

    /// Accumulators of output channels `o..o + B`.
    ///
    /// # Safety
    /// As [`run`], with `o + B` at most the number of output channels and `bias` the row's first word.
    #[inline(always)]
    unsafe fn accumulate<const B: usize>(
        &self,
        arena: *const i8,
        step: &Conv<'_>,
        bias: *const u8,
        o: usize,
    ) -> [i32; B] {
        let channels = step.input.channels as usize;
        let pitch = step.input.pitch as usize;
        let line = step.kernel[1] as usize * channels;
        let taps = step.kernel[0] as usize * line;
        let [[top, bottom], [left, right]] = self.inside;
        let (before, inner) = (left as usize * channels, (right - left) as usize * channels);
        let zero_point = step.input_zero_point;
        let contiguous = step.upsample == 1 && pitch == channels;
        let mut acc = [0; B];
        // SAFETY: there are `channels` words for each row of the bank, and `o + B` is at most `channels`. Filter `o`
        // has `taps` weights; every run below lies inside one kernel row of it. Input places are inside the input by
        // the construction of `inside`, and `fits` puts that inside the arena.
        unsafe {
            for (b, acc) in acc.iter_mut().enumerate() {
                *acc = i32_at(bias, o + b);
            }
            let filters = step.weights.as_ptr().cast::<i8>().add(o * taps);
            let input = arena.add(step.input.offset as usize);
            for ky in 0..step.kernel[0] as i32 {
                let weights = filters.add(ky as usize * line);
                if ky < top || ky >= bottom {
                    constant(&mut acc, zero_point, weights, taps, line);
                    continue;
                }
                constant(&mut acc, zero_point, weights, taps, before);
                constant(&mut acc, zero_point, weights.add(before + inner), taps, line - before - inner);
                let iy = ((self.origin[0] + ky) as usize) >> (step.upsample - 1);
                let source = input.add(iy * step.input.width as usize * pitch);
                if contiguous {
                    let ix = (self.origin[1] + left) as usize;
                    dot(&mut acc, source.add(ix * pitch), weights.add(before), taps, inner);
                } else {
                    for kx in left..right {
                        let ix = ((self.origin[1] + kx) as usize) >> (step.upsample - 1);
                        dot(&mut acc, source.add(ix * pitch), weights.add(kx as usize * channels), taps, channels);
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

/// Requantises, adds the residual, applies the table and stores channels `o..o + B` of one pixel.
///
/// # Safety
/// As [`run`], with `pixel` inside the output and `o + B` at most the number of output channels.
#[inline(always)]
unsafe fn finish<const B: usize>(arena: *mut i8, step: &Conv<'_>, pixel: usize, o: usize, acc: [i32; B]) {
    for (b, acc) in acc.into_iter().enumerate() {
        // SAFETY: there is a multiplier for each output channel; the output's and the residual's spans hold the
        // channel `o + b` of each pixel. The residual is read before the same byte is written.
        unsafe {
            let multiplier = i32_at(step.multipliers.as_ptr(), o + b);
            let mut q = requantise(acc, step.left_shift, multiplier, step.output_zero_point);
            if let Some(residual) = &step.residual {
                let slot = &residual.slot;
                q = sum(
                    q,
                    arena.add(slot.offset as usize + pixel * slot.pitch as usize + o + b).read(),
                    &residual.params,
                );
            }
            if let Some(table) = step.table {
                q = lookup(table, q);
            }
            arena.add(step.output.offset as usize + pixel * step.output.pitch as usize + o + b).write(q);
        }
    }
}
