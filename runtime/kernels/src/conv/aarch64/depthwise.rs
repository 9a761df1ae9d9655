//! Depthwise: sixteen channels of a pixel at a time, kernel places in pairs, whose products fit 16 bits.

use core::arch::aarch64::*;

use super::epilogue::{Constants, NR, tables};
use crate::conv::layer::Layer;
use crate::conv::places::{Padding, Places};
use crate::elements::LANES;

/// Pixels in registers.
const MR: usize = 2;

/// Runs a layer packed as [`crate::conv::NEON_DEPTHWISE`].
///
/// # Safety
/// As [`super::run`].
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let channels = layer.output.channels as usize;
    let taps = (geometry.kernel[0] * geometry.kernel[1]) as usize;
    let [height, width] = geometry.pixels;
    let padding: Padding = [layer.zero_point; size_of::<Padding>()];
    let mut places = Places::<MR>::of(layer, &padding);
    for (y, x) in (0..height).flat_map(|y| (0..width).step_by(MR).map(move |x| (y, x))) {
        let pixels: [usize; MR] = core::array::from_fn(|m| geometry.pixel([y, x + m]));
        let pixels = &pixels[..(width - x).min(MR)];
        let are_runs = places.find([y, x], pixels.len(), arena);
        for o in (0..channels).step_by(LANES) {
            let mut from = if are_runs { o } else { 0 };
            // SAFETY: each block of channels has `taps` vectors of weights, and a word of each constant for each channel;
            // the places have channels up to the last, and only of the last block there may be fewer than a vector.
            unsafe {
                if channels - o < LANES {
                    places.copy(taps, from, channels - o);
                    from = 0;
                }
                let (low, high) = (Constants::load(layer, o), Constants::load(layer, o + NR));
                let bias = [low.bias[0], low.bias[1], high.bias[0], high.bias[1]];
                let acc = accumulate(&places.at[..taps], from, layer.weights.add(o * taps).cast(), bias);
                low.finish_tile(arena, layer, acc.map(|[a, b, _, _]| [a, b]), pixels, o);
                if o + NR < channels {
                    high.finish_tile(arena, layer, acc.map(|[_, _, c, d]| [c, d]), pixels, o + NR);
                }
            }
            if !are_runs {
                places.advance(taps);
            }
        }
        // SAFETY: the pixels are inside the output.
        unsafe { tables(arena, layer, pixels) };
    }
}

/// The bias and the sums of products of kernel places.
///
/// # Safety
/// Sixteen channels from the `o`-th on must be readable at every place, and `weights` for a vector of each.
#[inline(always)]
unsafe fn accumulate(
    places: &[[*const i8; MR]],
    o: usize,
    weights: *const i8,
    bias: [int32x4_t; 4],
) -> [[int32x4_t; 4]; MR] {
    let add = |acc: &mut [int32x4_t; 4], low: int16x8_t, high: int16x8_t| {
        // SAFETY: NEON is part of AArch64.
        unsafe {
            acc[0] = vaddw_s16(acc[0], vget_low_s16(low));
            acc[1] = vaddw_high_s16(acc[1], low);
            acc[2] = vaddw_s16(acc[2], vget_low_s16(high));
            acc[3] = vaddw_high_s16(acc[3], high);
        }
    };
    let mut acc = [bias; MR];
    let pairs = places.chunks_exact(2);
    let last = pairs.remainder();
    let mut weights = weights;
    // SAFETY: the caller's bound.
    unsafe {
        for pair in pairs {
            let (w0, w1) = (vld1q_s8(weights), vld1q_s8(weights.add(LANES)));
            for (m, acc) in acc.iter_mut().enumerate() {
                let [x0, x1] = [0, 1].map(|i: usize| vld1q_s8(pair[i][m].wrapping_add(o)));
                let low = vmlal_s8(vmull_s8(vget_low_s8(x0), vget_low_s8(w0)), vget_low_s8(x1), vget_low_s8(w1));
                add(acc, low, vmlal_high_s8(vmull_high_s8(x0, w0), x1, w1));
            }
            weights = weights.add(2 * LANES);
        }
        if let [places] = last {
            let w = vld1q_s8(weights);
            for (acc, place) in acc.iter_mut().zip(places) {
                let x = vld1q_s8(place.wrapping_add(o));
                add(acc, vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_high_s8(x, w));
            }
        }
    }
    acc
}
