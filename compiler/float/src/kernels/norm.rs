//! Norms with statistics of the sample.

use super::tile::{load_some, store_some, sum};
use flowlet_compiler::ir::NormKind;
use flowlet_kernels::float::{LANES, Lanes};
use std::ops::Range;

/// A norm whose channels are last in memory: rows are pixels.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    pub kind: NormKind,
    /// Samples of the batch: statistics of a group norm do not cross them.
    pub samples: usize,
    /// Pixels of a sample.
    pub pixels: usize,
    pub channels: usize,
    pub groups: usize,
    pub eps: f32,
}

impl Norm {
    /// Whether a range of rows can be computed alone.
    pub fn has_rows(&self) -> bool {
        self.kind != NormKind::Group
    }

    /// Numbers of scratch.
    pub fn scratch(&self) -> usize {
        if self.has_rows() { 0 } else { 2 * self.channels }
    }

    /// Normalises the rows of `x` into `out`, which is as long; all rows for a group norm.
    #[inline(always)]
    pub fn run<L: Lanes>(
        &self,
        lanes: L,
        x: &[f32],
        affine: Option<[&[f32]; 2]>,
        out: &mut [f32],
        scratch: &mut [f32],
    ) {
        if self.has_rows() {
            return self.rows(lanes, x, affine, out);
        }
        let size = self.pixels * self.channels;
        for (x, out) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)).take(self.samples) {
            self.image(lanes, x, affine, out, scratch);
        }
    }

    /// Statistics over all pixels: first the means, then the squares around them, which keeps their digits.
    #[inline(always)]
    fn image<L: Lanes>(&self, lanes: L, x: &[f32], affine: Option<[&[f32]; 2]>, out: &mut [f32], scratch: &mut [f32]) {
        let c = self.channels;
        let own = c / self.groups;
        let count = (own * self.pixels) as f64;
        let (mean, slope) = scratch[..2 * c].split_at_mut(c);
        let blocks = || (0..c).step_by(LANES).map(|first| first..c.min(first + LANES));
        for block in blocks() {
            let sums = column_sums(lanes, x, c, block.clone(), None);
            store_some(lanes, sums, &mut mean[block]);
        }
        each_group(mean, own, |sum| (sum / count) as f32);
        for block in blocks() {
            let mean = load_some(lanes, &mean[block.clone()]);
            let squares = column_sums(lanes, x, c, block.clone(), Some(mean));
            store_some(lanes, squares, &mut slope[block]);
        }
        let eps = f64::from(self.eps);
        each_group(slope, own, |sum| (1.0 / (sum / count + eps).sqrt()) as f32);
        if let Some([gamma, _]) = affine {
            slope.iter_mut().zip(gamma).for_each(|(slope, gamma)| *slope *= gamma);
        }
        for (x, out) in x.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
            for block in blocks() {
                let v = lanes.sub(load_some(lanes, &x[block.clone()]), load_some(lanes, &mean[block.clone()]));
                let slope = load_some(lanes, &slope[block.clone()]);
                let v = match affine {
                    Some([_, beta]) => lanes.fma(v, slope, load_some(lanes, &beta[block.clone()])),
                    None => lanes.mul(v, slope),
                };
                store_some(lanes, v, &mut out[block]);
            }
        }
    }

    #[inline(always)]
    fn rows<L: Lanes>(&self, lanes: L, x: &[f32], affine: Option<[&[f32]; 2]>, out: &mut [f32]) {
        let own = self.channels / self.groups;
        let count = own as f32;
        for (i, (x, out)) in x.chunks_exact(own).zip(out.chunks_exact_mut(own)).enumerate() {
            let mean = match self.kind {
                NormKind::Rms => 0.0,
                NormKind::Group | NormKind::Layer => row_sum(lanes, x, None) / count,
            };
            let centre = lanes.splat(mean);
            // The last block is filled up with zeros, which are not that far from the mean.
            let filled = (own.next_multiple_of(LANES) - own) as f32 * mean * mean;
            let squares = row_sum(lanes, x, Some(centre)) - filled;
            let factor = lanes.splat(1.0 / (squares / count + self.eps).sqrt());
            let channel = i % self.groups * own;
            for first in (0..own).step_by(LANES) {
                let block = first..own.min(first + LANES);
                let v = lanes.mul(lanes.sub(load_some(lanes, &x[block.clone()]), centre), factor);
                let v = match affine {
                    Some([gamma, beta]) => {
                        let at = channel + first..channel + block.end;
                        lanes.fma(v, load_some(lanes, &gamma[at.clone()]), load_some(lanes, &beta[at]))
                    }
                    None => v,
                };
                store_some(lanes, v, &mut out[block]);
            }
        }
    }
}

/// The sums over all rows of some channels, or of their squared distances from `mean`.
#[inline(always)]
fn column_sums<L: Lanes>(lanes: L, x: &[f32], channels: usize, block: Range<usize>, mean: Option<L::V>) -> L::V {
    let mut sums = [lanes.splat(0.0); 2];
    let mut rows = x.chunks_exact(2 * channels);
    for pair in &mut rows {
        let (one, other) = pair.split_at(channels);
        sums[0] = lanes.add(sums[0], term(lanes, load_some(lanes, &one[block.clone()]), mean));
        sums[1] = lanes.add(sums[1], term(lanes, load_some(lanes, &other[block.clone()]), mean));
    }
    if let Some(row) = rows.remainder().get(..channels) {
        sums[0] = lanes.add(sums[0], term(lanes, load_some(lanes, &row[block]), mean));
    }
    lanes.add(sums[0], sums[1])
}

#[inline(always)]
fn row_sum<L: Lanes>(lanes: L, x: &[f32], mean: Option<L::V>) -> f32 {
    let mut total = lanes.splat(0.0);
    for part in x.chunks(LANES) {
        total = lanes.add(total, term(lanes, load_some(lanes, part), mean));
    }
    sum(lanes, total)
}

/// What a number adds to a sum.
#[inline(always)]
fn term<L: Lanes>(lanes: L, v: L::V, mean: Option<L::V>) -> L::V {
    match mean {
        None => v,
        Some(mean) => {
            let v = lanes.sub(v, mean);
            lanes.mul(v, v)
        }
    }
}

/// Replaces what stands for each channel by a function of the sum over its group.
#[inline(always)]
fn each_group(channels: &mut [f32], own: usize, f: impl Fn(f64) -> f32) {
    for group in channels.chunks_exact_mut(own) {
        let sum: f64 = group.iter().map(|&v| f64::from(v)).sum();
        group.fill(f(sum));
    }
}
