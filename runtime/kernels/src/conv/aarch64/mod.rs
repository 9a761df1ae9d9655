//! Convolution on AArch64: eight pixels by eight channels with SDOT or SMMLA, four by four with SMLAL where there is
//! neither; depthwise by eight channels.
//!
//! | packing | instructions | cores | inner loop |
//! |---|---|---|---|
//! | [`super::NEON_PANELS`] | SMULL, SMLAL2, SADALP | Cortex-A53, A72 | 56 for 256 products |
//! | [`super::NEON_DOT_PANELS`] | SDOT by element | Cortex-A76, A78AE | 80 for 1024 |
//! | [`super::NEON_I8MM_PANELS`] | SMMLA | Armv8.6 | 24 for 512 |
//! | [`super::NEON_DEPTHWISE`] | SMULL, SADDW | all | 5 for 8 |
//!
//! The windows of a tile's pixels are gathered on the stack. A product of a weight (never -128) and an activation has 15
//! bits, so two of them fit 16.

mod base;
mod depthwise;
pub(crate) mod dot;
mod epilogue;
mod i8mm;

use core::mem::MaybeUninit;

use super::layer::Layer;
use crate::plan::{Conv, ConvTranspose, HOST_PRODUCTS, Isa, Packing};
use epilogue::tables;

/// Most pixels of a tile.
const MR: usize = 8;
/// Bytes of windows on the stack for most layers; each page of a frame is probed.
const SMALL: usize = 16 * 1024;
/// For the others; every tile's windows fit.
const LARGE: usize = MR * HOST_PRODUCTS;
/// Windows are padded to whole vectors.
const VECTOR: usize = 16;

/// Runs a convolution in one of the packings above; `bias` is the first word of a row of the bank.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, and the processor
/// have the packing's instructions.
pub(super) unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    let layer = Layer::of(arena, step, bias);
    // SAFETY: the same condition.
    unsafe {
        match step.packing {
            Packing::Depthwise { .. } => depthwise::run(arena, &layer),
            Packing::Ohwi | Packing::Panels(_) | Packing::DspPairs | Packing::DspDepthwise => run_layer(arena, &layer),
        }
    }
}

/// Runs a transposed convolution in one of the panel packings, phase by phase; `bias` is the part of the row for the
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
/// As [`run`].
unsafe fn run_layer(arena: *mut i8, layer: &Layer<'_>) {
    let stride = layer.products().next_multiple_of(VECTOR);
    // SAFETY: the same condition; `fits` keeps windows within `HOST_PRODUCTS`, a multiple of a vector.
    unsafe {
        if MR * stride <= SMALL {
            run_buffered::<SMALL>(arena, layer, stride);
        } else {
            run_buffered::<LARGE>(arena, layer, stride);
        }
    }
}

/// # Safety
/// As [`run`], with windows of `stride` bytes, of which a tile's fit `N`.
unsafe fn run_buffered<const N: usize>(arena: *mut i8, layer: &Layer<'_>, stride: usize) {
    let mut buffer = MaybeUninit::<[i8; N]>::uninit();
    let buffer = buffer.as_mut_ptr().cast::<i8>();
    let [rows, columns] = layer.geometry.pixels;
    let total = rows * columns;
    let window = layer.products();
    let interior = layer.geometry.interior(layer.input);
    let (mut y, mut x, mut first) = (0, 0, 0);
    let mut pixels = [0; MR];
    let own = own_pixels(layer);
    while first < total {
        let count = (total - first).min(MR);
        if let (Some(own), MR) = (own, count) {
            for (p, pixel) in pixels.iter_mut().enumerate() {
                *pixel = first + p;
            }
            // SAFETY: the windows of these pixels are the input's, which are whole vectors.
            unsafe {
                let pitch = layer.input.pitch as usize;
                compute(arena, layer, arena.wrapping_add(own + first * pitch), pitch, &pixels);
            }
            first += MR;
            (y, x) = (first / columns, first % columns);
            continue;
        }
        // SAFETY: the windows of a tile fit the buffer, and every pixel is one of the geometry.
        unsafe {
            for (p, pixel) in pixels.iter_mut().enumerate().take(count) {
                *pixel = layer.geometry.pixel([y, x]);
                let into = buffer.add(p * stride);
                if interior.contains([y, x]) {
                    layer.geometry.gather_inside(arena, layer.input, [y, x], into);
                } else {
                    layer.geometry.gather(arena, layer.input, layer.zero_point, [y, x], into);
                }
                if window < stride {
                    into.add(window).write_bytes(0, stride - window);
                }
                x += 1;
                if x == columns {
                    (y, x) = (y + 1, 0);
                }
            }
            // Pixels that do not exist are computed from whatever is there, and not stored.
            for p in count..MR {
                buffer.add(p * stride).write_bytes(0, stride);
            }
            compute(arena, layer, buffer, stride, &pixels[..count]);
        }
        first += count;
    }
}

/// The place of the first window, where every output pixel reads the input pixel at its own place and no more, and no
/// window ends inside a vector.
fn own_pixels(layer: &Layer<'_>) -> Option<usize> {
    let (geometry, input) = (&layer.geometry, layer.input);
    let alone = geometry.kernel == [1, 1] && geometry.stride == [1, 1] && geometry.step == [input.width as usize, 1];
    let in_place = geometry.origin == [0, 0] && geometry.upsample_shift == 0 && geometry.first == 0;
    let alike = geometry.pixels == [input.height as usize, input.width as usize];
    (alone && in_place && alike && (input.channels as usize).is_multiple_of(VECTOR)).then_some(input.offset as usize)
}

/// All channels of a tile.
///
/// # Safety
/// As [`run`], with the windows of the pixels at `windows`, `stride` bytes apart and padded with zeros to whole vectors,
/// and whatever there is in the place of those that are not there.
#[inline(always)]
unsafe fn compute(arena: *mut i8, layer: &Layer<'_>, windows: *const i8, stride: usize, pixels: &[usize]) {
    // SAFETY: the same condition.
    unsafe {
        match layer.packing.isa() {
            Isa::NeonI8mm => i8mm::run(arena, layer, windows, stride, pixels),
            Isa::NeonDot => dot::run(arena, layer, windows, stride, pixels),
            Isa::Neon | Isa::Scalar | Isa::ArmDsp | Isa::ArmMve | Isa::Avx2 | Isa::Avx512Vnni => {
                base::run(arena, layer, windows, stride, pixels)
            }
        }
        tables(arena, layer, pixels);
    }
}
