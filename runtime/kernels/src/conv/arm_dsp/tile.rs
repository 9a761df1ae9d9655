//! Four pixels by two channels: eight accumulators in registers, every word of weights read once for four pixels.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr::null;

use super::Layer;
use super::widen::gather;
use crate::conv::epilogue::finish;
use crate::plan::ARM_DSP_PIXELS;

/// What the inner function reads; it moves `weights`, `bias`, `multipliers`, `residual` and `output` on.
#[repr(C)]
struct Tile {
    /// Pairs of activations, `[pair][pixel]`.
    activations: *const u32,
    /// Past the last of them.
    end: *const u32,
    weights: *const u8,
    bias: *const u8,
    multipliers: *const u8,
    left_shift: u32,
    zero_point: i32,
    /// The residual of the first pixel, or null.
    residual: *const i8,
    /// Bytes between pixels of the residual.
    residual_step: usize,
    /// Multipliers of the result and of the residual as 16-bit halves.
    gains: u32,
    /// Constant of the sum, its rounding included.
    constant: i32,
    shift: u32,
    /// The middle of the table, or null.
    table: *const u8,
    /// The first pixel of the output.
    output: *mut i8,
    /// Bytes between pixels of the output.
    output_step: usize,
    /// Pairs of channels to store; none to leave the accumulators of one pair in `raw`.
    pairs: usize,
    raw: [i32; 2 * ARM_DSP_PIXELS],
}

/// Runs a layer packed as [`crate::plan::Packing::DspPairs`].
///
/// # Safety
/// As [`Layer::run`].
#[inline(always)]
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let products = layer.products();
    let activations: *mut u32 = layer.scratch.cast();
    let bytes: *mut i8 = layer.scratch.wrapping_add(2 * ARM_DSP_PIXELS * products).cast();
    let [rows, columns] = geometry.pixels;
    if rows == 0 || columns == 0 {
        return;
    }
    // Rows of a whole convolution follow one another in memory, so a tile may cross them; rows of a phase do not.
    let whole = geometry.step[0] == columns * geometry.step[1];
    let (lines, length) = if whole { (1, rows * columns) } else { (rows, columns) };
    for line in 0..lines {
        let [mut y, mut x] = [line, 0];
        let mut first = 0;
        while first < length {
            let count = (length - first).min(ARM_DSP_PIXELS);
            let pixel = geometry.pixel([line, 0]) + first * geometry.step[1];
            for p in 0..count {
                // SAFETY: the scratch memory holds the pairs of four windows, then one window as bytes.
                unsafe { gather::<{ 4 * ARM_DSP_PIXELS }>(arena, layer, [y, x], bytes, activations.add(p)) };
                x += 1;
                if x == columns && whole {
                    (y, x) = (y + 1, 0);
                }
            }
            // SAFETY: the pixels are inside the output.
            unsafe { finish_tile(arena, layer, products, pixel, count) };
            first += count;
        }
    }
}

/// Computes all channels of `count` pixels whose pairs are in the scratch memory, from pixel number `pixel` on.
///
/// # Safety
/// As [`Layer::run`], with the pixels inside the output.
#[inline(always)]
unsafe fn finish_tile(arena: *mut i8, layer: &Layer<'_>, products: usize, pixel: usize, count: usize) {
    let (epilogue, output) = (layer.epilogue, layer.output);
    let channels = output.channels as usize;
    let step = layer.geometry.step[1];
    let pairs = if count == ARM_DSP_PIXELS { channels / 2 } else { 0 };
    let mut tile = Tile {
        activations: layer.scratch.cast(),
        end: layer.scratch.wrapping_add(2 * ARM_DSP_PIXELS * products).cast(),
        weights: layer.weights,
        bias: layer.bias,
        multipliers: epilogue.multipliers.as_ptr(),
        left_shift: epilogue.left_shift as u32,
        zero_point: epilogue.zero_point as i32,
        residual: null(),
        residual_step: 0,
        gains: 0,
        constant: 0,
        shift: 0,
        table: epilogue.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
        output: arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize),
        output_step: step * output.pitch as usize,
        pairs,
        raw: [0; 2 * ARM_DSP_PIXELS],
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
    // whole pixels and both channels of each pair are inside the output and the residual.
    unsafe {
        if pairs > 0 {
            compute(&mut tile);
        }
        tile.pairs = 0;
        let mut o = 2 * pairs;
        while o < channels {
            compute(&mut tile);
            for p in 0..count {
                let pixel = pixel + p * step;
                finish(arena, epilogue, output, pixel, o, [tile.raw[p]]);
                if o + 1 < channels {
                    finish(arena, epilogue, output, pixel, o + 1, [tile.raw[ARM_DSP_PIXELS + p]]);
                }
            }
            o += 2;
        }
    }
}

/// Computes pairs of channels of four pixels.
///
/// Registers: r0-r3 the first channel's accumulators, r4-r7 the second's, r8 activations, r9 weights; the loop has 13
/// instructions for two products of eight outputs. A load is followed by an instruction that does not need it wherever
/// there is one.
///
/// # Safety
/// `tile` must describe memory as [`finish_tile`] does, with a multiple of four pairs of activations.
#[unsafe(naked)]
unsafe extern "C" fn compute(tile: &mut Tile) {
    naked_asm!(
        // Armv8-M has these instructions only by the name of a core, which LLVM forgets when it writes bitcode.
        ".cpu cortex-m4",
        // One pair of products of both channels for four pixels.
        ".macro flowlet_dsp_pair",
        "ldr r11, [r9], #4",
        "ldrd r12, lr, [r8], #8",
        "sxtb16 r10, r11",
        "sxtb16 r11, r11, ror #8",
        "smlad r0, r10, r12, r0",
        "smlad r4, r11, r12, r4",
        "smlad r1, r10, lr, r1",
        "smlad r5, r11, lr, r5",
        "ldrd r12, lr, [r8], #8",
        "smlad r2, r10, r12, r2",
        "smlad r6, r11, r12, r6",
        "smlad r3, r10, lr, r3",
        "smlad r7, r11, lr, r7",
        ".endm",
        // An accumulator to its byte.
        ".macro flowlet_dsp_requantise acc, multiplier",
        "smmlar \\acc, \\acc, \\multiplier, r10",
        ".endm",
        // The sum with the residual byte at an offset from r8.
        ".macro flowlet_dsp_residual acc, at",
        "ldrsb lr, [r8, #\\at]",
        "pkhbt \\acc, \\acc, lr, lsl #16",
        "smlad \\acc, \\acc, r10, r11",
        "asr \\acc, \\acc, r12",
        "ssat \\acc, #8, \\acc",
        ".endm",
        "push {{r4-r11, lr}}",
        "ldr r1, [r0, #{end}]",
        "ldr r9, [r0, #{weights}]",
        "push {{r0, r1}}",
        // A pair of channels.
        "2:",
        "ldr lr, [sp]",
        "ldr r10, [lr, #{bias}]",
        "ldr r8, [lr, #{activations}]",
        "ldrd r0, r4, [r10], #8",
        "str r10, [lr, #{bias}]",
        "mov r1, r0",
        "mov r2, r0",
        "mov r3, r0",
        "mov r5, r4",
        "mov r6, r4",
        "mov r7, r4",
        "3:",
        "flowlet_dsp_pair",
        "flowlet_dsp_pair",
        "flowlet_dsp_pair",
        "flowlet_dsp_pair",
        "ldr r10, [sp, #4]",
        "cmp r8, r10",
        "bne 3b",
        // Accumulators that the caller finishes.
        "ldr lr, [sp]",
        "ldr r8, [lr, #{pairs}]",
        "cmp r8, #0",
        "beq 8f",
        "ldr r8, [lr, #{multipliers}]",
        "ldr r12, [lr, #{left_shift}]",
        "ldr r10, [lr, #{zero_point}]",
        "cmp r12, #0",
        "beq 4f",
        "lsl r0, r0, r12",
        "lsl r1, r1, r12",
        "lsl r2, r2, r12",
        "lsl r3, r3, r12",
        "lsl r4, r4, r12",
        "lsl r5, r5, r12",
        "lsl r6, r6, r12",
        "lsl r7, r7, r12",
        "4:",
        "ldrd r11, r12, [r8], #8",
        "str r8, [lr, #{multipliers}]",
        "flowlet_dsp_requantise r0, r11",
        "flowlet_dsp_requantise r1, r11",
        "flowlet_dsp_requantise r2, r11",
        "flowlet_dsp_requantise r3, r11",
        "flowlet_dsp_requantise r4, r12",
        "flowlet_dsp_requantise r5, r12",
        "flowlet_dsp_requantise r6, r12",
        "flowlet_dsp_requantise r7, r12",
        "ldr r8, [lr, #{residual}]",
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
        "flowlet_dsp_residual r0, 0",
        "flowlet_dsp_residual r4, 1",
        "add r8, r9",
        "flowlet_dsp_residual r1, 0",
        "flowlet_dsp_residual r5, 1",
        "add r8, r9",
        "flowlet_dsp_residual r2, 0",
        "flowlet_dsp_residual r6, 1",
        "add r8, r9",
        "flowlet_dsp_residual r3, 0",
        "flowlet_dsp_residual r7, 1",
        "pop {{r9}}",
        "ldr lr, [sp]",
        "5:",
        "ldr r8, [lr, #{table}]",
        "ldr r10, [lr, #{output}]",
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
        "ldr r11, [lr, #{output_step}]",
        "add r12, r10, #2",
        "str r12, [lr, #{output}]",
        "ldr r12, [lr, #{pairs}]",
        "strb r0, [r10]",
        "strb r4, [r10, #1]",
        "add r10, r11",
        "strb r1, [r10]",
        "strb r5, [r10, #1]",
        "add r10, r11",
        "strb r2, [r10]",
        "strb r6, [r10, #1]",
        "add r10, r11",
        "strb r3, [r10]",
        "strb r7, [r10, #1]",
        "subs r12, #1",
        "str r12, [lr, #{pairs}]",
        "bne 2b",
        "b 9f",
        "8:",
        "add r8, lr, #{raw}",
        "stm r8, {{r0-r7}}",
        "9:",
        "str r9, [lr, #{weights}]",
        "add sp, #8",
        "pop {{r4-r11, pc}}",
        ".purgem flowlet_dsp_pair",
        ".purgem flowlet_dsp_requantise",
        ".purgem flowlet_dsp_residual",
        activations = const offset_of!(Tile, activations),
        end = const offset_of!(Tile, end),
        weights = const offset_of!(Tile, weights),
        bias = const offset_of!(Tile, bias),
        multipliers = const offset_of!(Tile, multipliers),
        left_shift = const offset_of!(Tile, left_shift),
        zero_point = const offset_of!(Tile, zero_point),
        residual = const offset_of!(Tile, residual),
        residual_step = const offset_of!(Tile, residual_step),
        gains = const offset_of!(Tile, gains),
        constant = const offset_of!(Tile, constant),
        shift = const offset_of!(Tile, shift),
        table = const offset_of!(Tile, table),
        output = const offset_of!(Tile, output),
        output_step = const offset_of!(Tile, output_step),
        pairs = const offset_of!(Tile, pairs),
        raw = const offset_of!(Tile, raw),
    )
}
