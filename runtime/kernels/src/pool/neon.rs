//! Pools on AArch64: sixteen channels at a time.

use core::arch::aarch64::*;

use crate::neon::{LANES, Requantise, load, narrow, store};
use crate::plan::{Pool, PoolKind};

/// Places whose sum fits 16 bits.
const PLACES: usize = 256;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Pool) {
    let (input, output) = (&step.input, &step.output);
    let range = |axis: usize, at: usize, size: u16| {
        let first = at * step.stride[axis] as usize;
        let pad = step.pad[axis] as usize;
        let low = first.saturating_sub(pad);
        let high = (first + step.kernel[axis] as usize).saturating_sub(pad).min(size as usize);
        [low, high]
    };
    let (width, pitch) = (input.width as usize, input.pitch as usize);
    for y in 0..output.height as usize {
        for x in 0..output.width as usize {
            let window = Window { rows: range(0, y, input.height), columns: range(1, x, input.width), width, pitch };
            let channels = output.channels as usize;
            // SAFETY: the window is cut to the input, whose span is inside the arena, as is the output's.
            unsafe {
                let from = arena.add(input.offset as usize).cast_const();
                let to = arena.add(output.offset as usize + (y * output.width as usize + x) * output.pitch as usize);
                let mut first = 0;
                while first < channels {
                    let count = (channels - first).min(LANES);
                    let q = match step.kind {
                        PoolKind::Max => window.max(from.add(first), count),
                        PoolKind::Average { input_zero_point, multiplier, left_shift, zero_point } => {
                            let law = Requantise::new(left_shift, multiplier, zero_point);
                            let zeros = vdupq_n_s32(-(window.places() as i32).wrapping_mul(input_zero_point.into()));
                            let sums = window.sum(from.add(first), count);
                            narrow(sums.map(|sum| law.of(vaddq_s32(sum, zeros))))
                        }
                    };
                    store(to.add(first), count, q);
                    first += count;
                }
            }
        }
    }
}

/// The places of a window that lie inside the input, as half-open ranges.
struct Window {
    rows: [usize; 2],
    columns: [usize; 2],
    /// Pixels of an input row.
    width: usize,
    pitch: usize,
}

impl Window {
    fn places(&self) -> usize {
        (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])
    }

    /// Calls `each` with the first channel of every place.
    #[inline(always)]
    fn each(&self, from: *const i8, mut each: impl FnMut(*const i8)) {
        for y in self.rows[0]..self.rows[1] {
            for x in self.columns[0]..self.columns[1] {
                each(from.wrapping_add((y * self.width + x) * self.pitch));
            }
        }
    }

    /// # Safety
    /// `count` channels of every place from `from` on must be readable.
    #[inline(always)]
    unsafe fn max(&self, from: *const i8, count: usize) -> int8x16_t {
        // SAFETY: the caller's bound.
        unsafe {
            let mut max = vdupq_n_s8(i8::MIN);
            self.each(from, |place| max = vmaxq_s8(max, load(place, count)));
            max
        }
    }

    /// # Safety
    /// As [`Self::max`].
    #[inline(always)]
    unsafe fn sum(&self, from: *const i8, count: usize) -> [int32x4_t; 4] {
        // SAFETY: the caller's bound.
        unsafe {
            let mut sums = [vdupq_n_s32(0); 4];
            let mut part = [vdupq_n_s16(0); 2];
            let mut room = PLACES;
            let flush = |sums: &mut [int32x4_t; 4], part: &mut [int16x8_t; 2]| {
                sums[0] = vaddw_s16(sums[0], vget_low_s16(part[0]));
                sums[1] = vaddw_high_s16(sums[1], part[0]);
                sums[2] = vaddw_s16(sums[2], vget_low_s16(part[1]));
                sums[3] = vaddw_high_s16(sums[3], part[1]);
                *part = [vdupq_n_s16(0); 2];
            };
            self.each(from, |place| {
                let q = load(place, count);
                part = [vaddw_s8(part[0], vget_low_s8(q)), vaddw_high_s8(part[1], q)];
                room -= 1;
                if room == 0 {
                    flush(&mut sums, &mut part);
                    room = PLACES;
                }
            });
            flush(&mut sums, &mut part);
            sums
        }
    }
}
