//! Convolution on Cortex-M cores with the DSP extension (M4, M7, M33).
//!
//! | packing | kernel | inner loop |
//! |---|---|---|
//! | [`Packing::DspPairs`] | [`tile`]: 4 pixels x 2 channels | 13 instructions for 16 products |
//! | [`crate::plan::Packing::Panels`] of 4 or 5 channels | [`rows`]: one pixel, weights streamed once | 18 for 16, 23 for 20 |
//! | [`Packing::DspDepthwise`] | [`depthwise`]: 4 channels of a pixel | 25 for 12 |
//!
//! Activations are widened to 16 bits once for all output channels; the offline order of the weights is the order in
//! which SXTB16 takes a word of activations apart, so nothing is shuffled. Requantisation is SMMLAR with the zero point
//! as its addend and SSAT.

mod depthwise;
mod rows;
mod tile;
mod widen;

use super::epilogue::finish;
use super::geometry::Geometry;
use crate::bytes::i32_at;
use crate::plan::{Conv, ConvTranspose, Epilogue, Packing, Slot};

/// Whether constants are aligned to words, as the multi-word loads need. Constants of a lowered model are.
#[inline(always)]
pub(super) fn are_aligned(weights: &[u8], epilogue: &Epilogue<'_>) -> bool {
    let word = |bytes: &[u8]| bytes.as_ptr().addr().is_multiple_of(4);
    word(weights) && word(epilogue.bias) && word(epilogue.multipliers)
}

/// A convolution, or one phase of a transposed one.
struct Layer<'s> {
    geometry: Geometry,
    packing: Packing,
    input: &'s Slot,
    output: &'s Slot,
    zero_point: i8,
    epilogue: &'s Epilogue<'s>,
    weights: *const u8,
    /// First word of the bias row.
    bias: *const u8,
    scratch: *mut u8,
}

impl Layer<'_> {
    /// Products of one output, padding of the packing counted.
    fn products(&self) -> usize {
        let kernel = [self.geometry.kernel[0] as u8, self.geometry.kernel[1] as u8];
        self.packing.padded_filter(kernel, self.input.channels as usize)
    }

    /// # Safety
    /// The slots, the scratch memory and the constants must be as `fits` of the step asks, in the arena.
    #[inline(always)]
    unsafe fn run(&self, arena: *mut i8) {
        // SAFETY: the same condition.
        unsafe {
            if self.products() == 0 {
                return self.run_empty(arena);
            }
            match self.packing {
                Packing::DspPairs => tile::run(arena, self),
                Packing::Panels(panels) if panels.nr == 5 => rows::run::<5>(arena, self),
                Packing::Panels(_) => rows::run::<4>(arena, self),
                Packing::DspDepthwise | Packing::Depthwise { .. } | Packing::Ohwi => depthwise::run(arena, self),
            }
        }
    }

    /// A phase without kernel places: what the bias alone gives.
    ///
    /// # Safety
    /// As [`Self::run`].
    #[cold]
    unsafe fn run_empty(&self, arena: *mut i8) {
        let [rows, columns] = self.geometry.pixels;
        for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
            for o in 0..self.output.channels as usize {
                // SAFETY: the bias has a word for each channel, and the pixel is inside the output.
                unsafe {
                    finish(arena, self.epilogue, self.output, self.geometry.pixel([y, x]), o, [i32_at(self.bias, o)]);
                }
            }
        }
    }
}

/// Runs a convolution in one of the packings above.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, `bias` be the
/// first word of a row of the bank, and `step.scratch` be there.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    let scratch = step.scratch.map_or(0, |slot| slot.offset as usize);
    let layer = Layer {
        geometry: Geometry::of(step),
        packing: step.packing,
        input: &step.input,
        output: &step.output,
        zero_point: step.input_zero_point,
        epilogue: &step.epilogue,
        weights: step.weights.as_ptr(),
        bias,
        scratch: aligned(arena.wrapping_add(scratch)),
    };
    // SAFETY: the same condition.
    unsafe { layer.run(arena) }
}

/// The first byte from `scratch` on that is aligned to 8, whatever the alignment of the arena: the scratch memory is 8
/// bytes longer than what the kernels fill.
#[inline(always)]
fn aligned(scratch: *mut i8) -> *mut u8 {
    scratch.wrapping_add(scratch.addr().wrapping_neg() % 8).cast()
}

/// Runs a transposed convolution in one of the packings above; `bias` is the part of the row for the first phase.
///
/// # Safety
/// As [`run`].
#[inline(never)]
pub unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    let scratch = step.scratch.map_or(0, |slot| slot.offset as usize);
    for r in 0..step.stride[0] {
        for c in 0..step.stride[1] {
            let phase = r as usize * step.stride[1] as usize + c as usize;
            let layer = Layer {
                geometry: Geometry::of_phase(step, [r, c]),
                packing: step.packing,
                input: &step.input,
                output: &step.output,
                zero_point: step.input_zero_point,
                epilogue: &step.epilogue,
                weights: step.weights.as_ptr().wrapping_add(step.phase_offset([r, c])),
                bias: bias.wrapping_add(phase * step.epilogue.multipliers.len()),
                scratch: aligned(arena.wrapping_add(scratch)),
            };
            // SAFETY: the weights of the phases lie one after another, each bias row has a part for each phase, and
            // the scratch memory is that of the phase with the most kernel places.
            unsafe { layer.run(arena) }
        }
    }
}
