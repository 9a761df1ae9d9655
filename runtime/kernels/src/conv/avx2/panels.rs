//! Six pixels by sixteen channels: two vectors of weights serve six broadcast pairs of activations.

use core::arch::x86_64::*;

use super::super::layer::Layer;
use super::epilogue::{Constants, Epilogue};
use super::windows::Windows;

pub(crate) use super::epilogue::NR;
pub(crate) use super::windows::convert;

/// Products that lie together.
pub(crate) const KR: usize = 2;
/// Pixels in registers.
pub(crate) const MR: usize = 6;

/// Computes all channels of a block of pixels.
///
/// # Safety
/// As [`super::run_layer`], with the windows readable and their pixels inside the output.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>, windows: Windows<'_>) {
    let products = windows.products;
    let epilogue = Epilogue::of(layer);
    for panel in 0..(layer.output.channels as usize).div_ceil(NR) {
        // SAFETY: a panel holds `NR * products` bytes, and the constants a word for each of its channels.
        let (weights, constants) =
            unsafe { (layer.weights.add(panel * NR * products), Constants::load(layer, panel * NR)) };
        for (tile, pixels) in windows.pixels.chunks(MR).enumerate() {
            macro_rules! tiles {
                ($($m:literal)*) => {
                    $(if let Ok(pixels) = <&[usize; $m]>::try_from(pixels) {
                        // SAFETY: the tile's windows are in the buffer, one for each of its pixels.
                        unsafe {
                            let acc = accumulate::<$m>(windows.first.add(tile * MR * products), weights, products);
                            epilogue.finish(arena, &constants, acc, pixels, panel * NR);
                        }
                        continue;
                    })*
                };
            }
            tiles!(6 5 4 3 2 1);
        }
    }
}

/// Sums of products of `M` windows with a panel of sixteen channels, as two vectors of eight.
///
/// # Safety
/// `weights` must be readable for `NR * products` bytes in the order of [`crate::conv::AVX2_PANELS`], `windows` for `M`
/// times `products` numbers; `products` is even.
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) unsafe fn accumulate<const M: usize>(
    windows: *const i16,
    weights: *const u8,
    products: usize,
) -> [[__m256i; 2]; M] {
    let mut acc = [[_mm256_setzero_si256(); 2]; M];
    // SAFETY: pair `p` of the panel is `NR * KR` bytes from `p * NR * KR` on, and two numbers of each window.
    unsafe {
        for pair in 0..products / KR {
            let at = weights.add(pair * NR * KR).cast::<__m128i>();
            let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(at));
            let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(1)));
            for (m, acc) in acc.iter_mut().enumerate() {
                let pair = windows.add(m * products + pair * KR).cast::<i32>().read_unaligned();
                let x = _mm256_set1_epi32(pair);
                acc[0] = _mm256_add_epi32(acc[0], _mm256_madd_epi16(x, low));
                acc[1] = _mm256_add_epi32(acc[1], _mm256_madd_epi16(x, high));
            }
        }
    }
    acc
}
