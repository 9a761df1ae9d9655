//! Instruction sets with kernels of their own.

/// An instruction set that some kernels are written for. A plan whose constants are packed for one set runs only
/// where its kernels are: chosen when the firmware is built on microcontrollers, asked of the processor on hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Isa {
    /// Portable Rust: everywhere.
    Scalar,
    /// Armv7E-M DSP extension (SMLAD, SMMULR, SXTB16): Cortex-M4, M7, M33.
    ArmDsp,
    /// Armv8.1-M vector extension for integers (Helium): Cortex-M55, M85.
    ArmMve,
    /// AArch64 Advanced SIMD without dot products: Cortex-A53, A72.
    Neon,
    /// AArch64 with SDOT: Cortex-A76, A78AE.
    NeonDot,
    /// AArch64 with SMMLA: Armv8.6 and Neoverse V1.
    NeonI8mm,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512 F, BW, VL and VNNI.
    Avx512Vnni,
}

impl Isa {
    /// All of them.
    pub const ALL: [Isa; 8] =
        [Isa::Scalar, Isa::ArmDsp, Isa::ArmMve, Isa::Neon, Isa::NeonDot, Isa::NeonI8mm, Isa::Avx2, Isa::Avx512Vnni];

    /// The name in reports, messages and Cargo features.
    pub const fn name(self) -> &'static str {
        match self {
            Isa::Scalar => "scalar",
            Isa::ArmDsp => "arm_dsp",
            Isa::ArmMve => "arm_mve",
            Isa::Neon => "neon",
            Isa::NeonDot => "neon_dot",
            Isa::NeonI8mm => "neon_i8mm",
            Isa::Avx2 => "avx2",
            Isa::Avx512Vnni => "avx512_vnni",
        }
    }
}
