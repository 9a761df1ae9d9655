//! Windows of output pixels as runs of bytes: where they lie in the tensor if they are such a run, else gathered.

use core::arch::global_asm;

use crate::conv::layer::Layer;

/// Finds the windows of one row of output pixels after the other; gathered ones are kept in the scratch memory.
pub(super) struct Windows<'s> {
    layer: &'s Layer<'s>,
    /// Whether a window that lies inside the input is one run of bytes there.
    is_run: bool,
    /// Whether one that does not is a run of bytes in each of its rows.
    has_runs: bool,
    /// Output columns whose windows lie inside the input, for rows of which that is true too.
    columns: [usize; 2],
    rows: [usize; 2],
    /// Row of output pixels.
    y: usize,
    /// Those columns in this row; none if the row's windows reach over the border.
    inside: [usize; 2],
    /// First byte of the first pixel's window, which may be outside.
    first: *const i8,
    /// Bytes from window to window.
    step: usize,
    /// Bytes of a row of the window.
    line: usize,
    /// Bytes from row to row of the input.
    pitch: usize,
    source: *const i8,
    /// Bytes from one gathered window to the next.
    gathered: usize,
}

unsafe extern "C" {
    /// Writes `n` bytes of `value`, which may be none.
    fn flowlet_mve_fill(to: *mut i8, value: i32, n: usize);
    /// Copies `size[0]` runs of `size[1]` bytes from places `pitch` bytes apart to places `line` bytes apart.
    fn flowlet_mve_copy(to: *mut i8, line: usize, from: *const i8, pitch: usize, size: &[usize; 2]);
}

impl<'s> Windows<'s> {
    pub(super) fn new(arena: *const i8, layer: &'s Layer<'s>) -> Windows<'s> {
        let (geometry, input) = (&layer.geometry, layer.input);
        let [rows, columns] = geometry.kernel;
        let has_runs = geometry.rows_are_contiguous(input);
        let pixel = input.pitch as usize;
        Windows {
            layer,
            is_run: geometry.upsample_shift == 0 && rows == 1 && (columns == 1 || has_runs),
            has_runs,
            columns: inside(layer, 1, input.width),
            rows: inside(layer, 0, input.height),
            y: 0,
            inside: [0, 0],
            first: arena,
            step: geometry.stride[1] as usize * pixel,
            line: columns as usize * input.channels as usize,
            pitch: geometry.dilation[0] as usize * input.width as usize * pixel,
            source: arena.wrapping_add(input.offset as usize),
            gathered: layer.padded_products(),
        }
    }

    /// Goes to row `y` of the output pixels.
    #[inline(always)]
    pub(super) fn row(&mut self, y: usize) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let [top, left] = geometry.origin;
        let place = (top + y as i32 * geometry.stride[0]) * input.width as i32 + left;
        self.y = y;
        self.inside = if y >= self.rows[0] && y < self.rows[1] { self.columns } else { [0, 0] };
        self.first = self.source.wrapping_offset(place as isize * input.pitch as isize);
    }

    /// First byte of the window of the row's output pixel `x`, which may be outside the input.
    #[inline(always)]
    pub(super) fn place(&self, x: usize) -> *const i8 {
        self.first.wrapping_add(x * self.step)
    }

    /// How many output pixels from `x` on have windows that reach over the border in the same kernel places.
    pub(super) fn alike(&self, x: usize) -> usize {
        if x >= self.columns[0] && x < self.columns[1] { self.columns[1] - x } else { 1 }
    }

    /// The window of the row's output pixel `x` as a run of bytes, in a place of its own for each `p`.
    ///
    /// # Safety
    /// As [`run_panels`](super::run_panels), with the pixel inside the geometry.
    #[inline(always)]
    pub(super) unsafe fn window(&self, x: usize, p: usize) -> *const i8 {
        let first = self.place(x);
        let is_inside = x >= self.inside[0] && x < self.inside[1];
        if is_inside && self.is_run {
            return first;
        }
        let into = self.layer.scratch.wrapping_add(p * self.gathered).cast();
        // SAFETY: the scratch memory holds a window for each pixel of a tile; a window that lies inside the input is
        // readable.
        unsafe {
            if is_inside && self.has_runs {
                let size = [self.layer.geometry.kernel[0] as usize, self.line];
                flowlet_mve_copy(into, self.line, first, self.pitch, &size);
            } else {
                self.gather(x, into);
            }
        }
        into
    }

    /// Copies a window that reaches over the border or has gaps.
    ///
    /// # Safety
    /// As [`Self::window`], with `into` writable for a window.
    #[inline(never)]
    unsafe fn gather(&self, x: usize, into: *mut i8) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let channels = input.channels as usize;
        let window = geometry.window(input, [self.y, x]);
        let [[top, bottom], [left, right]] = window.inside;
        // SAFETY: the places inside the window are inside the input.
        unsafe {
            let places = geometry.kernel[0] as usize * self.line;
            flowlet_mve_fill(into, self.layer.zero_point.into(), places);
            if bottom <= top || right <= left {
                return;
            }
            let columns = (right - left) as usize;
            let into = into.add(top as usize * self.line + left as usize * channels);
            let first = |ky| self.source.add(geometry.place(input, &window, [ky, left]));
            if self.has_runs {
                let size = [(bottom - top) as usize, columns * channels];
                flowlet_mve_copy(into, self.line, first(top), self.pitch, &size);
                return;
            }
            for ky in top..bottom {
                let into = into.add((ky - top) as usize * self.line);
                if geometry.upsample_shift == 0 {
                    let pitch = geometry.dilation[1] as usize * input.pitch as usize;
                    flowlet_mve_copy(into, channels, first(ky), pitch, &[columns, channels]);
                    continue;
                }
                for kx in left..right {
                    let from = self.source.add(geometry.place(input, &window, [ky, kx]));
                    flowlet_mve_copy(into.add((kx - left) as usize * channels), 0, from, 0, &[1, channels]);
                }
            }
        }
    }
}

/// Output rows or columns whose windows lie inside the input; none where windows have gaps from the upsampling.
fn inside(layer: &Layer<'_>, axis: usize, size: u16) -> [usize; 2] {
    let geometry = &layer.geometry;
    let (origin, stride) = (geometry.origin[axis], geometry.stride[axis]);
    let room = size as i32 - 1 - (geometry.kernel[axis] - 1) * geometry.dilation[axis] - origin;
    if geometry.upsample_shift > 0 || geometry.kernel[axis] == 0 || room < 0 {
        return [0, 0];
    }
    let first = (stride - 1 - origin).max(0).checked_div(stride).unwrap_or(0) as usize;
    let end = room.checked_div(stride).unwrap_or(0) as usize + 1;
    [first, end.min(geometry.pixels[axis])]
}

global_asm!(
    ".syntax unified",
    ".thumb",
    ".cpu cortex-m55",
    ".pushsection .text.flowlet_mve_fill, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_fill",
    ".type flowlet_mve_fill, %function",
    ".thumb_func",
    "flowlet_mve_fill:",
    "push {{r4, lr}}",
    "vdup.8 q0, r1",
    "wlstp.8 lr, r2, 2f",
    "1:",
    "vstrb.8 q0, [r0], #16",
    "letp lr, 1b",
    "2:",
    "pop {{r4, pc}}",
    ".size flowlet_mve_fill, . - flowlet_mve_fill",
    ".popsection",
    ".pushsection .text.flowlet_mve_copy, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_copy",
    ".type flowlet_mve_copy, %function",
    ".thumb_func",
    "flowlet_mve_copy:",
    "ldr r12, [sp]",
    "push {{r4-r7, lr}}",
    "ldrd r6, r7, [r12]",
    "3:",
    "mov r4, r0",
    "mov r5, r2",
    "wlstp.8 lr, r7, 2f",
    "1:",
    "vldrb.8 q0, [r5], #16",
    "vstrb.8 q0, [r4], #16",
    "letp lr, 1b",
    "2:",
    "subs r6, #1",
    "add r0, r1",
    "add r2, r3",
    "bne 3b",
    "pop {{r4-r7, pc}}",
    ".size flowlet_mve_copy, . - flowlet_mve_copy",
    ".popsection",
);
