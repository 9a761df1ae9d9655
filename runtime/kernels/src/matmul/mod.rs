//! Batched product of two s8 tensors: `acc = sum_k (a - za) * b`, then the law of [`crate::requant`].

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

use crate::plan::MatMul;

entry_points! {
    /// Runs the step.
    MatMul, [ArmMve, ArmDsp, Avx2, NeonDot, Neon], "the matrix product does not fit the arena"
}
