//! Depthwise: 16 channels of a pixel at a time. Products of bytes are 16 bits wide and two of them fit a 16-bit lane,
//! because a weight is never -128; so kernel places go in pairs, and their sums are widened once for two.
//!
//! A pixel's window is a list of places, one for each kernel place; places in the padding lie in a pixel of zero
//! points. So the inner loop has no borders. Pixels of a row whose windows lie inside the input share one list, which
//! moves on.

use core::arch::global_asm;
use core::mem::offset_of;
use core::ptr::null;

use super::Finish;
use super::gather::Windows;
use crate::add::sum;
use crate::conv::geometry::Window;
use crate::conv::layer::Layer;
use crate::plan::Residual;
use crate::table::lookup;

/// Channels computed together.
pub(super) const BLOCK: usize = 16;

/// What the assembler reads; it moves `output`, `places` and `pixels` on.
#[repr(C)]
struct Pixels {
    /// The place of each kernel place's first channel; padded to a multiple of four.
    places: *mut *const i8,
    /// Kernel places.
    taps: usize,
    weights: *const u8,
    bias: *const u8,
    multipliers: *const u8,
    output: *mut i8,
    /// Bytes from pixel to pixel of the output.
    output_step: usize,
    /// How far each place moves from pixel to pixel.
    steps: *mut usize,
    pixels: usize,
    /// Whole blocks of channels.
    blocks: usize,
    /// Channels behind them.
    rest: usize,
    finish: Finish,
}

/// What lists the places of a window and how they move. Kernel places outside the input read the padding, and stay.
#[repr(C)]
struct List {
    places: *mut *const i8,
    steps: *mut usize,
    /// Minus the kernel rows above the input.
    above: i32,
    /// Kernel rows inside it.
    height: i32,
    /// Minus the kernel columns to its left.
    before: i32,
    /// Kernel columns inside it.
    width: i32,
    rows: usize,
    columns: usize,
    /// The place of the first kernel row's first column inside; the row may be above the input.
    first: *const i8,
    /// Bytes from kernel column to kernel column.
    across: usize,
    padding: *const i8,
    /// Bytes from kernel row to kernel row.
    down: usize,
    /// Bytes from pixel to pixel.
    step: usize,
    /// Bytes by which whole vectors of a row of places are longer than the row.
    over: usize,
}

unsafe extern "C" {
    /// Writes the list.
    ///
    /// Registers: r1 step, r2 columns inside in this row, r3 row from the first inside, r4 and r5 the lists, r6 column
    /// from the first inside, r7 rows left, r8 columns, r9 place, r10 across, r11 padding, r12 down.
    fn flowlet_mve_list(list: &List);
    /// Computes neighbouring pixels.
    ///
    /// Registers: r0 the channel, r1 and r2 places, r3 the list, r4 the pixels, r5 and r6 bias and multipliers, r7
    /// blocks, r8 the output, r9 weights, r10 zero point, r11 pairs of kernel places. Vectors: q0-q3 activations,
    /// weights and products, q4-q7 channels 0, 4, 8, 12 and so on.
    fn flowlet_mve_depthwise(pixels: *mut Pixels);
    /// As [`flowlet_mve_depthwise`], for nine kernel places, whose places stay in r0 to r8.
    fn flowlet_mve_depthwise_9(pixels: *mut Pixels);
}

/// Runs a layer packed as [`MVE_DEPTHWISE`](crate::conv::MVE_DEPTHWISE).
///
/// # Safety
/// The slots, the scratch memory and the constants must be as `fits` of the step asks, in the arena.
pub(super) unsafe fn run(arena: *mut i8, layer: &Layer<'_>) {
    let geometry = &layer.geometry;
    let (epilogue, input, output) = (layer.epilogue, layer.input, layer.output);
    let channels = output.channels as usize;
    let taps = (geometry.kernel[0] * geometry.kernel[1]) as usize;
    // In whole vectors.
    let list_bytes = 4 * taps.next_multiple_of(4);
    let places: *mut *const i8 = layer.scratch.cast();
    let steps: *mut usize = layer.scratch.wrapping_add(list_bytes).cast();
    let padding: *mut i8 = layer.scratch.wrapping_add(2 * list_bytes).cast();
    let before_residual = padding.wrapping_add(channels);
    // SAFETY: the scratch memory holds the list and two pixels.
    unsafe { padding.write_bytes(layer.zero_point as u8, channels) };
    let mut job = Pixels {
        places,
        taps,
        weights: layer.weights,
        bias: layer.bias,
        multipliers: epilogue.multipliers.as_ptr(),
        output: before_residual,
        output_step: output.pitch as usize,
        steps,
        pixels: 1,
        blocks: channels / BLOCK,
        rest: channels % BLOCK,
        finish: Finish::new(epilogue),
    };
    if epilogue.residual.is_some() {
        job.finish.table = null();
    }
    let mut windows = Windows::new(arena, layer);
    let columns = geometry.kernel[1] as usize;
    let mut list = List {
        places,
        steps,
        above: 0,
        height: 0,
        before: 0,
        width: 0,
        rows: geometry.kernel[0] as usize,
        columns,
        first: arena,
        across: geometry.dilation[1] as usize * input.pitch as usize,
        padding,
        down: geometry.dilation[0] as usize * input.width as usize * input.pitch as usize,
        step: geometry.stride[1] as usize * input.pitch as usize,
        over: 4 * (columns.next_multiple_of(4) - columns),
    };
    for y in 0..geometry.pixels[0] {
        windows.row(y);
        let mut x = 0;
        while x < geometry.pixels[1] {
            let pixel = geometry.pixel([y, x]);
            let window = geometry.window(input, [y, x]);
            // SAFETY: the list has room for every kernel place.
            unsafe {
                if geometry.upsample_shift == 0 {
                    let [[top, bottom], [left, right]] = window.inside;
                    list.first = windows.place(x).wrapping_offset(left as isize * list.across as isize);
                    list.above = -top;
                    list.before = -left;
                    list.height = bottom - top;
                    list.width = right - left;
                    flowlet_mve_list(&list);
                } else {
                    list_upsampled(arena, layer, &window, places, padding);
                }
            }
            job.pixels = if epilogue.residual.is_none() { windows.alike(x) } else { 1 };
            x += job.pixels;
            if let Some(residual) = &epilogue.residual {
                job.output = before_residual;
                // SAFETY: as below, into the scratch memory; the pixel is inside the residual and the output.
                unsafe {
                    compute(&mut job);
                    add(arena, layer, residual, pixel, before_residual);
                }
                continue;
            }
            job.output = arena.wrapping_add(output.offset as usize + pixel * output.pitch as usize);
            // SAFETY: the places in the list are readable for the channels, and those of the next pixels, which reach over
            // the border in the same places, are one step further; weights and constants are padded to blocks.
            unsafe { compute(&mut job) };
        }
    }
}

/// Lists the places of one window of an upsampled input.
///
/// # Safety
/// `places` must be writable for a word for each kernel place.
#[cold]
unsafe fn list_upsampled(
    arena: *const i8,
    layer: &Layer<'_>,
    window: &Window,
    places: *mut *const i8,
    padding: *const i8,
) {
    let (geometry, input) = (&layer.geometry, layer.input);
    let [[top, bottom], [left, right]] = window.inside;
    let source = arena.wrapping_add(input.offset as usize);
    let mut next = places;
    for ky in 0..geometry.kernel[0] {
        for kx in 0..geometry.kernel[1] {
            let is_inside = ky >= top && ky < bottom && kx >= left && kx < right;
            let place = if is_inside { source.wrapping_add(geometry.place(input, window, [ky, kx])) } else { padding };
            // SAFETY: one of the words for the kernel places.
            unsafe {
                next.write(place);
                next = next.add(1);
            }
        }
    }
}

/// # Safety
/// As [`flowlet_mve_depthwise`].
unsafe fn compute(job: &mut Pixels) {
    // SAFETY: the same condition.
    unsafe {
        if job.taps == 9 {
            flowlet_mve_depthwise_9(job);
        } else {
            flowlet_mve_depthwise(job);
        }
    }
}

/// Adds the residual to the requantised channels of one pixel and stores them.
///
/// # Safety
/// The pixel must be inside the residual and the output, which are inside the writable `arena`; `from` must hold the
/// channels.
unsafe fn add(arena: *mut i8, layer: &Layer<'_>, residual: &Residual, pixel: usize, from: *const i8) {
    let (slot, output) = (&residual.slot, layer.output);
    for channel in 0..output.channels as usize {
        // SAFETY: the channel is inside all three.
        unsafe {
            let other = arena.add(slot.offset as usize + pixel * slot.pitch as usize + channel).read();
            let mut q = sum(from.add(channel).read(), other, &residual.params);
            if let Some(table) = layer.epilogue.table {
                q = lookup(table, q);
            }
            arena.add(output.offset as usize + pixel * output.pitch as usize + channel).write(q);
        }
    }
}

global_asm!(
    ".syntax unified",
    ".thumb",
    ".cpu cortex-m55",
    // A vector of activations, whole or predicated.
    ".macro flowlet_mve_take tail, from:vararg",
    ".if \\tail",
    "vpst",
    "vldrbt.u8 q0, \\from",
    ".else",
    "vldrb.u8 q0, \\from",
    ".endif",
    ".endm",
    // The products of one kernel place.
    ".macro flowlet_mve_first tail, a",
    "flowlet_mve_take \\tail, [\\a], #16",
    "vldrb.8 q1, [r9], #16",
    "vmullb.s8 q2, q0, q1",
    "vmullt.s8 q3, q0, q1",
    ".endm",
    // Those of a second one. Its activations are read twice, because no register is left.
    ".macro flowlet_mve_second tail, b",
    "flowlet_mve_take \\tail, [\\b]",
    "vldrb.8 q1, [r9], #16",
    "vmullb.s8 q0, q0, q1",
    "vadd.i16 q2, q2, q0",
    "flowlet_mve_take \\tail, [\\b], #16",
    "vmullt.s8 q0, q0, q1",
    "vadd.i16 q3, q3, q0",
    ".endm",
    // Sums of 16 bits to the accumulators.
    ".macro flowlet_mve_widen",
    "vmovlb.s16 q0, q2",
    "vmovlt.s16 q1, q2",
    "vadd.i32 q4, q4, q0",
    "vmovlb.s16 q2, q3",
    "vadd.i32 q6, q6, q1",
    "vmovlt.s16 q0, q3",
    "vadd.i32 q5, q5, q2",
    "vadd.i32 q7, q7, q0",
    ".endm",
    ".macro flowlet_mve_load4 a, b, c, d, from",
    "vld40.32 {{\\a, \\b, \\c, \\d}}, [\\from]",
    "vld41.32 {{\\a, \\b, \\c, \\d}}, [\\from]",
    "vld42.32 {{\\a, \\b, \\c, \\d}}, [\\from]",
    "vld43.32 {{\\a, \\b, \\c, \\d}}, [\\from]!",
    ".endm",
    // Accumulators to bytes in q2: multipliers in q0-q3, left shift in `shift`, zero point in `zero`.
    ".macro flowlet_mve_requantise shift, zero",
    "vshl.s32 q4, \\shift",
    "vshl.s32 q5, \\shift",
    "vshl.s32 q6, \\shift",
    "vshl.s32 q7, \\shift",
    "vrmulh.s32 q4, q4, q0",
    "vrmulh.s32 q6, q6, q2",
    "vqmovnb.s32 q0, q4",
    "vrmulh.s32 q5, q5, q1",
    "vqmovnt.s32 q0, q6",
    "vrmulh.s32 q7, q7, q3",
    "vqmovnb.s32 q1, q5",
    "vqadd.s16 q0, q0, \\zero",
    "vqmovnt.s32 q1, q7",
    "vqmovnb.s16 q2, q0",
    "vqadd.s16 q1, q1, \\zero",
    "vqmovnt.s16 q2, q1",
    ".endm",
    // The table's bytes for those in q2: q0, q1 and `scratch` are free.
    ".macro flowlet_mve_table table, scratch",
    "mov \\scratch, #128",
    "vadd.i8 q2, q2, \\scratch",
    "sub \\table, #128",
    "vmovlb.u8 q0, q2",
    "vldrb.u16 q1, [\\table, q0]",
    "vmovlt.u8 q0, q2",
    "vldrb.u16 q2, [\\table, q0]",
    "vshl.i16 q2, q2, #8",
    "vorr q2, q2, q1",
    ".endm",
    // A block of channels in the general form.
    ".macro flowlet_mve_block tail",
    "ldr r3, [r4, #{places}]",
    "flowlet_mve_load4 q4, q5, q6, q7, r5",
    "wls lr, r11, 2f",
    "1:",
    "ldrd r1, r2, [r3], #8",
    "add r1, r0",
    "add r2, r0",
    "flowlet_mve_first \\tail, r1",
    "flowlet_mve_second \\tail, r2",
    "flowlet_mve_widen",
    "le lr, 1b",
    "2:",
    "ldr r1, [r4, #{taps}]",
    "tst r1, #1",
    "beq 3f",
    "ldr r1, [r3]",
    "add r1, r0",
    "flowlet_mve_first \\tail, r1",
    "flowlet_mve_widen",
    "3:",
    "ldr r2, [r4, #{left_shift}]",
    "flowlet_mve_load4 q0, q1, q2, q3, r6",
    "flowlet_mve_requantise r2, r10",
    "ldr r1, [r4, #{table}]",
    "cbz r1, 4f",
    "flowlet_mve_table r1, r2",
    "4:",
    ".if \\tail",
    "vpst",
    "vstrbt.8 q2, [r8]",
    ".else",
    "vstrb.8 q2, [r8], #16",
    ".endif",
    ".endm",
    // The list and the output one pixel on; r4 the pixels, r0, r2 and r3 are free.
    ".macro flowlet_mve_next",
    "ldr r1, [r4, #{pixels}]",
    "subs r1, #1",
    "beq 9f",
    "str r1, [r4, #{pixels}]",
    "ldrd r2, r0, [r4, #{output}]",
    "add r2, r0",
    "str r2, [r4, #{output}]",
    "ldrd r3, r0, [r4, #{places}]",
    "ldr r2, [r4, #{steps}]",
    "wlstp.32 lr, r0, 2f",
    "1:",
    "vldrw.32 q0, [r3]",
    "vldrw.32 q1, [r2], #16",
    "vadd.i32 q0, q0, q1",
    "vstrw.32 q0, [r3], #16",
    "letp lr, 1b",
    "2:",
    ".endm",
    ".pushsection .text.flowlet_mve_list, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_list",
    ".type flowlet_mve_list, %function",
    ".thumb_func",
    "flowlet_mve_list:",
    "push {{r4-r12, lr}}",
    "ldm r0, {{r4, r5}}",
    "ldr r3, [r0, #{above}]",
    "ldrd r7, r8, [r0, #{rows}]",
    "ldrd r9, r10, [r0, #{first}]",
    "ldrd r11, r12, [r0, #{padding}]",
    "ldr r1, [r0, #{step}]",
    "3:",
    "ldr r6, [r0, #{height}]",
    "ldr r2, [r0, #{width}]",
    "cmp r3, r6",
    "it hs",
    "movhs r2, #0",
    "ldr r6, [r0, #{before}]",
    "wlstp.32 lr, r8, 2f",
    "1:",
    "vidup.u32 q0, r6, #1",
    "vdup.32 q2, r1",
    "vmul.i32 q1, q0, r10",
    "vadd.i32 q1, q1, r9",
    "vptt.u32 cs, q0, r2",
    "vdupt.32 q1, r11",
    "vmovt.i32 q2, #0",
    "vstrw.32 q1, [r4], #16",
    "vstrw.32 q2, [r5], #16",
    "letp lr, 1b",
    "2:",
    "ldr r6, [r0, #{over}]",
    "add r3, #1",
    "sub r4, r6",
    "sub r5, r6",
    "add r9, r12",
    "subs r7, #1",
    "bne 3b",
    "pop {{r4-r12, pc}}",
    ".size flowlet_mve_list, . - flowlet_mve_list",
    ".popsection",
    ".pushsection .text.flowlet_mve_depthwise, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_depthwise",
    ".type flowlet_mve_depthwise, %function",
    ".thumb_func",
    "flowlet_mve_depthwise:",
    "push {{r3-r11, lr}}",
    "vpush {{d8-d15}}",
    "mov r4, r0",
    "ldr r10, [r4, #{zero_point}]",
    "ldr r11, [r4, #{taps}]",
    "lsr r11, r11, #1",
    "8:",
    "ldrd r9, r5, [r4, #{weights}]",
    "ldrd r6, r8, [r4, #{multipliers}]",
    "ldr r7, [r4, #{blocks}]",
    "mov r0, #0",
    "cmp r7, #0",
    "beq 6f",
    "5:",
    "flowlet_mve_block 0",
    "add r0, #16",
    "subs r7, #1",
    "bne 5b",
    "6:",
    "ldr r1, [r4, #{rest}]",
    "cmp r1, #0",
    "beq 6f",
    "vctp.8 r1",
    "flowlet_mve_block 1",
    "6:",
    "flowlet_mve_next",
    "b 8b",
    "9:",
    "vpop {{d8-d15}}",
    "pop {{r3-r11, pc}}",
    ".size flowlet_mve_depthwise, . - flowlet_mve_depthwise",
    ".popsection",
    // Nine kernel places. The stack holds the place in the bias, that in the multipliers, the pixels, the zero point, the
    // left shift and the table.
    ".macro flowlet_mve_block_9 tail",
    "ldr r10, [sp]",
    "flowlet_mve_load4 q4, q5, q6, q7, r10",
    "str r10, [sp]",
    "flowlet_mve_first \\tail, r0",
    "flowlet_mve_second \\tail, r1",
    "flowlet_mve_widen",
    "flowlet_mve_first \\tail, r2",
    "flowlet_mve_second \\tail, r3",
    "flowlet_mve_widen",
    "flowlet_mve_first \\tail, r4",
    "flowlet_mve_second \\tail, r5",
    "flowlet_mve_widen",
    "flowlet_mve_first \\tail, r6",
    "flowlet_mve_second \\tail, r7",
    "flowlet_mve_widen",
    "flowlet_mve_first \\tail, r8",
    "flowlet_mve_widen",
    "ldr r10, [sp, #4]",
    "flowlet_mve_load4 q0, q1, q2, q3, r10",
    "str r10, [sp, #4]",
    "ldr r10, [sp, #16]",
    "flowlet_mve_requantise r10, r11",
    "ldr r10, [sp, #20]",
    "cmp r10, #0",
    "beq 4f",
    "flowlet_mve_table r10, r11",
    "ldr r11, [sp, #12]",
    "4:",
    ".if \\tail",
    "vpst",
    "vstrbt.8 q2, [r12]",
    ".else",
    "vstrb.8 q2, [r12], #16",
    ".endif",
    ".endm",
    ".pushsection .text.flowlet_mve_depthwise_9, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_depthwise_9",
    ".type flowlet_mve_depthwise_9, %function",
    ".thumb_func",
    "flowlet_mve_depthwise_9:",
    "push {{r3-r11, lr}}",
    "vpush {{d8-d15}}",
    "sub sp, #24",
    "str r0, [sp, #8]",
    "ldr r1, [r0, #{left_shift}]",
    "ldr r2, [r0, #{table}]",
    "strd r1, r2, [sp, #16]",
    "ldr r11, [r0, #{zero_point}]",
    "str r11, [sp, #12]",
    "8:",
    "ldrd r9, r1, [r0, #{weights}]",
    "ldrd r2, r12, [r0, #{multipliers}]",
    "strd r1, r2, [sp]",
    "ldr r10, [r0, #{blocks}]",
    "ldr r0, [r0, #{places}]",
    "ldm r0, {{r0-r8}}",
    "wls lr, r10, 6f",
    "5:",
    "flowlet_mve_block_9 0",
    "le lr, 5b",
    "6:",
    "ldr r10, [sp, #8]",
    "ldr r10, [r10, #{rest}]",
    "cmp r10, #0",
    "beq 6f",
    "vctp.8 r10",
    "flowlet_mve_block_9 1",
    "6:",
    "ldr r4, [sp, #8]",
    "flowlet_mve_next",
    "mov r0, r4",
    "b 8b",
    "9:",
    "add sp, #24",
    "vpop {{d8-d15}}",
    "pop {{r3-r11, pc}}",
    ".size flowlet_mve_depthwise_9, . - flowlet_mve_depthwise_9",
    ".popsection",
    above = const offset_of!(List, above),
    height = const offset_of!(List, height),
    before = const offset_of!(List, before),
    width = const offset_of!(List, width),
    rows = const offset_of!(List, rows),
    first = const offset_of!(List, first),
    padding = const offset_of!(List, padding),
    step = const offset_of!(List, step),
    over = const offset_of!(List, over),
    places = const offset_of!(Pixels, places),
    taps = const offset_of!(Pixels, taps),
    weights = const offset_of!(Pixels, weights),
    multipliers = const offset_of!(Pixels, multipliers),
    output = const offset_of!(Pixels, output),
    steps = const offset_of!(Pixels, steps),
    pixels = const offset_of!(Pixels, pixels),
    blocks = const offset_of!(Pixels, blocks),
    rest = const offset_of!(Pixels, rest),
    left_shift = const offset_of!(Pixels, finish) + offset_of!(Finish, left_shift),
    zero_point = const offset_of!(Pixels, finish) + offset_of!(Finish, zero_point),
    table = const offset_of!(Pixels, finish) + offset_of!(Finish, table),
);
