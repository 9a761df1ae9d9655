//! The map on Cortex-M cores with the DSP extension: four elements a turn.

use core::ptr::copy;

use crate::dsp::{even, finish, load, middle, odd, runs, store};
use crate::plan::Map;
use crate::table::lookup;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Map<'_>) {
    let at = |offset: u32| arena.wrapping_add(offset as usize);
    let (mut input, mut out) = (at(step.input.offset), at(step.output.offset));
    let (count, length) = runs([&step.output, &step.input]);
    for _ in 0..count {
        // SAFETY: `fits` puts both spans inside the arena, and a run is inside both. Each word is read before the same
        // word is written, and raw pointers may alias.
        unsafe {
            match step.table {
                None => copy(input, out, length),
                Some(table) => {
                    let middle = middle(step.table);
                    for i in (0..length / 4 * 4).step_by(4) {
                        let word = load(input.add(i));
                        let (x02, x13) = (even(word), odd(word));
                        let low = |x: u32| x as i16 as i32 as u32;
                        let high = |x: u32| ((x as i32) >> 16) as u32;
                        let values = [low(x02), low(x13), high(x02), high(x13)];
                        store(out.add(i), finish::<true>(values, middle));
                    }
                    for i in length / 4 * 4..length {
                        out.add(i).write(lookup(table, input.add(i).read()));
                    }
                }
            }
        }
        input = input.wrapping_add(step.input.pitch as usize);
        out = out.wrapping_add(step.output.pitch as usize);
    }
}
