//! Results worked out by hand, so that a kernel and its reference cannot share a mistake.

use flowlet_kernels::plan::*;
use flowlet_kernels::{conv, map, shuffle};

/// ONNX's own example of the channel order: DepthToSpace, mode CRD, on `[1, 1, 8]` with block 2.
#[test]
fn shuffle_has_onnx_order() {
    let slot = |offset, height, width, channels| Slot {
        offset,
        height,
        width,
        channels,
        pitch: channels,
        dtype: DType::S8,
        tensor: offset as u16,
    };
    let mut arena = [0, 1, 2, 3, 10, 11, 12, 13, 0, 0, 0, 0, 0, 0, 0, 0];
    let step = Shuffle { input: slot(0, 1, 1, 8), output: slot(8, 2, 2, 2), block: 2, kind: ShuffleKind::PixelShuffle };
    shuffle::run(&mut arena, &step);
    assert_eq!(arena[8..], [0, 10, 1, 11, 2, 12, 3, 13]);
}

/// A hand-computed convolution, so that kernel and reference cannot share a mistake about borders.
#[test]
fn conv_by_hand() {
    let slot = |offset, tensor| Slot { offset, height: 2, width: 2, channels: 1, pitch: 1, dtype: DType::S8, tensor };
    let one = 1i32 << 30; // times 2 * 2^30 / 2^32: the multiplier 1 needs a left shift of 2
    let step = Conv {
        input: slot(0, 0),
        output: slot(4, 1),
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [1, 1],
        upsample: 1,
        groups: 1,
        input_zero_point: 10,
        weights: &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        packing: Packing::Ohwi,
        scratch: None,
        epilogue: Epilogue {
            multipliers: &one.to_le_bytes(),
            bias: &(-10i32 * 45).to_le_bytes(),
            row: RowKey::Fixed,
            left_shift: 2,
            zero_point: 1,
            residual: None,
            table: None,
        },
    };
    let mut arena = [11, 12, 10, 9, 0, 0, 0, 0];
    conv::run(&mut arena, &step, 0);
    // Above the zero point the input is [[1, 2], [0, -1]].
    assert_eq!(arena[4..], [1 + 5 + 12 - 9, 1 + 4 + 10 - 8, 1 + 2 + 6 - 6, 1 + 1 + 4 - 5]);
}

#[test]
#[should_panic(expected = "does not fit the arena")]
fn a_step_outside_the_arena_is_refused() {
    let slot = Slot { offset: 0, height: 2, width: 2, channels: 4, pitch: 4, dtype: DType::S8, tensor: 0 };
    map::run(&mut [0; 15], &Map { input: slot, output: slot, table: None });
}
