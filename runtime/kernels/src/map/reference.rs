//! The definition of the map, in safe code.

use crate::plan::Map;
use crate::table::lookup;

/// Reads the operand from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Map<'_>) {
    let (input, output) = (&step.input, &step.output);
    for pixel in 0..output.pixels() {
        for channel in 0..usize::from(output.channels) {
            let q = before[input.offset as usize + pixel * usize::from(input.pitch) + channel];
            let place = output.offset as usize + pixel * usize::from(output.pitch) + channel;
            after[place] = step.table.map_or(q, |table| lookup(table, q));
        }
    }
}
