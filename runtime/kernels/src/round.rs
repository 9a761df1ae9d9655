//! Rounding to the nearest integer, ties to even, without the standard library.

/// Nearest integer, ties to even, for `|x| < 2^51`.
///
/// Adding `1.5 * 2^52` leaves no fraction bits in an f64, so the addition itself rounds, in the default rounding mode.
///
/// ```
/// use flowlet_kernels::round::ties_even;
/// assert_eq!([ties_even(0.5), ties_even(1.5), ties_even(-2.5)], [0.0, 2.0, -2.0]);
/// ```
pub const fn ties_even(x: f64) -> f64 {
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    (x + MAGIC) - MAGIC
}

/// `2^exponent`, exactly, for exponents from -1022 to 1023.
pub const fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((1023 + exponent) as u64) << 52)
}
