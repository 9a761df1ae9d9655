//! The definition of the convolution, in safe code.

use crate::add::sum;
use crate::plan::Conv;
use crate::requant::requantise;
use crate::table::lookup;

/// Reads the operands from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Conv<'_>, row: usize) {
    let output = &step.output;
    let row = row.min(step.rows() - 1);
    for y in 0..usize::from(output.height) {
        for x in 0..usize::from(output.width) {
            let pixel = y * usize::from(output.width) + x;
            for o in 0..usize::from(output.channels) {
                let acc = accumulate(before, step, [y, x, o], row);
                let mut q = requantise(acc, step.left_shift, word(step.multipliers, o), step.output_zero_point);
                if let Some(residual) = &step.residual {
                    let place = residual.slot.offset as usize + pixel * usize::from(residual.slot.pitch) + o;
                    q = sum(q, before[place], &residual.params);
                }
                if let Some(table) = step.table {
                    q = lookup(table, q);
                }
                after[output.offset as usize + pixel * usize::from(output.pitch) + o] = q;
            }
        }
    }
}

fn accumulate(before: &[i8], step: &Conv<'_>, [y, x, o]: [usize; 3], row: usize) -> i32 {
    let channels = usize::from(step.input.channels);
    let [rows, columns] = step.kernel.map(usize::from);
    let mut acc = word(step.bias, row * usize::from(step.output.channels) + o);
    for ky in 0..rows {
        for kx in 0..columns {
            for i in 0..channels {
                let weight = step.weights[((o * rows + ky) * columns + kx) * channels + i] as i8;
                let value = tap(before, step, [y, x], [ky, kx], i);
                acc = acc.wrapping_add(i32::from(weight) * i32::from(value));
            }
        }
    }
    acc
}

/// The value that kernel place `k` sees of the output pixel at `at`: the nearest input pixel, or the padding.
fn tap(before: &[i8], step: &Conv<'_>, at: [usize; 2], k: [usize; 2], i: usize) -> i8 {
    let upsample = i32::from(step.upsample);
    let size = [i32::from(step.input.height), i32::from(step.input.width)];
    let mut source = [0; 2];
    for axis in 0..2 {
        let place = at[axis] as i32 * i32::from(step.stride[axis]) + k[axis] as i32 - i32::from(step.pad[axis]);
        if place < 0 || place >= size[axis] * upsample {
            return step.input_zero_point;
        }
        source[axis] = (place / upsample) as usize;
    }
    let pixel = source[0] * usize::from(step.input.width) + source[1];
    before[step.input.offset as usize + pixel * usize::from(step.input.pitch) + i]
}

fn word(bytes: &[u8], index: usize) -> i32 {
    i32::from_le_bytes([bytes[4 * index], bytes[4 * index + 1], bytes[4 * index + 2], bytes[4 * index + 3]])
}
