//! Average and max pooling of each channel over windows; a global pool has one window.

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
#[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod window;

use crate::plan::Pool;

entry_points! {
    /// Runs the step.
    Pool, [ArmMve, ArmDsp, Avx2, Neon], "the pool does not fit the arena"
}
