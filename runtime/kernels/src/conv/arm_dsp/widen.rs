//! Activations as 16-bit pairs: bytes `k, k + 2` and `k + 1, k + 3` of each word, as SXTB16 takes it apart.

use core::arch::{asm, naked_asm};

use crate::conv::geometry::Region;
use crate::conv::layer::Layer;
use crate::plan::ARM_DSP_PIXELS;

/// Where windows are gathered from and to.
#[derive(Clone, Copy)]
pub(super) struct Gather<'l> {
    layer: &'l Layer<'l>,
    source: *const i8,
    /// The pixels whose windows are one run of the tensor for each kernel row.
    plain: Region,
    /// Whether these runs are whole words.
    whole: bool,
    /// A window as bytes, where it has to be put together.
    bytes: *mut i8,
}

impl<'l> Gather<'l> {
    /// `bytes` is as long as a padded window.
    #[inline(always)]
    pub(super) fn new(arena: *const i8, layer: &'l Layer<'l>, bytes: *mut i8) -> Self {
        let (geometry, input) = (&layer.geometry, layer.input);
        let runs = geometry.rows_are_contiguous(input) || geometry.kernel[1] == 1;
        let mut plain = geometry.interior(input);
        if !runs || geometry.upsample_shift != 0 {
            plain.rows = [0, 0];
        }
        let whole = input.channels % 4 == 0;
        Self { layer, source: arena.wrapping_add(input.offset as usize), plain, whole, bytes }
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
    /// As [`run_layer`](super::run_layer), with the pixels inside the geometry, and `to` writable for the pairs of four windows and
    /// aligned to words.
    #[inline(always)]
    pub(super) unsafe fn tile(&self, at: [[usize; 2]; ARM_DSP_PIXELS], to: *mut u32) {
        // SAFETY: plain windows are inside the input; each pixel's pairs are every fourth word.
        unsafe {
            if !self.whole || !at.iter().all(|&at| self.plain.contains(at)) {
                for (p, &at) in at.iter().enumerate() {
                    self.window::<{ 4 * ARM_DSP_PIXELS }>(at, to.add(p));
                }
                return;
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

    /// The pairs of the window of one pixel, the first at `to` and each next `STEP` bytes further. The window's bytes
    /// are rounded up to a multiple of four; what pads it meets weights that are zero.
    ///
    /// # Safety
    /// As [`Self::tile`], with `to` writable for the pairs of the window.
    #[inline(always)]
    pub(super) unsafe fn window<const STEP: usize>(&self, at: [usize; 2], to: *mut u32) {
        let geometry = &self.layer.geometry;
        // SAFETY: plain windows are inside the input, and each run writes the pairs of its own products.
        unsafe {
            if !self.plain.contains(at) {
                return self.bordered::<STEP>(at, to);
            }
            let (line, step) = self.rows();
            let mut from = self.source.add(geometry.first_place(self.layer.input, at));
            let (mut to, mut bytes) = (to, self.bytes);
            for _ in 0..geometry.kernel[0] {
                if self.whole {
                    words::<STEP>(from, line / 4, to);
                    to = to.byte_add(line / 2 * STEP);
                } else {
                    copy(from, bytes, line);
                    bytes = bytes.add(line);
                }
                from = from.wrapping_add(step);
            }
            if !self.whole {
                words::<STEP>(self.bytes, (geometry.kernel[0] as usize * line).div_ceil(4), to);
            }
        }
    }

    /// Any window.
    ///
    /// # Safety
    /// As [`Self::window`].
    #[inline(never)]
    unsafe fn bordered<const STEP: usize>(&self, at: [usize; 2], to: *mut u32) {
        let (layer, geometry, input) = (self.layer, &self.layer.geometry, self.layer.input);
        let channels = input.channels as usize;
        let window = geometry.window(input, at);
        let [[top, bottom], [left, right]] = window.inside;
        let line = geometry.kernel[1] as usize * channels;
        let (before, after) = (left as usize * channels, right as usize * channels);
        let contiguous = geometry.rows_are_contiguous(input);
        // SAFETY: the places of the window that are read are inside the input, and each run writes its own products:
        // their pairs if all runs are whole words, else their bytes, of which pairs are made at the end.
        unsafe {
            let run = |from: *const i8, product: usize, n: usize| {
                if self.whole {
                    words::<STEP>(from, n / 4, to.byte_add(product / 2 * STEP));
                } else {
                    copy(from, self.bytes.add(product), n);
                }
            };
            let padding = |product: usize, n: usize| {
                if self.whole {
                    pad::<STEP>(layer.zero_point, n / 4, to.byte_add(product / 2 * STEP));
                } else {
                    self.bytes.add(product).write_bytes(layer.zero_point as u8, n);
                }
            };
            for ky in 0..geometry.kernel[0] {
                let row = ky as usize * line;
                if ky < top || ky >= bottom {
                    padding(row, line);
                    continue;
                }
                padding(row, before);
                padding(row + after, line - after);
                if !contiguous {
                    for kx in left..right {
                        let first = self.source.add(geometry.place(input, &window, [ky, kx]));
                        run(first, row + kx as usize * channels, channels);
                    }
                } else if after > before {
                    let first = self.source.add(geometry.place(input, &window, [ky, left]));
                    run(first, row + before, after - before);
                }
            }
            if !self.whole {
                words::<STEP>(self.bytes, (geometry.kernel[0] as usize * line).div_ceil(4), to);
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

/// Writes the pairs of `n` words of padding.
///
/// # Safety
/// `to` must be writable for `2 * n` words, each `STEP` bytes from the last.
#[inline(always)]
unsafe fn pad<const STEP: usize>(zero_point: i8, n: usize, to: *mut u32) {
    let pair = (zero_point as u16 as u32) * 0x1_0001;
    for i in 0..2 * n {
        // SAFETY: one of the `2 * n` words.
        unsafe { to.byte_add(i * STEP).write(pair) };
    }
}
