//! Depthwise and transposed convolutions, as steps in the packing of the core's kernels. Random weights need no order,
//! so none is packed.

use flowlet::kernels::conv;
use flowlet::plan::{Conv, ConvTranspose, Packing, Slot};

use crate::constants::{Constants, ZERO_POINT, epilogue, slot};
use crate::{Arena, bench};

/// Whether the core has vectors; the others have the DSP extension.
const MVE: bool = cfg!(feature = "mps3-an547");
const DEPTHWISE: Packing = if MVE { conv::MVE_DEPTHWISE } else { Packing::DspDepthwise };
const TRANSPOSED: Packing = if MVE { conv::MVE_PANELS } else { Packing::DspPairs };

/// Scratch memory, first in the arena; more than any of them needs.
const SCRATCH: Slot = slot(0, [1024, 1, 8], 0);
const INPUT: u32 = 8 * 1024;

const fn depthwise(picture: [u16; 3], kernel: u8, stride: u8, weights: &'static [u8]) -> Conv<'static> {
    let [height, width, channels] = picture;
    let size = height.div_ceil(stride as u16);
    let output = INPUT + height as u32 * width as u32 * channels as u32;
    Conv {
        input: slot(INPUT, picture, 1),
        output: slot(output, [size, size, channels], 2),
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1, 1],
        pad: [(kernel - stride) / 2; 2],
        upsample: 1,
        groups: channels,
        input_zero_point: ZERO_POINT,
        weights,
        packing: DEPTHWISE,
        scratch: Some(SCRATCH),
        epilogue: epilogue(DEPTHWISE, channels as usize, 1),
    }
}

const fn depthwise_bytes(channels: usize, kernel: u8) -> usize {
    DEPTHWISE.bytes(channels, [kernel; 2], 1)
}

static W3_32: Constants<{ depthwise_bytes(32, 3) }> = Constants::random();
static W3_64: Constants<{ depthwise_bytes(64, 3) }> = Constants::random();
static W3_128: Constants<{ depthwise_bytes(128, 3) }> = Constants::random();
static W5_64: Constants<{ depthwise_bytes(64, 5) }> = Constants::random();

static DW_28: Conv<'static> = depthwise([28, 28, 32], 3, 1, &W3_32.0);
static DW_14: Conv<'static> = depthwise([14, 14, 64], 3, 1, &W3_64.0);
static DW_7: Conv<'static> = depthwise([7, 7, 128], 3, 1, &W3_128.0);
static DW_28_STRIDE: Conv<'static> = depthwise([28, 28, 32], 3, 2, &W3_32.0);
static DW5_14: Conv<'static> = depthwise([14, 14, 64], 5, 1, &W5_64.0);

const INPUTS: usize = 64;
const OUTPUTS: usize = 32;

/// Four phases, each of a quarter of the kernel's places.
const fn transposed_bytes(kernel: u8) -> usize {
    4 * TRANSPOSED.bytes(OUTPUTS, [kernel / 2; 2], INPUTS)
}

static W_2X2: Constants<{ transposed_bytes(2) }> = Constants::random();
static W_4X4: Constants<{ transposed_bytes(4) }> = Constants::random();

const fn transposed(size: u16, kernel: u8, pad: u8, weights: &'static [u8]) -> ConvTranspose<'static> {
    let output = INPUT + size as u32 * size as u32 * INPUTS as u32;
    ConvTranspose {
        input: slot(INPUT, [size, size, INPUTS as u16], 1),
        output: slot(output, [2 * size, 2 * size, OUTPUTS as u16], 2),
        kernel: [kernel; 2],
        stride: [2, 2],
        pad: [pad; 2],
        input_zero_point: ZERO_POINT,
        weights,
        packing: TRANSPOSED,
        scratch: Some(SCRATCH),
        epilogue: epilogue(TRANSPOSED, OUTPUTS, 4),
    }
}

static TCONV2X2: ConvTranspose<'static> = transposed(14, 2, 0, &W_2X2.0);
static TCONV4X4: ConvTranspose<'static> = transposed(7, 4, 1, &W_4X4.0);

/// Runs them.
pub fn run(arena: &mut Arena) {
    bench(arena, "dw3x3_28x28x32", |arena| conv::run(arena.bytes(), &DW_28, 0));
    bench(arena, "dw3x3_14x14x64", |arena| conv::run(arena.bytes(), &DW_14, 0));
    bench(arena, "dw3x3_7x7x128", |arena| conv::run(arena.bytes(), &DW_7, 0));
    bench(arena, "dw3x3s2_28x28x32", |arena| conv::run(arena.bytes(), &DW_28_STRIDE, 0));
    bench(arena, "dw5x5_14x14x64", |arena| conv::run(arena.bytes(), &DW5_14, 0));
    bench(arena, "tconv2x2s2_14x14x64_32", |arena| conv::run_transpose(arena.bytes(), &TCONV2X2, 0));
    bench(arena, "tconv4x4s2_7x7x64_32", |arena| conv::run_transpose(arena.bytes(), &TCONV4X4, 0));
}
