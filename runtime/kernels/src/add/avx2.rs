//! The sum on x86-64 with AVX2: sixteen elements at a time.

use core::arch::x86_64::*;

use crate::conv::avx2::narrow;
use crate::plan::{Add, AddParams};
use crate::table::lookup;

/// Elements treated together.
const BLOCK: usize = 16;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, step: &Add<'_>) {
    let contiguous = step.a.is_contiguous() && step.b.is_contiguous() && step.output.is_contiguous();
    let (rows, length) = match contiguous {
        true => (1, step.output.elements()),
        false => (step.output.pixels(), step.output.channels as usize),
    };
    for row in 0..rows {
        // SAFETY: `fits` puts each slot's span inside the arena, and the rows are the pixels of the spans, or all of
        // them where none has gaps. Each block is read before it is written, and operands at the same place coincide.
        unsafe {
            let a = arena.add(step.a.offset as usize + row * step.a.pitch as usize).cast_const();
            let b = arena.add(step.b.offset as usize + row * step.b.pitch as usize).cast_const();
            let out = arena.add(step.output.offset as usize + row * step.output.pitch as usize);
            let mut first = 0;
            while first < length {
                let count = (length - first).min(BLOCK);
                let load = |from: *const i8| {
                    let mut bytes = [0i8; BLOCK];
                    if count == BLOCK {
                        bytes = from.add(first).cast::<[i8; BLOCK]>().read_unaligned();
                    } else {
                        bytes.as_mut_ptr().copy_from_nonoverlapping(from.add(first), count);
                    }
                    _mm_loadu_si128(bytes.as_ptr().cast())
                };
                let mut bytes = [0i8; BLOCK];
                _mm_storeu_si128(bytes.as_mut_ptr().cast(), sum(load(a), load(b), &step.params));
                if let Some(table) = step.table {
                    bytes = bytes.map(|q| lookup(table, q));
                }
                out.add(first).copy_from_nonoverlapping(bytes.as_ptr(), count);
                first += count;
            }
        }
    }
}

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
