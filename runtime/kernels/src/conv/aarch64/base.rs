//! Four pixels by four channels without dot products: products of sixteen pairs in two halves, summed to 16 bits, then
//! added in pairs to 32.

use core::arch::aarch64::*;

use super::MR;
use super::epilogue::{Constants, NR};
use crate::conv::layer::Layer;

/// Products that lie together.
const KR: usize = 16;
/// Pixels in registers.
const PIXELS: usize = 4;
/// Channels in registers.
const CHANNELS: usize = 4;

/// Computes all channels of a tile.
///
/// # Safety
/// As [`super::run`], with the windows of `MR` pixels at `windows`, `stride` bytes apart and padded with zeros to it.
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>, windows: *const i8, stride: usize, pixels: &[usize]) {
    let groups = layer.products().div_ceil(KR);
    let panels = (layer.output.channels as usize).div_ceil(NR);
    for panel in 0..panels {
        // SAFETY: a panel holds `groups` groups of `NR * KR` bytes; windows are padded to whole vectors.
        unsafe {
            let weights = layer.weights.add(panel * groups * NR * KR).cast::<i8>();
            let constants = Constants::load(layer, panel * NR);
            for first in (0..pixels.len().min(MR)).step_by(PIXELS) {
                let windows = windows.add(first * stride);
                let low = tile(windows, stride, weights, groups);
                let high = tile(windows, stride, weights.add(CHANNELS * KR), groups);
                let acc = [0, 1, 2, 3]
                    .map(|p: usize| [vaddq_s32(low[p], constants.bias[0]), vaddq_s32(high[p], constants.bias[1])]);
                let last = pixels.len().min(first + PIXELS);
                constants.finish_tile(arena, layer, acc, &pixels[first..last], panel * NR);
            }
        }
    }
}

/// Sums of four channels for each of four pixels.
///
/// # Safety
/// `windows` must hold four windows of `groups * KR` bytes, and `weights` four channels of each of `groups` groups.
#[inline(always)]
unsafe fn tile(windows: *const i8, stride: usize, weights: *const i8, groups: usize) -> [int32x4_t; PIXELS] {
    // SAFETY: the caller's bound.
    unsafe {
        let mut acc = [[vdupq_n_s32(0); CHANNELS]; PIXELS];
        for group in 0..groups {
            let at = weights.add(group * NR * KR);
            let w = [0, 1, 2, 3].map(|c| vld1q_s8(at.add(KR * c)));
            for (p, acc) in acc.iter_mut().enumerate() {
                let x = vld1q_s8(windows.add(p * stride + group * KR));
                for (acc, &w) in acc.iter_mut().zip(&w) {
                    let pairs = vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(w)), x, w);
                    *acc = vpadalq_s16(*acc, pairs);
                }
            }
        }
        acc.map(|a| vpaddq_s32(vpaddq_s32(a[0], a[1]), vpaddq_s32(a[2], a[3])))
    }
}
