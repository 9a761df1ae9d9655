//! The definition of the shuffles, in safe code.

use crate::plan::{Shuffle, ShuffleKind, Slot};

/// Reads the operand from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Shuffle) {
    let b = usize::from(step.block);
    let (small, large) = match step.kind {
        ShuffleKind::PixelUnshuffle => (&step.output, &step.input),
        ShuffleKind::PixelShuffle => (&step.input, &step.output),
    };
    for y in 0..usize::from(large.height) {
        for x in 0..usize::from(large.width) {
            for c in 0..usize::from(large.channels) {
                let wide = place(large, y, x, c);
                let packed = place(small, y / b, x / b, (c * b + y % b) * b + x % b);
                match step.kind {
                    ShuffleKind::PixelUnshuffle => after[packed] = before[wide],
                    ShuffleKind::PixelShuffle => after[wide] = before[packed],
                }
            }
        }
    }
}

fn place(slot: &Slot, y: usize, x: usize, c: usize) -> usize {
    slot.offset as usize + (y * usize::from(slot.width) + x) * usize::from(slot.pitch) + c
}
