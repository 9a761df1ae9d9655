//! The sum on x86-64 with AVX2: sixteen elements at a time.

use core::arch::x86_64::*;

use crate::conv::avx2::narrow;
use crate::plan::AddParams;

/// Sixteen sums by the law of [`super::sum`].
#[target_feature(enable = "avx2")]
#[inline]
pub(crate) fn sum(a: __m128i, b: __m128i, params: &AddParams) -> __m128i {
    let gains = _mm256_set1_epi32((params.ma as u16 as u32 | (params.mb as u16 as u32) << 16) as i32);
    let constant = _mm256_set1_epi32(params.c.wrapping_add(1i32.wrapping_shl(u32::from(params.shift).wrapping_sub(1))));
    let shift = _mm_cvtsi32_si128(params.shift.into());
    let half = |pairs: __m128i| {
        let products = _mm256_madd_epi16(_mm256_cvtepi8_epi16(pairs), gains);
        _mm256_sra_epi32(_mm256_add_epi32(products, constant), shift)
    };
    narrow(half(_mm_unpacklo_epi8(a, b)), half(_mm_unpackhi_epi8(a, b)))
}
