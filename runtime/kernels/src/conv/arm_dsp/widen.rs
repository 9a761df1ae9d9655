//! Activations as 16-bit pairs: bytes `k, k + 2` and `k + 1, k + 3` of each word, as SXTB16 takes it apart.

use core::arch::{asm, naked_asm};

use crate::conv::geometry::Region;
use crate::conv::layer::Layer;
use crate::plan::ARM_DSP_PIXELS;

/// Where windows are gathered from.
#[derive(Clone, Copy)]
pub(super) struct Gather<'l> {
    layer: &'l Layer<'l>,
    source: *const i8,
    /// The pixels whose windows are one run of the tensor for each kernel row.
    plain: Region,
    /// Whether pixels of the input are whole words.
    whole: bool,
}

impl<'l> Gather<'l> {
    #[inline(always)]
    pub(super) fn new(arena: *const i8, layer: &'l Layer<'l>) -> Self {
        let (geometry, input) = (&layer.geometry, layer.input);
        let runs = geometry.rows_are_contiguous(input) || geometry.kernel[1] == 1;
        let mut plain = geometry.interior(input);
        if !runs || geometry.upsample_shift != 0 {
            plain.rows = [0, 0];
        }
        let source = arena.wrapping_add(input.offset as usize);
        Self { layer, source, plain, whole: input.channels % 4 == 0 }
    }

    /// The scratch memory behind the pairs of four windows: a pixel of padding where pixels are whole words, else a
    /// window as bytes.
    #[inline(always)]
    fn spare(&self) -> *mut i8 {
        self.layer.scratch.wrapping_add(2 * ARM_DSP_PIXELS * self.layer.padded_products()).cast()
    }

    /// What [`Self::tile`] reads as padding.
    ///
    /// # Safety
    /// The scratch memory must be that of a layer packed for tiles.
    #[inline(always)]
    pub(super) unsafe fn write_padding(&self) {
        if self.whole {
            // SAFETY: a window is at least as long as a pixel.
            unsafe { self.spare().write_bytes(self.layer.zero_point as u8, self.layer.input.channels as usize) };
        }
    }

    /// Bytes of a kernel row of a plain window, and from one to the next.
    #[inline(always)]
    fn rows(&self) -> (usize, usize) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let line = geometry.kernel[1] as usize * input.channels as usize;
        (line, geometry.dilation[0] as usize * input.width as usize * input.pitch as usize)
    }

    /// The pairs of the windows of four pixels, `[pair][pixel]`.
    ///
    /// # Safety
    /// As [`run_layer`](super::run_layer), with the pixels inside the geometry, and `to` the first byte of the scratch
    /// memory, in which padding has been written.
    #[inline(always)]
    pub(super) unsafe fn tile(&self, at: [[usize; 2]; ARM_DSP_PIXELS], to: *mut u32) {
        // SAFETY: plain windows are inside the input; each pixel's pairs are every fourth word.
        unsafe {
            if !self.whole {
                for (p, &at) in at.iter().enumerate() {
                    self.window::<{ 4 * ARM_DSP_PIXELS }>(at, to.add(p), self.spare());
                }
                return;
            }
            if !at.iter().all(|&at| self.plain.contains(at)) {
                return self.places(at, to);
            }
            let (line, step) = self.rows();
            let mut from = at.map(|at| self.source.add(self.layer.geometry.first_place(self.layer.input, at)));
            let mut to = to;
            for _ in 0..self.layer.geometry.kernel[0] {
                to = words_of_four(from[0], from[1], from[2], from[3], to, line / 4);
                from = from.map(|from| from.wrapping_add(step));
            }
        }
    }

    /// As [`Self::tile`] for any windows of whole words, place by place.
    ///
    /// # Safety
    /// As [`Self::tile`].
    #[inline(never)]
    unsafe fn places(&self, at: [[usize; 2]; ARM_DSP_PIXELS], to: *mut u32) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let windows = at.map(|at| geometry.window(input, at));
        let padding = self.spare().cast_const();
        let mut to = to;
        for ky in 0..geometry.kernel[0] {
            for kx in 0..geometry.kernel[1] {
                let from = windows.each_ref().map(|window| {
                    let [[top, bottom], [left, right]] = window.inside;
                    if ky >= top && ky < bottom && kx >= left && kx < right {
                        self.source.wrapping_add(geometry.place(input, window, [ky, kx]))
                    } else {
                        padding
                    }
                });
                // SAFETY: the places are pixels of the input, or the pixel of padding.
                to = unsafe { words_of_four(from[0], from[1], from[2], from[3], to, input.channels as usize / 4) };
            }
        }
    }

    /// The pairs of the window of one pixel, which lie together. The window's bytes are rounded up to a multiple of
    /// four; what pads it meets weights that are zero.
    ///
    /// # Safety
    /// As [`run_layer`](super::run_layer), with the pixel inside the geometry, and `to` writable for the pairs of a
    /// padded window and its bytes, and aligned to words.
    #[inline(always)]
    pub(super) unsafe fn pixel(&self, at: [usize; 2], to: *mut u32) {
        // SAFETY: the same condition.
        unsafe { self.window::<4>(at, to, to.byte_add(2 * self.layer.padded_products()).cast()) };
    }

    /// The pairs of a window, the first at `to` and each next `STEP` bytes further; `bytes` is used to put it together.
    ///
    /// # Safety
    /// As [`Self::pixel`].
    #[inline(always)]
    unsafe fn window<const STEP: usize>(&self, at: [usize; 2], to: *mut u32, bytes: *mut i8) {
        let geometry = &self.layer.geometry;
        let (line, step) = self.rows();
        // SAFETY: plain windows are inside the input, and each run is as long as its part of the window.
        unsafe {
            if !self.plain.contains(at) {
                self.bordered(at, bytes);
            } else {
                let mut from = self.source.add(geometry.first_place(self.layer.input, at));
                for ky in 0..geometry.kernel[0] as usize {
                    if self.whole {
                        words::<STEP>(from, line / 4, to.byte_add(ky * line / 2 * STEP));
                    } else {
                        copy(from, bytes.add(ky * line), line);
                    }
                    from = from.wrapping_add(step);
                }
                if self.whole {
                    return;
                }
            }
            words::<STEP>(bytes, (geometry.kernel[0] as usize * line).div_ceil(4), to);
        }
    }

    /// The bytes of any window.
    ///
    /// # Safety
    /// As [`Self::pixel`], with `bytes` writable for the window.
    #[inline(never)]
    unsafe fn bordered(&self, at: [usize; 2], bytes: *mut i8) {
        let (geometry, input) = (&self.layer.geometry, self.layer.input);
        let channels = input.channels as usize;
        let window = geometry.window(input, at);
        let [[top, bottom], [left, right]] = window.inside;
        let line = geometry.kernel[1] as usize * channels;
        let contiguous = geometry.rows_are_contiguous(input);
        // SAFETY: the places of the window that are read are inside the input, and the padding is the whole window.
        unsafe {
            bytes.write_bytes(self.layer.zero_point as u8, geometry.kernel[0] as usize * line);
            for ky in top..bottom {
                let row = bytes.add(ky as usize * line);
                if contiguous && right > left {
                    let first = self.source.add(geometry.place(input, &window, [ky, left]));
                    copy(first, row.add(left as usize * channels), (right - left) as usize * channels);
                    continue;
                }
                for kx in left..right {
                    let first = self.source.add(geometry.place(input, &window, [ky, kx]));
                    copy(first, row.add(kx as usize * channels), channels);
                }
            }
        }
    }
}

/// Copies `n` bytes, without a call for the few that they are.
///
/// # Safety
/// `from` must be readable and `to` writable for `n` bytes.
#[inline(always)]
unsafe fn copy(from: *const i8, to: *mut i8, n: usize) {
    let mut i = 0;
    // SAFETY: every access ends at or before byte `n`.
    unsafe {
        while i + 4 <= n {
            to.add(i).cast::<u32>().write_unaligned(from.add(i).cast::<u32>().read_unaligned());
            i += 4;
        }
        if n & 2 != 0 {
            to.add(i).cast::<u16>().write_unaligned(from.add(i).cast::<u16>().read_unaligned());
            i += 2;
        }
        if n & 1 != 0 {
            to.add(i).write(from.add(i).read());
        }
    }
}

/// Widens `n` words of each of four pixels, `[pair][pixel]`; returns the place after the last pair.
///
/// # Safety
/// The pixels must be readable for `4 * n` bytes and `to` writable for `8 * n` words and aligned to words; `n` must be
/// positive.
#[unsafe(naked)]
unsafe extern "C" fn words_of_four(
    a: *const i8,
    b: *const i8,
    c: *const i8,
    d: *const i8,
    to: *mut u32,
    n: usize,
) -> *mut u32 {
    naked_asm!(
        ".cpu cortex-m4",
        "push {{r4-r11, lr}}",
        "ldr r12, [sp, #36]",
        "ldr lr, [sp, #40]",
        "2:",
        "ldr r8, [r0], #4",
        "ldr r9, [r1], #4",
        "ldr r10, [r2], #4",
        "ldr r11, [r3], #4",
        "sxtb16 r4, r8",
        "sxtb16 r5, r9",
        "sxtb16 r6, r10",
        "sxtb16 r7, r11",
        "sxtb16 r8, r8, ror #8",
        "sxtb16 r9, r9, ror #8",
        "sxtb16 r10, r10, ror #8",
        "sxtb16 r11, r11, ror #8",
        "subs lr, #1",
        "stm r12!, {{r4-r11}}",
        "bne 2b",
        "mov r0, r12",
        "pop {{r4-r11, pc}}",
    )
}

/// Widens `n` words.
///
/// # Safety
/// `from` must be readable for `4 * n` bytes and `to` writable for `2 * n` words, each `STEP` bytes from
/// the last, and aligned to words.
#[inline(always)]
unsafe fn words<const STEP: usize>(from: *const i8, n: usize, to: *mut u32) {
    if n == 0 {
        return;
    }
    if STEP == 4 {
        // SAFETY: the same condition.
        return unsafe { words_of_one(from, to, n) };
    }
    // SAFETY: the loop reads `n` words, unaligned, and writes two for each.
    unsafe {
        asm!(
            "b 3f",
            // Four words in a turn: the loads run ahead of their use.
            "2:",
            "ldr {a}, [{from}], #4",
            "ldr {b}, [{from}], #4",
            "sxtb16 {c}, {a}",
            "sxtb16 {a}, {a}, ror #8",
            "str {c}, [{to}]",
            "str {a}, [{to}, #{step}]",
            "sxtb16 {c}, {b}",
            "sxtb16 {b}, {b}, ror #8",
            "str {c}, [{to}, #2*{step}]",
            "str {b}, [{to}, #3*{step}]",
            "ldr {a}, [{from}], #4",
            "ldr {b}, [{from}], #4",
            "sxtb16 {c}, {a}",
            "sxtb16 {a}, {a}, ror #8",
            "str {c}, [{to}, #4*{step}]",
            "str {a}, [{to}, #5*{step}]",
            "sxtb16 {c}, {b}",
            "sxtb16 {b}, {b}, ror #8",
            "str {c}, [{to}, #6*{step}]",
            "str {b}, [{to}, #7*{step}]",
            "adds {to}, #8*{step}",
            "3:",
            "subs {n}, #4",
            "bhs 2b",
            "adds {n}, #4",
            "beq 5f",
            "4:",
            "ldr {a}, [{from}], #4",
            "sxtb16 {c}, {a}",
            "sxtb16 {a}, {a}, ror #8",
            "str {c}, [{to}]",
            "str {a}, [{to}, #{step}]",
            "adds {to}, #2*{step}",
            "subs {n}, #1",
            "bne 4b",
            "5:",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            n = inout(reg) n => _,
            a = out(reg) _,
            b = out(reg) _,
            c = out(reg) _,
            step = const STEP,
            options(nostack),
        );
    }
}

/// The pairs of four words, and the count down.
macro_rules! widen_four {
    () => {
        "sxtb16 r5, r4, ror #8
        sxtb16 r4, r4
        sxtb16 r7, r6, ror #8
        sxtb16 r6, r6
        sxtb16 r9, r8, ror #8
        sxtb16 r8, r8
        sxtb16 r11, r10, ror #8
        sxtb16 r10, r10
        subs r2, #4
        stm r1!, {{r4-r11}}"
    };
}

/// Widens `n` words of one pixel to pairs that lie together.
///
/// # Safety
/// `from` must be readable for `4 * n` bytes and `to` writable for `2 * n` words and aligned to words; `n` must be
/// positive.
#[unsafe(naked)]
unsafe extern "C" fn words_of_one(from: *const i8, to: *mut u32, n: usize) {
    naked_asm!(
        ".cpu cortex-m4",
        "push {{r4-r11, lr}}",
        "subs r2, #4",
        "blo 6f",
        // Only single words may be loaded from where they are not aligned.
        "tst r0, #3",
        "beq 3f",
        "2:",
        "ldr r4, [r0], #4",
        "ldr r6, [r0], #4",
        "ldr r8, [r0], #4",
        "ldr r10, [r0], #4",
        widen_four!(),
        "bhs 2b",
        "b 6f",
        "3:",
        "ldm r0!, {{r4, r6, r8, r10}}",
        widen_four!(),
        "bhs 3b",
        "6:",
        "adds r2, #4",
        "beq 8f",
        "7:",
        "ldr r4, [r0], #4",
        "sxtb16 r5, r4, ror #8",
        "sxtb16 r4, r4",
        "strd r4, r5, [r1], #8",
        "subs r2, #1",
        "bne 7b",
        "8:",
        "pop {{r4-r11, pc}}",
    )
}
