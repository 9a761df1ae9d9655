//! Softmax over channels in integers: `out = sat8(-128 + (256 * e + sum / 2) / sum)`, `e = table[max - q]`; scale
//! 1/256, zero point -128. The largest value saturates at 127, that is 255/256.

pub mod reference;
pub mod scalar;

use crate::plan::{Isa, Softmax};
use crate::round::ties_even;

/// Largest entry of the table; it keeps the sum of 65,535 terms inside a u32.
pub const ONE: f64 = 65535.0;

/// Offline: `rne(65535 * exp(-d * scale))` for `d = 0..256` as little-endian u16, `exp` given by the caller so that
/// the bytes do not depend on the machine.
///
/// ```
/// let table = flowlet_kernels::softmax::tabulate(|x| if x == 0.0 { 1.0 } else { 0.5 }, 0.1);
/// assert_eq!([table[0], table[1], table[2], table[3]], [255, 255, 0, 128]);
/// ```
pub fn tabulate(exp: impl Fn(f64) -> f64, scale: f32) -> [u8; 512] {
    let mut table = [0; 512];
    for (d, entry) in table.chunks_exact_mut(2).enumerate() {
        let e = ties_even((exp(-(d as f64) * f64::from(scale)) * ONE).clamp(0.0, ONE)) as u16;
        entry.copy_from_slice(&e.to_le_bytes());
    }
    table
}

/// The share `e / sum` as s8.
#[inline(always)]
pub(crate) const fn share(e: u32, sum: u32) -> i8 {
    let q = (256 * e + sum / 2) / sum;
    (if q > 255 { 127 } else { q as i32 - 128 }) as i8
}

/// The instruction set whose kernel [`run`] takes.
pub fn isa() -> Isa {
    Isa::Scalar
}

/// Runs the step; the output may be the same place as the operand.
///
/// # Panics
/// If the step does not fit the arena, which [`crate::plan::Plan::check`] excludes.
#[inline(always)]
pub fn run(arena: &mut [i8], step: &Softmax<'_>) {
    assert!(step.fits(arena.len()), "the softmax does not fit the arena");
    // SAFETY: the assertion is the callee's condition.
    unsafe { scalar::run(arena.as_mut_ptr(), step) }
}
