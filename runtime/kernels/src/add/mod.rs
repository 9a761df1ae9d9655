//! Sum of two s8 tensors of different scales: `sat8((a*ma + b*mb + c + 2^(shift-1)) >> shift)`.

#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
mod params;
pub mod reference;
pub mod scalar;

pub use params::{Term, add_params};

use crate::plan::{Add, AddParams};
use crate::requant::saturate;

/// The sum of two s8 values; ties round up.
#[inline(always)]
pub const fn sum(a: i8, b: i8, params: &AddParams) -> i8 {
    let scaled = a as i32 * params.ma as i32 + b as i32 * params.mb as i32;
    let shift = params.shift as u32;
    saturate(scaled.wrapping_add(params.c).wrapping_add(1i32.wrapping_shl(shift.wrapping_sub(1))).wrapping_shr(shift))
}

entry_points! {
    /// Runs the step; the output may be the same place as either operand.
    Add<'_>, [ArmMve, ArmDsp, Avx2, Neon], "the sum does not fit the arena"
}
