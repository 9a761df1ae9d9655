//! Eight pixels by eight channels with SDOT: a vector of a window serves four vectors of weights by element.

use core::arch::aarch64::*;
use core::arch::asm;

use super::MR;
use super::epilogue::{Constants, NR};
use crate::conv::layer::Layer;

/// Products that lie together.
pub(crate) const KR: usize = 4;

/// `acc + dot products of four weights of each channel with element LANE of the window`.
#[inline(always)]
fn sdot<const LANE: usize>(acc: int32x4_t, weights: int8x16_t, window: int8x16_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: registers only; the caller runs on a processor with SDOT.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            w = in(vreg) weights,
            x = in(vreg) window,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

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
            // A whole tile computes pixels that are not there too.
            if pixels.len() > MR / 2 {
                let acc = accumulate::<MR>(windows, stride, weights, groups, constants.bias);
                constants.finish_tile(arena, layer, acc, pixels, panel * NR);
            } else if pixels.len() > 1 {
                let acc = accumulate::<{ MR / 2 }>(windows, stride, weights, groups, constants.bias);
                constants.finish_tile(arena, layer, acc, pixels, panel * NR);
            } else {
                let acc = accumulate::<1>(windows, stride, weights, groups, constants.bias);
                constants.finish_tile(arena, layer, acc, pixels, panel * NR);
            }
        }
    }
}

/// The bias and the sums of products of `M` windows and eight channels.
///
/// # Safety
/// `windows` must be readable for `M` windows of `groups * KR` bytes padded to whole vectors, `stride` bytes apart, and
/// `weights` for `groups` groups of `NR * KR` bytes; the processor must have SDOT.
#[inline(always)]
pub(crate) unsafe fn accumulate<const M: usize>(
    windows: *const i8,
    stride: usize,
    weights: *const i8,
    groups: usize,
    bias: [int32x4_t; 2],
) -> [[int32x4_t; 2]; M] {
    // SAFETY: the caller's bound.
    unsafe {
        let mut acc = [bias; M];
        let mut group = 0;
        while group + 4 <= groups {
            let at = weights.add(group * NR * KR);
            let mut x = [vdupq_n_s8(0); M];
            for (p, x) in x.iter_mut().enumerate() {
                *x = vld1q_s8(windows.add(p * stride + group * KR));
            }
            step::<0, M>(&mut acc, at, &x);
            step::<1, M>(&mut acc, at.add(NR * KR), &x);
            step::<2, M>(&mut acc, at.add(2 * NR * KR), &x);
            step::<3, M>(&mut acc, at.add(3 * NR * KR), &x);
            group += 4;
        }
        if group < groups {
            let at = weights.add(group * NR * KR);
            let mut x = [vdupq_n_s8(0); M];
            for (p, x) in x.iter_mut().enumerate() {
                *x = vld1q_s8(windows.add(p * stride + group * KR));
            }
            step::<0, M>(&mut acc, at, &x);
            if group + 1 < groups {
                step::<1, M>(&mut acc, at.add(NR * KR), &x);
            }
            if group + 2 < groups {
                step::<2, M>(&mut acc, at.add(2 * NR * KR), &x);
            }
        }
        acc
    }
}

/// Four products of eight channels and `M` pixels.
///
/// # Safety
/// `weights` must be readable for `NR * KR` bytes.
#[inline(always)]
unsafe fn step<const LANE: usize, const M: usize>(
    acc: &mut [[int32x4_t; 2]; M],
    weights: *const i8,
    x: &[int8x16_t; M],
) {
    // SAFETY: the caller's bound.
    let (low, high) = unsafe { (vld1q_s8(weights), vld1q_s8(weights.add(16))) };
    for (acc, &x) in acc.iter_mut().zip(x) {
        acc[0] = sdot::<LANE>(acc[0], low, x);
        acc[1] = sdot::<LANE>(acc[1], high, x);
    }
}
