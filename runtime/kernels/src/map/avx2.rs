//! The map on x86-64 with AVX2: thirty-two elements at a time, the table by VPSHUFB.

use core::arch::x86_64::*;
use core::ptr::copy;

use crate::avx2::Lookup;
use crate::plan::Map;
use crate::table::lookup;

/// Elements treated together.
const BLOCK: usize = 32;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`], on a processor with AVX2.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(arena: *mut i8, step: &Map<'_>) {
    let (input, output) = (&step.input, &step.output);
    let (rows, length) = match input.is_contiguous() && output.is_contiguous() {
        true => (1, output.elements()),
        false => (output.pixels(), output.channels as usize),
    };
    let table = step.table.map(|table| (table, Lookup::load(table)));
    for row in 0..rows {
        // SAFETY: `fits` puts both spans inside the arena, and the rows are the pixels of the spans, or all of them where
        // none has gaps. Each block is read before it is written, and tensors at the same place coincide.
        unsafe {
            let from = arena.add(input.offset as usize + row * input.pitch as usize).cast_const();
            let to = arena.add(output.offset as usize + row * output.pitch as usize);
            let Some((table, rows)) = &table else {
                copy(from, to, length);
                continue;
            };
            let whole = length / BLOCK * BLOCK;
            for i in (0..whole).step_by(BLOCK) {
                let q = _mm256_loadu_si256(from.add(i).cast());
                _mm256_storeu_si256(to.add(i).cast(), rows.thirty_two(q));
            }
            for i in whole..length {
                to.add(i).write(lookup(table, from.add(i).read()));
            }
        }
    }
}
