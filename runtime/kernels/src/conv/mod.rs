//! 2-D convolution, plain and transposed, with its epilogue: requantise, residual, table. A fully connected layer is a
//! 1x1 convolution of one pixel, a 1-D convolution one of one row.
//!
//! `[H, W, I] -> [P, Q, O]`: `acc[o] = bias[row][o] + sum w[o][ky][kx][i] * x[...]`, where padding reads the input's
//! zero point, then the law of [`crate::requant`], then the sum of [`crate::add`] with the residual, then the table.
//! Bit-exact in every packing.

#[cfg(all(feature = "std", target_arch = "aarch64"))]
pub(crate) mod aarch64;
#[cfg(all(feature = "arm_dsp", target_arch = "arm"))]
pub(crate) mod arm_dsp;
#[cfg(all(feature = "arm_mve", target_arch = "arm"))]
mod arm_mve;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(crate) mod avx2;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod avx512_vnni;
pub mod epilogue;
pub mod geometry;
#[cfg(any(
    all(any(feature = "arm_dsp", feature = "arm_mve"), target_arch = "arm"),
    all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64"))
))]
mod layer;
pub mod pack;
#[cfg(all(feature = "std", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod places;
pub mod reference;
pub mod scalar;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub mod x86_avx2;

use crate::isa::is_available;
use crate::plan::{Conv, ConvTranspose, Isa, Packing, Panels, Run};
use epilogue::{bias_row, clamp_row};

/// Runs the step with bias row `row`, the last one if there are fewer. The residual may be the same place as the
/// output; an input that overlaps the output gives unspecified bytes, which [`crate::plan::Plan::check`] excludes.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes too, or if its weights are packed
/// for kernels that are not here ([`is_readable`]). With a constant step and an arena of constant size both tests are
/// made at compile time on microcontrollers.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Conv<'_>, row: usize) {
    // SAFETY: the slice is exclusive.
    unsafe { run_part(arena, step, row) }
}

/// As [`run`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
#[allow(unreachable_patterns)]
pub(crate) unsafe fn run_part(arena: *mut [i8], step: &Conv<'_>, row: usize) {
    assert!(step.fits(arena.len()), "the convolution does not fit the arena");
    let row = clamp_row(&step.epilogue, row);
    let arena = arena.cast::<i8>();
    // SAFETY: the assertion is the callees' condition, the row is clamped to the bank, and each arm asks whether its
    // instructions are here.
    unsafe {
        let bias = bias_row(&step.epilogue, row);
        match step.packing {
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Packing::Ohwi if is_available(Isa::Avx2) => x86_avx2::run(arena, step, bias),
            Packing::Ohwi => scalar::run(arena, step, bias),
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            AVX2_PANELS | AVX2_ROWS | AVX2_DEPTHWISE if is_available(Isa::Avx2) => avx2::run(arena, step, bias),
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            AVX512_PANELS if is_available(Isa::Avx512Vnni) => avx512_vnni::run(arena, step, bias),
            #[cfg(all(feature = "std", target_arch = "aarch64"))]
            NEON_PANELS | NEON_DOT_PANELS | NEON_I8MM_PANELS | NEON_DEPTHWISE if is_available(step.packing.isa()) => {
                aarch64::run(arena, step, bias);
            }
            #[cfg(all(feature = "arm_dsp", target_arch = "arm"))]
            Packing::DspPairs | Packing::DspDepthwise | DSP_ROWS_OF_4 | DSP_ROWS_OF_5 => {
                assert!(layer::are_aligned(step.weights, &step.epilogue), "the constants are not aligned");
                arm_dsp::run(arena, step, bias);
            }
            #[cfg(all(feature = "arm_mve", target_arch = "arm"))]
            MVE_PANELS => {
                assert!(layer::are_aligned(step.weights, &step.epilogue), "the constants are not aligned");
                arm_mve::run(arena, step, bias);
            }
            #[cfg(all(feature = "arm_mve", target_arch = "arm"))]
            MVE_DEPTHWISE => {
                assert!(layer::are_aligned(step.weights, &step.epilogue), "the constants are not aligned");
                arm_mve::run_depthwise(arena, step, bias);
            }
            Packing::Panels(_) | Packing::Depthwise { .. } | Packing::DspPairs | Packing::DspDepthwise => {
                not_here(step.packing)
            }
        }
    }
}

/// Runs the step with bias row `row`, as [`run`].
///
/// # Panics
/// As [`run`].
#[inline(always)]
pub fn run_transpose(arena: &mut [i8], step: &ConvTranspose<'_>, row: usize) {
    // SAFETY: the slice is exclusive.
    unsafe { run_transpose_part(arena, step, row) }
}

/// As [`run_transpose`], beside other threads on the same arena.
///
/// # Safety
/// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it runs,
/// nor read what it writes.
#[inline(always)]
#[allow(unreachable_patterns)]
pub(crate) unsafe fn run_transpose_part(arena: *mut [i8], step: &ConvTranspose<'_>, row: usize) {
    assert!(step.fits(arena.len()), "the transposed convolution does not fit the arena");
    let last = step.rows() - 1;
    let row = if row < last { row } else { last };
    let arena = arena.cast::<i8>();
    // SAFETY: the assertion is the callees' condition, the row is clamped to the bank, and each arm asks whether its
    // instructions are here.
    unsafe {
        let bias = bias_row(&step.epilogue, row * step.phases());
        match step.packing {
            Packing::Ohwi => scalar::run_transpose(arena, step, bias),
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            AVX2_PANELS | AVX2_ROWS if is_available(Isa::Avx2) => avx2::run_transpose(arena, step, bias),
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            AVX512_PANELS if is_available(Isa::Avx512Vnni) => avx512_vnni::run_transpose(arena, step, bias),
            #[cfg(all(feature = "std", target_arch = "aarch64"))]
            NEON_PANELS | NEON_DOT_PANELS | NEON_I8MM_PANELS if is_available(step.packing.isa()) => {
                aarch64::run_transpose(arena, step, bias);
            }
            #[cfg(all(feature = "arm_dsp", target_arch = "arm"))]
            Packing::DspPairs | DSP_ROWS_OF_4 | DSP_ROWS_OF_5 => {
                assert!(layer::are_aligned(step.weights, &step.epilogue), "the constants are not aligned");
                arm_dsp::run_transpose(arena, step, bias);
            }
            #[cfg(all(feature = "arm_mve", target_arch = "arm"))]
            MVE_PANELS => {
                assert!(layer::are_aligned(step.weights, &step.epilogue), "the constants are not aligned");
                arm_mve::run_transpose(arena, step, bias);
            }
            Packing::Panels(_) | Packing::Depthwise { .. } | Packing::DspPairs | Packing::DspDepthwise => {
                not_here(step.packing)
            }
        }
    }
}

/// Runs a step packed as [`AVX512_PANELS`] by the kernel for AVX-512 VNNI over portable code in place of its
/// instructions: tests the kernel's logic on any x86-64.
///
/// # Panics
/// If the step does not fit the arena or has another packing.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub fn run_modelled(arena: &mut [i8], step: &Conv<'_>, row: usize) {
    assert!(step.fits(arena.len()) && step.packing == AVX512_PANELS, "the model does not run this convolution");
    // SAFETY: the assertion is the callee's condition, and the row is clamped to the bank.
    unsafe {
        let bias = bias_row(&step.epilogue, clamp_row(&step.epilogue, row));
        avx512_vnni::model::run(arena.as_mut_ptr(), step, bias);
    }
}

/// As [`run_modelled`].
///
/// # Panics
/// As [`run_modelled`].
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub fn run_transpose_modelled(arena: &mut [i8], step: &ConvTranspose<'_>, row: usize) {
    assert!(step.fits(arena.len()) && step.packing == AVX512_PANELS, "the model does not run this convolution");
    // SAFETY: the assertion is the callee's condition, and the row is clamped to the bank.
    unsafe {
        let bias = bias_row(&step.epilogue, row.min(step.rows() - 1) * step.phases());
        avx512_vnni::model::run_transpose(arena.as_mut_ptr(), step, bias);
    }
}

/// Whether a kernel of this build, on this processor, reads the packing.
#[inline(always)]
pub fn is_readable(packing: Packing) -> bool {
    PACKINGS.contains(&packing) && is_available(packing.isa())
}

/// Every packing that some kernel reads, in some build.
pub const PACKINGS: &[Packing] = &[
    Packing::Ohwi,
    Packing::DspPairs,
    DSP_ROWS_OF_4,
    DSP_ROWS_OF_5,
    Packing::DspDepthwise,
    AVX2_PANELS,
    AVX2_ROWS,
    AVX2_DEPTHWISE,
    AVX512_PANELS,
    NEON_PANELS,
    NEON_DOT_PANELS,
    NEON_I8MM_PANELS,
    NEON_DEPTHWISE,
    MVE_PANELS,
    MVE_DEPTHWISE,
];

/// x86-64 with AVX2.
pub const AVX2_PANELS: Packing = Packing::Panels(Panels { isa: Isa::Avx2, nr: 16, kr: 2, run: Run::Filter });
/// x86-64 with AVX2, few output channels: one at a time, 16 products of it.
pub const AVX2_ROWS: Packing = Packing::Panels(Panels { isa: Isa::Avx2, nr: 1, kr: 16, run: Run::Filter });
/// x86-64 with AVX2, depthwise: blocks of 16 channels.
pub const AVX2_DEPTHWISE: Packing = Packing::Depthwise { isa: Isa::Avx2, nr: 16 };
/// x86-64 with AVX-512 VNNI.
pub const AVX512_PANELS: Packing = Packing::Panels(Panels { isa: Isa::Avx512Vnni, nr: 16, kr: 4, run: Run::Filter });
/// AArch64 without dot products.
pub const NEON_PANELS: Packing = Packing::Panels(Panels { isa: Isa::Neon, nr: 8, kr: 16, run: Run::Filter });
/// AArch64 with SDOT.
pub const NEON_DOT_PANELS: Packing = Packing::Panels(Panels { isa: Isa::NeonDot, nr: 8, kr: 4, run: Run::Filter });
/// AArch64 with SMMLA.
pub const NEON_I8MM_PANELS: Packing = Packing::Panels(Panels { isa: Isa::NeonI8mm, nr: 8, kr: 8, run: Run::Filter });
/// AArch64, depthwise: blocks of 16 channels.
pub const NEON_DEPTHWISE: Packing = Packing::Depthwise { isa: Isa::Neon, nr: 16 };
/// Cortex-M DSP, few pixels: panels of four output channels.
pub const DSP_ROWS_OF_4: Packing = Packing::Panels(Panels { isa: Isa::ArmDsp, nr: 4, kr: 4, run: Run::Filter });
/// Cortex-M DSP, few pixels: panels of five, where five divides the output channels and four does not.
pub const DSP_ROWS_OF_5: Packing = Packing::Panels(Panels { isa: Isa::ArmDsp, nr: 5, kr: 4, run: Run::Filter });
/// MVE: panels of four output channels, 16 products of each in turn.
pub const MVE_PANELS: Packing = Packing::Panels(Panels { isa: Isa::ArmMve, nr: 4, kr: 16, run: Run::Filter });
/// MVE, depthwise: blocks of 16 channels.
pub const MVE_DEPTHWISE: Packing = Packing::Depthwise { isa: Isa::ArmMve, nr: 16 };

#[cold]
fn not_here(packing: Packing) -> ! {
    panic!("this build has no kernel for weights packed for {}", packing.isa().name())
}
