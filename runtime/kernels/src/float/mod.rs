//! f32 vectors of a host, for networks that must not be int8.
//!
//! A [`Work`] is written once over [`Lanes`]; [`Instructions::run`] compiles it for each instruction set and chooses by
//! asking the processor. Sums of several sets differ in their roundings, so that nothing here may decide what lands in
//! a compiled model.

#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod product;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use product::accumulate;

/// Numbers in one [`Lanes::V`].
pub const LANES: usize = 16;

/// Sixteen f32 numbers in registers, and what is done with them.
pub trait Lanes: Copy {
    /// Sixteen numbers.
    type V: Copy;
    /// Rows of `V` that a matrix product holds in registers beside one `V` of weights and one factor.
    const ROWS: usize;

    /// All numbers are `x`.
    fn splat(self, x: f32) -> Self::V;
    /// From memory.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// To memory.
    fn store(self, v: Self::V, to: &mut [f32; LANES]);
    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, with one rounding where the processor has it.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The greater.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `2^n` of whole numbers from -126 to 127.
    fn power_of_two(self, n: Self::V) -> Self::V;
    /// The nearest whole number of numbers below `2^22` in magnitude, ties to even.
    #[inline(always)]
    fn round(self, v: Self::V) -> Self::V {
        // The sum has no room for a fraction.
        let magic = self.splat(12_582_912.0);
        self.sub(self.add(v, magic), magic)
    }
}

/// A computation, compiled for every instruction set. Implementations are `#[inline(always)]`, and so is all they call
/// with a [`Lanes`]: what is not inlined is compiled without the instructions.
pub trait Work {
    /// Its result.
    type Output;
    /// Computes it.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// A set of instructions that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instructions(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Fma,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Instructions {
    /// What runs on any processor: Rust without intrinsics.
    pub const PORTABLE: Instructions = Instructions(Set::Portable);

    /// All sets of this processor, the widest last.
    pub fn available() -> impl Iterator<Item = Instructions> {
        #[cfg(target_arch = "x86_64")]
        let own = [(Set::Fma, x86::has_fma()), (Set::Avx512, x86::has_avx512())];
        #[cfg(target_arch = "aarch64")]
        let own = [(Set::Neon, true)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let own: [(Set, bool); 0] = [];
        let own = own.into_iter().filter_map(|(set, has)| has.then_some(Instructions(set)));
        core::iter::once(Instructions::PORTABLE).chain(own)
    }

    /// The widest set of this processor.
    pub fn best() -> Instructions {
        Self::available().last().unwrap_or(Instructions::PORTABLE)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Set::Fma => "avx2 fma",
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Set::Neon => "neon",
        }
    }

    /// Runs the work with these instructions.
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Set::Portable => work.run(portable::Portable),
            // SAFETY: a set exists only where the processor has it (`available`).
            #[cfg(target_arch = "x86_64")]
            Set::Fma => unsafe { x86::with_fma(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { x86::with_avx512(work) },
            #[cfg(target_arch = "aarch64")]
            Set::Neon => work.run(neon::Neon),
        }
    }
}
