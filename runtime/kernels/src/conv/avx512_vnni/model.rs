//! The kernel over portable code that does what its instructions do: tests its logic, not the processor.

use super::vector::Vector;
use super::{NR, run_transpose_with, run_with};
use crate::plan::{AddParams, Conv, ConvTranspose};
use crate::requant::requantise;

/// # Safety
/// As [`run_with`]; any processor will do.
#[inline(never)]
pub(in crate::conv) unsafe fn run(arena: *mut i8, step: &Conv<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { run_with::<Lanes>(arena, step, bias) }
}

/// # Safety
/// As [`run_transpose_with`]; any processor will do.
#[inline(never)]
pub(in crate::conv) unsafe fn run_transpose(arena: *mut i8, step: &ConvTranspose<'_>, bias: *const u8) {
    // SAFETY: the same condition.
    unsafe { run_transpose_with::<Lanes>(arena, step, bias) }
}

#[derive(Clone, Copy)]
struct Lanes([i32; NR]);

impl Lanes {
    fn zip(self, other: Self, of: impl Fn(i32, i32) -> i32) -> Self {
        Lanes(core::array::from_fn(|i| of(self.0[i], other.0[i])))
    }
}

impl Vector for Lanes {
    fn zero() -> Self {
        Lanes([0; NR])
    }

    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller's condition.
        Lanes(unsafe { from.cast::<[i32; NR]>().read_unaligned() })
    }

    fn broadcast(x: i32) -> Self {
        Lanes([x; NR])
    }

    fn dot(self, u: Self, s: Self) -> Self {
        let products = u.zip(s, |u, s| {
            let pairs = u.to_ne_bytes().into_iter().zip(s.to_ne_bytes());
            pairs.map(|(u, s)| i32::from(u) * i32::from(s as i8)).sum()
        });
        self.plus(products)
    }

    fn plus(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_add)
    }

    fn minus(self, other: Self) -> Self {
        self.zip(other, i32::wrapping_sub)
    }

    fn requantise(self, left_shift: u8, multipliers: Self, zero_point: i8) -> [i8; NR] {
        core::array::from_fn(|i| requantise(self.0[i], left_shift, multipliers.0[i], zero_point))
    }

    fn sum(a: [i8; NR], b: [i8; NR], params: &AddParams) -> [i8; NR] {
        core::array::from_fn(|i| crate::add::sum(a[i], b[i], params))
    }
}
