//! The product on x86-64 with AVX2: sixteen columns of the right side at a time are packed as a panel of weights, and
//! rows of the left side are windows of the convolution's inner loop.

use core::arch::x86_64::*;
use core::mem::MaybeUninit;

use super::scalar;
use crate::avx2::{Requantise, narrow, store};
use crate::conv::avx2::panels::{KR, MR, NR, accumulate, convert};
use crate::plan::MatMul;

/// Longest dot product; longer ones take the portable kernel.
const MOST: usize = 4096;

/// Runs the step.
///
/// # Safety
/// As [`scalar::run`], on a processor with AVX2.
pub(super) unsafe fn run(arena: *mut i8, step: &MatMul) {
    // SAFETY: the same condition.
    unsafe {
        if step.k() <= MOST {
            run_packed(arena, step);
        } else {
            scalar::run(arena, step);
        }
    }
}

/// # Safety
/// As [`run`], with a dot product of at most `MOST` terms.
#[target_feature(enable = "avx2")]
unsafe fn run_packed(arena: *mut i8, step: &MatMul) {
    let (rows, k, columns) = (step.m(), step.k(), step.n());
    let products = k.next_multiple_of(KR);
    let mut panel = MaybeUninit::<[u8; NR * MOST]>::uninit();
    let mut windows = MaybeUninit::<[i16; MR * MOST]>::uninit();
    let (panel, windows) = (panel.as_mut_ptr().cast::<u8>(), windows.as_mut_ptr().cast::<i16>());
    let law = Requantise::new(step.left_shift, step.multiplier, step.zero_point);
    for matrix in 0..step.batch as usize {
        let mut first = 0;
        while first < columns {
            let width = (columns - first).min(NR);
            // SAFETY: the panel and the windows of six rows fit their buffers; rows and columns are those of the
            // step's matrices, which `fits` puts inside the arena.
            unsafe {
                let bias = pack(arena, step, matrix, first, width, panel);
                let mut m = 0;
                while m < rows {
                    let count = (rows - m).min(MR);
                    for i in 0..count {
                        let row = arena.add(step.a.row(step.batch, matrix, m + i));
                        convert(row, windows.add(i * products), k);
                        if k < products {
                            windows.add(i * products + k).write(0);
                        }
                    }
                    // The last tile's other rows are those of an earlier one, or zero.
                    for i in count..MR {
                        windows.add(i * products).write_bytes(0, products);
                    }
                    let sums = accumulate::<MR>(windows, panel, products);
                    for (i, acc) in sums.into_iter().enumerate().take(count) {
                        let out = arena.add(step.output.row(step.batch, matrix, m + i) + first);
                        let half = |i: usize| {
                            let bias = _mm256_loadu_si256(bias.as_ptr().cast::<__m256i>().add(i));
                            law.of(_mm256_add_epi32(acc[i], bias))
                        };
                        store(out, width, narrow(half(0), half(1)));
                    }
                    m += count;
                }
            }
            first += width;
        }
    }
}

/// Packs columns `first..first + width` of the right side and returns `-a_zero_point * sum_k b` of each.
///
/// # Safety
/// As [`run`], with the columns inside the matrix and `panel` writable for sixteen of them.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn pack(
    arena: *const i8,
    step: &MatMul,
    matrix: usize,
    first: usize,
    width: usize,
    panel: *mut u8,
) -> [i32; NR] {
    let k = step.k();
    let mut sums = [0i32; NR];
    // SAFETY: element (row, column) of the right side is inside its slot for every `row < k` and `column` of the
    // panel; pair `p` of the panel is `NR * KR` bytes.
    unsafe {
        let pitch = step.b.slot.pitch as usize;
        let start = arena.add(step.b.row(step.batch, matrix, 0));
        let (along_k, along_n) = if step.transposed { (1, pitch) } else { (pitch, 1) };
        panel.write_bytes(0, NR * k.next_multiple_of(KR));
        for (n, sum) in sums.iter_mut().enumerate().take(width) {
            let column = start.add((first + n) * along_n);
            for i in 0..k {
                let b = column.add(i * along_k).read();
                *sum += b as i32;
                panel.add(i / KR * NR * KR + n * KR + i % KR).write(b as u8);
            }
        }
    }
    sums.map(|sum| sum.wrapping_mul(-(step.a_zero_point as i32)))
}
