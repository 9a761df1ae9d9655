//! Three pixels by two channels: six accumulators in the even registers, every vector of weights read once for three
//! pixels. Two pairs of channels fill the vectors that the epilogue works on.

use core::arch::global_asm;
use core::mem::offset_of;
use core::ptr::null;

use super::{Finish, Place, products};
use crate::conv::layer::Layer;
use crate::plan::ARM_MVE_PIXELS;

/// What the assembler reads; it moves the outputs, the residuals, the bias and the multipliers on.
#[repr(C)]
pub(super) struct Tile {
    windows: [*const i8; ARM_MVE_PIXELS],
    outputs: [*mut i8; ARM_MVE_PIXELS],
    residuals: [*const i8; ARM_MVE_PIXELS],
    bias: *const u8,
    multipliers: *const u8,
    weights: *const u8,
    /// Products of one output.
    products: usize,
    /// Channels that are left.
    channels: usize,
    finish: Finish,
}

unsafe extern "C" {
    /// Computes all channels of a tile.
    ///
    /// Registers: r0-r10, even, the accumulators of pixels 0 to 2; r1, r3, r5 their windows; r7 weights; r9 the
    /// block's weights; r11 the tile; r12 the number of products. Vectors: q0-q2 activations, q3 and q4 weights, q5-q7
    /// four channels of each pixel.
    fn flowlet_mve_conv_tile(tile: *mut Tile);
}

impl Tile {
    pub(super) fn new(layer: &Layer<'_>) -> Tile {
        Tile {
            windows: [null(); ARM_MVE_PIXELS],
            outputs: [core::ptr::null_mut(); ARM_MVE_PIXELS],
            residuals: [null(); ARM_MVE_PIXELS],
            bias: layer.bias,
            multipliers: layer.epilogue.multipliers.as_ptr(),
            weights: layer.weights,
            products: products(layer),
            channels: layer.output.channels as usize,
            finish: Finish::new(layer.epilogue),
        }
    }

    /// Puts a pixel, given as its window, at place `p` of the tile.
    #[inline(always)]
    pub(super) fn put(&mut self, p: usize, window: *const i8, place: &Place) {
        let p = if p < ARM_MVE_PIXELS { p } else { 0 };
        self.windows[p] = window;
        self.outputs[p] = place.output;
        self.residuals[p] = place.residual;
    }

    /// The pixel at place `p` of the tile.
    pub(super) fn get(&self, p: usize) -> (*const i8, Place) {
        let p = if p < ARM_MVE_PIXELS { p } else { 0 };
        (self.windows[p], Place { output: self.outputs[p], residual: self.residuals[p] })
    }

    /// Computes all channels of the three pixels that were put.
    ///
    /// # Safety
    /// As [`run_panels`](super::run_panels), with the pixels inside the output.
    #[inline(always)]
    pub(super) unsafe fn run(&mut self, layer: &Layer<'_>) {
        self.bias = layer.bias;
        self.multipliers = layer.epilogue.multipliers.as_ptr();
        self.channels = layer.output.channels as usize;
        // SAFETY: the windows are readable for `products` bytes; weights, bias and multipliers are padded to blocks of
        // four channels and of 16 products; the channels of the pixels are inside the output and the residual. In the
        // last block only channels that exist are read and stored.
        unsafe { flowlet_mve_conv_tile(self) }
    }
}

global_asm!(
    ".syntax unified",
    ".thumb",
    ".cpu cortex-m55",
    ".pushsection .text.flowlet_mve_conv_tile, \"ax\", %progbits",
    ".p2align 2",
    ".global flowlet_mve_conv_tile",
    ".type flowlet_mve_conv_tile, %function",
    ".thumb_func",
    "flowlet_mve_conv_tile:",
    // Products of a pair of channels. Loads and products alternate, which the two pipelines of the core overlap.
    ".macro flowlet_mve_pair first",
    "ldr lr, [r11, #{bias}]",
    "ldm r11, {{r1, r3, r5}}",
    "ldrd r0, r2, [lr, #\\first]",
    "ldrd r4, r6, [lr, #\\first]",
    "ldrd r8, r10, [lr, #\\first]",
    "wlstp.8 lr, r12, 2f",
    "1:",
    "vldrb.8 q0, [r1], #16",
    "vldrb.8 q4, [r7, #16]",
    "vmladava.s8 r2, q0, q4",
    "vldrb.8 q3, [r7], #64",
    "vmladava.s8 r0, q0, q3",
    "vldrb.8 q1, [r3], #16",
    "vmladava.s8 r4, q1, q3",
    "vldrb.8 q2, [r5], #16",
    "vmladava.s8 r6, q1, q4",
    "vmladava.s8 r8, q2, q3",
    "vmladava.s8 r10, q2, q4",
    "letp lr, 1b",
    "2:",
    ".endm",
    "push {{r4-r11, lr}}",
    "vpush {{d8-d15}}",
    "mov r11, r0",
    "ldr r9, [r11, #{weights}]",
    "ldr r12, [r11, #{products}]",
    "3:",
    "mov r7, r9",
    "flowlet_mve_pair 0",
    "vmov d10, r0, r2",
    "ldr r0, [r11, #{channels}]",
    "vmov d12, r4, r6",
    "vmov d14, r8, r10",
    "cmp r0, #2",
    "ble 4f",
    "add r7, r9, #32",
    "flowlet_mve_pair 8",
    "vmov d11, r0, r2",
    "sub r9, r7, #32",
    "vmov d13, r4, r6",
    "vmov d15, r8, r10",
    "4:",
    "ldrd r0, r1, [r11, #{bias}]",
    "ldrd r2, r3, [r11, #{left_shift}]",
    "ldr r4, [r11, #{more}]",
    "vldrw.32 q0, [r1], #16",
    "add r0, #16",
    "strd r0, r1, [r11, #{bias}]",
    "cbz r2, 5f",
    "vshl.s32 q5, r2",
    "vshl.s32 q6, r2",
    "vshl.s32 q7, r2",
    "5:",
    "vrmulh.s32 q5, q5, q0",
    "ldrd r0, r1, [r11, #{outputs}]",
    "vrmulh.s32 q6, q6, q0",
    "ldr r2, [r11, #{outputs} + 8]",
    "vrmulh.s32 q7, q7, q0",
    "vadd.i32 q5, q5, r3",
    "vadd.i32 q6, q6, r3",
    "vadd.i32 q7, q7, r3",
    "ldr r10, [r11, #{channels}]",
    // A saturating shift and its inverse leave the nearest s8 in each lane.
    "vqshl.s32 q5, q5, #24",
    "vqshl.s32 q6, q6, #24",
    "vqshl.s32 q7, q7, #24",
    "vshr.s32 q5, q5, #24",
    "vshr.s32 q6, q6, #24",
    "vshr.s32 q7, q7, #24",
    "cbnz r4, 8f",
    "6:",
    "subs r10, #4",
    "blt 7f",
    "vstrb.32 q5, [r0], #4",
    "vstrb.32 q6, [r1], #4",
    "vstrb.32 q7, [r2], #4",
    "strd r0, r1, [r11, #{outputs}]",
    "str r2, [r11, #{outputs} + 8]",
    "str r10, [r11, #{channels}]",
    "bne 3b",
    "vpop {{d8-d15}}",
    "pop {{r4-r11, pc}}",
    "7:",
    "add r10, #4",
    "vctp.32 r10",
    "vpsttt",
    "vstrbt.32 q5, [r0]",
    "vstrbt.32 q6, [r1]",
    "vstrbt.32 q7, [r2]",
    "vpop {{d8-d15}}",
    "pop {{r4-r11, pc}}",
    // The residual, of the channels that are left.
    "8:",
    "ldr r4, [r11, #{has_residual}]",
    "cbz r4, 9f",
    "ldrd r4, r5, [r11, #{gains}]",
    "ldrd r6, r7, [r11, #{residuals}]",
    "ldr r3, [r11, #{residuals} + 8]",
    "vctp.32 r10",
    "vmul.i32 q5, q5, r4",
    "vmul.i32 q6, q6, r4",
    "vmul.i32 q7, q7, r4",
    "vpsttt",
    "vldrbt.s32 q0, [r6], #4",
    "vldrbt.s32 q1, [r7], #4",
    "vldrbt.s32 q2, [r3], #4",
    "strd r6, r7, [r11, #{residuals}]",
    "str r3, [r11, #{residuals} + 8]",
    "ldrd r6, r3, [r11, #{constant}]",
    "vmla.s32 q5, q0, r5",
    "vmla.s32 q6, q1, r5",
    "vmla.s32 q7, q2, r5",
    "vadd.i32 q5, q5, r6",
    "vadd.i32 q6, q6, r6",
    "vadd.i32 q7, q7, r6",
    "vshl.s32 q5, r3",
    "vshl.s32 q6, r3",
    "vshl.s32 q7, r3",
    "vqshl.s32 q5, q5, #24",
    "vqshl.s32 q6, q6, #24",
    "vqshl.s32 q7, q7, #24",
    "vshr.s32 q5, q5, #24",
    "vshr.s32 q6, q6, #24",
    "vshr.s32 q7, q7, #24",
    "9:",
    "ldr r4, [r11, #{table}]",
    "cmp r4, #0",
    "beq 6b",
    // Lanes are signed offsets from the middle of the table.
    "vldrb.u32 q0, [r4, q5]",
    "vldrb.u32 q1, [r4, q6]",
    "vldrb.u32 q2, [r4, q7]",
    "vmov q5, q0",
    "vmov q6, q1",
    "vmov q7, q2",
    "b 6b",
    ".size flowlet_mve_conv_tile, . - flowlet_mve_conv_tile",
    ".purgem flowlet_mve_pair",
    ".popsection",
    outputs = const offset_of!(Tile, outputs),
    residuals = const offset_of!(Tile, residuals),
    bias = const offset_of!(Tile, bias),
    weights = const offset_of!(Tile, weights),
    products = const offset_of!(Tile, products),
    channels = const offset_of!(Tile, channels),
    left_shift = const offset_of!(Tile, finish) + offset_of!(Finish, left_shift),
    gains = const offset_of!(Tile, finish) + offset_of!(Finish, gains),
    constant = const offset_of!(Tile, finish) + offset_of!(Finish, constant),
    table = const offset_of!(Tile, finish) + offset_of!(Finish, table),
    more = const offset_of!(Tile, finish) + offset_of!(Finish, more),
    has_residual = const offset_of!(Tile, finish) + offset_of!(Finish, has_residual),
);
