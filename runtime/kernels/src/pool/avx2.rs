//! Pools on x86-64 with AVX2: sixteen channels at a time.

use core::arch::x86_64::*;

use super::window::Window;
use crate::avx2::{Requantise, load, narrow, store};
use crate::elements::LANES;
use crate::plan::{Pool, PoolKind};

/// Places whose sum fits 16 bits.
const PLACES: usize = 256;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
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
                        let zeros = (window.places() as i32).wrapping_mul(input_zero_point.into());
                        let acc = |sum| law.of(_mm256_sub_epi32(sum, _mm256_set1_epi32(zeros)));
                        let [low, high] = sum(window, from, count);
                        narrow(acc(low), acc(high))
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
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn max(window: &Window, from: *const i8, count: usize) -> __m128i {
    let mut max = _mm_set1_epi8(i8::MIN);
    // SAFETY: the caller's bound.
    window.each(from, |place| max = _mm_max_epi8(max, unsafe { load(place, count) }));
    max
}

/// The sum of each channel, in order.
///
/// # Safety
/// As [`max`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn sum(window: &Window, from: *const i8, count: usize) -> [__m256i; 2] {
    let mut sums = [_mm256_setzero_si256(); 2];
    let mut part = _mm256_setzero_si256();
    let mut room = PLACES;
    let wider = |sums: [__m256i; 2], part: __m256i| {
        [
            _mm256_add_epi32(sums[0], _mm256_cvtepi16_epi32(_mm256_castsi256_si128(part))),
            _mm256_add_epi32(sums[1], _mm256_cvtepi16_epi32(_mm256_extracti128_si256(part, 1))),
        ]
    };
    window.each(from, |place| {
        // SAFETY: the caller's bound.
        part = _mm256_add_epi16(part, _mm256_cvtepi8_epi16(unsafe { load(place, count) }));
        room -= 1;
        if room == 0 {
            sums = wider(sums, part);
            (part, room) = (_mm256_setzero_si256(), PLACES);
        }
    });
    wider(sums, part)
}
