//! Windows of output pixels as runs of bytes: where they lie in the tensor if they are such a run, else gathered.

use core::arch::global_asm;

use super::Layer;

/// Finds windows; the gathered ones are kept in the scratch memory, one for each pixel of a tile.
pub(super) struct Windows {
    /// Whether a window that lies inside the input is one run of bytes there.
    is_run: bool,
    scratch: *mut i8,
    /// Bytes from one gathered window to the next.
    step: usize,
}

unsafe extern "C" {
    /// Copies `n` bytes, which may be none.
    fn flowlet_mve_copy(to: *mut i8, from: *const i8, n: usize);
    /// Writes `n` bytes of `value`, which may be none.
    fn flowlet_mve_fill(to: *mut i8, value: i32, n: usize);
    /// Copies `rows` runs of `n` bytes, `pitch` bytes apart, behind one another.
    fn flowlet_mve_rows(to: *mut i8, from: *const i8, n: usize, rows: usize, pitch: usize);
}

impl Windows {
    pub(super) fn new(layer: &Layer<'_>) -> Windows {
        let geometry = &layer.geometry;
        let [rows, columns] = geometry.kernel;
        Windows {
            is_run: rows == 1 && (columns == 1 || geometry.rows_are_contiguous(layer.input)),
            scratch: layer.scratch.cast(),
            step: layer.padded_products(),
        }
    }

    /// The window of an output pixel, in a place of its own for each `p`.
    ///
    /// # Safety
    /// As [`Layer::run`], with the pixel at `at` inside the geometry.
    #[inline(always)]
    pub(super) unsafe fn window(&mut self, arena: *const i8, layer: &Layer<'_>, at: [usize; 2], p: usize) -> *const i8 {
        let (geometry, input) = (&layer.geometry, layer.input);
        let channels = input.channels as usize;
        let window = geometry.window(input, at);
        let [[top, bottom], [left, right]] = window.inside;
        let [rows, columns] = geometry.kernel;
        let source = arena.wrapping_add(input.offset as usize);
        let is_inside = rows > 0 && top == 0 && left == 0 && bottom == rows && right == columns;
        if is_inside && self.is_run {
            return source.wrapping_add(geometry.place(input, &window, [0, 0]));
        }
        let into = self.scratch.wrapping_add(p * self.step);
        let line = columns as usize * channels;
        // SAFETY: the scratch memory holds a window for each pixel of a tile, and the places inside the window are
        // inside the input.
        unsafe {
            if is_inside && geometry.rows_are_contiguous(input) {
                let first = source.add(geometry.place(input, &window, [0, 0]));
                let pitch = geometry.dilation[0] as usize * input.width as usize * input.pitch as usize;
                flowlet_mve_rows(into, first, line, rows as usize, pitch);
                return into;
            }
            for ky in 0..rows {
                let row = into.add(ky as usize * line);
                if ky < top || ky >= bottom || left >= right {
                    flowlet_mve_fill(row, layer.zero_point.into(), line);
                    continue;
                }
                let (before, after) = (left as usize * channels, right as usize * channels);
                flowlet_mve_fill(row, layer.zero_point.into(), before);
                flowlet_mve_fill(row.add(after), layer.zero_point.into(), line - after);
                if geometry.rows_are_contiguous(input) {
                    let first = source.add(geometry.place(input, &window, [ky, left]));
                    flowlet_mve_copy(row.add(before), first, after - before);
                } else {
                    for kx in left..right {
                        let first = source.add(geometry.place(input, &window, [ky, kx]));
                        flowlet_mve_copy(row.add(kx as usize * channels), first, channels);
                    }
                }
            }
        }
        into
    }
}

global_asm!(
    ".syntax unified",
    ".thumb",
    ".cpu cortex-m55",
    ".pushsection .text.flowlet_mve_copy, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_copy",
    ".type flowlet_mve_copy, %function",
    ".thumb_func",
    "flowlet_mve_copy:",
    "push {{r4, lr}}",
    "wlstp.8 lr, r2, 2f",
    "1:",
    "vldrb.8 q0, [r1], #16",
    "vstrb.8 q0, [r0], #16",
    "letp lr, 1b",
    "2:",
    "pop {{r4, pc}}",
    ".size flowlet_mve_copy, . - flowlet_mve_copy",
    ".popsection",
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
    ".pushsection .text.flowlet_mve_rows, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_rows",
    ".type flowlet_mve_rows, %function",
    ".thumb_func",
    "flowlet_mve_rows:",
    "ldr r12, [sp]",
    "push {{r4-r7, lr}}",
    "3:",
    "mov r4, r0",
    "mov r5, r1",
    "wlstp.8 lr, r2, 2f",
    "1:",
    "vldrb.8 q0, [r5], #16",
    "vstrb.8 q0, [r4], #16",
    "letp lr, 1b",
    "2:",
    "subs r3, #1",
    "add r0, r2",
    "add r1, r12",
    "bne 3b",
    "pop {{r4-r7, pc}}",
    ".size flowlet_mve_rows, . - flowlet_mve_rows",
    ".popsection",
);
