//! Four pixels by one channel, sixteen products at a time: for layers with so few channels that a panel would be mostly
//! padding.

use core::arch::x86_64::*;

use super::super::epilogue::finish;
use super::super::layer::Layer;
use super::windows::Windows;
use crate::bytes::i32_at;

/// Products that lie together.
const KR: usize = 16;
/// Pixels in registers.
const MR: usize = 4;

/// Computes all channels of a block of pixels.
///
/// # Safety
/// As [`super::run_layer`], with the windows readable and their pixels inside the output.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>, windows: Windows<'_>) {
    let products = windows.products;
    for o in 0..layer.output.channels as usize {
        for (tile, pixels) in windows.pixels.chunks(MR).enumerate() {
            // SAFETY: a channel holds `products` bytes of weights and a word of each constant; the tile's windows are in
            // the buffer, one for each of its pixels.
            unsafe {
                let weights = layer.weights.add(o * products);
                let sums = accumulate(windows.first.add(tile * MR * products), pixels.len(), weights, products);
                let bias = i32_at(layer.bias, o);
                for (sum, &pixel) in sums.into_iter().zip(pixels) {
                    finish(arena, layer.epilogue, layer.output, pixel, o, [bias.wrapping_add(sum)]);
                }
            }
        }
    }
}

/// Sums of products of up to four windows with one channel.
///
/// # Safety
/// `weights` must be readable for `products` bytes and `windows` for `count` times as many numbers; `products` is a
/// multiple of `KR`, and `count` at least one.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn accumulate(windows: *const i16, count: usize, weights: *const u8, products: usize) -> [i32; MR] {
    let mut acc = [_mm256_setzero_si256(); MR];
    // The sums of windows that are not there are those of the last.
    let window = |m: usize| m.min(count - 1) * products;
    let at: [usize; MR] = core::array::from_fn(window);
    for k in (0..products).step_by(KR) {
        // SAFETY: the caller's bound.
        unsafe {
            let w = _mm256_cvtepi8_epi16(_mm_loadu_si128(weights.add(k).cast()));
            for (acc, &at) in acc.iter_mut().zip(&at) {
                let x = _mm256_loadu_si256(windows.add(at + k).cast());
                *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(x, w));
            }
        }
    }
    let pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(acc[0], acc[1]), _mm256_hadd_epi32(acc[2], acc[3]));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    let mut out = [0; MR];
    // SAFETY: four sums are a vector.
    unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
    out
}
