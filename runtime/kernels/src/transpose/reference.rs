//! The definition of the transposition, in safe code.

use crate::plan::Transpose;

/// Reads the operand from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Transpose) {
    let (input, output) = (&step.input, &step.output);
    for pixel in 0..input.pixels() {
        for channel in 0..usize::from(input.channels) {
            after[output.offset as usize + channel * usize::from(output.pitch) + pixel] =
                before[input.offset as usize + pixel * usize::from(input.pitch) + channel];
        }
    }
}
