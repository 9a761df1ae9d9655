//! The portable softmax: three passes over a pixel.

use super::share;
use crate::plan::Softmax;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Softmax<'_>) {
    let channels = step.input.channels as usize;
    let table = step.table;
    for pixel in 0..step.input.pixels() {
        // SAFETY: `fits` puts both spans inside the arena; `max - q` is 0 to 255, so `2 * d + 1` is at most 511. All
        // values of a pixel are read before the first is written over the same place, and each again before its own.
        unsafe {
            let input = arena.add(step.input.offset as usize + pixel * step.input.pitch as usize).cast_const();
            let output = arena.add(step.output.offset as usize + pixel * step.output.pitch as usize);
            let mut max = i8::MIN;
            for i in 0..channels {
                let q = input.add(i).read();
                max = if q > max { q } else { max };
            }
            let e = |q: i8| {
                let d = (max as i32 - q as i32) as usize;
                u16::from_le_bytes(table.as_ptr().add(2 * d).cast::<[u8; 2]>().read()) as u32
            };
            let mut sum = 0u32;
            for i in 0..channels {
                sum += e(input.add(i).read());
            }
            for i in 0..channels {
                output.add(i).write(share(e(input.add(i).read()), sum));
            }
        }
    }
}
