//! Cutting a step into parts that write different elements of its result: what threads share among them.
//!
//! A part is a step of its own, over ranges of the same tensors and constants, and any kernel runs it. The results do
//! not depend on the number of parts, because no element's arithmetic does.

mod conv;

use core::ops::Range;

use crate::slot::Slot;
use crate::step::{
    Add, Map, MatMul, Matrices, Mul, Norm, NormKind, Packing, Pool, Shuffle, ShuffleKind, Softmax, Split, Step,
};

/// Least channels of a part that has some of the channels of every pixel: a cache line, for which two threads that write
/// to it would take turns.
const LINE: usize = 64;
/// Work that is worth a thread which is awake: two microseconds of a core with AVX2, against less than one half to hand
/// it over.
const LEAST: u64 = 1 << 17;
/// Work that helpers must take off a thread before it wakes them: thirty microseconds, against some five for the call.
const WAKE: u64 = 1 << 21;

/// Most parts of a step.
pub const MAX_PARTS: usize = 64;

/// Whether sharing these steps among so many threads, `times` over, is worth waking threads that sleep.
pub fn is_worth_waking(steps: &[Step<'_>], times: usize, threads: usize) -> bool {
    let mut saved = 0u64;
    threads > 1
        && steps.iter().any(|step| {
            let work = step.work();
            let taken = work - work / step.parts(threads) as u64;
            saved = saved.saturating_add(taken.saturating_mul(times as u64));
            saved >= WAKE
        })
}

impl<'a> Step<'a> {
    /// Part number `part` of `parts`, with row `row` of the bias bank (the last one if there are fewer) as its only
    /// one; `None` if nothing is left for it. A step that cannot be cut is its own first part.
    pub fn part(&self, row: usize, part: usize, parts: usize) -> Option<Step<'a>> {
        let cut = Cut { part, parts: parts.max(1) };
        match self {
            Step::Conv(s) => conv::part(s, row, cut).map(Step::Conv),
            Step::ConvTranspose(s) => conv::part_transposed(s, row, cut).map(Step::ConvTranspose),
            Step::MatMul(s) => matmul(s, cut).map(Step::MatMul),
            Step::Add(s) => {
                let of = pixels(&s.output, cut)?;
                let [a, b, output] = [&s.a, &s.b, &s.output].map(|slot| pixel_range(slot, &of));
                Some(Step::Add(Add { a, b, output, ..*s }))
            }
            Step::Mul(s) => {
                let of = pixels(&s.output, cut)?;
                let b = if s.is_broadcast() { s.b } else { pixel_range(&s.b, &of) };
                Some(Step::Mul(Mul { a: pixel_range(&s.a, &of), b, output: pixel_range(&s.output, &of), ..*s }))
            }
            Step::Map(s) => {
                let of = pixels(&s.output, cut)?;
                Some(Step::Map(Map { input: pixel_range(&s.input, &of), output: pixel_range(&s.output, &of), ..*s }))
            }
            Step::Softmax(s) => {
                let of = pixels(&s.output, cut)?;
                let [input, output] = [&s.input, &s.output].map(|slot| pixel_range(slot, &of));
                Some(Step::Softmax(Softmax { input, output, ..*s }))
            }
            Step::Norm(s) => norm(s, cut).map(Step::Norm),
            Step::Pool(s) => pool(s, cut).map(Step::Pool),
            Step::Shuffle(s) => shuffle(s, cut).map(Step::Shuffle),
            Step::Transpose(_) => cut.whole().then_some(*self),
        }
    }

    /// Into how many parts, at most `threads` and [`MAX_PARTS`], the step is worth cutting.
    pub fn parts(&self, threads: usize) -> usize {
        if threads <= 1 || self.scratch().is_some() || matches!(self, Step::Transpose(_)) {
            return 1;
        }
        let threads = threads.min(MAX_PARTS);
        threads.min(usize::try_from(self.work() / LEAST).unwrap_or(threads)).max(1)
    }

    /// About how long one call takes on a host, in multiply-accumulates of a convolution.
    pub const fn work(&self) -> u64 {
        let elements = self.output().elements() as u64;
        match self {
            Step::Conv(s) => self.macs() * cost(s.packing, s.output.channels) / SCALE + 64 * elements,
            Step::ConvTranspose(s) => self.macs() * cost(s.packing, s.output.channels) / SCALE + 64 * elements,
            // Every part of a single product prepares all of `b`.
            Step::MatMul(s) if s.batch == 1 => self.macs() + 16 * elements,
            Step::MatMul(_) => 2 * self.macs() + 64 * elements,
            Step::Map(Map { table: None, .. }) => 2 * elements,
            Step::Add(_) | Step::Mul(_) | Step::Map(_) | Step::Shuffle(_) | Step::Transpose(_) => 16 * elements,
            Step::Pool(s) => 16 * elements * s.kernel[0] as u64 * s.kernel[1] as u64,
            Step::Softmax(_) => 192 * elements,
            Step::Norm(_) => 64 * elements,
        }
    }
}

/// Unit of [`cost`].
const SCALE: u64 = 16;

/// How long a multiply-accumulate of a convolution takes: [`SCALE`] where every lane of a kernel has its output.
const fn cost(packing: Packing, outputs: u16) -> u64 {
    let lanes = packing.padded_outputs(outputs as usize) as u64;
    match packing {
        // The portable kernel.
        Packing::Ohwi => 16 * SCALE,
        Packing::Depthwise { .. } | Packing::DspDepthwise => 8 * SCALE,
        Packing::Panels(_) | Packing::DspPairs => match outputs {
            0 => SCALE,
            _ => SCALE * lanes / outputs as u64,
        },
    }
}

/// A number of parts, and one of them.
#[derive(Clone, Copy, Debug)]
struct Cut {
    part: usize,
    parts: usize,
}

impl Cut {
    /// Whether a step that cannot be cut is this part.
    fn whole(self) -> bool {
        self.part == 0
    }

    /// This part of `0..total`, if it is not empty.
    fn range(self, total: usize) -> Option<Range<usize>> {
        let bound = |part: usize| total * part.min(self.parts) / self.parts;
        let range = bound(self.part)..bound(self.part + 1);
        (!range.is_empty()).then_some(range)
    }

    /// This part of `0..total` in whole blocks, of which the last may be short.
    fn blocks(self, total: usize, block: usize) -> Option<Range<usize>> {
        let blocks = self.range(total.div_ceil(block))?;
        Some(blocks.start * block..(blocks.end * block).min(total))
    }

    /// The largest part of `total` indivisible things, as a fraction of the smallest that it could be: 1 for an even
    /// cut, at most the number of parts; in 1/256.
    fn unevenness(self, total: usize) -> usize {
        (256 * self.parts * total.div_ceil(self.parts)).checked_div(total).unwrap_or(usize::MAX)
    }
}

/// This part of a tensor's pixels; all of them where a range would have too many columns for a slot.
fn pixels(slot: &Slot, cut: Cut) -> Option<Range<usize>> {
    let pixels = slot.pixels();
    if pixels > u16::MAX as usize { cut.whole().then_some(0..pixels) } else { cut.range(pixels) }
}

/// The pixels of a range, as one row.
fn pixel_range(slot: &Slot, range: &Range<usize>) -> Slot {
    if range.len() == slot.pixels() {
        return *slot;
    }
    Slot { height: 1, width: range.len() as u16, offset: moved(slot, range.start * slot.pitch as usize), ..*slot }
}

/// The rows of a range.
fn row_range(slot: &Slot, range: &Range<usize>) -> Slot {
    let first = range.start * slot.width as usize * slot.pitch as usize;
    Slot { height: range.len() as u16, offset: moved(slot, first), ..*slot }
}

/// The channels of a range.
fn channel_range(slot: &Slot, range: &Range<usize>) -> Slot {
    Slot { channels: range.len() as u16, offset: moved(slot, range.start), ..*slot }
}

fn moved(slot: &Slot, elements: usize) -> u32 {
    slot.offset + (elements * slot.dtype.size_bytes()) as u32
}

/// Bytes of the little-endian words of a range.
fn words<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    bytes.get(4 * range.start..4 * range.end).unwrap_or_default()
}

fn norm<'a>(s: &Norm<'a>, cut: Cut) -> Option<Norm<'a>> {
    match s.kind {
        NormKind::Layer | NormKind::Rms => {
            let of = pixels(&s.output, cut)?;
            Some(Norm { input: pixel_range(&s.input, &of), output: pixel_range(&s.output, &of), ..*s })
        }
        NormKind::Group { groups } => {
            let size = s.input.channels as usize / groups as usize;
            let of = cut.blocks(groups.into(), LINE.div_ceil(size.max(1)))?;
            let channels = of.start * size..of.end * size;
            Some(Norm {
                input: channel_range(&s.input, &channels),
                output: channel_range(&s.output, &channels),
                kind: NormKind::Group { groups: of.len() as u16 },
                gain: words(s.gain, &channels),
                offset: words(s.offset, &channels),
                ..*s
            })
        }
    }
}

/// By rows of the result where every window is inside the operand, else by channels.
fn pool(s: &Pool, cut: Cut) -> Option<Pool> {
    let (rows, stride, kernel) = (s.output.height as usize, s.stride[0] as usize, s.kernel[0] as usize);
    let is_inside = s.pad[0] == 0 && (rows - 1) * stride + kernel <= s.input.height as usize;
    if is_inside && rows >= cut.parts {
        let of = cut.range(rows)?;
        let read = of.start * stride..(of.end - 1) * stride + kernel;
        return Some(Pool { input: row_range(&s.input, &read), output: row_range(&s.output, &of), ..*s });
    }
    let of = cut.blocks(s.output.channels.into(), LINE)?;
    let [input, output] = [&s.input, &s.output].map(|slot| channel_range(slot, &of));
    Some(Pool { input, output, ..*s })
}

/// By matrices of the batch, or by rows of the only one.
fn matmul(s: &MatMul, cut: Cut) -> Option<MatMul> {
    if s.scratch.is_some() {
        return cut.whole().then_some(*s);
    }
    if s.batch > 1 {
        let of = cut.range(s.batch.into())?;
        let [a, b, output] = [&s.a, &s.b, &s.output].map(|matrices| {
            let slot = match matrices.split {
                Split::Rows => row_range(&matrices.slot, &of),
                Split::Channels => {
                    let columns = matrices.columns(s.batch);
                    channel_range(&matrices.slot, &(of.start * columns..of.end * columns))
                }
            };
            Matrices { slot, ..*matrices }
        });
        return Some(MatMul { a, b, output, batch: of.len() as u16, ..*s });
    }
    let of = pixels(&s.output.slot, cut)?;
    let [a, output] = [&s.a, &s.output].map(|m| Matrices { slot: pixel_range(&m.slot, &of), ..*m });
    Some(MatMul { a, output, ..*s })
}

/// By rows of the small image.
fn shuffle(s: &Shuffle, cut: Cut) -> Option<Shuffle> {
    let scaled = |slot: &Slot, of: &Range<usize>, scale: usize| row_range(slot, &(of.start * scale..of.end * scale));
    let block = s.block as usize;
    let (input, output) = match s.kind {
        ShuffleKind::PixelUnshuffle => {
            let of = cut.range(s.output.height.into())?;
            (scaled(&s.input, &of, block), scaled(&s.output, &of, 1))
        }
        ShuffleKind::PixelShuffle => {
            let of = cut.range(s.input.height.into())?;
            (scaled(&s.input, &of, 1), scaled(&s.output, &of, block))
        }
    };
    Some(Shuffle { input, output, ..*s })
}
