//! Unary functions on s8, as tables of 256 bytes.

use crate::plan::{Quant, Table};
use crate::requant::saturate;
use crate::round::ties_even;

/// The function's value for `q`.
#[inline(always)]
pub const fn lookup(table: Table<'_>, q: i8) -> i8 {
    table[(q as u8 ^ 0x80) as usize] as i8
}

/// Tabulates `f`: entry `q + 128` is `sat8(zp_out + rne(f((q - zp_in) * scale_in) / scale_out))`, in f64.
///
/// NaN maps to the output's zero point. For bytes that do not depend on the machine, `f` must use the `libm` crate and
/// not the system's functions.
///
/// ```
/// use flowlet_kernels::plan::Quant;
/// use flowlet_kernels::table::{lookup, tabulate};
/// let quant = Quant { scale: 0.5, zero_point: 0 };
/// let relu = tabulate(|x| x.max(0.0), quant, quant);
/// assert_eq!([lookup(&relu, -7), lookup(&relu, 7)], [0, 7]);
/// ```
pub fn tabulate(f: impl Fn(f64) -> f64, input: Quant, output: Quant) -> [u8; 256] {
    let mut table = [0; 256];
    for (entry, q) in table.iter_mut().zip(-128i32..) {
        let y = f(f64::from(q - i32::from(input.zero_point)) * f64::from(input.scale)) / f64::from(output.scale);
        let steps = if y.is_nan() { 0 } else { ties_even(y.clamp(-256.0, 256.0)) as i32 };
        *entry = saturate(i32::from(output.zero_point) + steps) as u8;
    }
    table
}
