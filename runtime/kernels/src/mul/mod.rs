//! Product of two s8 tensors: the requantise law on `(a - za) * (b - zb)`, then a table.

#[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod avx2;
#[cfg(all(feature = "std", target_arch = "aarch64"))]
mod neon;
pub mod reference;
pub mod scalar;

use crate::plan::Mul;
use crate::requant::requantise;
use crate::table::lookup;

/// One element.
#[inline(always)]
pub const fn product(a: i8, b: i8, step: &Mul<'_>) -> i8 {
    let acc = (a as i32 - step.a_zero_point as i32) * (b as i32 - step.b_zero_point as i32);
    let q = requantise(acc, step.left_shift, step.multiplier, step.zero_point);
    match step.table {
        Some(table) => lookup(table, q),
        None => q,
    }
}

entry_points! {
    /// Runs the step; the output may be the same place as an operand of its shape.
    Mul<'_>, [ArmMve, ArmDsp, Avx2, Neon], "the product does not fit the arena"
}
