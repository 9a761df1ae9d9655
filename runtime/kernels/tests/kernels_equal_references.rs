//! Every kernel equals its reference, byte for byte and in the whole arena, so that a stray write shows too.

mod cases;

use cases::{ARENA_BYTES, CHANNELS, CONSTANT_BYTES, Random, SIZES};
use flowlet_kernels::plan::*;
use flowlet_kernels::{add, conv, map, shuffle};

fn arena(random: &mut Random) -> Vec<i8> {
    let mut bytes = vec![0; ARENA_BYTES];
    random.fill(&mut bytes, false);
    bytes.into_iter().map(|byte| byte as i8).collect()
}

fn table(random: &mut Random) -> [u8; 256] {
    let mut table = [0; 256];
    random.fill(&mut table, false);
    table
}

/// Runs both and compares.
fn compare(before: &[i8], kernel: impl Fn(&mut [i8]), reference: impl Fn(&[i8], &mut [i8]), what: &str) {
    let (mut got, mut want) = (before.to_vec(), before.to_vec());
    kernel(&mut got);
    reference(before, &mut want);
    if let Some(place) = (0..want.len()).find(|&i| got[i] != want[i]) {
        panic!("byte {place}: kernel {}, reference {}: {what}", got[place], want[place]);
    }
}

#[test]
fn conv_equals_reference() {
    let mut random = Random(2);
    let mut constants = vec![0; CONSTANT_BYTES];
    let (mut cases, mut macs) = (0, 0);
    let (goal, most) = match (cfg!(miri), cfg!(debug_assertions)) {
        (true, _) => (10, 400),
        (false, true) => (1_000, 50_000),
        (false, false) => (8_000, 150_000),
    };
    while cases < goal {
        let table = table(&mut random);
        let step = cases::conv(&mut random, &mut constants, &table);
        if !step.fits(ARENA_BYTES) || step.macs() > most && (cfg!(miri) || random.below(20) > 0) {
            continue;
        }
        let row = random.below(4) as usize;
        let before = arena(&mut random);
        let what = format!("case {cases}, row {row}: {:?}", Conv { weights: &[], multipliers: &[], ..step });
        compare(&before, |a| conv::run(a, &step, row), |b, a| conv::reference::run(b, a, &step, row), &what);
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        {
            // SAFETY: the step fits, and the row is clamped as `run` does.
            let scalar = |a: &mut [i8]| unsafe { conv::scalar::run(a.as_mut_ptr(), &step, row.min(step.rows() - 1)) };
            compare(&before, scalar, |b, a| conv::reference::run(b, a, &step, row), &what);
        }
        cases += 1;
        macs += step.macs();
    }
    println!("{cases} cases, {macs} multiply-accumulates");
}

#[test]
fn add_equals_reference() {
    let mut random = Random(3);
    for case in 0..if cfg!(miri) { 5 } else { 500 } {
        let shape = [random.pick(SIZES), random.pick(SIZES), random.pick(CHANNELS)];
        let mut used = 0;
        let a = cases::slot(&mut random, &mut used, shape, 0);
        let b = cases::slot(&mut random, &mut used, shape, 1);
        let new = cases::slot(&mut random, &mut used, shape, 2);
        let output = random.pick(&[a, b, new]);
        let b = random.pick(&[a, b, b]);
        let table = table(&mut random);
        let params = cases::add_params(&mut random);
        let step = Add { a, b, output, params, table: (random.below(2) > 0).then_some(&table) };
        let before = arena(&mut random);
        let what = format!("case {case}: {step:?}");
        compare(&before, |a| add::run(a, &step), |b, a| add::reference::run(b, a, &step), &what);
    }
}

#[test]
fn map_equals_reference() {
    let mut random = Random(4);
    for case in 0..if cfg!(miri) { 5 } else { 300 } {
        let shape = [random.pick(SIZES), random.pick(SIZES), random.pick(CHANNELS)];
        let mut used = 0;
        let input = cases::slot(&mut random, &mut used, shape, 0);
        let new = cases::slot(&mut random, &mut used, shape, 1);
        let table = table(&mut random);
        let step = Map { input, output: random.pick(&[input, new]), table: (random.below(3) > 0).then_some(&table) };
        let before = arena(&mut random);
        let what = format!("case {case}: {step:?}");
        compare(&before, |a| map::run(a, &step), |b, a| map::reference::run(b, a, &step), &what);
    }
}

#[test]
fn shuffle_equals_reference_and_inverts() {
    let mut random = Random(5);
    for case in 0..if cfg!(miri) { 5 } else { 300 } {
        let block = random.pick(&[1, 2, 3, 4]);
        let [h, w, c] = [random.pick(&SIZES[..4]), random.pick(&SIZES[..4]), random.pick(CHANNELS)];
        let b = u16::from(block);
        let mut used = 0;
        let large = cases::slot(&mut random, &mut used, [h * b, w * b, c], 0);
        let small = cases::slot(&mut random, &mut used, [h, w, c * b * b], 1);
        let again = cases::slot(&mut random, &mut used, [h * b, w * b, c], 2);
        if again.end() > ARENA_BYTES {
            continue;
        }
        let there = Shuffle { input: large, output: small, block, kind: ShuffleKind::PixelUnshuffle };
        let back = Shuffle { input: small, output: again, block, kind: ShuffleKind::PixelShuffle };
        let before = arena(&mut random);
        for step in [there, back] {
            let what = format!("case {case}: {step:?}");
            compare(&before, |a| shuffle::run(a, &step), |b, a| shuffle::reference::run(b, a, &step), &what);
        }
        let mut both = before.clone();
        shuffle::run(&mut both, &there);
        shuffle::run(&mut both, &back);
        let values = |arena: &[i8], slot: &Slot| -> Vec<i8> {
            (0..slot.pixels())
                .flat_map(|p| {
                    let first = slot.offset as usize + p * usize::from(slot.pitch);
                    arena[first..first + usize::from(slot.channels)].to_vec()
                })
                .collect()
        };
        assert_eq!(values(&both, &again), values(&before, &large));
    }
}

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
        pad: [1, 1],
        upsample: 1,
        input_zero_point: 10,
        weights: &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        packing: Packing::Ohwi,
        multipliers: &one.to_le_bytes(),
        bias: &(-10i32 * 45).to_le_bytes(),
        row: RowKey::Fixed,
        left_shift: 2,
        output_zero_point: 1,
        residual: None,
        table: None,
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
