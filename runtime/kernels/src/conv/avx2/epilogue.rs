//! From accumulators to bytes, sixteen channels of some pixels at a time.

use core::arch::x86_64::*;

use super::super::layer::Layer;
use crate::avx2::{Lookup, Sum, load, multiply_high, narrow, store};

/// Channels that are stored together.
pub(crate) const NR: usize = 16;

/// What the epilogue of a layer needs, loaded once.
pub(super) struct Epilogue<'s> {
    layer: &'s Layer<'s>,
    left_shift: __m128i,
    zero_point: __m256i,
    residual: Option<Sum>,
    table: Option<Lookup>,
}

/// What the epilogue of sixteen channels needs, loaded once.
#[derive(Clone, Copy)]
pub(super) struct Constants {
    bias: [__m256i; 2],
    multipliers: [__m256i; 2],
}

impl Constants {
    /// # Safety
    /// As [`super::run_layer`], with `o` the first channel of a panel or block.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) unsafe fn load(layer: &Layer<'_>, o: usize) -> Constants {
        // SAFETY: bias and multipliers have a word for each padded channel.
        let two = |words: *const u8| unsafe {
            let at = words.add(4 * o).cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        };
        Constants { bias: two(layer.bias), multipliers: two(layer.epilogue.multipliers.as_ptr()) }
    }
}

impl<'s> Epilogue<'s> {
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn of(layer: &'s Layer<'s>) -> Epilogue<'s> {
        let epilogue = layer.epilogue;
        Epilogue {
            layer,
            left_shift: _mm_cvtsi32_si128(epilogue.left_shift.into()),
            zero_point: _mm256_set1_epi32(epilogue.zero_point.into()),
            residual: epilogue.residual.map(|residual| Sum::new(&residual.params)),
            table: epilogue.table.map(|table| Lookup::load(table)),
        }
    }

    /// Requantises, adds the residual, applies the table and stores channels `o..o + 16` of up to `M` pixels;
    /// channels past the last are dropped.
    ///
    /// # Safety
    /// As [`super::run_layer`], with the pixels and channel `o` inside the output.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) unsafe fn finish<const M: usize>(
        &self,
        arena: *mut i8,
        constants: &Constants,
        acc: [[__m256i; 2]; M],
        pixels: &[usize],
        o: usize,
    ) {
        let output = self.layer.output;
        let width = (output.channels as usize - o).min(NR);
        let mut q = [_mm_setzero_si128(); M];
        for (q, acc) in q.iter_mut().zip(acc) {
            let half = |i: usize| {
                let acc = _mm256_sll_epi32(_mm256_add_epi32(acc[i], constants.bias[i]), self.left_shift);
                _mm256_add_epi32(multiply_high(acc, constants.multipliers[i]), self.zero_point)
            };
            *q = narrow(half(0), half(1));
        }
        if let (Some(sum), Some(residual)) = (&self.residual, &self.layer.epilogue.residual) {
            let slot = &residual.slot;
            for (q, pixel) in q.iter_mut().zip(pixels) {
                // SAFETY: the residual's span holds `width` channels from `o` on of each pixel.
                let other = unsafe { load(arena.add(slot.offset as usize + pixel * slot.pitch as usize + o), width) };
                *q = sum.sixteen(*q, other);
            }
        }
        if let Some(table) = &self.table {
            for pair in q.chunks_mut(2) {
                if let [a, b] = pair {
                    let both = table.thirty_two(_mm256_set_m128i(*b, *a));
                    (*a, *b) = (_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
                } else if let [a] = pair {
                    *a = table.sixteen(*a);
                }
            }
        }
        for (q, pixel) in q.into_iter().zip(pixels) {
            // SAFETY: the output's span holds `width` channels from `o` on of each pixel.
            unsafe { store(arena.add(output.offset as usize + pixel * output.pitch as usize + o), width, q) };
        }
    }
}
