//! Windows of a pool, for the kernels that take many channels of one at a time.

use crate::plan::Pool;

/// The places of a window that lie inside the input.
pub(super) struct Window {
    /// As half-open ranges.
    rows: [usize; 2],
    columns: [usize; 2],
    /// Pixels of an input row.
    width: usize,
    /// Elements from pixel to pixel.
    pitch: usize,
}

impl Window {
    /// Calls `each` with every output pixel's number and its window, which `fits` makes not empty.
    #[inline(always)]
    pub(super) fn all(step: &Pool, mut each: impl FnMut(usize, &Window)) {
        let (input, output) = (&step.input, &step.output);
        let range = |axis: usize, at: usize, size: u16| {
            let first = at * step.stride[axis] as usize;
            let pad = step.pad[axis] as usize;
            let low = first.saturating_sub(pad);
            let high = (first + step.kernel[axis] as usize).saturating_sub(pad).min(size as usize);
            [low, high]
        };
        for y in 0..output.height as usize {
            let rows = range(0, y, input.height);
            for x in 0..output.width as usize {
                let columns = range(1, x, input.width);
                let window = Window { rows, columns, width: input.width as usize, pitch: input.pitch as usize };
                each(y * output.width as usize + x, &window);
            }
        }
    }

    /// Number of its places.
    #[inline(always)]
    pub(super) fn places(&self) -> usize {
        (self.rows[1] - self.rows[0]) * (self.columns[1] - self.columns[0])
    }

    /// Calls `each` with every place; `from` is the input's first element.
    #[inline(always)]
    pub(super) fn each(&self, from: *const i8, mut each: impl FnMut(*const i8)) {
        for y in self.rows[0]..self.rows[1] {
            for x in self.columns[0]..self.columns[1] {
                each(from.wrapping_add((y * self.width + x) * self.pitch));
            }
        }
    }
}
