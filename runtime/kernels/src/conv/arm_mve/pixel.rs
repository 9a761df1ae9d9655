//! One pixel by four channels, for fully connected layers and for what is left of the tiles: every vector of weights is
//! read once, so its load is half of the work.

use core::arch::global_asm;
use core::mem::offset_of;

use super::{Finish, Place, products};
use crate::conv::layer::Layer;
use crate::plan::Epilogue;

/// What the assembler reads.
#[repr(C)]
struct Pixel {
    bias: *const u8,
    multipliers: *const u8,
    weights: *const u8,
    output: *mut i8,
    /// Channels.
    channels: usize,
    /// Turns of the loop of 32 products, or of the predicated loop of 16.
    turns: usize,
    window: *const i8,
    residual: *const i8,
    /// Products when the loop is predicated, else zero.
    products: usize,
    finish: Finish,
}

unsafe extern "C" {
    /// Computes all channels of a pixel.
    ///
    /// Registers: r0, r2, r4, r6 accumulators; r1 window; r3 output; r5 multipliers; r7 weights; r8 bias; r9 zero
    /// point; r10 left shift; r11 channels that are left; r12 turns; the stack holds the pixel.
    fn flowlet_mve_conv_pixel(pixel: *const Pixel);
}

/// Computes all channels of one pixel, given as its window.
///
/// # Safety
/// As [`run_panels`](super::run_panels), with the pixel inside the output.
pub(super) unsafe fn run(layer: &Layer<'_>, window: *const i8, place: Place) {
    let constants = [layer.weights, layer.bias];
    // SAFETY: the same condition.
    unsafe { dense(constants, layer.epilogue, products(layer), layer.output.channels, window, place) }
}

/// Computes `outputs` channels of one pixel; `constants` are the weights and the bias.
///
/// # Safety
/// The constants must be as `fits` of the step asks, the window be readable for `products` bytes, and the pixel be
/// inside the output and the residual.
pub(super) unsafe fn dense(
    constants: [*const u8; 2],
    epilogue: &Epilogue<'_>,
    products: usize,
    outputs: u16,
    window: *const i8,
    place: Place,
) {
    let whole = products.is_multiple_of(32) && products > 0;
    let job = Pixel {
        bias: constants[1],
        multipliers: epilogue.multipliers.as_ptr(),
        weights: constants[0],
        output: place.output,
        channels: outputs as usize,
        turns: products / 32,
        window,
        residual: place.residual,
        products: if whole { 0 } else { products },
        finish: Finish::new(epilogue),
    };
    // SAFETY: the window is readable for `products` bytes; weights, bias and multipliers are padded to blocks of four
    // channels and of 16 products; the channels of the pixel are inside the output and the residual. In the last block
    // only channels that exist are read and stored.
    unsafe {
        if whole {
            flowlet_mve_conv_pixel(&raw const job);
        } else {
            flowlet_mve_conv_pixel_tail(&raw const job);
        }
    }
}

unsafe extern "C" {
    /// As [`flowlet_mve_conv_pixel`], for a number of products that 32 does not divide.
    fn flowlet_mve_conv_pixel_tail(pixel: *const Pixel);
}

global_asm!(
    ".syntax unified",
    ".thumb",
    ".cpu cortex-m55",
    // 16 products of four channels.
    ".macro flowlet_mve_four",
    "vldrb.8 q0, [r1], #16",
    "vldrb.8 q1, [r7, #16]",
    "vmladava.s8 r2, q0, q1",
    "vldrb.8 q2, [r7, #32]",
    "vmladava.s8 r4, q0, q2",
    "vldrb.8 q3, [r7, #48]",
    "vmladava.s8 r6, q0, q3",
    "vldrb.8 q4, [r7], #64",
    "vmladava.s8 r0, q0, q4",
    ".endm",
    // 16 products of the first two channels of a block.
    ".macro flowlet_mve_two",
    "vldrb.8 q0, [r1], #16",
    "vldrb.8 q1, [r7, #16]",
    "vmladava.s8 r2, q0, q1",
    "vldrb.8 q4, [r7], #64",
    "vmladava.s8 r0, q0, q4",
    ".endm",
    ".macro flowlet_mve_pixel tail",
    "push {{r0, r4-r11, lr}}",
    "vpush {{d8-d13}}",
    "ldr r1, [r0, #{window}]",
    "ldrd r8, r5, [r0, #{bias}]",
    "ldrd r7, r3, [r0, #{weights}]",
    "ldrd r11, r12, [r0, #{channels}]",
    "ldrd r10, r9, [r0, #{left_shift}]",
    ".if \\tail",
    "ldr r12, [r0, #{products}]",
    ".endif",
    "push {{r0, r1}}",
    "cmp r11, #2",
    "ble 4f",
    "2:",
    "ldr r1, [sp, #4]",
    "ldrd r0, r2, [r8], #8",
    "ldrd r4, r6, [r8], #8",
    ".if \\tail",
    "wlstp.8 lr, r12, 6f",
    "5:",
    "flowlet_mve_four",
    "letp lr, 5b",
    "6:",
    ".else",
    "dls lr, r12",
    "5:",
    "flowlet_mve_four",
    "flowlet_mve_four",
    "le lr, 5b",
    ".endif",
    "vmov d10, r0, r2",
    "vmov d11, r4, r6",
    "3:",
    "vldrw.32 q0, [r5], #16",
    "ldr r0, [sp]",
    "vshl.s32 q5, r10",
    "vrmulh.s32 q5, q5, q0",
    "ldr r1, [r0, #{more}]",
    "vadd.i32 q5, q5, r9",
    "vqshl.s32 q5, q5, #24",
    "vshr.s32 q5, q5, #24",
    "cbnz r1, 8f",
    "7:",
    "subs r11, #4",
    "blt 9f",
    "vstrb.32 q5, [r3], #4",
    "beq 10f",
    "cmp r11, #2",
    "bgt 2b",
    // The last one or two channels.
    "4:",
    "ldr r1, [sp, #4]",
    "ldrd r0, r2, [r8]",
    ".if \\tail",
    "wlstp.8 lr, r12, 6f",
    "5:",
    "flowlet_mve_two",
    "letp lr, 5b",
    "6:",
    ".else",
    "dls lr, r12",
    "5:",
    "flowlet_mve_two",
    "flowlet_mve_two",
    "le lr, 5b",
    ".endif",
    "vmov d10, r0, r2",
    "b 3b",
    "8:",
    "vctp.32 r11",
    "ldr r1, [r0, #{has_residual}]",
    "cbz r1, 8f",
    "ldr r2, [r0, #{residual}]",
    "ldr r1, [r0, #{channels}]",
    "sub r1, r11",
    "add r2, r1",
    "ldrd r4, r6, [r0, #{gains}]",
    "vpst",
    "vldrbt.s32 q0, [r2]",
    "vmul.i32 q5, q5, r4",
    "ldrd r1, r2, [r0, #{constant}]",
    "vmla.s32 q5, q0, r6",
    "vadd.i32 q5, q5, r1",
    "vshl.s32 q5, r2",
    "vqshl.s32 q5, q5, #24",
    "vshr.s32 q5, q5, #24",
    "8:",
    "ldr r1, [r0, #{table}]",
    "cmp r1, #0",
    "beq 7b",
    // Lanes are signed offsets from the middle of the table.
    "vldrb.u32 q0, [r1, q5]",
    "vmov q5, q0",
    "b 7b",
    "9:",
    "add r11, #4",
    "vctp.32 r11",
    "vpst",
    "vstrbt.32 q5, [r3]",
    "10:",
    "add sp, #8",
    "vpop {{d8-d13}}",
    "pop {{r0, r4-r11, pc}}",
    ".endm",
    ".pushsection .text.flowlet_mve_conv_pixel, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_conv_pixel",
    ".type flowlet_mve_conv_pixel, %function",
    ".thumb_func",
    "flowlet_mve_conv_pixel:",
    "flowlet_mve_pixel 0",
    ".size flowlet_mve_conv_pixel, . - flowlet_mve_conv_pixel",
    ".popsection",
    ".pushsection .text.flowlet_mve_conv_pixel_tail, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_conv_pixel_tail",
    ".type flowlet_mve_conv_pixel_tail, %function",
    ".thumb_func",
    "flowlet_mve_conv_pixel_tail:",
    "flowlet_mve_pixel 1",
    ".size flowlet_mve_conv_pixel_tail, . - flowlet_mve_conv_pixel_tail",
    ".popsection",
    ".purgem flowlet_mve_pixel",
    ".purgem flowlet_mve_four",
    ".purgem flowlet_mve_two",
    bias = const offset_of!(Pixel, bias),
    weights = const offset_of!(Pixel, weights),
    channels = const offset_of!(Pixel, channels),
    window = const offset_of!(Pixel, window),
    residual = const offset_of!(Pixel, residual),
    products = const offset_of!(Pixel, products),
    left_shift = const offset_of!(Pixel, finish) + offset_of!(Finish, left_shift),
    gains = const offset_of!(Pixel, finish) + offset_of!(Finish, gains),
    constant = const offset_of!(Pixel, finish) + offset_of!(Finish, constant),
    table = const offset_of!(Pixel, finish) + offset_of!(Finish, table),
    more = const offset_of!(Pixel, finish) + offset_of!(Finish, more),
    has_residual = const offset_of!(Pixel, finish) + offset_of!(Finish, has_residual),
);
