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

use super::layer::Layer;
use crate::plan::{ARM_MVE_PIXELS, Conv, ConvTranspose, Epilogue, Slot};
use epilogue::Finish;

/// Runs a convolution packed in panels; `bias` is the first word of a row of the bank.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, the constants be
/// aligned ([`are_aligned`](super::layer::are_aligned)) and `step.scratch` be there.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    let (input, output) = (&step.input, &step.output);
    if output.pixels() == 1 && step.kernel == [1, 1] && step.pad == [0, 0] {
        let constants = [step.weights.as_ptr(), bias];
        let window = arena.wrapping_add(input.offset as usize);
        let place = Place::of(arena, output, &step.epilogue, 0);
        // SAFETY: the same condition; the only pixel's window is the input's first pixel.
        unsafe {
            pixel::dense(constants, &step.epilogue, input.channels.into(), output.channels, window, place);
        }
        return;
    }
    // SAFETY: the same condition.
    unsafe { run_panels(arena, &Layer::of(arena, step, bias)) }
}

/// Runs a depthwise convolution, as [`run`]. A function of its own, so that firmware has only what its models need.
///
/// # Safety
/// As [`run`].
#[inline(never)]
pub unsafe fn run_depthwise(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { depthwise::run(arena, &Layer::of(arena, step, bias)) }
}

/// Runs a transposed convolution packed in panels; `bias` is the part of the row for the first phase.
///
/// # Safety
/// As [`run`].
#[inline(never)]
pub unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    for layer in Layer::of_phases(arena, step, bias) {
        // SAFETY: the same condition.
        unsafe { run_panels(arena, &layer) }
    }
}

/// Tiles of three pixels, and what is left one pixel at a time.
///
/// # Safety
/// The slots, the scratch memory and the constants must be as `fits` of the step asks, in the arena.
unsafe fn run_panels(arena: *mut i8, layer: &Layer<'_>) {
    let [rows, columns] = layer.geometry.pixels;
    let mut windows = gather::Windows::new(arena, layer);
    let mut tile = tile::Tile::new(layer);
    // The pixels of a tile need not be neighbours, so tiles cross rows.
    let mut count = 0;
    for y in 0..rows {
        windows.row(y);
        let mut place = Place::of(arena, layer.output, layer.epilogue, layer.geometry.pixel([y, 0]));
        for x in 0..columns {
            // SAFETY: the pixel is inside the geometry.
            tile.put(count, unsafe { windows.window(x, count) }, &place);
            place.advance(layer);
            count += 1;
            if count == ARM_MVE_PIXELS {
                // SAFETY: three pixels have been put.
                unsafe { tile.run(layer) };
                count = 0;
            }
        }
    }
    for p in 0..count {
        let (window, place) = tile.get(p);
        // SAFETY: the window of this pixel.
        unsafe { pixel::run(layer, window, place) };
    }
}

/// Products of one output.
fn products(layer: &Layer<'_>) -> usize {
    layer.geometry.kernel[0] as usize * layer.geometry.kernel[1] as usize * layer.input.channels as usize
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
