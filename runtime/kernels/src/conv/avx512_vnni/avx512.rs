//! The kernel over the processor's instructions.

use core::arch::x86_64::*;

use super::vector::Vector;
use super::{NR, run_transpose_with, run_with};
use crate::avx2::Sum;
use crate::plan::{AddParams, Conv, ConvTranspose};

/// # Safety
/// As [`run_with`], on a processor with AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(in crate::conv) unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { run_with::<Zmm>(arena, step, bias) }
}

/// # Safety
/// As [`run_transpose_with`], on a processor with AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(in crate::conv) unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { run_transpose_with::<Zmm>(arena, step, bias) }
}

#[derive(Clone, Copy)]
struct Zmm(__m512i);

// Every method is inlined into the functions above, whose callers have asked the processor.
impl Vector for Zmm {
    #[inline(always)]
    fn zero() -> Self {
        // SAFETY: the processor has AVX-512 F.
        Zmm(unsafe { _mm512_setzero_si512() })
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's condition; the processor has AVX-512 F.
        Zmm(unsafe { _mm512_loadu_si512(from.cast()) })
    }

    #[inline(always)]
    fn broadcast(x: i32) -> Self {
        // SAFETY: the processor has AVX-512 F.
        Zmm(unsafe { _mm512_set1_epi32(x) })
    }

    #[inline(always)]
    fn dot(self, u: Self, s: Self) -> Self {
        // SAFETY: the processor has AVX-512 VNNI.
        Zmm(unsafe { _mm512_dpbusd_epi32(self.0, u.0, s.0) })
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: the processor has AVX-512 F.
        Zmm(unsafe { _mm512_add_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: the processor has AVX-512 F.
        Zmm(unsafe { _mm512_sub_epi32(self.0, other.0) })
    }

    #[inline(always)]
    fn requantise(self, left_shift: u8, multipliers: Self, zero_point: i8) -> [i8; NR] {
        let mut bytes = [0; NR];
        // SAFETY: the processor has AVX-512 F, and `bytes` sixteen bytes.
        unsafe {
            let acc = _mm512_sll_epi32(self.0, _mm_cvtsi32_si128(left_shift.into()));
            let round = _mm512_set1_epi64(1 << 31);
            let even = _mm512_add_epi64(_mm512_mul_epi32(acc, multipliers.0), round);
            let [odd, m] = [acc, multipliers.0].map(|x| _mm512_srli_epi64(x, 32));
            let odd = _mm512_add_epi64(_mm512_mul_epi32(odd, m), round);
            let high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
            let q = _mm512_add_epi32(high, _mm512_set1_epi32(zero_point.into()));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(q));
        }
        bytes
    }

    #[inline(always)]
    fn sum(a: [i8; NR], b: [i8; NR], params: &AddParams) -> [i8; NR] {
        let mut bytes = [0; NR];
        // SAFETY: the processor has AVX2, which AVX-512 F implies; each array has sixteen bytes.
        unsafe {
            let [a, b] = [a, b].map(|bytes| _mm_loadu_si128(bytes.as_ptr().cast()));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), Sum::new(params).sixteen(a, b));
        }
        bytes
    }
}
