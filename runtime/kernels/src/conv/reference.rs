//! The definition of the convolutions, in safe code, for every packing.

use crate::add::sum;
use crate::plan::{Conv, ConvTranspose, Epilogue, Slot};
use crate::requant::requantise;
use crate::table::lookup;

/// Reads the operands from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Conv<'_>, row: usize) {
    let inputs = step.inputs_per_group();
    let per_group = usize::from(step.output.channels) / usize::from(step.groups);
    let [rows, columns] = step.kernel.map(usize::from);
    let row = row.min(step.epilogue.rows() - 1);
    finish(before, after, &step.output, &step.epilogue, |[y, x, o]| {
        let mut acc = word(step.epilogue.bias, row * step.epilogue.padded_channels() + o);
        for (ky, kx) in (0..rows).flat_map(|ky| (0..columns).map(move |kx| (ky, kx))) {
            for i in 0..inputs {
                let weight = step.weights[step.packing.index(step.kernel, inputs, [o, ky, kx, i])] as i8;
                let channel = o / per_group * inputs + i;
                let value = tap(step, [y, x], [ky, kx]).map_or(step.input_zero_point, |place| before[place + channel]);
                acc = acc.wrapping_add(i32::from(weight) * i32::from(value));
            }
        }
        acc
    });
}

/// First element of the pixel that kernel place `k` sees of the output pixel at `at`, or `None` for padding.
fn tap(step: &Conv<'_>, at: [usize; 2], k: [usize; 2]) -> Option<usize> {
    let upsample = i32::from(step.upsample);
    let size = [i32::from(step.input.height), i32::from(step.input.width)];
    let mut source = [0; 2];
    for axis in 0..2 {
        let place = at[axis] as i32 * i32::from(step.stride[axis]) + k[axis] as i32 * i32::from(step.dilation[axis])
            - i32::from(step.pad[axis]);
        if place < 0 || place >= size[axis] * upsample {
            return None;
        }
        source[axis] = (place / upsample) as usize;
    }
    Some(start(&step.input, source))
}

fn start(slot: &Slot, [y, x]: [usize; 2]) -> usize {
    slot.offset as usize + (y * usize::from(slot.width) + x) * usize::from(slot.pitch)
}

/// Reads the operands from `before` and writes the result to `after`, both whole arenas: for each output place every
/// kernel place is asked whether an input pixel meets it.
pub fn run_transpose(before: &[i8], after: &mut [i8], step: &ConvTranspose<'_>, row: usize) {
    let row = row.min(step.rows() - 1);
    let stride = step.stride.map(i32::from);
    let size = [i32::from(step.input.height), i32::from(step.input.width)];
    let words = step.epilogue.padded_channels();
    finish(before, after, &step.output, &step.epilogue, |[y, x, o]| {
        let to = [y as i32 + i32::from(step.pad[0]), x as i32 + i32::from(step.pad[1])];
        let phase = (to[0] % stride[0]) * stride[1] + to[1] % stride[1];
        let mut acc = word(step.epilogue.bias, (row * step.phases() + phase as usize) * words + o);
        let [rows, columns] = step.kernel.map(i32::from);
        for (ky, kx) in (0..rows).flat_map(|ky| (0..columns).map(move |kx| (ky, kx))) {
            if (to[0] - ky) % stride[0] != 0 || (to[1] - kx) % stride[1] != 0 {
                continue;
            }
            let source = [(to[0] - ky) / stride[0], (to[1] - kx) / stride[1]];
            let inside = (0..2).all(|axis| (0..size[axis]).contains(&source[axis]));
            for i in 0..usize::from(step.input.channels) {
                let value = if inside {
                    before[start(&step.input, source.map(|v| v as usize)) + i]
                } else {
                    step.input_zero_point
                };
                let weight = weight(step, [o, ky as usize, kx as usize, i]);
                acc = acc.wrapping_add(i32::from(weight) * i32::from(value));
            }
        }
        acc
    });
}

/// The weight of kernel place `(ky, kx)`, from the phase that owns it.
fn weight(step: &ConvTranspose<'_>, [o, ky, kx, i]: [usize; 4]) -> i8 {
    let [sy, sx] = step.stride.map(usize::from);
    let owner = [(ky % sy) as u8, (kx % sx) as u8];
    let kernel = step.phase_kernel(owner);
    let place = [o, usize::from(kernel[0]) - 1 - ky / sy, usize::from(kernel[1]) - 1 - kx / sx, i];
    step.weights[step.phase_offset(owner) + step.packing.index(kernel, step.input.channels.into(), place)] as i8
}

fn finish(
    before: &[i8],
    after: &mut [i8],
    output: &Slot,
    epilogue: &Epilogue<'_>,
    accumulate: impl Fn([usize; 3]) -> i32,
) {
    for y in 0..usize::from(output.height) {
        for x in 0..usize::from(output.width) {
            for o in 0..usize::from(output.channels) {
                let acc = accumulate([y, x, o]);
                let mut q = requantise(acc, epilogue.left_shift, word(epilogue.multipliers, o), epilogue.zero_point);
                if let Some(residual) = &epilogue.residual {
                    q = sum(q, before[start(&residual.slot, [y, x]) + o], &residual.params);
                }
                if let Some(table) = epilogue.table {
                    q = lookup(table, q);
                }
                after[start(output, [y, x]) + o] = q;
            }
        }
    }
}

fn word(bytes: &[u8], index: usize) -> i32 {
    i32::from_le_bytes([bytes[4 * index], bytes[4 * index + 1], bytes[4 * index + 2], bytes[4 * index + 3]])
}
