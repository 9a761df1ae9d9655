//! Where steps are cut. That the parts compute what the whole does is the conformance suite's to show.
#![allow(clippy::unwrap_used)]

use flowlet_plan::*;

const ZEROS: &[u8] = &[0; 64 * 1024];

fn slot(offset: u32, [height, width, channels]: [u16; 3]) -> Slot {
    Slot { offset, height, width, channels, pitch: channels, dtype: DType::S8, tensor: offset as u16 }
}

/// A 3x3 convolution with padding 1 and two rows of biases.
fn conv(size: u16, channels: u16, upsample: u8) -> Step<'static> {
    let packing = Packing::Panels(Panels { isa: Isa::Avx2, nr: 16, kr: 2, run: Run::Filter });
    let wide = size * u16::from(upsample);
    let outputs = usize::from(channels);
    Step::Conv(Conv {
        input: slot(0, [size, size, channels]),
        output: slot(50_000, [wide, wide, channels]),
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [1, 1],
        upsample,
        groups: 1,
        input_zero_point: 0,
        weights: &ZEROS[..packing.bytes(outputs, [3, 3], outputs)],
        packing,
        scratch: None,
        epilogue: Epilogue {
            multipliers: &ZEROS[..4 * outputs],
            bias: &ZEROS[..8 * outputs],
            row: RowKey::Index(0),
            left_shift: 0,
            zero_point: 0,
            residual: None,
            table: None,
        },
    })
}

/// Height and channels of each part's result.
fn parts(step: &Step<'_>, of: usize) -> Vec<[u16; 2]> {
    let parts: Vec<_> = (0..of).filter_map(|part| step.part(1, part, of)).collect();
    assert!(parts.iter().all(|part| part.fits(1 << 17)));
    parts.iter().map(|part| [part.output().height, part.output().channels]).collect()
}

#[test]
fn images_are_cut_by_rows() {
    assert_eq!(parts(&conv(14, 32, 1), 2), [[7, 32], [7, 32]]);
    assert_eq!(parts(&conv(14, 32, 1), 1), [[14, 32]]);
}

#[test]
fn few_pixels_are_cut_by_channels() {
    assert_eq!(parts(&conv(3, 64, 1), 2), [[3, 32], [3, 32]]);
    assert_eq!(parts(&conv(7, 64, 1), 2), [[3, 64], [4, 64]]);
}

#[test]
fn threads_do_not_write_to_the_same_cache_lines() {
    let pool = |size: u16, kernel, channels| {
        let (input, output) = (slot(0, [2 * size, 2 * size, channels]), slot(50_000, [size, size, channels]));
        let pad = if kernel == 3 { [1, 1] } else { [0, 0] };
        Step::Pool(Pool { input, output, kernel: [kernel; 2], stride: [2, 2], pad, kind: PoolKind::Max })
    };
    assert_eq!(parts(&pool(7, 2, 32), 2), [[3, 32], [4, 32]]);
    assert_eq!(parts(&pool(7, 3, 32), 2), [[7, 32]]);
    assert_eq!(parts(&pool(7, 3, 128), 2), [[7, 64], [7, 64]]);
    let norm = |channels: u16| {
        let (input, words) = (slot(0, [7, 7, channels]), &ZEROS[..4 * usize::from(channels)]);
        let kind = NormKind::Group { groups: 8 };
        let (epsilon, gain_shift, table) = (1, 0, None);
        Step::Norm(Norm {
            input,
            output: input,
            kind,
            input_zero_point: 0,
            epsilon,
            gain: words,
            gain_shift,
            offset: words,
            table,
        })
    };
    assert_eq!(parts(&norm(64), 2), [[7, 64]]);
    assert_eq!(parts(&norm(128), 2), [[7, 64], [7, 64]]);
}

#[test]
fn upsampled_parts_begin_at_whole_input_rows() {
    assert_eq!(parts(&conv(14, 16, 2), 2), [[13, 16], [15, 16]]);
}

#[test]
fn a_part_has_the_row_of_biases_that_was_asked_for() {
    let Some(Step::Conv(part)) = conv(14, 16, 1).part(1, 0, 2) else { panic!("a convolution") };
    assert_eq!((part.epilogue.rows(), part.epilogue.row), (1, RowKey::Fixed));
}

#[test]
fn what_cannot_be_cut_is_its_own_first_part() {
    let step = Step::Transpose(Transpose { input: slot(0, [4, 4, 2]), output: slot(32, [1, 2, 16]) });
    assert_eq!(step.part(0, 0, 3), Some(step));
    assert_eq!(step.part(0, 1, 3), None);
}

#[test]
fn a_step_is_shared_where_each_part_is_worth_handing_over() {
    let (large, small) = (conv(7, 64, 1), conv(3, 16, 1));
    assert_eq!([1, 2, 3, 1000].map(|threads| large.parts(threads)), [1, 2, 3, 15]);
    assert_eq!(small.parts(2), 1);
}

#[test]
fn threads_that_sleep_are_woken_for_enough_steps() {
    let (large, small) = (conv(14, 64, 1), conv(7, 64, 1));
    assert!(is_worth_waking(&[large], 1, 2));
    assert!(!is_worth_waking(&[large], 1, 1));
    assert!(small.parts(2) == 2 && !is_worth_waking(&[small], 1, 2));
    assert!(is_worth_waking(&[small; 3], 1, 2) && is_worth_waking(&[small], 3, 2));
    assert!(!is_worth_waking(&[conv(3, 16, 1); 100], 100, 2));
}
