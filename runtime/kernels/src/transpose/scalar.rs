//! The portable transposition.

use crate::plan::Transpose;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Transpose) {
    let (input, output) = (&step.input, &step.output);
    for channel in 0..input.channels as usize {
        for pixel in 0..input.pixels() {
            // SAFETY: `fits` puts both spans inside the arena and makes the output's channels the input's pixels.
            unsafe {
                let q = arena.add(input.offset as usize + pixel * input.pitch as usize + channel).read();
                arena.add(output.offset as usize + channel * output.pitch as usize + pixel).write(q);
            }
        }
    }
}
