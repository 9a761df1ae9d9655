//! The softmax on Cortex-M cores with the DSP extension: four elements a turn, `max - q` of all four in one USUB8.

use crate::dsp::{divide, halves, load, max_bytes, saturate_unsigned_halves, splat, store, sub_bytes};
use crate::plan::Softmax;

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Softmax<'_>) {
    let channels = step.input.channels as usize;
    let mut input = arena.wrapping_add(step.input.offset as usize).cast_const();
    let mut output = arena.wrapping_add(step.output.offset as usize);
    for _ in 0..step.input.pixels() {
        // SAFETY: `fits` puts both spans inside the arena, so a pixel's channels are.
        unsafe { pixel(input, output, channels, step.table) };
        input = input.wrapping_add(step.input.pitch as usize);
        output = output.wrapping_add(step.output.pitch as usize);
    }
}

/// # Safety
/// `input` must be readable and `output` writable for `channels` bytes, and be the same place or apart.
#[inline(always)]
unsafe fn pixel(input: *const i8, output: *mut i8, channels: usize, table: &[u8; 512]) {
    let words = channels / 4 * 4;
    // SAFETY: offsets are below `channels`. A distance is 0 to 255, and so is the number of its entry. Every value is
    // read before the first is written over the same place, and each again before its own.
    unsafe {
        let entry = |distance: u32| table.as_ptr().cast::<u16>().add(distance as usize).read_unaligned() as u32;
        let max = largest(input, channels);
        let distances = |i: usize| {
            let word = sub_bytes(splat(max), load(input.add(i)));
            [word & 0xff, word >> 8 & 0xff, word >> 16 & 0xff, word >> 24]
        };
        let distance = |i: usize| (max as i32 - input.add(i).read() as i32) as u32;
        let mut sum = 0u32;
        for i in (0..words).step_by(4) {
            sum = distances(i).iter().fold(sum, |sum, &d| sum.wrapping_add(entry(d)));
        }
        for i in words..channels {
            sum = sum.wrapping_add(entry(distance(i)));
        }
        let half = sum / 2;
        // At most 256, which saturates.
        let share = |distance: u32| divide((256 * entry(distance)).wrapping_add(half), sum);
        for i in (0..words).step_by(4) {
            let [a, b, c, d] = distances(i).map(share);
            let (even, odd) = (saturate_unsigned_halves(halves(a, c)), saturate_unsigned_halves(halves(b, d)));
            store(output.add(i), (even | odd << 8) ^ splat(-128));
        }
        for i in words..channels {
            let share = saturate_unsigned_halves(share(distance(i)));
            output.add(i).write((share as u8 ^ 0x80) as i8);
        }
    }
}

/// The largest of `channels` values.
///
/// # Safety
/// `input` must be readable for `channels` bytes.
#[inline(always)]
unsafe fn largest(input: *const i8, channels: usize) -> i8 {
    // SAFETY: offsets are below `channels`.
    unsafe {
        if channels < 4 {
            return (0..channels).fold(i8::MIN, |max, i| max.max(input.add(i).read()));
        }
        // The last word may overlap the one before it.
        let mut max = load(input.add(channels - 4));
        for i in (0..channels / 4 * 4).step_by(4) {
            max = max_bytes(max, load(input.add(i)));
        }
        max = max_bytes(max, max.rotate_right(16));
        max_bytes(max, max.rotate_right(8)) as i8
    }
}
