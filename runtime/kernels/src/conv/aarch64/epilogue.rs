//! From accumulators to bytes, eight channels at a time.

use core::arch::aarch64::*;

use crate::conv::layer::Layer;
use crate::neon::{Lookup, Sum};

/// Channels that are stored together.
pub(super) const NR: usize = 8;

/// What the epilogue of eight channels needs, loaded once.
pub(super) struct Constants {
    /// What accumulators begin with.
    pub(super) bias: [int32x4_t; 2],
    /// Halves of the multipliers: SQRDMULH doubles.
    multipliers: [int32x4_t; 2],
    left_shift: int32x4_t,
    zero_point: int32x4_t,
}

impl Constants {
    /// # Safety
    /// As [`super::run`], with `o` the first channel of a panel.
    #[inline(always)]
    pub(super) unsafe fn load(layer: &Layer<'_>, o: usize) -> Constants {
        // SAFETY: bias and multipliers have a word for each padded channel, and panels are whole eights.
        unsafe {
            let two = |words: *const u8| {
                let at = words.add(4 * o).cast::<i32>();
                [vld1q_s32(at), vld1q_s32(at.add(4))]
            };
            Constants {
                bias: two(layer.bias),
                multipliers: two(layer.epilogue.multipliers.as_ptr()).map(|m| vshrq_n_s32::<1>(m)),
                left_shift: vdupq_n_s32(layer.epilogue.left_shift.into()),
                zero_point: vdupq_n_s32(layer.epilogue.zero_point.into()),
            }
        }
    }

    /// Requantises accumulators, the bias included, and stores eight channels from `o` on of up to `M` pixels; those past the last are dropped. The table
    /// comes later.
    ///
    /// # Safety
    /// As [`super::run`], with the pixels inside the output and `o` a channel of it.
    #[inline(always)]
    pub(super) unsafe fn finish_tile<const M: usize>(
        &self,
        arena: *mut i8,
        layer: &Layer<'_>,
        acc: [[int32x4_t; 2]; M],
        pixels: &[usize],
        o: usize,
    ) {
        let output = layer.output;
        let is_whole = output.channels as usize - o >= NR && layer.epilogue.residual.is_none();
        // SAFETY: the same condition; whole vectors are stored only where all their channels exist.
        unsafe {
            if let (true, Ok(pixels)) = (is_whole, <&[usize; M]>::try_from(pixels)) {
                let (to, pitch) = (arena.add(output.offset as usize + o), output.pitch as usize);
                for (acc, &pixel) in acc.into_iter().zip(pixels) {
                    vst1_s8(to.add(pixel * pitch), self.requantise(acc));
                }
            } else {
                for (acc, &pixel) in acc.into_iter().zip(pixels) {
                    self.finish(arena, layer, acc, pixel, o);
                }
            }
        }
    }

    #[inline(always)]
    fn requantise(&self, acc: [int32x4_t; 2]) -> int8x8_t {
        // SAFETY: NEON is part of AArch64.
        unsafe {
            let half = |i: usize| {
                let x = vshlq_s32(acc[i], self.left_shift);
                vqmovn_s32(vaddq_s32(vqrdmulhq_s32(x, self.multipliers[i]), self.zero_point))
            };
            vqmovn_s16(vcombine_s16(half(0), half(1)))
        }
    }

    /// One pixel of [`Self::finish_tile`].
    ///
    /// # Safety
    /// As [`Self::finish_tile`].
    #[inline(always)]
    pub(super) unsafe fn finish(&self, arena: *mut i8, layer: &Layer<'_>, acc: [int32x4_t; 2], pixel: usize, o: usize) {
        let width = (layer.output.channels as usize - o).min(NR);
        let mut q = self.requantise(acc);
        // SAFETY: the output's and the residual's spans hold `width` channels from `o` on; whole vectors are loaded
        // and stored only where all their channels exist.
        unsafe {
            if let Some(residual) = &layer.epilogue.residual {
                let (slot, params) = (&residual.slot, &residual.params);
                let from = arena.add(slot.offset as usize + pixel * slot.pitch as usize + o).cast_const();
                let mut other = [0i8; NR];
                other.as_mut_ptr().copy_from_nonoverlapping(from, width);
                q = Sum::new(params).eight(q, vld1_s8(other.as_ptr()));
            }
            let to = arena.add(layer.output.offset as usize + pixel * layer.output.pitch as usize + o);
            if width == NR {
                vst1_s8(to, q);
            } else {
                let mut bytes = [0i8; NR];
                vst1_s8(bytes.as_mut_ptr(), q);
                to.copy_from_nonoverlapping(bytes.as_ptr(), width);
            }
        }
    }
}

/// Applies the layer's table to all channels of some pixels, if it has one: sixteen registers hold the table.
///
/// # Safety
/// As [`super::run`], with the pixels inside the output.
pub(super) unsafe fn tables(arena: *mut i8, layer: &Layer<'_>, pixels: &[usize]) {
    let Some(table) = layer.epilogue.table else { return };
    let channels = layer.output.channels as usize;
    // SAFETY: the pixels' channels are inside the output.
    unsafe {
        let look = Lookup::load(table);
        for &pixel in pixels {
            let at = arena.add(layer.output.offset as usize + pixel * layer.output.pitch as usize);
            let mut i = 0;
            while i + 16 <= channels {
                vst1q_s8(at.add(i), look.all(vld1q_s8(at.add(i))));
                i += 16;
            }
            while i < channels {
                at.add(i).write(crate::table::lookup(table, at.add(i).read()));
                i += 1;
            }
        }
    }
}
