//! The portable shuffles.

use crate::plan::{Shuffle, ShuffleKind};

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Shuffle) {
    let unshuffle = matches!(step.kind, ShuffleKind::PixelUnshuffle);
    let (small, large) = if unshuffle { (&step.output, &step.input) } else { (&step.input, &step.output) };
    let block = step.block as usize;
    // SAFETY: `fits` puts both spans inside the arena.
    let (mut packed, wide) = unsafe { (arena.add(small.offset as usize), arena.add(large.offset as usize)) };
    let row = large.width as usize * large.pitch as usize;
    for y in 0..small.height as usize {
        for x in 0..small.width as usize {
            let corner = y * block * row + x * block * large.pitch as usize;
            let mut next = 0;
            for c in 0..large.channels as usize {
                for dy in 0..block {
                    for dx in 0..block {
                        // SAFETY: `fits` makes `large` exactly `block` times as high and wide as `small`, so
                        // `(y * block + dy, x * block + dx, c)` is inside it; `next` counts to `channels * block^2`,
                        // which is the number of channels of `small`.
                        unsafe {
                            let far = wide.add(corner + dy * row + dx * large.pitch as usize + c);
                            let near = packed.add(next);
                            if unshuffle { near.write(far.read()) } else { far.write(near.read()) }
                        }
                        next += 1;
                    }
                }
            }
            packed = packed.wrapping_add(small.pitch as usize);
        }
    }
}
