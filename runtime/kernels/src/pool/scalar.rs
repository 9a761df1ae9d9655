//! The portable pool.

use crate::plan::{Pool, PoolKind};
use crate::requant::requantise;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Pool) {
    let (input, output) = (&step.input, &step.output);
    let range = |axis: usize, at: usize, size: u16| {
        let first = at * step.stride[axis] as usize;
        let pad = step.pad[axis] as usize;
        let low = first.saturating_sub(pad);
        let high = (first + step.kernel[axis] as usize).saturating_sub(pad).min(size as usize);
        (low, high)
    };
    for y in 0..output.height as usize {
        for x in 0..output.width as usize {
            let (rows, columns) = (range(0, y, input.height), range(1, x, input.width));
            let pixel = y * output.width as usize + x;
            for channel in 0..output.channels as usize {
                let (mut max, mut sum) = (i8::MIN, 0i32);
                for iy in rows.0..rows.1 {
                    for ix in columns.0..columns.1 {
                        let place = (iy * input.width as usize + ix) * input.pitch as usize + channel;
                        // SAFETY: the ranges are cut to the input, whose span is inside the arena.
                        let q = unsafe { arena.add(input.offset as usize + place).read() };
                        max = if q > max { q } else { max };
                        sum = sum.wrapping_add(q as i32);
                    }
                }
                let places = ((rows.1 - rows.0) * (columns.1 - columns.0)) as i32;
                let q = match step.kind {
                    PoolKind::Max => max,
                    PoolKind::Average { input_zero_point, multiplier, left_shift, zero_point } => {
                        let acc = sum.wrapping_sub(places.wrapping_mul(input_zero_point as i32));
                        requantise(acc, left_shift, multiplier, zero_point)
                    }
                };
                // SAFETY: the pixel and channel are inside the output, whose span is inside the arena.
                unsafe { arena.add(output.offset as usize + pixel * output.pitch as usize + channel).write(q) };
            }
        }
    }
}
