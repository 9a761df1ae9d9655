//! Which kernels are here: a Cargo feature decides on microcontrollers, the processor on hosts.

use crate::plan::Isa;

/// Whether kernels of this instruction set are compiled in and run on this processor. A constant on microcontrollers.
#[inline(always)]
pub fn is_available(isa: Isa) -> bool {
    match isa {
        Isa::Scalar => true,
        Isa::ArmDsp => cfg!(all(feature = "arm_dsp", target_arch = "arm")),
        Isa::ArmMve => cfg!(all(feature = "arm_mve", target_arch = "arm")),
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => aarch64(isa),
        Isa::Avx2 | Isa::Avx512Vnni => x86_64(isa),
    }
}

/// The instruction set that a host's plans should be packed for: the widest that runs here, of those whose kernels have
/// run in a conformance suite. AVX-512 has not: no processor at hand has it.
pub fn best() -> Isa {
    let widest = [Isa::Neon, Isa::NeonDot, Isa::NeonI8mm, Isa::Avx2];
    widest.into_iter().rev().find(|&isa| is_available(isa)).unwrap_or(Isa::Scalar)
}

#[cfg(all(feature = "std", target_arch = "aarch64"))]
fn aarch64(isa: Isa) -> bool {
    match isa {
        Isa::Neon => true,
        Isa::NeonDot => std::arch::is_aarch64_feature_detected!("dotprod"),
        Isa::NeonI8mm => std::arch::is_aarch64_feature_detected!("i8mm"),
        Isa::Scalar | Isa::ArmDsp | Isa::ArmMve | Isa::Avx2 | Isa::Avx512Vnni => false,
    }
}

#[cfg(not(all(feature = "std", target_arch = "aarch64")))]
#[inline(always)]
fn aarch64(_: Isa) -> bool {
    false
}

#[cfg(all(feature = "std", target_arch = "x86_64"))]
fn x86_64(isa: Isa) -> bool {
    match isa {
        Isa::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
        Isa::Avx512Vnni => {
            std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512bw")
                && std::arch::is_x86_feature_detected!("avx512vl")
                && std::arch::is_x86_feature_detected!("avx512vnni")
        }
        Isa::Scalar | Isa::ArmDsp | Isa::ArmMve | Isa::Neon | Isa::NeonDot | Isa::NeonI8mm => false,
    }
}

#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
#[inline(always)]
fn x86_64(_: Isa) -> bool {
    false
}

/// Whether the kernels behind a Cargo feature are compiled in: what generated code asserts for its target.
pub const fn has_feature(name: &str) -> bool {
    const fn same(a: &str, b: &str) -> bool {
        let (a, b) = (a.as_bytes(), b.as_bytes());
        if a.len() != b.len() {
            return false;
        }
        let mut i = 0;
        while i < a.len() {
            if a[i] != b[i] {
                return false;
            }
            i += 1;
        }
        true
    }
    (same(name, "arm_dsp") && cfg!(feature = "arm_dsp")) || (same(name, "arm_mve") && cfg!(feature = "arm_mve"))
}
