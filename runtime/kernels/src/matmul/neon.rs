//! The product on AArch64: eight columns of the right side at a time are packed as a panel that meets eight rows of the
//! left side, with SDOT where the processor has it. Both sides may hold -128, so that products of bytes are not added in
//! 16 bits: without SDOT values are widened.

use core::arch::aarch64::*;
use core::mem::MaybeUninit;

use super::scalar;
use crate::conv::aarch64::dot;
use crate::isa::is_available;
use crate::neon::{Requantise, load, narrow, store};
use crate::plan::{Isa, MatMul};

/// Columns of a panel.
const NR: usize = 8;
/// Rows in registers.
const MR: usize = 8;
/// Longest dot product; longer ones take the portable kernel.
const MOST: usize = 4096;
/// Rows are padded to whole vectors.
const VECTOR: usize = 16;

/// Runs the step.
///
/// # Safety
/// As [`scalar::run`].
pub(super) unsafe fn run(arena: *mut i8, step: &MatMul) {
    // SAFETY: the same condition; the processor is asked for SDOT.
    unsafe {
        if step.k() > MOST {
            scalar::run(arena, step);
        } else if is_available(Isa::NeonDot) {
            run_packed::<{ dot::KR }>(arena, step, |rows, stride, panel, k| {
                dot::accumulate(rows, stride, panel, k.div_ceil(dot::KR), [vdupq_n_s32(0); 2])
            });
        } else {
            run_packed::<1>(arena, step, |rows, stride, panel, k| widened(rows, stride, panel, k));
        }
    }
}

/// Runs the step with panels in steps of `KR` products. `accumulate` takes rows, their distance, a panel and the length
/// of a dot product.
///
/// # Safety
/// As [`run`], with a dot product of at most `MOST` terms.
#[inline(always)]
unsafe fn run_packed<const KR: usize>(
    arena: *mut i8,
    step: &MatMul,
    accumulate: impl Fn(*const i8, usize, *const i8, usize) -> [[int32x4_t; 2]; MR],
) {
    let (rows, k, columns) = (step.m(), step.k(), step.n());
    let padded = k.next_multiple_of(VECTOR);
    let pitch = step.a.slot.pitch as usize;
    let law = Requantise::new(step.left_shift, step.multiplier, step.zero_point);
    let mut panel = MaybeUninit::<[i8; NR * MOST]>::uninit();
    let mut copies = MaybeUninit::<[i8; MR * MOST]>::uninit();
    let (panel, copies) = (panel.as_mut_ptr().cast::<i8>(), copies.as_mut_ptr().cast::<i8>());
    for matrix in 0..step.batch as usize {
        for first in (0..columns).step_by(NR) {
            let width = (columns - first).min(NR);
            // SAFETY: the panel and eight rows fit their buffers; rows and columns are those of the step's matrices,
            // which `fits` puts inside the arena.
            unsafe {
                let bias = pack::<KR>(arena, step, matrix, first, width, panel);
                let bias = [vld1q_s32(bias.as_ptr()), vld1q_s32(bias.as_ptr().add(4))];
                for m in (0..rows).step_by(MR) {
                    let count = (rows - m).min(MR);
                    let row = |i: usize| arena.add(step.a.row(step.batch, matrix, m + i)).cast_const();
                    let (mut from, mut stride) = (row(0), pitch);
                    if count < MR || padded != k {
                        for i in 0..count {
                            let to = copies.add(i * padded);
                            to.copy_from_nonoverlapping(row(i), k);
                            to.add(k).write_bytes(0, padded - k);
                        }
                        // Rows that do not exist are computed from zeros, and not stored.
                        copies.add(count * padded).write_bytes(0, (MR - count) * padded);
                        (from, stride) = (copies, padded);
                    }
                    let sums = accumulate(from, stride, panel, k);
                    for (i, sum) in sums.into_iter().enumerate().take(count) {
                        let [low, high] = [0, 1].map(|h| law.of(vaddq_s32(sum[h], bias[h])));
                        let to = arena.add(step.output.row(step.batch, matrix, m + i) + first);
                        if width == NR {
                            vst1_s8(to, vget_low_s8(narrow([low, high, low, high])));
                        } else {
                            store(to, width, narrow([low, high, low, high]));
                        }
                    }
                }
            }
        }
    }
}

/// Packs columns `first..first + width` of the right side, zeros after them, and returns `-a_zero_point * sum_k b` of
/// each.
///
/// # Safety
/// As [`run`], with the columns inside the matrix and `panel` writable for eight of them, padded to whole vectors.
#[inline(always)]
unsafe fn pack<const KR: usize>(
    arena: *const i8,
    step: &MatMul,
    matrix: usize,
    first: usize,
    width: usize,
    panel: *mut i8,
) -> [i32; NR] {
    let k = step.k();
    let pitch = step.b.slot.pitch as usize;
    let mut sums = [0i32; NR];
    // SAFETY: element (row, column) of the right side is inside its slot for every `row < k` and `column` of the
    // panel; `KR` products of the panel are `NR * KR` bytes.
    unsafe {
        let start = arena.add(step.b.row(step.batch, matrix, 0));
        panel.write_bytes(0, NR * k.next_multiple_of(VECTOR));
        if step.transposed {
            for (n, sum) in sums.iter_mut().enumerate().take(width) {
                let column = start.add((first + n) * pitch);
                for i in 0..k {
                    let b = column.add(i).read();
                    *sum += i32::from(b);
                    panel.add(i / KR * NR * KR + n * KR + i % KR).write(b);
                }
            }
        } else {
            for i in 0..k {
                let row = load(start.add(i * pitch + first), width);
                let mut bytes = [0i8; VECTOR];
                vst1q_s8(bytes.as_mut_ptr(), row);
                for (n, (sum, &b)) in sums.iter_mut().zip(&bytes).enumerate() {
                    *sum += i32::from(b);
                    panel.add(i / KR * NR * KR + n * KR + i % KR).write(b);
                }
            }
        }
    }
    sums.map(|sum| sum.wrapping_mul(-i32::from(step.a_zero_point)))
}

/// Sums of products of eight rows and eight columns, in 16 bits by 16.
///
/// # Safety
/// `rows` must be readable for eight rows of `k` bytes padded to whole vectors, `stride` bytes apart, and `panel` for as
/// many groups of eight bytes.
#[inline(always)]
unsafe fn widened(rows: *const i8, stride: usize, panel: *const i8, k: usize) -> [[int32x4_t; 2]; MR] {
    // SAFETY: the caller's bound; eight products at a time stay within the padding.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); 2]; MR];
        for first in (0..k).step_by(8) {
            let mut x = [vdupq_n_s16(0); MR];
            for (m, x) in x.iter_mut().enumerate() {
                *x = vmovl_s8(vld1_s8(rows.add(m * stride + first)));
            }
            let at = panel.add(first * NR);
            step::<0>(&mut acc, at, &x);
            step::<1>(&mut acc, at, &x);
            step::<2>(&mut acc, at, &x);
            step::<3>(&mut acc, at, &x);
            step::<4>(&mut acc, at, &x);
            step::<5>(&mut acc, at, &x);
            step::<6>(&mut acc, at, &x);
            step::<7>(&mut acc, at, &x);
        }
        acc
    }
}

/// Product `LANE` of eight.
///
/// # Safety
/// `panel` must be readable for eight groups of eight bytes.
#[inline(always)]
unsafe fn step<const LANE: i32>(acc: &mut [[int32x4_t; 2]; MR], panel: *const i8, x: &[int16x8_t; MR]) {
    // SAFETY: the caller's bound.
    unsafe {
        let w = vmovl_s8(vld1_s8(panel.add(LANE as usize * NR)));
        for (acc, &x) in acc.iter_mut().zip(x) {
            acc[0] = vmlal_laneq_s16::<LANE>(acc[0], vget_low_s16(w), x);
            acc[1] = vmlal_high_laneq_s16::<LANE>(acc[1], w, x);
        }
    }
}
