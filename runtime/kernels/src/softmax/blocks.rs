//! Softmax with its divisions in blocks: for compilers of vector code.
//!
//! `floor(n / d)` of integers `n, d < 2^32` with a quotient below 2^9 is the integer part of the f64 quotient: it is below the next
//! integer by `1 / d` at least, far more than half a unit of the quotient's last place.

use crate::plan::Softmax;

/// Elements treated together.
const BLOCK: usize = 16;

/// Runs the step.
///
/// # Safety
/// As [`super::scalar::run`].
#[inline(always)]
pub(super) unsafe fn run(arena: *mut i8, step: &Softmax<'_>) {
    let channels = step.input.channels as usize;
    let table = step.table;
    for pixel in 0..step.input.pixels() {
        // SAFETY: `fits` puts both spans inside the arena; `max - q` is 0 to 255, so `2 * d + 1` is at most 511. All
        // values of a pixel are read before the first is written over the same place, and each again before its own.
        unsafe {
            let input = arena.add(step.input.offset as usize + pixel * step.input.pitch as usize).cast_const();
            let output = arena.add(step.output.offset as usize + pixel * step.output.pitch as usize);
            let mut max = i8::MIN;
            for i in 0..channels {
                max = max.max(input.add(i).read());
            }
            let e = |q: i8| {
                let d = (max as i32 - q as i32) as usize;
                u16::from_le_bytes(table.as_ptr().add(2 * d).cast::<[u8; 2]>().read()) as i32
            };
            let mut sum = 0u32;
            for i in 0..channels {
                sum += e(input.add(i).read()) as u32;
            }
            let (half, divisor) = ((sum / 2) as f64, sum as f64);
            let mut first = 0;
            while first < channels {
                let count = (channels - first).min(BLOCK);
                let mut shares = [0i32; BLOCK];
                for (i, share) in shares.iter_mut().enumerate().take(count) {
                    *share = e(input.add(first + i).read());
                }
                let quotients = shares.map(|e| (((256 * e) as f64 + half) / divisor).to_int_unchecked::<i32>());
                let bytes = quotients.map(|q| (q - 128).min(127) as i8);
                output.add(first).copy_from_nonoverlapping(bytes.as_ptr(), count);
                first += count;
            }
        }
    }
}
