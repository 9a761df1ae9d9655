//! The product on x86-64 with AVX2: sixteen elements at a time.

use core::arch::x86_64::*;

use crate::avx2::{Lookup, Requantise, load, store};
use crate::elements::blocks;
use crate::plan::Mul;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, step: &Mul<'_>) {
    let law = Requantise::new(step.left_shift, step.multiplier, step.zero_point);
    let table = step.table.map(|table| Lookup::load(table));
    let b_pitch = if step.is_broadcast() { 0 } else { step.b.pitch as usize };
    let is_contiguous = step.a.is_contiguous() && step.b.is_contiguous() && !step.is_broadcast();
    // SAFETY: `fits` puts each slot's span inside the arena, and blocks are elements of the spans; a broadcast operand has
    // one pixel. Each is read before it is written, and operands at the same place coincide.
    unsafe {
        let (a, b) = (arena.add(step.a.offset as usize), arena.add(step.b.offset as usize));
        let out = arena.add(step.output.offset as usize);
        let a_zero_point = _mm256_set1_epi16(step.a_zero_point.into());
        let b_zero_point = _mm256_set1_epi16(step.b_zero_point.into());
        blocks(&step.output, is_contiguous, |pixel, first, count| {
            let a = _mm256_cvtepi8_epi16(load(a.add(pixel * step.a.pitch as usize + first), count));
            let b = _mm256_cvtepi8_epi16(load(b.add(pixel * b_pitch + first), count));
            let (a, b) = (_mm256_sub_epi16(a, a_zero_point), _mm256_sub_epi16(b, b_zero_point));
            let (low, high) = (_mm256_mullo_epi16(a, b), _mm256_mulhi_epi16(a, b));
            // Each half of a vector keeps its own elements, here and in the packing.
            let sums = [_mm256_unpacklo_epi16(low, high), _mm256_unpackhi_epi16(low, high)];
            let words = _mm256_packs_epi32(law.of(sums[0]), law.of(sums[1]));
            let mut q = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
            if let Some(table) = &table {
                q = table.sixteen(q);
            }
            store(out.add(pixel * step.output.pitch as usize + first), count, q);
        });
    }
}
