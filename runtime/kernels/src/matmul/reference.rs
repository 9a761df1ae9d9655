//! The definition of the product, in safe code.

use crate::plan::MatMul;
use crate::requant::requantise;

/// Reads the operands from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &MatMul) {
    for matrix in 0..usize::from(step.batch) {
        for m in 0..step.m() {
            for n in 0..step.n() {
                let mut acc = 0i32;
                for k in 0..step.k() {
                    let a = before[step.a.row(step.batch, matrix, m) + k];
                    let (row, column) = if step.transposed { (n, k) } else { (k, n) };
                    let b = before[step.b.row(step.batch, matrix, row) + column];
                    acc = acc.wrapping_add((i32::from(a) - i32::from(step.a_zero_point)) * i32::from(b));
                }
                after[step.output.row(step.batch, matrix, m) + n] =
                    requantise(acc, step.left_shift, step.multiplier, step.zero_point);
            }
        }
    }
}
