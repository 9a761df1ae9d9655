//! Softmax.

use super::tile::sum;
use crate::functions::{exp, map};
use flowlet_kernels::float::{LANES, Lanes};

/// Softmax of rows of `size` neighbours, in place.
#[inline(always)]
pub(crate) fn rows<L: Lanes>(lanes: L, size: usize, x: &mut [f32]) {
    for row in x.chunks_exact_mut(size) {
        let largest = lanes.splat(row.iter().fold(f32::MIN, |m, &v| if v > m { v } else { m }));
        map!(lanes, row, |v| exp(lanes, lanes.sub(v, largest)));
        let (whole, rest) = row.as_chunks::<LANES>();
        let mut total = lanes.splat(0.0);
        for part in whole {
            total = lanes.add(total, lanes.load(part));
        }
        let total = sum(lanes, total) + rest.iter().sum::<f32>();
        let factor = lanes.splat(1.0 / total);
        map!(lanes, row, |v| lanes.mul(v, factor));
    }
}

/// Softmax of numbers that lie `stride` apart, in place.
pub(crate) fn strided(size: usize, stride: usize, x: &mut [f32]) {
    for block in x.chunks_exact_mut(size * stride) {
        for first in 0..stride {
            let places = || (first..size * stride).step_by(stride);
            let largest = places().fold(f32::MIN, |m, i| m.max(block[i]));
            let mut total = 0.0;
            for i in places() {
                block[i] = (block[i] - largest).exp();
                total += block[i];
            }
            places().for_each(|i| block[i] /= total);
        }
    }
}
