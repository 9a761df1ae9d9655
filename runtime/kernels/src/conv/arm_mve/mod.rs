//! Convolution on cores with the vector extension MVE (Cortex-M55, M85).
//!
//! | packing | kernel | inner loop |
//! |---|---|---|
//! | [`MVE_PANELS`](super::MVE_PANELS) | [`tile`]: 3 pixels x 2 channels | 12 instructions for 96 products |
//! | the same | [`pixel`]: 1 pixel x 4 channels | 19 for 128 |
//! | [`MVE_DEPTHWISE`](super::MVE_DEPTHWISE) | [`depthwise`]: 16 channels of a pixel | 19 for 32 |
//!
//! Accumulators live in even general-purpose registers, as VMLADAVA asks, and go to vectors of four channels for the
//! requantisation, which is VRMULH: the law itself. Loops are low-overhead and predicate their tails, so that no byte
//! outside a tensor is read. Windows that are one run of bytes are read where they lie, others are gathered.

mod depthwise;
mod epilogue;
mod gather;
mod pixel;
mod tile;

use core::ptr::null;

use super::geometry::Geometry;
use crate::plan::{ARM_MVE_PIXELS, Conv, ConvTranspose, Epilogue, Packing, Slot};
use epilogue::Finish;

/// Whether constants are aligned to words, as vector loads need. Constants of a lowered model are.
#[inline(always)]
pub(super) fn are_aligned(epilogue: &Epilogue<'_>) -> bool {
    let word = |bytes: &[u8]| bytes.as_ptr().addr().is_multiple_of(4);
    word(epilogue.bias) && word(epilogue.multipliers)
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
    fn padded_products(&self) -> usize {
        let kernel = [self.geometry.kernel[0] as u8, self.geometry.kernel[1] as u8];
        self.packing.padded_filter(kernel, self.input.channels as usize)
    }

    /// Products of one output.
    fn products(&self) -> usize {
        self.geometry.kernel[0] as usize * self.geometry.kernel[1] as usize * self.input.channels as usize
    }

    /// # Safety
    /// The slots, the scratch memory and the constants must be as `fits` of the step asks, in the arena.
    unsafe fn run(&self, arena: *mut i8) {
        // SAFETY: the same condition.
        unsafe {
            if self.packing.is_depthwise() {
                depthwise::run(arena, self);
            } else {
                self.run_panels(arena);
            }
        }
    }

    /// Tiles of three pixels, and what is left one pixel at a time.
    ///
    /// # Safety
    /// As [`Self::run`].
    unsafe fn run_panels(&self, arena: *mut i8) {
        let [rows, columns] = self.geometry.pixels;
        let mut windows = gather::Windows::new(arena, self);
        let mut tile = tile::Tile::new(self);
        // The pixels of a tile need not be neighbours, so tiles cross rows.
        let mut count = 0;
        for y in 0..rows {
            windows.row(y);
            let mut place = Place::of(arena, self.output, self.epilogue, self.geometry.pixel([y, 0]));
            for x in 0..columns {
                // SAFETY: the pixel is inside the geometry.
                tile.put(count, unsafe { windows.window(x, count) }, &place);
                place.advance(self);
                count += 1;
                if count == ARM_MVE_PIXELS {
                    // SAFETY: three pixels have been put.
                    unsafe { tile.run(self) };
                    count = 0;
                }
            }
        }
        for p in 0..count {
            let (window, place) = tile.get(p);
            // SAFETY: the window of this pixel.
            unsafe { pixel::run(self, window, place) };
        }
    }
}

/// Where one output pixel and its residual are.
#[derive(Clone, Copy)]
struct Place {
    output: *mut i8,
    /// Null when there is none.
    residual: *const i8,
}

impl Place {
    #[inline(always)]
    fn of(arena: *mut i8, output: &Slot, epilogue: &Epilogue<'_>, pixel: usize) -> Place {
        let at = |slot: &Slot| arena.wrapping_add(slot.offset as usize + pixel * slot.pitch as usize);
        Place { output: at(output), residual: epilogue.residual.as_ref().map_or(null(), |residual| at(&residual.slot)) }
    }

    /// Goes to the next pixel of the row.
    #[inline(always)]
    fn advance(&mut self, layer: &Layer<'_>) {
        let step = layer.geometry.step[1];
        self.output = self.output.wrapping_add(step * layer.output.pitch as usize);
        if let Some(residual) = &layer.epilogue.residual {
            self.residual = self.residual.wrapping_add(step * residual.slot.pitch as usize);
        }
    }
}

/// Runs a convolution in one of the packings above.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, `bias` be the
/// first word of a row of the bank, the constants be aligned ([`are_aligned`]) and `step.scratch` be there.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    let (input, output) = (&step.input, &step.output);
    if output.pixels() == 1 && step.kernel == [1, 1] && step.pad == [0, 0] && !step.packing.is_depthwise() {
        let constants = [step.weights.as_ptr(), bias];
        let window = arena.wrapping_add(input.offset as usize);
        let place = Place::of(arena, output, &step.epilogue, 0);
        // SAFETY: the same condition; the only pixel's window is the input's first pixel.
        unsafe {
            pixel::dense(constants, &step.epilogue, input.channels.into(), output.channels, window, place);
        }
        return;
    }
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

/// Runs a transposed convolution packed in panels; `bias` is the part of the row for the first phase.
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
