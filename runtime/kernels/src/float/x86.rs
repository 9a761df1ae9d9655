//! AVX2 with FMA, and AVX-512.

use core::arch::x86_64::*;

use super::{LANES, Lanes, Work};

pub(super) fn has_fma() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

pub(super) fn has_avx512() -> bool {
    has_fma() && std::arch::is_x86_feature_detected!("avx512f")
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn with_fma<W: Work>(work: W) -> W::Output {
    work.run(Fma(()))
}

/// # Safety
/// The processor has AVX2, FMA and AVX-512F.
#[target_feature(enable = "avx2,fma,avx512f")]
pub(super) unsafe fn with_avx512<W: Work>(work: W) -> W::Output {
    work.run(Avx512(()))
}

/// Exists only inside [`with_fma`].
#[derive(Clone, Copy)]
pub(super) struct Fma(());

/// Exists only inside [`with_avx512`].
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

/// One instruction on both halves.
macro_rules! halves {
    ($instruction:ident($($operand:ident),+)) => {
        // SAFETY: a value of this type exists only where the processor has the instruction.
        unsafe { [$instruction($($operand[0]),+), $instruction($($operand[1]),+)] }
    };
}

impl Lanes for Fma {
    type V = [__m256; 2];
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: as above.
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        // SAFETY: as above; sixteen numbers are read.
        unsafe { [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))] }
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        // SAFETY: as above; sixteen numbers are written.
        unsafe {
            _mm256_storeu_ps(to.as_mut_ptr(), v[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v[1]);
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        halves!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        halves!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn power_of_two(self, n: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe {
            let bias = _mm256_set1_epi32(127);
            n.map(|n| _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), bias), 23)))
        }
    }
}

impl Lanes for Avx512 {
    type V = __m512;
    const ROWS: usize = 12;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        // SAFETY: a value of this type exists only where the processor has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        // SAFETY: as above; sixteen numbers are read.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        // SAFETY: as above; sixteen numbers are written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn power_of_two(self, n: Self::V) -> Self::V {
        // SAFETY: as above.
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23))
        }
    }
}
