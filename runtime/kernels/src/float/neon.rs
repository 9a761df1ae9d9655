//! NEON, which every AArch64 processor has.

use core::arch::aarch64::*;

use super::{LANES, Lanes};

#[derive(Clone, Copy)]
pub(super) struct Neon;

/// One instruction on each quarter.
macro_rules! quarters {
    ($i:ident => $of:expr) => {
        // SAFETY: registers only, on a processor that has the instruction.
        core::array::from_fn(|$i| unsafe { $of })
    };
}

impl Lanes for Neon {
    type V = [float32x4_t; 4];
    const ROWS: usize = 6;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::V {
        quarters!(_i => vdupq_n_f32(x))
    }

    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::V {
        // SAFETY: four numbers at 0, 4, 8 and 12 of sixteen.
        core::array::from_fn(|i| unsafe { vld1q_f32(x.as_ptr().add(4 * i)) })
    }

    #[inline(always)]
    fn store(self, v: Self::V, to: &mut [f32; LANES]) {
        for (i, quarter) in v.into_iter().enumerate() {
            // SAFETY: four numbers at 0, 4, 8 and 12 of sixteen.
            unsafe { vst1q_f32(to.as_mut_ptr().add(4 * i), quarter) }
        }
    }

    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        quarters!(i => vaddq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        quarters!(i => vsubq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        quarters!(i => vmulq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        quarters!(i => vdivq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        quarters!(i => vfmaq_f32(c[i], a[i], b[i]))
    }

    #[inline(always)]
    fn max(self, a: Self::V, b: Self::V) -> Self::V {
        quarters!(i => vmaxq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn min(self, a: Self::V, b: Self::V) -> Self::V {
        quarters!(i => vminq_f32(a[i], b[i]))
    }

    #[inline(always)]
    fn power_of_two(self, n: Self::V) -> Self::V {
        quarters!(i => {
            let exponent = vaddq_s32(vcvtq_s32_f32(n[i]), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
        })
    }
}
