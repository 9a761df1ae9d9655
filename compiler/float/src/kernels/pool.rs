//! Pooling.

use super::tile::{load_some, store_some};
use super::windows::{OUTSIDE, Windows};
use flowlet_kernels::float::{LANES, Lanes};
use std::ops::Range;

/// What becomes of the numbers under a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Max,
    /// The mean, with padding as zeros if `count_pad`, else without it.
    Average {
        count_pad: bool,
    },
}

/// A pool of `channels`.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    pub windows: Windows,
    pub channels: usize,
    pub kind: Kind,
}

impl Pool {
    /// Computes pixels `range` into `out`.
    #[inline(always)]
    pub fn run<L: Lanes>(&self, lanes: L, x: &[f32], range: Range<usize>, out: &mut [f32]) {
        let (taps, c) = (self.windows.taps, self.channels);
        for (pixel, out) in range.zip(out.chunks_exact_mut(c)) {
            let offsets = &self.windows.offsets[pixel * taps..(pixel + 1) * taps];
            let count = match self.kind {
                Kind::Average { count_pad: false } => offsets.iter().filter(|at| **at != OUTSIDE).count(),
                Kind::Max | Kind::Average { count_pad: true } => taps,
            };
            let factor = lanes.splat(1.0 / count as f32);
            for first in (0..c).step_by(LANES) {
                let block = first..c.min(first + LANES);
                let mut v = lanes.splat(if self.kind == Kind::Max { f32::MIN } else { 0.0 });
                for &at in offsets.iter().filter(|at| **at != OUTSIDE) {
                    let x = load_some(lanes, &x[at as usize + block.start..at as usize + block.end]);
                    v = if self.kind == Kind::Max { lanes.max(v, x) } else { lanes.add(v, x) };
                }
                if self.kind != Kind::Max {
                    v = lanes.mul(v, factor);
                }
                store_some(lanes, v, &mut out[block]);
            }
        }
    }
}
