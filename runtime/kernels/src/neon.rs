//! What the AArch64 kernels share: the laws on vectors.

use core::arch::aarch64::*;

use crate::elements::LANES;
use crate::plan::{AddParams, Table};

/// Two halves or four quarters of sixteen numbers to the nearest bytes.
#[inline(always)]
pub(crate) fn narrow(x: [int32x4_t; 4]) -> int8x16_t {
    // SAFETY: NEON is part of AArch64.
    unsafe {
        let half = |low, high| vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high)));
        vcombine_s8(half(x[0], x[1]), half(x[2], x[3]))
    }
}

/// The law of [`crate::requant`] with one multiplier. SQRDMULH doubles, so it takes half of the even multiplier.
#[derive(Clone, Copy)]
pub(crate) struct Requantise {
    left_shift: int32x4_t,
    half_multiplier: i32,
    zero_point: int32x4_t,
}

impl Requantise {
    #[inline(always)]
    pub(crate) fn new(left_shift: u8, multiplier: i32, zero_point: i8) -> Requantise {
        // SAFETY: NEON is part of AArch64.
        unsafe {
            Requantise {
                left_shift: vdupq_n_s32(left_shift.into()),
                half_multiplier: multiplier >> 1,
                zero_point: vdupq_n_s32(zero_point.into()),
            }
        }
    }

    /// Four results, not yet saturated to bytes.
    #[inline(always)]
    pub(crate) fn of(&self, acc: int32x4_t) -> int32x4_t {
        // SAFETY: NEON is part of AArch64.
        unsafe { vaddq_s32(vqrdmulhq_n_s32(vshlq_s32(acc, self.left_shift), self.half_multiplier), self.zero_point) }
    }
}

/// The sum of [`crate::add`].
#[derive(Clone, Copy)]
pub(crate) struct Sum {
    constant: int32x4_t,
    shift: int32x4_t,
    ma: i16,
    mb: i16,
}

impl Sum {
    #[inline(always)]
    pub(crate) fn new(params: &AddParams) -> Sum {
        // SAFETY: NEON is part of AArch64.
        unsafe {
            Sum {
                constant: vdupq_n_s32(
                    params.c.wrapping_add(1i32.wrapping_shl(u32::from(params.shift).wrapping_sub(1))),
                ),
                shift: vdupq_n_s32(-i32::from(params.shift)),
                ma: params.ma,
                mb: params.mb,
            }
        }
    }

    #[inline(always)]
    pub(crate) fn eight(&self, a: int8x8_t, b: int8x8_t) -> int8x8_t {
        // SAFETY: NEON is part of AArch64.
        unsafe {
            let (a, b) = (vmovl_s8(a), vmovl_s8(b));
            let four = |a: int16x4_t, b: int16x4_t| {
                let sum = vmlal_n_s16(vmlal_n_s16(self.constant, a, self.ma), b, self.mb);
                vqmovn_s32(vshlq_s32(sum, self.shift))
            };
            let low = four(vget_low_s16(a), vget_low_s16(b));
            let high = four(vget_high_s16(a), vget_high_s16(b));
            vqmovn_s16(vcombine_s16(low, high))
        }
    }

    #[inline(always)]
    pub(crate) fn sixteen(&self, a: int8x16_t, b: int8x16_t) -> int8x16_t {
        // SAFETY: NEON is part of AArch64.
        unsafe {
            let low = self.eight(vget_low_s8(a), vget_low_s8(b));
            vcombine_s8(low, self.eight(vget_high_s8(a), vget_high_s8(b)))
        }
    }
}

/// A table in sixteen registers.
#[derive(Clone, Copy)]
pub(crate) struct Lookup([uint8x16x4_t; 4]);

impl Lookup {
    #[inline(always)]
    pub(crate) fn load(table: Table<'_>) -> Lookup {
        // SAFETY: the table has 256 bytes.
        Lookup([0, 64, 128, 192].map(|first| unsafe { vld1q_u8_x4(table.as_ptr().add(first)) }))
    }

    /// Sixteen values: TBL and TBX give zero, or what was there, for indices past their 64 bytes.
    #[inline(always)]
    pub(crate) fn all(&self, q: int8x16_t) -> int8x16_t {
        // SAFETY: NEON is part of AArch64.
        unsafe {
            let index = veorq_u8(vreinterpretq_u8_s8(q), vdupq_n_u8(0x80));
            let quarter = vdupq_n_u8(64);
            let mut out = vqtbl4q_u8(self.0[0], index);
            let second = vsubq_u8(index, quarter);
            out = vqtbx4q_u8(out, self.0[1], second);
            let third = vsubq_u8(second, quarter);
            out = vqtbx4q_u8(out, self.0[2], third);
            out = vqtbx4q_u8(out, self.0[3], vsubq_u8(third, quarter));
            vreinterpretq_s8_u8(out)
        }
    }
}

/// Loads `count` bytes, at most a vector; the others are zero.
///
/// # Safety
/// `from` must be readable for `count` bytes.
#[inline(always)]
pub(crate) unsafe fn load(from: *const i8, count: usize) -> int8x16_t {
    // SAFETY: a whole vector is loaded only where all its bytes exist.
    unsafe {
        if count == LANES {
            return vld1q_s8(from);
        }
        let mut bytes = [0i8; LANES];
        bytes.as_mut_ptr().copy_from_nonoverlapping(from, count);
        vld1q_s8(bytes.as_ptr())
    }
}

/// Stores the first `count` bytes.
///
/// # Safety
/// `to` must be writable for `count` bytes, at most a vector.
#[inline(always)]
pub(crate) unsafe fn store(to: *mut i8, count: usize, q: int8x16_t) {
    // SAFETY: as above.
    unsafe {
        if count == LANES {
            return vst1q_s8(to, q);
        }
        let mut bytes = [0i8; LANES];
        vst1q_s8(bytes.as_mut_ptr(), q);
        to.copy_from_nonoverlapping(bytes.as_ptr(), count);
    }
}
