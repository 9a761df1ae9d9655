//! The norms on x86-64 with AVX2.

use core::arch::x86_64::*;

use super::blocks::{self, Block, Line, Vector};
use super::{MAX_INTERCEPT, MAX_SLOPE, MEAN_POINT, Statistics};
use crate::avx2::{Lookup, load, store};
use crate::plan::Norm;

/// The step's table, if it has one. Made only where the processor has AVX2.
struct Avx2(Option<Lookup>);

impl Vector for Avx2 {
    #[inline(always)]
    fn look(&self, mut values: Block) -> Block {
        if let Some(table) = &self.0 {
            // SAFETY: a block is a vector, and the processor has AVX2.
            unsafe { store(values.as_mut_ptr(), values.len(), table.sixteen(load(values.as_ptr(), values.len()))) };
        }
        values
    }

    #[inline(always)]
    fn line(&self, statistics: &Statistics, gains: &[i32; 16], gain_shift: u8, offsets: &[i32; 16]) -> Line {
        // SAFETY: the processor has AVX2.
        unsafe { line(statistics, gains, gain_shift, offsets) }
    }
}

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    // SAFETY: the same condition.
    unsafe { blocks::run(arena, step, &Avx2(step.table.map(|table| Lookup::load(table)))) }
}

/// [`Statistics::slope`] and [`Statistics::intercept`] of sixteen channels.
#[target_feature(enable = "avx2")]
#[inline]
fn line(statistics: &Statistics, gains: &[i32; 16], gain_shift: u8, offsets: &[i32; 16]) -> Line {
    let down = statistics.slope_shift(gain_shift);
    let mantissa = _mm256_set1_epi64x(statistics.mantissa.into());
    let mean = _mm256_set1_epi64x(statistics.mean.into());
    // A shift of signed numbers of 63 bits by one of unsigned ones: with an offset that is taken off again.
    let (bits, bias) = (_mm_cvtsi32_si128(down as i32), _mm256_set1_epi64x(1 << 62));
    let round = _mm256_set1_epi64x((1 << 62) + (1i64 << (down - 1)));
    let taken = _mm256_srl_epi64(bias, bits);
    let (most, least) = (_mm256_set1_epi64x(MAX_SLOPE), _mm256_set1_epi64x(-MAX_SLOPE));
    let slope = |gain: __m256i| {
        let product = _mm256_add_epi64(_mm256_mul_epi32(gain, mantissa), round);
        let slope = _mm256_sub_epi64(_mm256_srl_epi64(product, bits), taken);
        let slope = _mm256_blendv_epi8(slope, most, _mm256_cmpgt_epi64(slope, most));
        _mm256_blendv_epi8(slope, least, _mm256_cmpgt_epi64(least, slope))
    };
    let half = _mm256_set1_epi64x(1 << (MEAN_POINT - 1));
    // The low word of each product is what is taken off.
    let moved =
        |slope: __m256i| _mm256_srli_epi64(_mm256_add_epi64(_mm256_mul_epi32(slope, mean), half), MEAN_POINT as i32);
    let join = |even: __m256i, odd: __m256i| _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0b1010_1010);
    let mut line = [[0; 16]; 2];
    for i in [0, 8] {
        // SAFETY: eight of sixteen words from word `i` on.
        let (gain, offset) = unsafe {
            (_mm256_loadu_si256(gains.as_ptr().add(i).cast()), _mm256_loadu_si256(offsets.as_ptr().add(i).cast()))
        };
        let (even, odd) = (slope(gain), slope(_mm256_srli_epi64(gain, 32)));
        let moved = join(moved(even), moved(odd));
        let difference = _mm256_sub_epi32(offset, moved);
        // Where the operands' signs differ and the result has not the first one's, it is past the limit on that side.
        let over = _mm256_and_si256(_mm256_xor_si256(offset, moved), _mm256_xor_si256(offset, difference));
        let limit = _mm256_xor_si256(_mm256_srai_epi32(offset, 31), _mm256_set1_epi32(i32::MAX));
        let intercept = _mm256_blendv_epi8(difference, limit, _mm256_srai_epi32(over, 31));
        let intercept = _mm256_min_epi32(intercept, _mm256_set1_epi32(MAX_INTERCEPT));
        let intercept = _mm256_max_epi32(intercept, _mm256_set1_epi32(-MAX_INTERCEPT));
        // SAFETY: eight of sixteen words from word `i` on.
        unsafe {
            _mm256_storeu_si256(line[0].as_mut_ptr().add(i).cast(), join(even, odd));
            _mm256_storeu_si256(line[1].as_mut_ptr().add(i).cast(), intercept);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::is_available;
    use crate::plan::Isa;

    #[test]
    fn lines_are_those_of_the_law() {
        if !is_available(Isa::Avx2) {
            return;
        }
        let ends = [i32::MIN, i32::MIN + 1, -1, 0, 1, i32::MAX, 1 << 23, -(1 << 23)];
        let words = |seed: u32| -> [i32; 16] {
            core::array::from_fn(|i| match ends.get(i) {
                Some(&end) => end,
                None => (seed.wrapping_mul(2_654_435_761).wrapping_add(i as u32).wrapping_mul(0x9e37_79b9)) as i32,
            })
        };
        for seed in 0..20_000u32 {
            let statistics = Statistics {
                mean: (seed.wrapping_mul(40_503) % (1 << 20)) as i32 - (1 << 19),
                mantissa: 1 << 29 | seed.wrapping_mul(2_246_822_519) >> 3,
                exponent: (seed % 90) as i32 - 45,
            };
            let gain_shift = (seed % 31) as u8;
            let (gains, mut offsets) = (words(seed), words(!seed));
            offsets.reverse();
            // SAFETY: asked above.
            let found = unsafe { line(&statistics, &gains, gain_shift, &offsets) };
            let slopes = gains.map(|gain| statistics.slope(gain, gain_shift));
            let intercepts = core::array::from_fn(|i| statistics.intercept(slopes[i], offsets[i]));
            assert_eq!(found, [slopes, intercepts], "{statistics:?} {gain_shift}");
        }
    }
}
