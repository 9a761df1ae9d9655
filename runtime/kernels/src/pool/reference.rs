//! The definition of pooling, in safe code.

use crate::plan::{Pool, PoolKind};
use crate::requant::requantise;

/// Reads the operand from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Pool) {
    let (input, output) = (&step.input, &step.output);
    let size = [i64::from(input.height), i64::from(input.width)];
    for (y, x) in (0..usize::from(output.height)).flat_map(|y| (0..usize::from(output.width)).map(move |x| (y, x))) {
        for channel in 0..usize::from(output.channels) {
            let (mut max, mut sum) = (i8::MIN, 0i32);
            for ky in 0..i64::from(step.kernel[0]) {
                for kx in 0..i64::from(step.kernel[1]) {
                    let at = [
                        (y * usize::from(step.stride[0])) as i64 - i64::from(step.pad[0]) + ky,
                        (x * usize::from(step.stride[1])) as i64 - i64::from(step.pad[1]) + kx,
                    ];
                    if (0..2).any(|axis| at[axis] < 0 || at[axis] >= size[axis]) {
                        continue;
                    }
                    let pixel = (at[0] * size[1] + at[1]) as usize;
                    let q = before[input.offset as usize + pixel * usize::from(input.pitch) + channel];
                    max = max.max(q);
                    if let PoolKind::Average { input_zero_point, .. } = step.kind {
                        sum = sum.wrapping_add(i32::from(q) - i32::from(input_zero_point));
                    }
                }
            }
            let pixel = y * usize::from(output.width) + x;
            after[output.offset as usize + pixel * usize::from(output.pitch) + channel] = match step.kind {
                PoolKind::Max => max,
                PoolKind::Average { multiplier, left_shift, zero_point, .. } => {
                    requantise(sum, left_shift, multiplier, zero_point)
                }
            };
        }
    }
}
