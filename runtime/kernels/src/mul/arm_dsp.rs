//! The product on Cortex-M cores with the DSP extension: four elements a turn, zero points taken off as bytes widen.

use super::product;
use crate::dsp::{add_even, add_odd, finish, load, middle, mul_bb, mul_high_add, mul_tt, pair, runs, saturate, store};
use crate::plan::Mul;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Mul<'_>) {
    let at = |offset: u32| arena.wrapping_add(offset as usize);
    let (mut a, mut b, mut out) = (at(step.a.offset), at(step.b.offset), at(step.output.offset));
    let broadcast = step.is_broadcast();
    let (count, length) = if broadcast {
        (step.output.pixels(), step.output.channels as usize)
    } else {
        runs([&step.output, &step.a, &step.b])
    };
    let b_pitch = if broadcast { 0 } else { step.b.pitch as usize };
    let (table, shift) = (step.table.is_some(), step.left_shift > 0);
    for _ in 0..count {
        let words = length / 4;
        // SAFETY: `fits` puts each slot's span inside the arena, and a run is inside all three; a broadcast operand
        // has one pixel. Each word is read before the same word is written, and raw pointers may alias.
        unsafe {
            match (table, shift) {
                (false, false) => multiply_words::<false, false>(a, b, out, words, step),
                (false, true) => multiply_words::<false, true>(a, b, out, words, step),
                (true, false) => multiply_words::<true, false>(a, b, out, words, step),
                (true, true) => multiply_words::<true, true>(a, b, out, words, step),
            }
            for i in 4 * words..length {
                out.add(i).write(product(a.add(i).read(), b.add(i).read(), step));
            }
        }
        a = a.wrapping_add(step.a.pitch as usize);
        b = b.wrapping_add(b_pitch);
        out = out.wrapping_add(step.output.pitch as usize);
    }
}

/// Multiplies `words` words.
///
/// # Safety
/// The operands must be readable and the result writable for `4 * words` bytes, and `TABLE` say whether there is one.
#[inline(always)]
unsafe fn multiply_words<const TABLE: bool, const SHIFT: bool>(
    mut a: *const i8,
    mut b: *const i8,
    mut out: *mut i8,
    words: usize,
    step: &Mul<'_>,
) {
    let middle = middle(step.table);
    let (za, zb) = (pair(-(step.a_zero_point as i16)), pair(-(step.b_zero_point as i16)));
    let (shift, multiplier) = (step.left_shift as u32, step.multiplier as u32);
    let zero_point = step.zero_point as i32 as u32;
    let end = a.wrapping_add(4 * words);
    while a != end {
        // SAFETY: the caller's bound; saturated values are s8.
        unsafe {
            let (x, y) = (load(a), load(b));
            let ([x02, x13], [y02, y13]) = ([add_even(za, x), add_odd(za, x)], [add_even(zb, y), add_odd(zb, y)]);
            let products = [mul_bb(x02, y02), mul_bb(x13, y13), mul_tt(x02, y02), mul_tt(x13, y13)];
            let requantise = |acc: u32| {
                let acc = if SHIFT { acc.wrapping_shl(shift) } else { acc };
                saturate(mul_high_add(acc, multiplier, zero_point))
            };
            store(out, finish::<TABLE>(products.map(requantise), middle));
        }
        (a, b, out) = (a.wrapping_add(4), b.wrapping_add(4), out.wrapping_add(4));
    }
}
