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
use super::layer::Layer;
use crate::bytes::i32_at;
use crate::plan::{Conv, ConvTranspose, Packing};

/// Runs a convolution in one of the packings above; `bias` is the first word of a row of the bank.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, the constants be
/// aligned ([`are_aligned`](super::layer::are_aligned)) and `step.scratch` be there.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { run_layer(arena, &Layer::of(arena, step, bias)) }
}

/// Runs a transposed convolution in one of the packings above; `bias` is the part of the row for the first phase.
///
/// # Safety
/// As [`run`].
#[inline(never)]
pub unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    for layer in Layer::of_phases(arena, step, bias) {
        // SAFETY: the same condition.
        unsafe { run_layer(arena, &layer) }
    }
}

/// # Safety
/// The slots, the scratch memory and the constants must be as `fits` of the step asks, in the arena.
#[inline(always)]
unsafe fn run_layer(arena: *mut i8, layer: &Layer<'_>) {
    // SAFETY: the same condition.
    unsafe {
        if layer.padded_products() == 0 {
            return run_empty(arena, layer);
        }
        match layer.packing {
            Packing::DspPairs => tile::run(arena, layer),
            Packing::Panels(panels) if panels.nr == 5 => rows::run::<5>(arena, layer),
            Packing::Panels(_) => rows::run::<4>(arena, layer),
            Packing::DspDepthwise | Packing::Depthwise { .. } | Packing::Ohwi => depthwise::run(arena, layer),
        }
    }
}

/// A phase without kernel places: what the bias alone gives.
///
/// # Safety
/// As [`run_layer`].
#[cold]
unsafe fn run_empty(arena: *mut i8, layer: &Layer<'_>) {
    let (geometry, output) = (&layer.geometry, layer.output);
    let [rows, columns] = geometry.pixels;
    for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
        for o in 0..output.channels as usize {
            // SAFETY: the bias has a word for each channel, and the pixel is inside the output.
            unsafe {
                let acc = [i32_at(layer.bias, o)];
                finish(arena, layer.epilogue, output, geometry.pixel([y, x]), o, acc);
            }
        }
    }
}
