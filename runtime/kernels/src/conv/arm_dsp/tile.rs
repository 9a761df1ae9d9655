//! Four pixels by two channels: eight accumulators in registers, every word of weights read once for four pixels.

use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use core::ptr::null;

use super::widen::Gather;
use crate::bytes::i32_at;
use crate::conv::epilogue::finish;
use crate::conv::layer::Layer;
use crate::plan::ARM_DSP_PIXELS;

/// Groups of four products in a turn of the inner loop.
const TURN: usize = 8;
/// Bytes of code of one group: every instruction takes four.
const CODE: usize = 4 * 26;

/// What the inner function reads; it moves `multipliers`, `residual`, `output` and `bias` on. The first three words
/// and the four from `table` on are loaded together.
#[repr(C)]
struct Tile {
    multipliers: *const u8,
    left_shift: u32,
    zero_point: i32,
    /// The middle of the table, or null.
    table: *const u8,
    /// The first pixel of the output.
    output: *mut i8,
    /// Bytes between pixels of the output.
    output_step: usize,
    /// Past the last channel to compute in the first pixel, an even number from the first.
    output_end: *mut i8,
    bias: *const u8,
    weights: *const u8,
    /// Pairs of activations, `[pair][pixel]`.
    activations: *const u32,
    /// Past the last of them.
    activations_end: *const u32,
    /// Bytes of code that the first turn of the inner loop leaves out.
    entry: usize,
    /// The residual of the first pixel, or null.
    residual: *const i8,
    /// Bytes between pixels of the residual.
    residual_step: usize,
    /// Multipliers of the result and of the residual as 16-bit halves.
    gains: u32,
    /// Constant of the sum, its rounding included.
    constant: i32,
    shift: u32,
}

/// Runs a layer packed as [`crate::plan::Packing::DspPairs`].
///
/// # Safety
/// As [`run_layer`](super::run_layer).
#[inline(always)]
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let [rows, columns] = geometry.pixels;
    if rows == 0 || columns == 0 {
        return;
    }
    let products = layer.padded_products();
    let activations: *mut u32 = layer.scratch.cast();
    let gather = Gather::new(arena, layer);
    // SAFETY: the same condition.
    unsafe { gather.write_padding() };
    // Rows of a whole convolution follow one another in memory, so a tile may cross them; rows of a phase do not.
    let whole = geometry.step[0] == columns * geometry.step[1];
    let (lines, length) = if whole { (1, rows * columns) } else { (rows, columns) };
    for line in 0..lines {
        let mut first = 0;
        while first < length {
            let left = length - first;
            // The last tile may compute pixels again, unless that would add their residuals again.
            let again = ARM_DSP_PIXELS.saturating_sub(left);
            if left > 1 && again <= first && layer.epilogue.residual.is_none() {
                first -= again;
            }
            let [mut y, mut x] = [line + first / columns, first % columns];
            let pixel = geometry.pixel([line, 0]) + first * geometry.step[1];
            // SAFETY: the scratch memory holds the pairs of four windows, then one window as bytes, and the pixels
            // are inside the output.
            unsafe {
                if length - first < ARM_DSP_PIXELS {
                    gather.pixel([y, x], activations);
                    finish_pixel(arena, layer, products, pixel);
                    first += 1;
                    continue;
                }
                let at = [(); ARM_DSP_PIXELS].map(|()| {
                    let at = [y, x];
                    x += 1;
                    if x == columns {
                        (y, x) = (y + 1, 0);
                    }
                    at
                });
                gather.tile(at, activations);
                finish_tile(arena, layer, products, pixel);
            }
            first += ARM_DSP_PIXELS;
        }
    }
}

/// Computes all channels of four pixels whose pairs are in the scratch memory, from pixel number `pixel` on.
///
/// # Safety
/// As [`run_layer`](super::run_layer), with the pixels inside the output.
#[inline(always)]
unsafe fn finish_tile(arena: *mut i8, layer: &Layer<'_>, products: usize, pixel: usize) {
    let (epilogue, output) = (layer.epilogue, layer.output);
    let channels = output.channels as usize;
    let step = layer.geometry.step[1];
    let activations: *const u32 = layer.scratch.cast();
    let first = arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize);
    let mut tile = Tile {
        multipliers: epilogue.multipliers.as_ptr(),
        left_shift: epilogue.left_shift as u32,
        zero_point: epilogue.zero_point as i32,
        table: epilogue.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
        output: first,
        output_step: step * output.pitch as usize,
        output_end: first.wrapping_add(channels / 2 * 2),
        bias: layer.bias,
        weights: layer.weights,
        activations,
        activations_end: activations.wrapping_add(ARM_DSP_PIXELS * products / 2),
        entry: (TURN - products / 4 % TURN) % TURN * CODE,
        residual: null(),
        residual_step: 0,
        gains: 0,
        constant: 0,
        shift: 0,
    };
    if let Some(residual) = &epilogue.residual {
        let (slot, params) = (&residual.slot, &residual.params);
        tile.residual = arena.wrapping_add(slot.offset as usize + pixel * slot.pitch as usize);
        tile.residual_step = step * slot.pitch as usize;
        tile.gains = params.ma as u16 as u32 | (params.mb as u16 as u32) << 16;
        tile.constant = params.c.wrapping_add(1 << (params.shift - 1));
        tile.shift = params.shift as u32;
    }
    // SAFETY: the weights hold a panel for each pair of channels, the constants a word for each padded channel; four
    // pixels and both channels of each pair are inside the output and the residual.
    unsafe {
        if channels > 1 {
            compute(&mut tile);
        }
        if channels % 2 == 1 {
            let last = channels - 1;
            let bias = i32_at(layer.bias, last);
            let acc = channel_of_four(activations, tile.activations_end, layer.weights.add(last * products), bias);
            for (p, acc) in acc.into_iter().enumerate() {
                finish(arena, epilogue, output, pixel + p * step, last, [acc]);
            }
        }
    }
}

/// Computes all channels of pixel number `pixel`, whose pairs are in the scratch memory.
///
/// # Safety
/// As [`run_layer`](super::run_layer), with the pixel inside the output.
#[inline(always)]
unsafe fn finish_pixel(arena: *mut i8, layer: &Layer<'_>, products: usize, pixel: usize) {
    let channels = layer.output.channels as usize;
    let activations: *const u32 = layer.scratch.cast();
    for o in (0..channels).step_by(2) {
        // SAFETY: the weights hold a panel for each pair of channels, the constants a word for each padded channel.
        unsafe {
            let bias = [i32_at(layer.bias, o), i32_at(layer.bias, o + 1)];
            let [even, odd] = channels_of_one(activations, products / 4, layer.weights.add(o * products), bias);
            finish(arena, layer.epilogue, layer.output, pixel, o, [even]);
            if o + 1 < channels {
                finish(arena, layer.epilogue, layer.output, pixel, o + 1, [odd]);
            }
        }
    }
}

/// Accumulators of the first channel of a panel for four pixels: 8 instructions for 8 products.
///
/// # Safety
/// Activations are `[pair][pixel]`, a positive even number of pairs from `from` to `end`, with as many words of
/// weights.
#[inline(always)]
unsafe fn channel_of_four(from: *const u32, end: *const u32, weights: *const u8, bias: i32) -> [i32; ARM_DSP_PIXELS] {
    let [mut a, mut b, mut c, mut d] = [bias; ARM_DSP_PIXELS];
    // SAFETY: a turn reads two words of weights and two pairs of each pixel.
    unsafe {
        asm!(
            "2:",
            "ldrd {w}, {v}, [{weights}], #8",
            "ldrd {x}, {y}, [{from}], #8",
            "sxtb16 {w}, {w}",
            "sxtb16 {v}, {v}",
            "smlad {a}, {w}, {x}, {a}",
            "smlad {b}, {w}, {y}, {b}",
            "ldrd {x}, {y}, [{from}], #8",
            "smlad {c}, {w}, {x}, {c}",
            "smlad {d}, {w}, {y}, {d}",
            "ldrd {x}, {y}, [{from}], #8",
            "cmp {from}, {end}",
            "smlad {a}, {v}, {x}, {a}",
            "smlad {b}, {v}, {y}, {b}",
            "ldrd {x}, {y}, [{from}], #8",
            "smlad {c}, {v}, {x}, {c}",
            "smlad {d}, {v}, {y}, {d}",
            "bne 2b",
            from = inout(reg) from => _,
            end = in(reg) end.wrapping_sub(2),
            weights = inout(reg) weights => _,
            a = inout(reg) a,
            b = inout(reg) b,
            c = inout(reg) c,
            d = inout(reg) d,
            w = out(reg) _,
            v = out(reg) _,
            x = out(reg) _,
            y = out(reg) _,
            options(nostack, readonly),
        );
    }
    [a, b, c, d]
}

/// Four products of both channels for one pixel.
macro_rules! group_of_one {
    () => {
        "ldrd {w}, {v}, [{weights}], #8
        ldrd {x}, {y}, [{from}], #8
        sxtb16 {t}, {w}
        sxtb16 {w}, {w}, ror #8
        smlad {a}, {t}, {x}, {a}
        smlad {b}, {w}, {x}, {b}
        sxtb16 {t}, {v}
        sxtb16 {v}, {v}, ror #8
        smlad {a}, {t}, {y}, {a}
        smlad {b}, {v}, {y}, {b}"
    };
}

/// Accumulators of both channels of a panel for one pixel: 22 instructions for 16 products.
///
/// # Safety
/// From `from` on lie `groups` times two pairs, a positive number, with as many words of weights.
#[inline(always)]
unsafe fn channels_of_one(from: *const u32, groups: usize, weights: *const u8, bias: [i32; 2]) -> [i32; 2] {
    let [mut a, mut b] = bias;
    // SAFETY: a turn reads two words of weights and two pairs for each of two groups, the first one at most one.
    unsafe {
        asm!(
            "tst {n}, #1",
            "bne 3f",
            "2:",
            group_of_one!(),
            "3:",
            group_of_one!(),
            "subs {n}, #2",
            "bhi 2b",
            from = inout(reg) from => _,
            n = inout(reg) groups => _,
            weights = inout(reg) weights => _,
            a = inout(reg) a,
            b = inout(reg) b,
            w = out(reg) _,
            v = out(reg) _,
            x = out(reg) _,
            y = out(reg) _,
            t = out(reg) _,
            options(nostack, readonly),
        );
    }
    [a, b]
}

/// Four products of both channels for four pixels. A load is followed by an instruction that does not need it wherever
/// there is one.
macro_rules! group {
    () => {
        concat!(pair!(), pair!())
    };
}

macro_rules! pair {
    () => {
        "ldr r11, [r9], #4
        ldrd r12, lr, [r8], #8
        sxtb16 r10, r11
        sxtb16 r11, r11, ror #8
        smlad r0, r10, r12, r0
        smlad r4, r11, r12, r4
        smlad r1, r10, lr, r1
        smlad r5, r11, lr, r5
        ldrd r12, lr, [r8], #8
        smlad r2, r10, r12, r2
        smlad r6, r11, r12, r6
        smlad r3, r10, lr, r3
        smlad r7, r11, lr, r7
        "
    };
}

/// The sum of an accumulator, already a byte, with the residual's byte at a place.
macro_rules! residual {
    ($acc:literal, $place:literal) => {
        concat!(
            "ldrsb lr, ",
            $place,
            "\n",
            "pkhbt ",
            $acc,
            ", ",
            $acc,
            ", lr, lsl #16\n",
            "smlad ",
            $acc,
            ", ",
            $acc,
            ", r10, r11\n",
            "asr ",
            $acc,
            ", ",
            $acc,
            ", r12\n",
            "ssat ",
            $acc,
            ", #8, ",
            $acc
        )
    };
}

/// Computes pairs of channels of four pixels.
///
/// Registers: r0-r3 the first channel's accumulators, r4-r7 the second's, r8 activations, r9 weights; the loop has 13
/// instructions for two products of eight outputs.
///
/// # Safety
/// `tile` must describe memory as [`finish_tile`] does, with a positive even number of pairs of activations.
#[unsafe(naked)]
unsafe extern "C" fn compute(tile: &mut Tile) {
    naked_asm!(
        // Armv8-M has these instructions only by the name of a core, which LLVM forgets when it writes bitcode.
        ".cpu cortex-m4",
        "push {{r4-r11, lr}}",
        "ldr r1, [r0, #{activations_end}]",
        "ldr r9, [r0, #{weights}]",
        "push {{r0, r1}}",
        "mov lr, r0",
        // A pair of channels.
        "2:",
        "ldr r10, [lr, #{bias}]",
        "ldr r8, [lr, #{activations}]",
        "ldrd r0, r4, [r10], #8",
        "str r10, [lr, #{bias}]",
        "ldr r12, [lr, #{entry}]",
        "mov r1, r0",
        "mov r2, r0",
        "mov r3, r0",
        "mov r5, r4",
        "mov r6, r4",
        "mov r7, r4",
        // The first turn may begin inside: this adds to the address of label 3.
        "add pc, r12",
        "nop",
        "3:",
        group!(),
        group!(),
        group!(),
        group!(),
        group!(),
        group!(),
        group!(),
        group!(),
        "ldr r10, [sp, #4]",
        "cmp r8, r10",
        "bne 3b",
        "ldr lr, [sp]",
        "ldm lr, {{r8, r10, r11}}",
        "cmp r10, #0",
        "beq 4f",
        "lsl r0, r0, r10",
        "lsl r1, r1, r10",
        "lsl r2, r2, r10",
        "lsl r3, r3, r10",
        "lsl r4, r4, r10",
        "lsl r5, r5, r10",
        "lsl r6, r6, r10",
        "lsl r7, r7, r10",
        "4:",
        "ldrd r10, r12, [r8], #8",
        "str r8, [lr]",
        "ldr r8, [lr, #{residual}]",
        "smmlar r0, r0, r10, r11",
        "smmlar r1, r1, r10, r11",
        "smmlar r2, r2, r10, r11",
        "smmlar r3, r3, r10, r11",
        "smmlar r4, r4, r12, r11",
        "smmlar r5, r5, r12, r11",
        "smmlar r6, r6, r12, r11",
        "smmlar r7, r7, r12, r11",
        "ssat r0, #8, r0",
        "ssat r1, #8, r1",
        "ssat r2, #8, r2",
        "ssat r3, #8, r3",
        "ssat r4, #8, r4",
        "ssat r5, #8, r5",
        "ssat r6, #8, r6",
        "ssat r7, #8, r7",
        "cmp r8, #0",
        "beq 5f",
        "add r10, r8, #2",
        "str r10, [lr, #{residual}]",
        "push {{r9}}",
        "ldr r9, [lr, #{residual_step}]",
        "ldr r10, [lr, #{gains}]",
        "ldr r11, [lr, #{constant}]",
        "ldr r12, [lr, #{shift}]",
        residual!("r0", "[r8]"),
        residual!("r4", "[r8, #1]"),
        "add r8, r9",
        residual!("r1", "[r8]"),
        residual!("r5", "[r8, #1]"),
        "add r8, r9",
        residual!("r2", "[r8]"),
        residual!("r6", "[r8, #1]"),
        "add r8, r9",
        residual!("r3", "[r8]"),
        residual!("r7", "[r8, #1]"),
        "pop {{r9}}",
        "ldr lr, [sp]",
        "5:",
        "add r12, lr, #{table}",
        "ldm r12, {{r8, r10, r11, r12}}",
        "cmp r8, #0",
        "beq 6f",
        "ldrb r0, [r8, r0]",
        "ldrb r4, [r8, r4]",
        "ldrb r1, [r8, r1]",
        "ldrb r5, [r8, r5]",
        "ldrb r2, [r8, r2]",
        "ldrb r6, [r8, r6]",
        "ldrb r3, [r8, r3]",
        "ldrb r7, [r8, r7]",
        "6:",
        "add r8, r10, r11, lsl #1",
        "bfi r0, r4, #8, #8",
        "bfi r1, r5, #8, #8",
        "bfi r2, r6, #8, #8",
        "bfi r3, r7, #8, #8",
        "strh r0, [r10]",
        "strh r1, [r10, r11]",
        "strh r2, [r8]",
        "strh r3, [r8, r11]",
        "add r10, #2",
        "cmp r10, r12",
        "str r10, [lr, #{output}]",
        "bne 2b",
        "add sp, #8",
        "pop {{r4-r11, pc}}",
        activations = const offset_of!(Tile, activations),
        activations_end = const offset_of!(Tile, activations_end),
        weights = const offset_of!(Tile, weights),
        bias = const offset_of!(Tile, bias),
        entry = const offset_of!(Tile, entry),
        residual = const offset_of!(Tile, residual),
        residual_step = const offset_of!(Tile, residual_step),
        gains = const offset_of!(Tile, gains),
        constant = const offset_of!(Tile, constant),
        shift = const offset_of!(Tile, shift),
        table = const offset_of!(Tile, table),
        output = const offset_of!(Tile, output),
    )
}
