//! Depthwise: four channels of a pixel at a time, each kernel place a load of four activations, two SXTB16 and four
//! products with weights that are 16 bits wide in flash.
//!
//! A pixel's window is a list of places, one for each kernel place; places in the padding lie in a pixel of zero
//! points. So the inner loop has no borders. Windows without padding differ by one distance only and share a list.

use core::arch::naked_asm;
use core::mem::offset_of;
use core::ptr::null;

use crate::bytes::i32_at;
use crate::conv::epilogue::finish;
use crate::conv::geometry::Window;
use crate::conv::layer::Layer;

/// Channels computed together.
const BLOCK: usize = 4;

/// What the inner functions read; they move `multipliers`, `output` and `bias` on. The first four words and the next
/// two are loaded by one instruction each.
#[repr(C)]
struct Pixel {
    multipliers: *const u8,
    left_shift: u32,
    zero_point: i32,
    /// The middle of the table, or null.
    table: *const u8,
    output: *mut i8,
    /// Past the last channel to compute, a multiple of four from the first.
    end: *mut i8,
    bias: *const u8,
    weights: *const u8,
    /// The place of each kernel place's first channel.
    places: *const *const i8,
    /// Past the last of them.
    places_end: *const *const i8,
    /// Bytes from the listed places to those of this pixel.
    distance: usize,
}

/// Runs a layer packed as [`crate::plan::Packing::DspDepthwise`].
///
/// # Safety
/// As [`run_layer`](super::run_layer).
#[inline(always)]
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let (epilogue, input, output) = (layer.epilogue, layer.input, layer.output);
    let channels = output.channels as usize;
    let taps = (geometry.kernel[0] * geometry.kernel[1]) as usize;
    let places: *mut *const i8 = layer.scratch.cast();
    // A residual is added outside: no network here has one behind a depthwise layer.
    let blocks = if epilogue.residual.is_some() { 0 } else { channels / BLOCK };
    // SAFETY: the scratch memory holds a word for each kernel place and a pixel of the input.
    unsafe { padding(layer).write_bytes(layer.zero_point as u8, channels) };
    let compute = match taps {
        9 => compute_9,
        n if n % 5 == 0 => compute_5,
        n if n % 3 == 0 => compute_3,
        _ => compute_1,
    };
    let mut job = Pixel {
        multipliers: null(),
        left_shift: epilogue.left_shift as u32,
        zero_point: epilogue.zero_point as i32,
        table: epilogue.table.map_or(null(), |table| table.as_ptr().wrapping_add(128)),
        output: arena,
        end: arena,
        bias: null(),
        weights: layer.weights,
        places: places.cast_const(),
        places_end: places.wrapping_add(taps).cast_const(),
        distance: 0,
    };
    let interior = geometry.interior(input);
    let mut listed = false;
    for y in 0..geometry.pixels[0] {
        for x in 0..geometry.pixels[1] {
            let shared = geometry.upsample_shift == 0 && interior.contains([y, x]);
            if shared && listed {
                job.distance = job.distance.wrapping_add(geometry.stride[1] as usize * input.pitch as usize);
            } else {
                let window = geometry.window(input, [y, x]);
                job.distance = if shared { geometry.first_place(input, [y, x]) } else { 0 };
                // SAFETY: the scratch memory holds a word for each kernel place.
                unsafe { list(arena, layer, &window, job.distance) };
                listed = shared;
            }
            let pixel = geometry.pixel([y, x]);
            job.output = arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize);
            job.end = job.output.wrapping_add(BLOCK * blocks);
            job.multipliers = epilogue.multipliers.as_ptr();
            job.bias = layer.bias;
            // SAFETY: whole blocks of channels are inside the input, the output and the constants, and the rest is
            // computed one channel at a time.
            unsafe {
                if blocks > 0 {
                    compute(&mut job);
                }
                for channel in BLOCK * blocks..channels {
                    let acc = accumulate(layer, places, job.distance.wrapping_add(channel), channel);
                    finish(arena, epilogue, output, pixel, channel, [acc]);
                }
            }
        }
        listed = false;
    }
}

/// The pixel of zero points, behind the list of places.
#[inline(always)]
fn padding(layer: &Layer<'_>) -> *mut i8 {
    let taps = (layer.geometry.kernel[0] * layer.geometry.kernel[1]) as usize;
    layer.scratch.wrapping_add(4 * taps).cast()
}

/// Lists the places of a window, `distance` bytes before where they are.
///
/// # Safety
/// As [`run_layer`](super::run_layer).
#[inline(never)]
unsafe fn list(arena: *mut i8, layer: &Layer<'_>, window: &Window, distance: usize) {
    let (geometry, input) = (&layer.geometry, layer.input);
    let first = arena.wrapping_add(input.offset as usize).wrapping_sub(distance).cast_const();
    let padding = padding(layer).cast_const();
    let [[top, bottom], [left, right]] = window.inside;
    let mut places: *mut *const i8 = layer.scratch.cast();
    for ky in 0..geometry.kernel[0] {
        for kx in 0..geometry.kernel[1] {
            let inside = ky >= top && ky < bottom && kx >= left && kx < right;
            let place = if inside { first.wrapping_add(geometry.place(input, window, [ky, kx])) } else { padding };
            // SAFETY: the scratch memory holds a word for each kernel place.
            unsafe { places.write(place) };
            places = places.wrapping_add(1);
        }
    }
}

/// The accumulator of one channel that lies `at` bytes from the listed places.
///
/// # Safety
/// As [`run_layer`](super::run_layer), with the places of the pixel's window listed.
unsafe fn accumulate(layer: &Layer<'_>, places: *const *const i8, at: usize, channel: usize) -> i32 {
    let taps = (layer.geometry.kernel[0] * layer.geometry.kernel[1]) as usize;
    // SAFETY: the channel is inside every place and every constant.
    unsafe {
        let mut acc = i32_at(layer.bias, channel);
        let weights = layer.weights.add(channel / BLOCK * taps * 2 * BLOCK + channel % 2 * 4 + channel % BLOCK / 2 * 2);
        for tap in 0..taps {
            let weight = weights.add(tap * 2 * BLOCK).cast::<i8>().read() as i32;
            acc = acc.wrapping_add(weight * places.add(tap).read().wrapping_add(at).read() as i32);
        }
        acc
    }
}

/// The products of one kernel place, whose register is given.
macro_rules! tap {
    ($place:literal) => {
        concat!(
            "ldr r6, [",
            $place,
            ", r11]\n",
            "ldrd r4, r5, [r10], #8\n",
            "sxtb16 r7, r6\n",
            "sxtb16 r6, r6, ror #8\n",
            "smlabb r0, r7, r4, r0\n",
            "smlatt r2, r7, r4, r2\n",
            "smlabb r1, r6, r5, r1\n",
            "smlatt r3, r6, r5, r3\n"
        )
    };
}

macro_rules! one_tap {
    () => {
        concat!("ldr r9, [r8], #4\n", tap!("r9"))
    };
}

macro_rules! two_taps {
    () => {
        concat!("ldrd r9, r12, [r8], #8\n", tap!("r9"), tap!("r12"))
    };
}

macro_rules! three_taps {
    () => {
        concat!("ldm r8!, {{r9, r12, lr}}\n", tap!("r9"), tap!("r12"), tap!("lr"))
    };
}

macro_rules! unless_last {
    () => {
        "ldr r9, [sp, #4]\ncmp r8, r9\nbne 3b"
    };
}

/// Blocks of four channels of one pixel, `$taps` in a turn of the inner loop, which `$again` repeats.
///
/// Registers: r0-r3 accumulators, r4 and r5 weights, r6 and r7 activations, r8 the list of places, r10 the weights'
/// place, r11 the channel's distance; r9, r12 and lr are places.
macro_rules! compute {
    ($(#[$doc:meta])* $name:ident, $taps:expr, $again:expr) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// `pixel` must describe memory as [`run`] does.
        #[unsafe(naked)]
        unsafe extern "C" fn $name(pixel: &mut Pixel) {
            naked_asm!(
                // Armv8-M has these instructions only by the name of a core, which LLVM forgets when it writes bitcode.
                ".cpu cortex-m4",
                "push {{r4-r11, lr}}",
                "ldr r1, [r0, #{places_end}]",
                "ldr r10, [r0, #{weights}]",
                "ldr r11, [r0, #{distance}]",
                "push {{r0, r1}}",
                "2:",
                "ldr lr, [sp]",
                "ldr r12, [lr, #{bias}]",
                "ldr r8, [lr, #{places}]",
                "ldm r12!, {{r0-r3}}",
                "str r12, [lr, #{bias}]",
                "3:",
                $taps,
                $again,
                "ldr lr, [sp]",
                "ldm lr, {{r4-r7}}",
                "ldrd r8, r9, [r4], #8",
                "cbz r5, 4f",
                "lsl r0, r0, r5",
                "lsl r1, r1, r5",
                "lsl r2, r2, r5",
                "lsl r3, r3, r5",
                "4:",
                "smmlar r0, r0, r8, r6",
                "smmlar r1, r1, r9, r6",
                "ldrd r8, r9, [r4], #8",
                "str r4, [lr]",
                "ldrd r4, r5, [lr, #{output}]",
                "smmlar r2, r2, r8, r6",
                "smmlar r3, r3, r9, r6",
                "ssat r0, #8, r0",
                "ssat r1, #8, r1",
                "ssat r2, #8, r2",
                "ssat r3, #8, r3",
                "cbz r7, 5f",
                "ldrb r0, [r7, r0]",
                "ldrb r1, [r7, r1]",
                "ldrb r2, [r7, r2]",
                "ldrb r3, [r7, r3]",
                "5:",
                "strb r0, [r4], #1",
                "strb r1, [r4], #1",
                "strb r2, [r4], #1",
                "strb r3, [r4], #1",
                "str r4, [lr, #{output}]",
                "add r11, #4",
                "cmp r4, r5",
                "bne 2b",
                "add sp, #8",
                "pop {{r4-r11, pc}}",
                output = const offset_of!(Pixel, output),
                bias = const offset_of!(Pixel, bias),
                weights = const offset_of!(Pixel, weights),
                places = const offset_of!(Pixel, places),
                places_end = const offset_of!(Pixel, places_end),
                distance = const offset_of!(Pixel, distance),
            )
        }
    };
}

compute!(
    /// Nine kernel places.
    compute_9,
    concat!(three_taps!(), three_taps!(), three_taps!()),
    ""
);
compute!(
    /// A multiple of five kernel places.
    compute_5,
    concat!(three_taps!(), two_taps!()),
    unless_last!()
);
compute!(
    /// A multiple of three kernel places.
    compute_3,
    three_taps!(),
    unless_last!()
);
compute!(
    /// Any number of kernel places.
    compute_1,
    one_tap!(),
    unless_last!()
);
