//! The definition of the sum, in safe code.

use super::sum;
use crate::plan::Add;
use crate::table::lookup;

/// Reads the operands from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Add<'_>) {
    let (a, b, output) = (&step.a, &step.b, &step.output);
    for pixel in 0..output.pixels() {
        for channel in 0..usize::from(output.channels) {
            let x = before[a.offset as usize + pixel * usize::from(a.pitch) + channel];
            let y = before[b.offset as usize + pixel * usize::from(b.pitch) + channel];
            let s = sum(x, y, &step.params);
            let place = output.offset as usize + pixel * usize::from(output.pitch) + channel;
            after[place] = step.table.map_or(s, |table| lookup(table, s));
        }
    }
}
