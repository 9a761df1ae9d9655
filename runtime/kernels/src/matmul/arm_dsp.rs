//! The product on Cortex-M cores with the DSP extension: the right side is packed as weights, then each matrix is a 1x1
//! convolution with a pixel for each row. Packing reads each element once, a convolution uses it for every row.

use core::slice;

use super::scalar;
use crate::conv::arm_dsp as conv;
use crate::dsp::{even, mac_pair, odd, pair};
use crate::plan::{Conv, Epilogue, MatMul, Packing, RowKey, Slot, matmul_scratch_bytes};

const PACKING: Packing = Packing::DspPairs;

/// Runs the step, by the portable kernel if its scratch memory does not hold the packed right side.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &MatMul) {
    let (k, n) = (step.k(), step.n());
    let need = matmul_scratch_bytes(PACKING.isa(), k, n);
    let room = step.scratch.map_or(0, |slot| slot.span_bytes());
    // SAFETY: the same condition; the scratch memory has the bytes that are needed.
    unsafe {
        match (step.scratch, u16::try_from(step.m())) {
            (Some(scratch), Ok(rows)) if room >= need => run_packed(arena, step, &scratch, rows),
            _ => scalar::run(arena, step),
        }
    }
}

/// # Safety
/// As [`run`], with [`matmul_scratch_bytes`] of scratch memory in the arena and a left side of `rows` rows.
#[inline(always)]
unsafe fn run_packed(arena: *mut i8, step: &MatMul, scratch: &Slot, rows: u16) {
    let (k, n) = (step.k(), step.n());
    let padded = PACKING.padded_outputs(n);
    let weight_bytes = PACKING.bytes(n, [1, 1], k);
    let first = arena.wrapping_add(scratch.offset as usize);
    let skipped = first.addr().wrapping_neg() % 8;
    let multipliers: *mut i32 = first.wrapping_add(skipped).cast();
    let bias = multipliers.wrapping_add(padded);
    let weights: *mut u32 = bias.wrapping_add(padded).cast();
    let used = skipped + 8 * padded + weight_bytes;
    let slot = |offset: usize, like: &Slot, channels: usize| Slot {
        offset: offset as u32,
        height: 1,
        width: rows,
        channels: channels as u16,
        ..*like
    };
    let rest = Slot {
        offset: scratch.offset + used as u32,
        height: 1,
        width: 1,
        channels: (scratch.span_bytes() - used).min(u16::MAX as usize) as u16,
        ..*scratch
    };
    // SAFETY: the words are inside the scratch memory, which no tensor overlaps; what is borrowed of it is not written
    // while it is. Rows of a matrix are pixels of its tensor's pitch, so both slots are inside the arena.
    unsafe {
        for i in 0..padded {
            multipliers.add(i).write(step.multiplier);
        }
        for matrix in 0..step.batch as usize {
            pack(arena, step, matrix, weights, bias);
            let bias = slice::from_raw_parts(bias.cast_const().cast::<u8>(), 4 * padded);
            let product = Conv {
                input: slot(step.a.row(step.batch, matrix, 0), &step.a.slot, k),
                output: slot(step.output.row(step.batch, matrix, 0), &step.output.slot, n),
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pad: [0, 0],
                upsample: 1,
                groups: 1,
                input_zero_point: step.a_zero_point,
                weights: slice::from_raw_parts(weights.cast_const().cast::<u8>(), weight_bytes),
                packing: PACKING,
                scratch: Some(rest),
                epilogue: Epilogue {
                    multipliers: slice::from_raw_parts(multipliers.cast_const().cast::<u8>(), 4 * padded),
                    bias,
                    row: RowKey::Fixed,
                    left_shift: step.left_shift,
                    zero_point: step.zero_point,
                    residual: None,
                    table: None,
                },
            };
            conv::run(arena, &product, bias.as_ptr());
        }
    }
}

/// Packs the right side of a matrix and sums its columns times the left side's zero point into `bias`.
///
/// # Safety
/// As [`run`], with `weights` and `bias` writable for the packed right side.
#[inline(always)]
unsafe fn pack(arena: *const i8, step: &MatMul, matrix: usize, mut weights: *mut u32, bias: *mut i32) {
    let (k, n) = (step.k(), step.n());
    let first = arena.wrapping_add(step.b.row(step.batch, matrix, 0));
    let pitch = step.b.slot.pitch as usize;
    let (along_k, along_n) = if step.transposed { (1, pitch) } else { (pitch, 1) };
    let factors = pair(-(step.a_zero_point as i16));
    let padded = PACKING.padded_filter([1, 1], k);
    for column in (0..n).step_by(2) {
        let (mut left, mut right) = (0, 0);
        let has_right = column + 1 < n;
        for row in (0..padded).step_by(4) {
            let at = first.wrapping_add(column * along_n + row * along_k);
            // Two neighbours of a row, as a half; zeros beyond the matrix.
            let half = |i: usize| {
                let at = at.wrapping_add(i * along_k);
                if row + i >= k {
                    return 0;
                }
                // SAFETY: both are inside the matrix, whose rows are inside the arena.
                unsafe {
                    let right = if has_right { at.add(along_n).read() as u8 } else { 0 };
                    at.read() as u8 as u32 | (right as u32) << 8
                }
            };
            let words = [half(0) | half(2) << 16, half(1) | half(3) << 16];
            for word in words {
                left = mac_pair(even(word), factors, left);
                right = mac_pair(odd(word), factors, right);
                // SAFETY: the packed right side has two words for four rows of two columns.
                unsafe { weights.write(word) };
                weights = weights.wrapping_add(1);
            }
        }
        // SAFETY: there is a word for each padded column.
        unsafe {
            bias.add(column).write(left as i32);
            bias.add(column + 1).write(right as i32);
        }
    }
}
