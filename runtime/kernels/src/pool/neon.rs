//! Pools on AArch64: sixteen channels at a time.

use core::arch::aarch64::*;

use super::window::Window;
use crate::elements::LANES;
use crate::neon::{Requantise, load, narrow, store};
use crate::plan::{Pool, PoolKind};

/// Places whose sum fits 16 bits.
const PLACES: usize = 256;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &Pool) {
    let (input, output) = (&step.input, &step.output);
    let channels = output.channels as usize;
    Window::all(step, |pixel, window| {
        for first in (0..channels).step_by(LANES) {
            let count = (channels - first).min(LANES);
            // SAFETY: the window is cut to the input, whose span is inside the arena, as is the output's.
            unsafe {
                let from = arena.add(input.offset as usize + first).cast_const();
                let q = match step.kind {
                    PoolKind::Max => max(window, from, count),
                    PoolKind::Average { input_zero_point, multiplier, left_shift, zero_point } => {
                        let law = Requantise::new(left_shift, multiplier, zero_point);
                        let zeros = vdupq_n_s32(-(window.places() as i32).wrapping_mul(input_zero_point.into()));
                        narrow(sum(window, from, count).map(|sum| law.of(vaddq_s32(sum, zeros))))
                    }
                };
                store(arena.add(output.offset as usize + pixel * output.pitch as usize + first), count, q);
            }
        }
    });
}

/// The largest value of each channel.
///
/// # Safety
/// `count` channels of every place from `from` on must be readable.
#[inline(always)]
unsafe fn max(window: &Window, from: *const i8, count: usize) -> int8x16_t {
    // SAFETY: the caller's bound.
    unsafe {
        let mut max = vdupq_n_s8(i8::MIN);
        window.each(from, |place| max = vmaxq_s8(max, load(place, count)));
        max
    }
}

/// The sum of each channel.
///
/// # Safety
/// As [`max`].
#[inline(always)]
unsafe fn sum(window: &Window, from: *const i8, count: usize) -> [int32x4_t; 4] {
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
        window.each(from, |place| {
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
