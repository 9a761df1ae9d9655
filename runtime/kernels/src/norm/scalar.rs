//! The portable norms.

use super::{Statistics, finish};
use crate::bytes::i32_at;
use crate::plan::{Norm, NormKind};

/// Runs the step.
///
/// # Safety
/// `arena` must be valid for reads and writes of a number of bytes for which `step.fits(bytes)` holds.
#[inline(never)]
pub unsafe fn run(arena: *mut i8, step: &Norm<'_>) {
    let channels = step.input.channels as usize;
    let pixels = step.input.pixels();
    // SAFETY: pixel and channel ranges are inside the tensor, which is the callee's condition.
    unsafe {
        match step.kind {
            NormKind::Layer | NormKind::Rms => {
                for pixel in 0..pixels {
                    normalise(arena, step, [pixel, pixel + 1], [0, channels]);
                }
            }
            NormKind::Group { groups } => {
                // No plan has no groups; the division must not leave a panic in firmware.
                let size = channels.checked_div(groups as usize).unwrap_or(channels);
                for group in 0..groups as usize {
                    normalise(arena, step, [0, pixels], [group * size, (group + 1) * size]);
                }
            }
        }
    }
}

/// Normalises the elements of a range of pixels and a range of channels together.
///
/// # Safety
/// As [`run`], with both ranges inside the tensor and not empty.
#[inline(always)]
unsafe fn normalise(arena: *mut i8, step: &Norm<'_>, pixels: [usize; 2], channels: [usize; 2]) {
    let (in_pitch, out_pitch) = (step.input.pitch as usize, step.output.pitch as usize);
    // SAFETY: `fits` puts both spans inside the arena and makes the constants a word for each channel; every value is
    // read for the statistics before the first is written, and again before its own place is.
    unsafe {
        let input = arena.add(step.input.offset as usize).cast_const();
        let output = arena.add(step.output.offset as usize);
        let (mut sum, mut squares) = (0i32, 0u64);
        for pixel in pixels[0]..pixels[1] {
            // Squares of 65,535 channels fit a u32.
            let mut part = 0u32;
            for channel in channels[0]..channels[1] {
                let q = input.add(pixel * in_pitch + channel).read() as i32;
                sum += q;
                part += (q * q) as u32;
            }
            squares += part as u64;
        }
        let n = (pixels[1] - pixels[0]) * (channels[1] - channels[0]);
        let statistics = Statistics::of(step, n, sum, squares);
        for channel in channels[0]..channels[1] {
            let slope = statistics.slope(i32_at(step.gain.as_ptr(), channel), step.gain_shift);
            let intercept = statistics.intercept(slope, i32_at(step.offset.as_ptr(), channel));
            for pixel in pixels[0]..pixels[1] {
                let q = input.add(pixel * in_pitch + channel).read();
                output.add(pixel * out_pitch + channel).write(finish(q, slope, intercept, step));
            }
        }
    }
}
