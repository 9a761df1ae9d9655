//! Elementwise table: `out = table[in]`, or a copy.

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

use crate::plan::Map;

entry_points! {
    /// Runs the step; the output may be the same place as the operand.
    Map<'_>, [ArmMve, ArmDsp, Avx2, Neon], "the map does not fit the arena"
}
