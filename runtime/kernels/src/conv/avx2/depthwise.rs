//! Depthwise: sixteen channels of four pixels at a time, kernel places in pairs.

use core::arch::x86_64::*;

use super::super::layer::Layer;
use super::super::places::{Padding, Places};
use super::epilogue::{Constants, Epilogue, NR};
use crate::plan::HOST_PLACES;

/// Pixels in registers.
const MR: usize = 4;

/// Runs a layer packed as [`crate::conv::AVX2_DEPTHWISE`].
///
/// # Safety
/// As [`super::run_layer`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let [height, width] = geometry.pixels;
    let channels = layer.output.channels as usize;
    let taps = (geometry.kernel[0] * geometry.kernel[1]) as usize;
    let epilogue = Epilogue::of(layer);
    let padding: Padding = [layer.zero_point; size_of::<Padding>()];
    let mut places = Places::<MR>::of(layer, &padding);
    for (y, x) in (0..height).flat_map(|y| (0..width).step_by(MR).map(move |x| (y, x))) {
        let count = (width - x).min(MR);
        let pixels: [usize; MR] = core::array::from_fn(|m| geometry.pixel([y, x + m]));
        let are_runs = places.find([y, x], count, arena);
        for o in (0..channels).step_by(NR) {
            let mut from = if are_runs { o } else { 0 };
            // SAFETY: each block of channels has `taps` vectors of weights, and a word of each constant for each channel;
            // the places have channels up to the last, and only of the last block there may be fewer than a vector.
            unsafe {
                if channels - o < NR {
                    places.copy(taps, from, channels - o);
                    from = 0;
                }
                let acc = accumulate(&places.at, taps, from, layer.weights.add(o * taps).cast());
                epilogue.finish(arena, &Constants::load(layer, o), acc, &pixels[..count], o);
            }
            if !are_runs {
                places.advance(taps);
            }
        }
    }
}

/// Sums of products of `taps` kernel places.
///
/// # Safety
/// Sixteen channels from the `o`-th on must be readable at every place, and `weights` for a vector of each.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn accumulate(
    places: &[[*const i8; MR]; HOST_PLACES],
    taps: usize,
    o: usize,
    weights: *const i8,
) -> [[__m256i; 2]; MR] {
    // SAFETY: the caller's bound.
    let wide = |at: *const i8| unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())) };
    // The halves of a first sum are channels 0-3 and 8-11, those of a second 4-7 and 12-15.
    let mut acc = [[_mm256_setzero_si256(); 2]; MR];
    for (pair, at) in places[..taps.min(HOST_PLACES)].chunks(2).enumerate() {
        let weights = weights.wrapping_add(2 * NR * pair);
        let (first, second, w1) = match at {
            [first, second] => (first, second, wide(weights.wrapping_add(NR))),
            [first] => (first, first, _mm256_setzero_si256()),
            _ => continue,
        };
        let w0 = wide(weights);
        let (low, high) = (_mm256_unpacklo_epi16(w0, w1), _mm256_unpackhi_epi16(w0, w1));
        for ((acc, &first), &second) in acc.iter_mut().zip(first).zip(second) {
            let (x0, x1) = (wide(first.wrapping_add(o)), wide(second.wrapping_add(o)));
            acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), low));
            acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), high));
        }
    }
    acc.map(|[a, b]| [_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)])
}
