//! A convolution, or one phase of a transposed one, as the kernels of every instruction set take it.

use super::geometry::Geometry;
use crate::plan::{Conv, ConvTranspose, Epilogue, Packing, Slot};

/// Where everything is that a kernel needs.
pub(super) struct Layer<'s> {
    pub(super) geometry: Geometry,
    pub(super) packing: Packing,
    pub(super) input: &'s Slot,
    pub(super) output: &'s Slot,
    /// The value that padding reads.
    pub(super) zero_point: i8,
    pub(super) epilogue: &'s Epilogue<'s>,
    pub(super) weights: *const u8,
    /// First word of the bias row.
    pub(super) bias: *const u8,
    /// Aligned to 8 bytes; the kernels of hosts have none.
    #[cfg_attr(not(target_arch = "arm"), expect(dead_code))]
    pub(super) scratch: *mut u8,
}

impl<'s> Layer<'s> {
    /// The layer of a convolution; `bias` is the first word of a row of the bank.
    #[inline(always)]
    pub(super) fn of(arena: *mut i8, step: &'s Conv<'s>, bias: *const u8) -> Layer<'s> {
        Layer {
            geometry: Geometry::of(step),
            packing: step.packing,
            input: &step.input,
            output: &step.output,
            zero_point: step.input_zero_point,
            epilogue: &step.epilogue,
            weights: step.weights.as_ptr(),
            bias,
            scratch: scratch(arena, step.scratch),
        }
    }

    /// The layers of a transposed convolution's phases; `bias` is the part of a row of the bank for the first phase.
    ///
    /// The weights of the phases lie one after another, each bias row has a part for each phase, and the scratch memory
    /// is that of the phase with the most kernel places.
    #[inline(always)]
    pub(super) fn of_phases(
        arena: *mut i8,
        step: &'s ConvTranspose<'s>,
        bias: *const u8,
    ) -> impl Iterator<Item = Layer<'s>> {
        let phases = (0..step.stride[0]).flat_map(|r| (0..step.stride[1]).map(move |c| [r, c]));
        phases.enumerate().map(move |(number, phase)| Layer {
            geometry: Geometry::of_phase(step, phase),
            packing: step.packing,
            input: &step.input,
            output: &step.output,
            zero_point: step.input_zero_point,
            epilogue: &step.epilogue,
            weights: step.weights.as_ptr().wrapping_add(step.phase_offset(phase)),
            bias: bias.wrapping_add(number * step.epilogue.multipliers.len()),
            scratch: scratch(arena, step.scratch),
        })
    }

    /// Products of one output.
    #[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub(super) fn products(&self) -> usize {
        let [rows, columns] = self.geometry.kernel;
        (rows * columns) as usize * self.input.channels as usize
    }

    /// Products of one output, padding of the packing counted.
    #[cfg(not(target_arch = "aarch64"))]
    pub(super) fn padded_products(&self) -> usize {
        let kernel = [self.geometry.kernel[0] as u8, self.geometry.kernel[1] as u8];
        self.packing.padded_filter(kernel, self.input.channels as usize)
    }
}

/// Whether constants are aligned to words, as loads of several words and of vectors need. Those of a lowered model are.
#[cfg(target_arch = "arm")]
#[inline(always)]
pub(super) fn are_aligned(weights: &[u8], epilogue: &Epilogue<'_>) -> bool {
    let word = |bytes: &[u8]| bytes.as_ptr().addr().is_multiple_of(4);
    word(weights) && word(epilogue.bias) && word(epilogue.multipliers)
}

/// The scratch memory's first byte that is aligned to 8, whatever the alignment of the arena: the memory is 8 bytes
/// longer than what the kernels fill.
#[inline(always)]
fn scratch(arena: *mut i8, slot: Option<Slot>) -> *mut u8 {
    let first = arena.wrapping_add(slot.map_or(0, |slot| slot.offset as usize));
    first.wrapping_add(first.addr().wrapping_neg() % 8).cast()
}
