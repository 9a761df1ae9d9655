//! The portable product.

use crate::plan::MatMul;
use crate::requant::requantise;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &MatMul) {
    let (m_end, k_end, n_end) = (step.m(), step.k(), step.n());
    for matrix in 0..step.batch as usize {
        // Distance in bytes of neighbours along k and along n of the right side.
        let pitch = step.b.slot.pitch as usize;
        let (along_k, along_n) = if step.transposed { (1, pitch) } else { (pitch, 1) };
        // SAFETY: `fits` puts every row of every matrix inside its slot and each slot inside the arena.
        unsafe {
            let b = arena.add(step.b.row(step.batch, matrix, 0)).cast_const();
            for m in 0..m_end {
                let a = arena.add(step.a.row(step.batch, matrix, m)).cast_const();
                let out = arena.add(step.output.row(step.batch, matrix, m));
                for n in 0..n_end {
                    let column = b.add(n * along_n);
                    let mut acc = 0i32;
                    for k in 0..k_end {
                        let left = a.add(k).read() as i32 - step.a_zero_point as i32;
                        acc = acc.wrapping_add(left * column.add(k * along_k).read() as i32);
                    }
                    out.add(n).write(requantise(acc, step.left_shift, step.multiplier, step.zero_point));
                }
            }
        }
    }
}
