//! Activations as 16-bit pairs: bytes `k, k + 2` and `k + 1, k + 3` of each word, as SXTB16 takes it apart.

use core::arch::asm;

use super::Layer;

/// Gathers the window of one output pixel and writes its pairs, the first at `to` and each next `STEP` bytes further.
/// The window's bytes are rounded up to a multiple of four; what pads it meets weights that are zero.
///
/// # Safety
/// As [`Layer::run`], with the pixel inside the geometry, `bytes` writable for the padded window and `to` for its
/// pairs, both aligned to words.
#[inline(always)]
pub(super) unsafe fn gather<const STEP: usize>(
    arena: *const i8,
    layer: &Layer<'_>,
    at: [usize; 2],
    bytes: *mut i8,
    to: *mut u32,
) {
    let geometry = &layer.geometry;
    let channels = layer.input.channels as usize;
    // SAFETY: the places of the window that are read are inside the input, and each run writes the pairs of its own
    // products.
    unsafe {
        if channels % 4 != 0 {
            geometry.gather(arena, layer.input, layer.zero_point, at, bytes);
            let window = (geometry.kernel[0] * geometry.kernel[1]) as usize * channels;
            words::<STEP>(bytes, window.div_ceil(4), to);
            return;
        }
        let window = geometry.window(layer.input, at);
        let [[top, bottom], [left, right]] = window.inside;
        let line = geometry.kernel[1] as usize * channels;
        let source = arena.add(layer.input.offset as usize);
        let place = |product: usize| to.byte_add(product / 2 * STEP);
        for ky in 0..geometry.kernel[0] {
            let row = ky as usize * line;
            if ky < top || ky >= bottom {
                padding::<STEP>(layer.zero_point, line / 4, place(row));
                continue;
            }
            let (before, after) = (left as usize * channels, right as usize * channels);
            padding::<STEP>(layer.zero_point, before / 4, place(row));
            padding::<STEP>(layer.zero_point, (line - after) / 4, place(row + after));
            if geometry.rows_are_contiguous(layer.input) {
                if after > before {
                    let first = source.add(geometry.place(layer.input, &window, [ky, left]));
                    words::<STEP>(first, (after - before) / 4, place(row + before));
                }
            } else {
                for kx in left..right {
                    let first = source.add(geometry.place(layer.input, &window, [ky, kx]));
                    words::<STEP>(first, channels / 4, place(row + kx as usize * channels));
                }
            }
        }
    }
}

/// Widens `n` words.
///
/// # Safety
/// `from` must be readable for `4 * n` bytes and `to` writable for `2 * n` words, each `STEP` bytes from the last.
#[inline(always)]
unsafe fn words<const STEP: usize>(from: *const i8, n: usize, to: *mut u32) {
    if n == 0 {
        return;
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

/// Writes the pairs of `n` words of padding.
///
/// # Safety
/// `to` must be writable for `2 * n` words, each `STEP` bytes from the last.
#[inline(always)]
unsafe fn padding<const STEP: usize>(zero_point: i8, n: usize, to: *mut u32) {
    let pair = (zero_point as u16 as u32) * 0x1_0001;
    for i in 0..2 * n {
        // SAFETY: one of the `2 * n` words.
        unsafe { to.byte_add(i * STEP).write(pair) };
    }
}
