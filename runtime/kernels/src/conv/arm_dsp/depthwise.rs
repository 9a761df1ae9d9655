//! Depthwise: four channels of a pixel at a time, each kernel place a load of four activations, two SXTB16 and four
//! products with weights that are 16 bits wide in flash.
//!
//! A pixel's window is a list of places, one for each kernel place; places in the padding lie in a pixel of zero
//! points. So the inner loop has no borders.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr::null;

use super::Layer;
use crate::add::sum;
use crate::bytes::i32_at;
use crate::requant::requantise;
use crate::table::lookup;

/// Channels computed together.
const BLOCK: usize = 4;

/// What the inner function reads; it moves `weights`, `bias`, `multipliers` and `output` on.
#[repr(C)]
struct Pixel {
    /// The place of each kernel place's first channel.
    places: *const *const i8,
    /// Past the last of them.
    end: *const *const i8,
    weights: *const u8,
    bias: *const u8,
    multipliers: *const u8,
    left_shift: u32,
    zero_point: i32,
    /// The middle of the table, or null.
    table: *const u8,
    output: *mut i8,
    /// Bytes of channels to compute, a multiple of four.
    channels: usize,
}

/// Runs a layer packed as [`crate::plan::Packing::DspDepthwise`].
///
/// # Safety
/// As [`Layer::run`].
#[inline(always)]
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let (epilogue, input, output) = (layer.epilogue, layer.input, layer.output);
    let channels = output.channels as usize;
    let [kernel_rows, kernel_columns] = geometry.kernel;
    let taps = (kernel_rows * kernel_columns) as usize;
    let places: *mut *const i8 = layer.scratch.cast();
    let padding: *mut i8 = layer.scratch.wrapping_add(4 * taps).cast();
    // A residual is added outside: no network here has one behind a depthwise layer.
    let blocks = if epilogue.residual.is_some() { 0 } else { channels / BLOCK };
    // SAFETY: the scratch memory holds a word for each kernel place and a pixel of the input.
    unsafe { padding.write_bytes(layer.zero_point as u8, channels) };
    for y in 0..geometry.pixels[0] {
        for x in 0..geometry.pixels[1] {
            let window = geometry.window(input, [y, x]);
            let [[top, bottom], [left, right]] = window.inside;
            let pixel = geometry.pixel([y, x]);
            let mut tap = 0;
            for ky in 0..kernel_rows {
                let inside = ky >= top && ky < bottom && left < right;
                let row = if inside { geometry.place(input, &window, [ky, left]) } else { 0 };
                let mut at = arena.wrapping_add(input.offset as usize + row).cast_const();
                for kx in 0..kernel_columns {
                    let here = inside && kx >= left && kx < right;
                    // SAFETY: one of the words for the kernel places.
                    unsafe { places.add(tap).write(if here { at } else { padding }) };
                    if here {
                        at = at.wrapping_add((geometry.dilation[1] as usize) * input.pitch as usize);
                    }
                    tap += 1;
                }
            }
            let mut job = Pixel {
                places: places.cast_const(),
                end: places.wrapping_add(taps).cast_const(),
                weights: layer.weights,
                bias: layer.bias,
                multipliers: epilogue.multipliers.as_ptr(),
                left_shift: epilogue.left_shift as u32,
                zero_point: epilogue.zero_point as i32,
                table: epilogue.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
                output: arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize),
                channels: BLOCK * blocks,
            };
            // SAFETY: whole blocks of channels are inside the input, the output and the constants, and the rest is
            // computed one channel at a time.
            unsafe {
                if blocks > 0 {
                    compute(&mut job);
                }
                for channel in BLOCK * blocks..channels {
                    one(arena, layer, places, pixel, channel);
                }
            }
        }
    }
}

/// One channel of one pixel.
///
/// # Safety
/// As [`Layer::run`], with the places of the pixel's window listed.
unsafe fn one(arena: *mut i8, layer: &Layer<'_>, places: *const *const i8, pixel: usize, channel: usize) {
    let epilogue = layer.epilogue;
    let taps = (layer.geometry.kernel[0] * layer.geometry.kernel[1]) as usize;
    // SAFETY: the channel is inside every place, every constant, the residual and the output.
    unsafe {
        let mut acc = i32_at(layer.bias, channel);
        let weights = layer.weights.add(channel / BLOCK * taps * 2 * BLOCK + channel % 2 * 4 + channel % BLOCK / 2 * 2);
        for tap in 0..taps {
            let weight = weights.add(tap * 2 * BLOCK).cast::<i8>().read() as i32;
            acc = acc.wrapping_add(weight * places.add(tap).read().add(channel).read() as i32);
        }
        let multiplier = i32_at(epilogue.multipliers.as_ptr(), channel);
        let mut q = requantise(acc, epilogue.left_shift, multiplier, epilogue.zero_point);
        if let Some(residual) = &epilogue.residual {
            let slot = &residual.slot;
            let place = slot.offset as usize + pixel * slot.pitch as usize + channel;
            q = sum(q, arena.add(place).read(), &residual.params);
        }
        if let Some(table) = epilogue.table {
            q = lookup(table, q);
        }
        arena.add(layer.output.offset as usize + pixel * layer.output.pitch as usize + channel).write(q);
    }
}

/// Computes blocks of four channels of one pixel.
///
/// Registers: r0-r3 accumulators, r4 and r5 weights, r6 and r7 activations, r8 the list of places, r9 its end, r10 the
/// weights' place, r11 the channel, r12 a place.
///
/// # Safety
/// `pixel` must describe memory as [`run`] does.
#[unsafe(naked)]
unsafe extern "C" fn compute(pixel: &mut Pixel) {
    naked_asm!(
        // Armv8-M has these instructions only by the name of a core, which LLVM forgets when it writes bitcode.
        ".cpu cortex-m4",
        "push {{r4-r11, lr}}",
        "mov lr, r0",
        "ldr r10, [lr, #{weights}]",
        "ldr r9, [lr, #{end}]",
        "mov r11, #0",
        "2:",
        "ldr r12, [lr, #{bias}]",
        "ldr r8, [lr, #{places}]",
        "ldm r12!, {{r0-r3}}",
        "str r12, [lr, #{bias}]",
        "3:",
        "ldr r12, [r8], #4",
        "ldrd r4, r5, [r10], #8",
        "ldr r6, [r12, r11]",
        "cmp r8, r9",
        "sxtb16 r7, r6",
        "sxtb16 r6, r6, ror #8",
        "smlabb r0, r7, r4, r0",
        "smlatt r2, r7, r4, r2",
        "smlabb r1, r6, r5, r1",
        "smlatt r3, r6, r5, r3",
        "bne 3b",
        "ldr r12, [lr, #{left_shift}]",
        "ldr r8, [lr, #{zero_point}]",
        "cmp r12, #0",
        "beq 4f",
        "lsl r0, r0, r12",
        "lsl r1, r1, r12",
        "lsl r2, r2, r12",
        "lsl r3, r3, r12",
        "4:",
        "ldr r12, [lr, #{multipliers}]",
        "ldm r12!, {{r4-r7}}",
        "str r12, [lr, #{multipliers}]",
        "smmlar r0, r0, r4, r8",
        "smmlar r1, r1, r5, r8",
        "smmlar r2, r2, r6, r8",
        "smmlar r3, r3, r7, r8",
        "ldr r12, [lr, #{table}]",
        "ldr r5, [lr, #{output}]",
        "ssat r0, #8, r0",
        "ssat r1, #8, r1",
        "ssat r2, #8, r2",
        "ssat r3, #8, r3",
        "cmp r12, #0",
        "beq 5f",
        "ldrb r0, [r12, r0]",
        "ldrb r1, [r12, r1]",
        "ldrb r2, [r12, r2]",
        "ldrb r3, [r12, r3]",
        "5:",
        "ldr r6, [lr, #{channels}]",
        "add r5, r11",
        "add r11, #4",
        "strb r0, [r5]",
        "strb r1, [r5, #1]",
        "strb r2, [r5, #2]",
        "strb r3, [r5, #3]",
        "cmp r11, r6",
        "bne 2b",
        "pop {{r4-r11, pc}}",
        places = const offset_of!(Pixel, places),
        end = const offset_of!(Pixel, end),
        weights = const offset_of!(Pixel, weights),
        bias = const offset_of!(Pixel, bias),
        multipliers = const offset_of!(Pixel, multipliers),
        left_shift = const offset_of!(Pixel, left_shift),
        zero_point = const offset_of!(Pixel, zero_point),
        table = const offset_of!(Pixel, table),
        output = const offset_of!(Pixel, output),
        channels = const offset_of!(Pixel, channels),
    )
}
