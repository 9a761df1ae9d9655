//! Depthwise: sixteen channels of four pixels at a time, kernel places in pairs.

use core::arch::x86_64::*;

use super::super::geometry::Region;
use super::super::layer::Layer;
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
    let padding = [layer.zero_point; NR];
    let mut places = Places::of(layer, &padding);
    let mut copies = [[[0; NR]; MR]; HOST_PLACES];
    for (y, x) in (0..height).flat_map(|y| (0..width).step_by(MR).map(move |x| (y, x))) {
        let count = (width - x).min(MR);
        let pixels: [usize; MR] = core::array::from_fn(|m| geometry.pixel([y, x + m]));
        for m in 0..MR {
            let at = (m < count).then_some([y, x + m]);
            places.find(m, at, arena);
        }
        for o in (0..channels).step_by(NR) {
            // SAFETY: each block of channels has `taps` vectors of weights, and a word of each constant for each channel;
            // the places have channels up to the last, and only of the last block there may be fewer than a vector.
            unsafe {
                if channels - o < NR {
                    places.copy(taps, channels - o, &mut copies);
                }
                let acc = accumulate(&places.at, taps, layer.weights.add(o * taps).cast());
                epilogue.finish(arena, &Constants::load(layer, o), acc, &pixels[..count], o);
            }
            places.advance(taps);
        }
    }
}

/// Where four pixels read their kernel places.
struct Places<'s> {
    layer: &'s Layer<'s>,
    padding: &'s [i8; NR],
    interior: Region,
    /// From a window's first place to the others, in elements.
    offsets: [usize; HOST_PLACES],
    /// Sixteen channels of each place.
    at: [[*const i8; MR]; HOST_PLACES],
    /// From them to the next sixteen; zero where the place is padding, whose values serve all channels.
    step: [[usize; MR]; HOST_PLACES],
}

impl<'s> Places<'s> {
    fn of(layer: &'s Layer<'s>, padding: &'s [i8; NR]) -> Places<'s> {
        let (geometry, input) = (&layer.geometry, layer.input);
        let columns = geometry.kernel[1] as usize;
        let [down, right] = geometry.dilation.map(|n| n as usize);
        let offset =
            |tap: usize| (tap / columns * down * input.width as usize + tap % columns * right) * input.pitch as usize;
        Places {
            layer,
            padding,
            interior: geometry.interior(input),
            offsets: core::array::from_fn(offset),
            at: [[padding.as_ptr(); MR]; HOST_PLACES],
            step: [[0; MR]; HOST_PLACES],
        }
    }

    /// Finds the places of the pixel at `at`; one that is not there reads padding.
    fn find(&mut self, m: usize, at: Option<[usize; 2]>, arena: *const i8) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let [rows, columns] = geometry.kernel;
        let mut places = self.at.iter_mut().zip(&mut self.step);
        let first = arena.wrapping_add(input.offset as usize);
        match at {
            Some(at) if self.interior.contains(at) && geometry.upsample_shift == 0 => {
                let first = first.wrapping_add(geometry.first_place(input, at));
                for ((place, step), offset) in places.zip(self.offsets).take((rows * columns) as usize) {
                    (place[m], step[m]) = (first.wrapping_add(offset), NR);
                }
            }
            _ => {
                let window = at.map(|at| geometry.window(input, at));
                for (ky, kx) in (0..rows).flat_map(|ky| (0..columns).map(move |kx| (ky, kx))) {
                    let Some((place, step)) = places.next() else { return };
                    (place[m], step[m]) = match &window {
                        Some(window) if window.contains([ky, kx]) => {
                            (first.wrapping_add(geometry.place(input, window, [ky, kx])), NR)
                        }
                        _ => (self.padding.as_ptr(), 0),
                    };
                }
            }
        }
    }

    /// Goes on to the next sixteen channels.
    #[inline]
    fn advance(&mut self, taps: usize) {
        for (at, step) in self.at.iter_mut().zip(&self.step).take(taps) {
            for (at, step) in at.iter_mut().zip(step) {
                *at = at.wrapping_add(*step);
            }
        }
    }

    /// Copies places with fewer than sixteen channels to where they have sixteen.
    ///
    /// # Safety
    /// `count` channels must be readable at every place.
    #[target_feature(enable = "avx2")]
    unsafe fn copy(&mut self, taps: usize, count: usize, copies: &mut [[[i8; NR]; MR]; HOST_PLACES]) {
        for (at, copies) in self.at.iter_mut().zip(copies).take(taps) {
            for (at, copy) in at.iter_mut().zip(copies) {
                // SAFETY: the caller's bound.
                unsafe { copy.as_mut_ptr().copy_from_nonoverlapping(*at, count) };
                *at = copy.as_ptr();
            }
        }
    }
}

/// Sums of products of `taps` kernel places.
///
/// # Safety
/// Sixteen channels must be readable at every place, and `weights` for a vector of each.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn accumulate(places: &[[*const i8; MR]; HOST_PLACES], taps: usize, weights: *const i8) -> [[__m256i; 2]; MR] {
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
            let (x0, x1) = (wide(first), wide(second));
            acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(_mm256_unpacklo_epi16(x0, x1), low));
            acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(_mm256_unpackhi_epi16(x0, x1), high));
        }
    }
    acc.map(|[a, b]| [_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31)])
}
