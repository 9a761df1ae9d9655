//! The definition of the norms, in safe code.

use super::{Statistics, finish};
use crate::plan::{Norm, NormKind};

/// Reads the operand from `before` and writes the result to `after`, both whole arenas.
pub fn run(before: &[i8], after: &mut [i8], step: &Norm<'_>) {
    let channels = usize::from(step.input.channels);
    let pixels = step.input.pixels();
    let place =
        |pixel: usize, channel: usize| step.input.offset as usize + pixel * usize::from(step.input.pitch) + channel;
    let mut normalise = |pixels: core::ops::Range<usize>, channels: core::ops::Range<usize>| {
        let (mut sum, mut squares) = (0i32, 0u64);
        for pixel in pixels.clone() {
            for channel in channels.clone() {
                let q = i32::from(before[place(pixel, channel)]);
                sum += q;
                squares += (q * q) as u64;
            }
        }
        let statistics = Statistics::of(step, pixels.len() * channels.len(), sum, squares);
        for pixel in pixels {
            for channel in channels.clone() {
                let slope = statistics.slope(word(step.gain, channel), step.gain_shift);
                let intercept = statistics.intercept(slope, word(step.offset, channel));
                after[step.output.offset as usize + pixel * usize::from(step.output.pitch) + channel] =
                    finish(before[place(pixel, channel)], slope, intercept, step);
            }
        }
    };
    match step.kind {
        NormKind::Layer | NormKind::Rms => (0..pixels).for_each(|pixel| normalise(pixel..pixel + 1, 0..channels)),
        NormKind::Group { groups } => {
            let size = channels / usize::from(groups);
            (0..usize::from(groups)).for_each(|group| normalise(0..pixels, group * size..(group + 1) * size));
        }
    }
}

fn word(bytes: &[u8], index: usize) -> i32 {
    i32::from_le_bytes([bytes[4 * index], bytes[4 * index + 1], bytes[4 * index + 2], bytes[4 * index + 3]])
}
