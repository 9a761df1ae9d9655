//! The definition of softmax, in safe code.

use crate::plan::Softmax;
use crate::requant::saturate;

/// Reads the operand from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Softmax<'_>) {
    let channels = usize::from(step.input.channels);
    for pixel in 0..step.input.pixels() {
        let first = step.input.offset as usize + pixel * usize::from(step.input.pitch);
        let values = &before[first..first + channels];
        let max = values.iter().copied().max().unwrap_or(0);
        let e = |q: i8| {
            let d = (i32::from(max) - i32::from(q)) as usize;
            u64::from(u16::from_le_bytes([step.table[2 * d], step.table[2 * d + 1]]))
        };
        let sum: u64 = values.iter().map(|&q| e(q)).sum();
        for (channel, &q) in values.iter().enumerate() {
            let share = (256 * e(q) + sum / 2) / sum;
            after[step.output.offset as usize + pixel * usize::from(step.output.pitch) + channel] =
                saturate(share as i32 - 128);
        }
    }
}
