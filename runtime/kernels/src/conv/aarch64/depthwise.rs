//! Depthwise: eight channels of a pixel at a time.

use core::arch::aarch64::*;

use super::epilogue::{Constants, NR, tables};
use crate::conv::layer::Layer;

/// Runs a layer packed as [`crate::conv::NEON_DEPTHWISE`].
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let channels = layer.output.channels as usize;
    let [rows, columns] = geometry.kernel;
    let taps = (rows * columns) as usize;
    let [height, width] = geometry.pixels;
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let window = geometry.window(layer.input, [y, x]);
        let pixel = geometry.pixel([y, x]);
        for first in (0..channels).step_by(NR) {
            let count = (channels - first).min(NR);
            // SAFETY: each block of channels has `taps` vectors of weights; places inside the window are inside the
            // input, and whole vectors are loaded only where eight channels exist.
            unsafe {
                let constants = Constants::load(layer, first);
                let mut acc = [vdupq_n_s32(0); 2];
                let mut weights = layer.weights.add(first * taps).cast::<i8>();
                for ky in 0..rows {
                    for kx in 0..columns {
                        let value = if window.contains([ky, kx]) {
                            let place = geometry.place(layer.input, &window, [ky, kx]);
                            load(arena.add(layer.input.offset as usize + place + first), count)
                        } else {
                            vdup_n_s8(layer.zero_point)
                        };
                        let products = vmull_s8(value, vld1_s8(weights));
                        acc[0] = vaddw_s16(acc[0], vget_low_s16(products));
                        acc[1] = vaddw_high_s16(acc[1], products);
                        weights = weights.add(NR);
                    }
                }
                constants.finish(arena, layer, acc, pixel, first);
            }
        }
        // SAFETY: the pixel is inside the output.
        unsafe { tables(arena, layer, &[pixel]) };
    }
}

/// Eight channels, of which `count` exist.
///
/// # Safety
/// `from` must be readable for `count` bytes, at most eight.
#[inline(always)]
unsafe fn load(from: *const i8, count: usize) -> int8x8_t {
    // SAFETY: the caller's bound.
    unsafe {
        if count == NR {
            return vld1_s8(from);
        }
        let mut bytes = [0i8; NR];
        bytes.as_mut_ptr().copy_from_nonoverlapping(from, count);
        vld1_s8(bytes.as_ptr())
    }
}
