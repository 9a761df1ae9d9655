//! Elements of tensors in runs of one vector, for the kernels of hosts.

use crate::plan::Slot;

/// Elements of a run.
pub(crate) const LANES: usize = 16;

/// Calls `each` with the pixel, the first channel and the number of channels, at most [`LANES`], of every run of elements
/// of tensors of the output's shape. Where no tensor has gaps all of them are one pixel.
#[inline(always)]
pub(crate) fn blocks(output: &Slot, is_contiguous: bool, mut each: impl FnMut(usize, usize, usize)) {
    let (pixels, length) = match is_contiguous && output.is_contiguous() {
        true => (1, output.elements()),
        false => (output.pixels(), output.channels as usize),
    };
    for pixel in 0..pixels {
        let mut first = 0;
        while first + LANES <= length {
            each(pixel, first, LANES);
            first += LANES;
        }
        if first < length {
            each(pixel, first, length - first);
        }
    }
}
