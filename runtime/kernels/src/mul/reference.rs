//! The definition of the product, in safe code.

use super::product;
use crate::plan::Mul;

/// Reads the operands from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Mul<'_>) {
    let (a, b, output) = (&step.a, &step.b, &step.output);
    for pixel in 0..output.pixels() {
        let pixel_b = if step.is_broadcast() { 0 } else { pixel };
        for channel in 0..usize::from(output.channels) {
            let x = before[a.offset as usize + pixel * usize::from(a.pitch) + channel];
            let y = before[b.offset as usize + pixel_b * usize::from(b.pitch) + channel];
            after[output.offset as usize + pixel * usize::from(output.pitch) + channel] = product(x, y, step);
        }
    }
}
