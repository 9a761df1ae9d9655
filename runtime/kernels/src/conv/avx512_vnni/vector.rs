//! The operations that the kernel is written over.

use super::NR;
use crate::plan::AddParams;

/// Sixteen i32, or sixteen times four bytes.
///
/// The methods may be called where the processor has their instructions, which the kernel's callers assert.
pub(super) trait Vector: Copy {
    /// Sixteen zeros.
    fn zero() -> Self;

    /// 64 bytes of memory, at any alignment.
    ///
    /// # Safety
    /// `from` must be readable for them.
    unsafe fn load(from: *const u8) -> Self;

    /// Sixteen times `x`.
    fn broadcast(x: i32) -> Self;

    /// `self + sum u[i] * s[i]` over the four bytes of each lane, unsigned by signed; wraps. VPDPBUSD.
    fn dot(self, u: Self, s: Self) -> Self;

    /// Lanewise, wrapping.
    fn plus(self, other: Self) -> Self;

    /// Lanewise, wrapping.
    fn minus(self, other: Self) -> Self;

    /// The law of [`crate::requant`].
    fn requantise(self, left_shift: u8, multipliers: Self, zero_point: i8) -> [i8; NR];

    /// The law of [`crate::add`].
    fn sum(a: [i8; NR], b: [i8; NR], params: &AddParams) -> [i8; NR];
}
