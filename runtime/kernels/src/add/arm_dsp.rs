//! The sum on Cortex-M cores with the DSP extension: four elements a turn, two products each into one accumulator.

use super::sum;
use crate::dsp::{even, finish, load, mac_bb, mac_bt, mac_tb, mac_tt, middle, odd, runs, saturate, store};
use crate::plan::{Add, AddParams};
use crate::table::lookup;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Add<'_>) {
    let at = |offset: u32| arena.wrapping_add(offset as usize);
    let (mut a, mut b, mut out) = (at(step.a.offset), at(step.b.offset), at(step.output.offset));
    let (count, length) = runs([&step.output, &step.a, &step.b]);
    let middle = middle(step.table);
    for _ in 0..count {
        let words = length / 4;
        // SAFETY: `fits` puts each slot's span inside the arena, and a run is inside all three. Each word is read
        // before the same word is written, and raw pointers may alias.
        unsafe {
            if middle.is_null() {
                add_words::<false>(a, b, out, words, &step.params, middle);
            } else {
                add_words::<true>(a, b, out, words, &step.params, middle);
            }
            for i in 4 * words..length {
                let s = sum(a.add(i).read(), b.add(i).read(), &step.params);
                out.add(i).write(step.table.map_or(s, |table| lookup(table, s)));
            }
        }
        a = a.wrapping_add(step.a.pitch as usize);
        b = b.wrapping_add(step.b.pitch as usize);
        out = out.wrapping_add(step.output.pitch as usize);
    }
}

/// Adds `words` words.
///
/// # Safety
/// The operands must be readable and the result writable for `4 * words` bytes; `middle` as [`finish`] asks.
#[inline(always)]
unsafe fn add_words<const TABLE: bool>(
    mut a: *const i8,
    mut b: *const i8,
    mut out: *mut i8,
    words: usize,
    params: &AddParams,
    middle: *const u8,
) {
    let gains = params.ma as u16 as u32 | (params.mb as u16 as u32) << 16;
    let shift = params.shift as u32;
    let constant = params.c.wrapping_add(1i32.wrapping_shl(shift.wrapping_sub(1))) as u32;
    let end = a.wrapping_add(4 * words);
    while a != end {
        // SAFETY: the caller's bound; saturated values are s8.
        unsafe {
            let (x, y) = (load(a), load(b));
            let ([x02, x13], [y02, y13]) = ([even(x), odd(x)], [even(y), odd(y)]);
            let sums = [
                mac_bt(y02, gains, mac_bb(x02, gains, constant)),
                mac_bt(y13, gains, mac_bb(x13, gains, constant)),
                mac_tt(y02, gains, mac_tb(x02, gains, constant)),
                mac_tt(y13, gains, mac_tb(x13, gains, constant)),
            ];
            store(out, finish::<TABLE>(sums.map(|s| saturate((s as i32).wrapping_shr(shift) as u32)), middle));
        }
        (a, b, out) = (a.wrapping_add(4), b.wrapping_add(4), out.wrapping_add(4));
    }
}
