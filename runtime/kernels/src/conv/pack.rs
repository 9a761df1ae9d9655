//! Writes weights in the order that a kernel reads: offline, in the compiler, and in the conformance suite.

use crate::plan::{ConvTranspose, Packing};

/// Packs filters `[outputs][kernel rows][kernel columns][inputs]` (`inputs` of one group) into `into`, which has
/// `packing.bytes(outputs, kernel, inputs)` bytes; padding becomes zero.
///
/// # Panics
/// If a slice has another length.
pub fn pack(packing: Packing, filters: &[u8], outputs: usize, kernel: [u8; 2], inputs: usize, into: &mut [u8]) {
    let [rows, columns] = kernel.map(usize::from);
    assert_eq!(filters.len(), outputs * rows * columns * inputs, "the filters have another size");
    assert_eq!(into.len(), packing.bytes(outputs, kernel, inputs), "the packed weights have another size");
    into.fill(0);
    let mut weights = filters.iter();
    for o in 0..outputs {
        for ky in 0..rows {
            for kx in 0..columns {
                for i in 0..inputs {
                    if let Some(weight) = weights.next() {
                        let place = packing.index(kernel, inputs, [o, ky, kx, i]);
                        into[place] = *weight;
                        if packing.width() == 2 {
                            into[place + 1] = if *weight < 0x80 { 0 } else { 0xff };
                        }
                    }
                }
            }
        }
    }
}

/// Packs the filters `[outputs][kernel rows][kernel columns][inputs]` of a transposed convolution phase by phase into
/// `into`, which has [`ConvTranspose::weight_bytes`] bytes. Of `step` only the geometry and the packing are read.
///
/// # Panics
/// If a slice has another length.
pub fn pack_phases(step: &ConvTranspose<'_>, filters: &[u8], into: &mut [u8]) {
    let (outputs, inputs) = (usize::from(step.output.channels), usize::from(step.input.channels));
    let [rows, columns] = step.kernel.map(usize::from);
    assert_eq!(filters.len(), outputs * rows * columns * inputs, "the filters have another size");
    assert_eq!(into.len(), step.weight_bytes(), "the packed weights have another size");
    into.fill(0);
    for (r, c) in (0..step.stride[0]).flat_map(|r| (0..step.stride[1]).map(move |c| (r, c))) {
        let kernel = step.phase_kernel([r, c]);
        let first = step.phase_offset([r, c]);
        for (jy, jx) in (0..kernel[0]).flat_map(|jy| (0..kernel[1]).map(move |jx| (jy, jx))) {
            let ky = usize::from(r) + usize::from(step.stride[0]) * usize::from(kernel[0] - 1 - jy);
            let kx = usize::from(c) + usize::from(step.stride[1]) * usize::from(kernel[1] - 1 - jx);
            for (o, i) in (0..outputs).flat_map(|o| (0..inputs).map(move |i| (o, i))) {
                let place = step.packing.index(kernel, inputs, [o, jy.into(), jx.into(), i]);
                into[first + place] = filters[((o * rows + ky) * columns + kx) * inputs + i];
            }
        }
    }
}
