//! Where the windows of a convolution lie: one description for a whole convolution and for each phase of a transposed
//! one, so that every kernel serves both.

use crate::plan::{Conv, ConvTranspose, Slot};

/// Places of windows and of output pixels.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    /// Kernel rows and columns.
    pub kernel: [i32; 2],
    /// (Upsampled) input place of kernel place (0, 0) for output pixel (0, 0); negative in the padding.
    pub origin: [i32; 2],
    /// Input places between neighbouring output pixels.
    pub stride: [i32; 2],
    /// Input places between neighbouring kernel places.
    pub dilation: [i32; 2],
    /// Right shift from an upsampled place to an input place.
    pub upsample_shift: u32,
    /// Output rows and columns that are computed.
    pub pixels: [usize; 2],
    /// Number of the first output pixel, in row-major order of the whole output.
    pub first: usize,
    /// Output pixels from row to row and from column to column.
    pub step: [usize; 2],
}

impl Geometry {
    /// The geometry of a convolution.
    #[inline(always)]
    pub const fn of(step: &Conv<'_>) -> Geometry {
        Geometry {
            kernel: [step.kernel[0] as i32, step.kernel[1] as i32],
            origin: [-(step.pad[0] as i32), -(step.pad[1] as i32)],
            stride: [step.stride[0] as i32, step.stride[1] as i32],
            dilation: [step.dilation[0] as i32, step.dilation[1] as i32],
            upsample_shift: step.upsample as u32 - 1,
            pixels: [step.output.height as usize, step.output.width as usize],
            first: 0,
            step: [step.output.width as usize, 1],
        }
    }

    /// The geometry of phase `(r, c)` of a transposed convolution; it may have no pixels, or no kernel places.
    #[inline(always)]
    pub const fn of_phase(step: &ConvTranspose<'_>, phase: [u8; 2]) -> Geometry {
        let kernel = step.phase_kernel(phase);
        let size = [step.output.height as u32, step.output.width as u32];
        let (mut pixels, mut origin, mut first, mut stride) = ([0; 2], [0; 2], [0; 2], [0; 2]);
        let mut axis = 0;
        while axis < 2 {
            let (s, pad, r) = (step.stride[axis] as u32, step.pad[axis] as u32, phase[axis] as u32);
            if s == 0 {
                break;
            }
            // The first output place with (place + pad) mod s = r, and the input place that kernel place r reads there.
            let place = (r + s - pad % s) % s;
            origin[axis] = ((place + pad - r) / s) as i32 - (kernel[axis] as i32 - 1);
            pixels[axis] = if place < size[axis] { ((size[axis] - 1 - place) / s + 1) as usize } else { 0 };
            first[axis] = place as usize;
            stride[axis] = s as usize;
            axis += 1;
        }
        Geometry {
            kernel: [kernel[0] as i32, kernel[1] as i32],
            origin,
            stride: [1, 1],
            dilation: [1, 1],
            upsample_shift: 0,
            pixels,
            first: first[0] * step.output.width as usize + first[1],
            step: [stride[0] * step.output.width as usize, stride[1]],
        }
    }

    /// Number of the output pixel at row `y`, column `x` of those that are computed.
    #[inline(always)]
    pub const fn pixel(&self, [y, x]: [usize; 2]) -> usize {
        self.first + y * self.step[0] + x * self.step[1]
    }

    /// The output pixels whose windows lie inside the input.
    #[inline(always)]
    pub fn interior(&self, input: &Slot) -> Region {
        let axis = |axis: usize, size: u16| {
            let stride = self.stride[axis];
            let quotient = |n: i32| n.checked_div(stride).unwrap_or(0).max(0) as usize;
            let origin = self.origin[axis];
            let room = ((size as i32) << self.upsample_shift) - (self.kernel[axis] - 1) * self.dilation[axis] - origin;
            let low = quotient(stride - 1 - origin.min(0)).min(self.pixels[axis]);
            let high = quotient(room.max(0) + stride - 1).min(self.pixels[axis]);
            [low, high]
        };
        Region { rows: axis(0, input.height), columns: axis(1, input.width) }
    }

    /// The element of the input slot, counted from its first, that the first place of an interior window reads.
    #[inline(always)]
    pub fn first_place(&self, input: &Slot, [y, x]: [usize; 2]) -> usize {
        let place = |axis: usize, at: usize| {
            (self.origin[axis] + at as i32 * self.stride[axis]) as usize >> self.upsample_shift
        };
        (place(0, y) * input.width as usize + place(1, x)) * input.pitch as usize
    }

    /// The part of a window that lies inside the input, for the output pixel at `y`, `x`.
    #[inline(always)]
    pub fn window(&self, input: &Slot, [y, x]: [usize; 2]) -> Window {
        let axis = |axis: usize, at: usize, size: u16| {
            let (kernel, dilation) = (self.kernel[axis], self.dilation[axis]);
            let origin = self.origin[axis] + at as i32 * self.stride[axis];
            let size = (size as i32) << self.upsample_shift;
            // A dilation of zero is no plan's; it must not leave a panic in firmware.
            let inside = |room: i32| (room + dilation - 1).checked_div(dilation).unwrap_or(0);
            let low = inside((-origin).max(0)).min(kernel);
            let high = inside((size - origin).max(0)).min(kernel).max(low);
            (origin, [low, high])
        };
        let (oy, rows) = axis(0, y, input.height);
        let (ox, columns) = axis(1, x, input.width);
        Window { origin: [oy, ox], inside: [rows, columns] }
    }

    /// The element of the input slot, counted from its first, that kernel place `at` of a window reads. The place must
    /// be inside.
    #[inline(always)]
    pub fn place(&self, input: &Slot, window: &Window, [ky, kx]: [i32; 2]) -> usize {
        let y = (window.origin[0] + ky * self.dilation[0]) as usize >> self.upsample_shift;
        let x = (window.origin[1] + kx * self.dilation[1]) as usize >> self.upsample_shift;
        (y * input.width as usize + x) * input.pitch as usize
    }

    /// Whether the kernel places of one row read one run of bytes.
    #[inline(always)]
    pub const fn rows_are_contiguous(&self, input: &Slot) -> bool {
        self.upsample_shift == 0 && self.dilation[1] == 1 && input.pitch == input.channels
    }

    /// As [`Self::gather`], for a pixel of the interior.
    ///
    /// # Safety
    /// As [`Self::gather`], with the window inside the input.
    #[inline(always)]
    pub unsafe fn gather_inside(&self, arena: *const i8, input: &Slot, at: [usize; 2], into: *mut i8) {
        let channels = input.channels as usize;
        let [rows, columns] = self.kernel.map(|n| n as usize);
        if rows * columns == 0 {
            return;
        }
        // SAFETY: the places are inside the input; row `ky` of the window is `columns * channels` bytes of `into`.
        unsafe {
            let source = arena.add(input.offset as usize);
            if self.rows_are_contiguous(input) {
                let first = source.add(self.first_place(input, at));
                let down = self.dilation[0] as usize * input.width as usize * input.pitch as usize;
                for ky in 0..rows {
                    let line = columns * channels;
                    into.add(ky * line).copy_from_nonoverlapping(first.add(ky * down), line);
                }
                return;
            }
            let window = self.window(input, at);
            for (ky, kx) in (0..rows).flat_map(|ky| (0..columns).map(move |kx| (ky, kx))) {
                let place = source.add(self.place(input, &window, [ky as i32, kx as i32]));
                into.add((ky * columns + kx) * channels).copy_from_nonoverlapping(place, channels);
            }
        }
    }

    /// Copies the window of the output pixel at `y`, `x` to `into`: `kernel rows * kernel columns * channels` bytes in
    /// the order of the weights, padding as `zero_point`.
    ///
    /// # Safety
    /// The input slot must lie inside the readable `arena`, and `into` be writable for the bytes of a window and
    /// outside the slot.
    #[inline(always)]
    pub unsafe fn gather(&self, arena: *const i8, input: &Slot, zero_point: i8, at: [usize; 2], into: *mut i8) {
        let channels = input.channels as usize;
        let window = self.window(input, at);
        let [[top, bottom], [left, right]] = window.inside;
        let line = self.kernel[1] as usize * channels;
        let contiguous = self.rows_are_contiguous(input);
        for ky in 0..self.kernel[0] {
            // SAFETY: row `ky` of the window is `line` bytes of `into`; the places inside are inside the input by the
            // construction of the window.
            unsafe {
                let row = into.add(ky as usize * line);
                if ky < top || ky >= bottom {
                    row.write_bytes(zero_point as u8, line);
                    continue;
                }
                let (before, inner) = (left as usize * channels, (right - left) as usize * channels);
                row.write_bytes(zero_point as u8, before);
                row.add(before + inner).write_bytes(zero_point as u8, line - before - inner);
                let source = arena.add(input.offset as usize);
                if inner == 0 {
                    continue;
                }
                if contiguous {
                    row.add(before).copy_from_nonoverlapping(source.add(self.place(input, &window, [ky, left])), inner);
                } else {
                    for kx in left..right {
                        row.add(kx as usize * channels)
                            .copy_from_nonoverlapping(source.add(self.place(input, &window, [ky, kx])), channels);
                    }
                }
            }
        }
    }
}

/// A rectangle of output pixels, as half-open ranges; either may be empty.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First row, and past the last.
    pub rows: [usize; 2],
    /// First column, and past the last.
    pub columns: [usize; 2],
}

impl Region {
    /// Whether the pixel at row `y`, column `x` is in it.
    #[inline(always)]
    pub const fn contains(&self, [y, x]: [usize; 2]) -> bool {
        y >= self.rows[0] && y < self.rows[1] && x >= self.columns[0] && x < self.columns[1]
    }
}

/// The input places that one output pixel sees: kernel rows and columns outside `inside` read padding.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// (Upsampled) input place of the kernel's first row and column; negative in the padding.
    pub origin: [i32; 2],
    /// Kernel rows and columns that lie inside the input, as half-open ranges inside the kernel.
    pub inside: [[i32; 2]; 2],
}

impl Window {
    /// Whether kernel place `(ky, kx)` reads the input.
    #[inline(always)]
    pub const fn contains(&self, [ky, kx]: [i32; 2]) -> bool {
        let [rows, columns] = self.inside;
        ky >= rows[0] && ky < rows[1] && kx >= columns[0] && kx < columns[1]
    }
}
