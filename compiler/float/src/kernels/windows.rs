//! Where the windows of a convolution or a pool lie in the input.

use flowlet_compiler::ir::{ConvGeometry, TransposedGeometry, Window};

/// Beyond the image.
pub(crate) const OUTSIDE: u32 = u32::MAX;

/// For each output pixel and tap, where the channels of the input pixel begin.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    /// Taps of a pixel.
    pub taps: usize,
    /// `[pixel][tap]`, [`OUTSIDE`] for padding.
    pub offsets: Vec<u32>,
    /// The output pixel of each row of `offsets`; none where they are in order.
    pub order: Option<Vec<u32>>,
}

/// Sizes of an image: batch, channels, height, width.
type Image = [usize; 4];

impl Windows {
    /// One row for each of `rows`, of `channels` numbers.
    pub fn rows(rows: usize, channels: usize) -> Windows {
        Windows { taps: 1, offsets: (0..rows).map(|r| (r * channels) as u32).collect(), order: None }
    }

    pub fn conv(g: &ConvGeometry, input: Image, kernel: [usize; 2], output: Image) -> Windows {
        let [_, _, h, w] = input;
        let source = |o: usize, k: usize, a: usize, size: usize| {
            let at = (o * g.stride[a] + k * g.dilation[a]).checked_sub(g.pad[a])? / g.upsample;
            (at < size).then_some(at)
        };
        let of = |oy, ox, ky, kx| Some((source(oy, ky, 0, h)?, source(ox, kx, 1, w)?));
        Windows::new(input, kernel, output, of, |_, _| 0)
    }

    pub fn pool(g: &Window, input: Image, output: Image) -> Windows {
        let geometry = ConvGeometry { stride: g.stride, pad: g.pad, ..ConvGeometry::default() };
        Windows::conv(&geometry, input, g.kernel, output)
    }

    /// Output pixels that read the same taps are neighbours in the order.
    pub fn transposed(g: &TransposedGeometry, input: Image, kernel: [usize; 2], output: Image) -> Windows {
        let [_, _, h, w] = input;
        let source = |o: usize, k: usize, a: usize, size: usize| {
            let at = (o + g.pad[a]).checked_sub(k * g.dilation[a])?;
            (at % g.stride[a] == 0 && at / g.stride[a] < size).then(|| at / g.stride[a])
        };
        let of = |oy, ox, ky, kx| Some((source(oy, ky, 0, h)?, source(ox, kx, 1, w)?));
        let phase = |oy: usize, ox: usize| (oy + g.pad[0]) % g.stride[0] * g.stride[1] + (ox + g.pad[1]) % g.stride[1];
        Windows::new(input, kernel, output, of, phase)
    }

    fn new(
        [_, c, h, w]: Image,
        kernel: [usize; 2],
        [n, _, oh, ow]: Image,
        source: impl Fn(usize, usize, usize, usize) -> Option<(usize, usize)>,
        phase: impl Fn(usize, usize) -> usize,
    ) -> Windows {
        let mut pixels: Vec<(usize, usize)> = (0..n * oh * ow).map(|p| (phase(p / ow % oh, p % ow), p)).collect();
        pixels.sort_unstable();
        let is_in_order = pixels.iter().enumerate().all(|(i, (_, p))| i == *p);
        let taps = kernel[0] * kernel[1];
        let mut offsets = Vec::with_capacity(pixels.len() * taps);
        for &(_, p) in &pixels {
            let (sample, oy, ox) = (p / (oh * ow), p / ow % oh, p % ow);
            for (ky, kx) in (0..kernel[0]).flat_map(|ky| (0..kernel[1]).map(move |kx| (ky, kx))) {
                offsets.push(source(oy, ox, ky, kx).map_or(OUTSIDE, |(y, x)| (((sample * h + y) * w + x) * c) as u32));
            }
        }
        let order = (!is_in_order).then(|| pixels.iter().map(|(_, p)| *p as u32).collect());
        Windows { taps, offsets, order }
    }
}
