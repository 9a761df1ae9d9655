//! Eight pixels by eight channels with SMMLA: a register holds two pixels by two channels.

use core::arch::aarch64::*;
use core::arch::asm;

use super::MR;
use super::epilogue::{Constants, NR};
use crate::conv::layer::Layer;

/// Products that lie together.
const KR: usize = 8;

/// `acc[2p + c] += sum over eight of x[p] * w[c]` for two pixels and two channels.
#[inline(always)]
fn smmla(acc: int32x4_t, x: int8x16_t, weights: int8x16_t) -> int32x4_t {
    let mut sum = acc;
    // SAFETY: registers only; the caller runs on a processor with SMMLA.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sum:v}.4s, {x:v}.16b, {w:v}.16b",
            sum = inout(vreg) sum,
            w = in(vreg) weights,
            x = in(vreg) x,
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
            // [pair of pixels][pair of channels]
            let mut acc = [[vdupq_n_s32(0); NR / 2]; MR / 2];
            for group in 0..groups {
                let at = weights.add(group * NR * KR);
                let w = [0, 1, 2, 3].map(|c| vld1q_s8(at.add(16 * c)));
                for (pair, acc) in acc.iter_mut().enumerate() {
                    let at = windows.add(2 * pair * stride + group * KR);
                    let x = vcombine_s8(vld1_s8(at), vld1_s8(at.add(stride)));
                    for (acc, &w) in acc.iter_mut().zip(&w) {
                        *acc = smmla(*acc, x, w);
                    }
                }
            }
            let [low, high] = constants.bias;
            let mut sums = [[low, high]; MR];
            for (pair, acc) in acc.into_iter().enumerate() {
                // Each register has two channels of the first pixel, then of the second.
                let wide = acc.map(|a| vreinterpretq_s64_s32(a));
                let join = |first: usize, second: bool| {
                    let (a, b) = (wide[first], wide[first + 1]);
                    vreinterpretq_s32_s64(if second { vzip2q_s64(a, b) } else { vzip1q_s64(a, b) })
                };
                for (i, second) in [false, true].into_iter().enumerate() {
                    let sums = &mut sums[2 * pair + i];
                    *sums = [vaddq_s32(sums[0], join(0, second)), vaddq_s32(sums[1], join(2, second))];
                }
            }
            constants.finish_tile(arena, layer, sums, pixels, panel * NR);
        }
    }
}
