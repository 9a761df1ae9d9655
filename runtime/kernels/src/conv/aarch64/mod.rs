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

use super::epilogue::bias_row;
use super::geometry::Geometry;
use crate::plan::{Conv, ConvTranspose, Epilogue, HOST_PRODUCTS, Isa, Packing, Slot};
use epilogue::{Constants, tables};

/// Most pixels of a tile.
const MR: usize = 8;
/// Bytes of windows on the stack for most layers; each page of a frame is probed.
const SMALL: usize = 16 * 1024;
/// For the others; every tile's windows fit.
const LARGE: usize = MR * HOST_PRODUCTS;
/// Windows are padded to whole vectors.
const VECTOR: usize = 16;

/// Runs a convolution in one of the packings above.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds, `row` be less
/// than the rows of the bias bank, and the processor have the packing's instructions.
pub(super) unsafe fn run(arena: *mut i8, step: &Conv<'_>, row: usize) {
    // SAFETY: `row` is inside the bank; the rest is the same condition.
    unsafe {
        let layer = Layer {
            geometry: Geometry::of(step),
            packing: step.packing,
            input: &step.input,
            output: &step.output,
            zero_point: step.input_zero_point,
            epilogue: &step.epilogue,
            weights: step.weights.as_ptr(),
            bias: bias_row(&step.epilogue, row),
        };
        match step.packing {
            Packing::Depthwise { .. } => depthwise::run(arena, &layer),
            Packing::Ohwi | Packing::Panels(_) | Packing::DspPairs | Packing::DspDepthwise => layer.run(arena),
        }
    }
}

/// Runs a transposed convolution in one of the panel packings, phase by phase.
///
/// # Safety
/// As [`run`], with `row` less than `step.rows()`.
pub(super) unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, row: usize) {
    for r in 0..step.stride[0] {
        for c in 0..step.stride[1] {
            let phase = r as usize * step.stride[1] as usize + c as usize;
            // SAFETY: each row of the bank has a part for each phase, and each phase has its weights.
            unsafe {
                let layer = Layer {
                    geometry: Geometry::of_phase(step, [r, c]),
                    packing: step.packing,
                    input: &step.input,
                    output: &step.output,
                    zero_point: step.input_zero_point,
                    epilogue: &step.epilogue,
                    weights: step.weights.as_ptr().add(step.phase_offset([r, c])),
                    bias: bias_row(&step.epilogue, row * step.phases() + phase),
                };
                layer.run(arena);
            }
        }
    }
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
}

impl Layer<'_> {
    /// # Safety
    /// As [`run`].
    unsafe fn run(&self, arena: *mut i8) {
        let stride = self.window().next_multiple_of(VECTOR);
        // SAFETY: the same condition; `fits` keeps windows within `HOST_PRODUCTS`, a multiple of a vector.
        unsafe {
            if MR * stride <= SMALL {
                self.run_buffered::<SMALL>(arena, stride);
            } else {
                self.run_buffered::<LARGE>(arena, stride);
            }
        }
    }

    /// Products of one output.
    fn window(&self) -> usize {
        let [rows, columns] = self.geometry.kernel;
        (rows * columns) as usize * self.input.channels as usize
    }

    /// # Safety
    /// As [`run`], with windows of `stride` bytes, of which a tile's fit `N`.
    unsafe fn run_buffered<const N: usize>(&self, arena: *mut i8, stride: usize) {
        let mut buffer = MaybeUninit::<[i8; N]>::uninit();
        let buffer = buffer.as_mut_ptr().cast::<i8>();
        let [rows, columns] = self.geometry.pixels;
        let total = rows * columns;
        let window = self.window();
        let (mut y, mut x, mut first) = (0, 0, 0);
        let mut pixels = [0; MR];
        while first < total {
            let count = (total - first).min(MR);
            // SAFETY: the windows of a tile fit the buffer, and every pixel is one of the geometry.
            unsafe {
                for (p, pixel) in pixels.iter_mut().enumerate().take(count) {
                    *pixel = self.geometry.pixel([y, x]);
                    let into = buffer.add(p * stride);
                    self.geometry.gather(arena, self.input, self.zero_point, [y, x], into);
                    into.add(window).write_bytes(0, stride - window);
                    x += 1;
                    if x == columns {
                        (y, x) = (y + 1, 0);
                    }
                }
                // Pixels that do not exist are computed from whatever is there, and not stored.
                for p in count..MR {
                    buffer.add(p * stride).write_bytes(0, stride);
                }
                match self.packing.isa() {
                    Isa::NeonI8mm => i8mm::run(arena, self, buffer, stride, &pixels[..count]),
                    Isa::NeonDot => dot::run(arena, self, buffer, stride, &pixels[..count]),
                    Isa::Neon | Isa::Scalar | Isa::ArmDsp | Isa::ArmMve | Isa::Avx2 | Isa::Avx512Vnni => {
                        base::run(arena, self, buffer, stride, &pixels[..count])
                    }
                }
                tables(arena, self, &pixels[..count]);
            }
            first += count;
        }
    }

    /// Requantises and stores eight channels from `o` on of one pixel; those past the last are dropped. The table comes
    /// later.
    ///
    /// # Safety
    /// As [`run`], with the pixel inside the output.
    #[inline(always)]
    unsafe fn finish(
        &self,
        arena: *mut i8,
        constants: &Constants,
        acc: [core::arch::aarch64::int32x4_t; 2],
        pixel: usize,
        o: usize,
    ) {
        // SAFETY: the same condition.
        unsafe { constants.finish(arena, self, acc, pixel, o) }
    }
}
