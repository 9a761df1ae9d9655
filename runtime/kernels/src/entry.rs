//! The entry points of operators whose kernels need no packing.

/// Writes `isa`, `run` and `run_part` of an operator from the instruction sets that it has kernels for, best first, each
/// in a module of its own; the portable kernel takes the rest. Documentation of `run` comes before the step's type.
macro_rules! entry_points {
    ($(#[$doc:meta])* $step:ty, [$($isa:ident),*], $misfit:literal) => {
        /// The instruction set whose kernel [`run`] takes.
        pub fn isa() -> crate::plan::Isa {
            let kernels: &[crate::plan::Isa] = &[$(crate::plan::Isa::$isa),*];
            kernels.iter().copied().find(|&isa| crate::isa::is_available(isa)).unwrap_or(crate::plan::Isa::Scalar)
        }

        $(#[$doc])*
        ///
        /// # Panics
        /// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes. With a constant step and an
        /// arena of constant size the test is made at compile time.
        #[inline(always)]
        pub fn run(arena: &mut [i8], step: &$step) {
            // SAFETY: the slice is exclusive.
            unsafe { run_part(arena, step) }
        }

        /// As [`run`], beside other threads on the same arena.
        ///
        /// # Safety
        /// `arena` must be valid for reads and writes; no other thread may write what the step reads or writes while it
        /// runs, nor read what it writes.
        #[inline(always)]
        pub(crate) unsafe fn run_part(arena: *mut [i8], step: &$step) {
            assert!(step.fits(arena.len()), $misfit);
            let arena = arena.cast::<i8>();
            $(entry_points!(@kernel $isa, arena, step);)*
            // SAFETY: the assertion is the callee's condition.
            unsafe { scalar::run(arena, step) }
        }
    };
    (@kernel ArmMve, $arena:ident, $step:ident) => {
        #[cfg(all(feature = "arm_mve", target_arch = "arm"))]
        entry_points!(@run ArmMve, arm_mve, $arena, $step);
    };
    (@kernel ArmDsp, $arena:ident, $step:ident) => {
        #[cfg(all(feature = "arm_dsp", not(feature = "arm_mve"), target_arch = "arm"))]
        entry_points!(@run ArmDsp, arm_dsp, $arena, $step);
    };
    (@kernel Avx2, $arena:ident, $step:ident) => {
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        entry_points!(@run Avx2, avx2, $arena, $step);
    };
    // The kernel asks for dot products itself.
    (@kernel NeonDot, $arena:ident, $step:ident) => {};
    (@kernel Neon, $arena:ident, $step:ident) => {
        #[cfg(all(feature = "std", target_arch = "aarch64"))]
        entry_points!(@run Neon, neon, $arena, $step);
    };
    (@run $isa:ident, $kernel:ident, $arena:ident, $step:ident) => {
        if crate::isa::is_available(crate::plan::Isa::$isa) {
            // SAFETY: the step fits the arena, and its instructions are here.
            return unsafe { $kernel::run($arena, $step) };
        }
    };
}
