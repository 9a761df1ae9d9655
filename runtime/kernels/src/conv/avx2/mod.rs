//! Convolution on x86-64 with AVX2: VPMADDWD on pairs of products, which is exact on widened bytes where VPMADDUBSW would
//! saturate.
//!
//! | packing | kernel | inner loop |
//! |---|---|---|
//! | [`super::AVX2_PANELS`] | [`panels`]: 6 pixels x 16 channels | 32 instructions for 192 products |
//! | [`super::AVX2_ROWS`] | [`rows`]: 4 pixels x 1 channel | 9 for 64 |
//! | [`super::AVX2_DEPTHWISE`] | [`depthwise`]: 4 pixels x 16 channels, two kernel places | 36 for 128 |

mod depthwise;
mod epilogue;
pub(crate) mod panels;
mod rows;
mod windows;

use super::layer::Layer;
use crate::plan::{Conv, ConvTranspose, Packing};

/// Runs a convolution in one of the packings above; `bias` is the first word of a row of the bank.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, and the processor
/// have AVX2.
pub(super) unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { run_layer(arena, &Layer::of(arena, step, bias)) }
}

/// Runs a transposed convolution in one of the packings above, phase by phase; `bias` is the part of the row for the
/// first phase.
///
/// # Safety
/// As [`run`].
pub(super) unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    for layer in Layer::of_phases(arena, step, bias) {
        // SAFETY: the same condition.
        unsafe { run_layer(arena, &layer) }
    }
}

/// # Safety
/// The slots and the constants must be as `fits` of the step asks, in the arena, and the processor have AVX2.
unsafe fn run_layer(arena: *mut i8, layer: &Layer<'_>) {
    // SAFETY: the same condition.
    unsafe {
        match layer.packing {
            super::AVX2_ROWS => windows::each_block(arena, layer, rows::run),
            Packing::Panels(_) => windows::each_block(arena, layer, panels::run),
            Packing::Depthwise { .. } | Packing::Ohwi | Packing::DspPairs | Packing::DspDepthwise => {
                depthwise::run(arena, layer)
            }
        }
    }
}
