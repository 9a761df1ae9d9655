//! Cutting convolutions: by output pixels, or by output channels where there are more of these.

use core::ops::Range;

use super::{Cut, channel_range, pixel_range, row_range, words};
use crate::slot::Slot;
use crate::step::{Conv, ConvTranspose, Epilogue, Packing, Residual, RowKey};

/// A part of a convolution.
pub(super) fn part<'a>(s: &Conv<'a>, row: usize, cut: Cut) -> Option<Conv<'a>> {
    let s = &Conv { epilogue: fixed(&s.epilogue, row, 1), ..*s };
    if s.scratch.is_some() || cut.parts == 1 {
        return cut.whole().then_some(*s);
    }
    let by_pixels = by_pixels(s, cut);
    let by_channels =
        channel_block(s).map(|block| (block, cut.unevenness((s.output.channels as usize).div_ceil(block))));
    match (by_pixels, by_channels) {
        (None, None) => cut.whole().then_some(*s),
        (Some(pixels), None) => pixel_part(s, &pixels.of(cut)?),
        (None, Some((block, _))) => channel_part(s, &cut.blocks(s.output.channels.into(), block)?),
        (Some(pixels), Some((block, uneven))) => {
            // Parts by channels gather every window and write to the same cache lines; parts by pixels read all weights.
            let many_channels = s.output.channels as usize > 4 * s.output.pixels();
            let [by_channels, by_pixels] = if many_channels { [4, 5] } else { [5, 4] };
            if by_channels * uneven < by_pixels * pixels.unevenness(cut) {
                channel_part(s, &cut.blocks(s.output.channels.into(), block)?)
            } else {
                pixel_part(s, &pixels.of(cut)?)
            }
        }
    }
}

/// A part of a transposed convolution, by output rows, or columns where there is one row.
pub(super) fn part_transposed<'a>(s: &ConvTranspose<'a>, row: usize, cut: Cut) -> Option<ConvTranspose<'a>> {
    let s = &ConvTranspose { epilogue: fixed(&s.epilogue, row, s.phases()), ..*s };
    let axis = axis(&s.input, &s.output);
    let places = [s.output.height, s.output.width][axis] as usize;
    // Rows before the part are cut off by more padding.
    if s.scratch.is_some() || s.pad[axis] as usize + places > u8::MAX as usize {
        return cut.whole().then_some(*s);
    }
    let of = cut.range(places)?;
    let mut pad = s.pad;
    pad[axis] += of.start as u8;
    let output = along(&s.output, axis, &of);
    Some(ConvTranspose { output, pad, epilogue: cut_residual(&s.epilogue, |slot| along(slot, axis, &of)), ..*s })
}

/// How a convolution can be cut by output pixels.
#[derive(Clone, Copy)]
enum Pixels {
    /// Every pixel reads the input pixel at its own place.
    Each { pixels: usize },
    /// Along an axis; the first place of a part is a multiple of `step`, less `before`.
    Along { axis: usize, places: usize, step: usize, before: usize },
}

impl Pixels {
    fn unevenness(self, cut: Cut) -> usize {
        match self {
            Pixels::Each { pixels } => cut.unevenness(pixels),
            Pixels::Along { places, step, .. } => cut.unevenness(places.div_ceil(step)) * step.min(places) / step,
        }
    }

    /// The axis, if it is not every pixel, and the range of this part.
    fn of(self, cut: Cut) -> Option<(Option<usize>, Range<usize>)> {
        match self {
            Pixels::Each { pixels } => Some((None, cut.range(pixels)?)),
            Pixels::Along { axis, places, step, before } => {
                let bound = |part: usize| match part {
                    0 => 0,
                    part if part >= cut.parts => places,
                    part => (places * part / cut.parts).next_multiple_of(step).saturating_sub(before).min(places),
                };
                let range = bound(cut.part)..bound(cut.part + 1);
                (!range.is_empty()).then_some((Some(axis), range))
            }
        }
    }
}

fn by_pixels(s: &Conv<'_>, cut: Cut) -> Option<Pixels> {
    let alike = s.input.height == s.output.height && s.input.width == s.output.width;
    let pixels = s.output.pixels();
    if s.kernel == [1, 1] && s.stride == [1, 1] && s.pad == [0, 0] && s.upsample == 1 && alike {
        return (pixels >= cut.parts && pixels <= u16::MAX as usize).then_some(Pixels::Each { pixels });
    }
    let axis = axis(&s.input, &s.output);
    let [places, size] = [&s.output, &s.input].map(|slot| [slot.height, slot.width][axis] as usize);
    let (stride, pad, upsample) = (s.stride[axis] as usize, s.pad[axis] as usize, s.upsample as usize);
    // The window of a part's first place begins at a whole input row.
    let (step, before) = match (upsample, stride % 2, pad % 2) {
        (2, 1, before) => (2, before),
        (2, _, 1) => return None,
        _ => (1, 0),
    };
    let last_is_inside = (places - 1) * stride < size * upsample + pad;
    (places >= cut.parts * step && last_is_inside).then_some(Pixels::Along { axis, places, step, before })
}

/// Rows, or columns where the images have one row.
fn axis(input: &Slot, output: &Slot) -> usize {
    (input.height == 1 && output.height == 1) as usize
}

/// Rows or columns of an image; it has one row in the second case.
fn along(slot: &Slot, axis: usize, range: &Range<usize>) -> Slot {
    if axis == 0 { row_range(slot, range) } else { pixel_range(slot, range) }
}

fn pixel_part<'a>(s: &Conv<'a>, (axis, of): &(Option<usize>, Range<usize>)) -> Option<Conv<'a>> {
    let Some(axis) = *axis else {
        let epilogue = cut_residual(&s.epilogue, |slot| pixel_range(slot, of));
        return Some(Conv { input: pixel_range(&s.input, of), output: pixel_range(&s.output, of), epilogue, ..*s });
    };
    let (stride, upsample) = (s.stride[axis] as usize, s.upsample as usize);
    let size = [s.input.height, s.input.width][axis] as usize;
    let mut pad = s.pad;
    let first = of.start * stride;
    let skipped = first.saturating_sub(pad[axis] as usize);
    pad[axis] = (pad[axis] as usize).saturating_sub(first) as u8;
    Some(Conv {
        input: along(&s.input, axis, &(skipped / upsample..size)),
        output: along(&s.output, axis, of),
        pad,
        epilogue: cut_residual(&s.epilogue, |slot| along(slot, axis, of)),
        ..*s
    })
}

/// Output channels whose weights and constants are one run of bytes; `None` where there are no such blocks.
fn channel_block(s: &Conv<'_>) -> Option<usize> {
    let alone = s.groups == s.input.channels && s.groups == s.output.channels;
    match s.packing {
        Packing::Ohwi if s.groups == 1 || alone => Some(4),
        Packing::Panels(panels) => Some(panels.nr.into()),
        Packing::Depthwise { nr, .. } => Some(nr.into()),
        Packing::Ohwi | Packing::DspPairs | Packing::DspDepthwise => None,
    }
}

fn channel_part<'a>(s: &Conv<'a>, of: &Range<usize>) -> Option<Conv<'a>> {
    let before = s.packing.bytes(of.start, s.kernel, s.inputs_per_group());
    let bytes = s.packing.bytes(of.len(), s.kernel, s.inputs_per_group());
    let constants = of.start..of.start + s.packing.padded_outputs(of.len());
    let epilogue = Epilogue {
        multipliers: words(s.epilogue.multipliers, &constants),
        bias: words(s.epilogue.bias, &constants),
        ..cut_residual(&s.epilogue, |slot| channel_range(slot, of))
    };
    let (input, groups) = match s.groups {
        1 => (s.input, 1),
        _ => (channel_range(&s.input, of), of.len() as u16),
    };
    let weights = s.weights.get(before..before + bytes).unwrap_or_default();
    Some(Conv { input, output: channel_range(&s.output, of), groups, weights, epilogue, ..*s })
}

fn cut_residual<'a>(epilogue: &Epilogue<'a>, range: impl Fn(&Slot) -> Slot) -> Epilogue<'a> {
    let residual = epilogue.residual.map(|residual| Residual { slot: range(&residual.slot), ..residual });
    Epilogue { residual, ..*epilogue }
}

/// With one row of the bias bank, which has `phases` times the words of the multipliers.
fn fixed<'a>(epilogue: &Epilogue<'a>, row: usize, phases: usize) -> Epilogue<'a> {
    let words_of_row = epilogue.padded_channels() * phases;
    let rows = (epilogue.rows() / phases.max(1)).max(1);
    let first = row.min(rows - 1) * words_of_row;
    Epilogue { bias: words(epilogue.bias, &(first..first + words_of_row)), row: RowKey::Fixed, ..*epilogue }
}
