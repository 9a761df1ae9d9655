//! Threads give the bytes that one thread gives.
#![cfg(feature = "std")]

use flowlet_kernels::plan::{AddParams, Conv, DType, Epilogue, Map, Packing, Residual, RowKey, Slot, Step};
use flowlet_kernels::{Threads, step};

fn slot(offset: u32, size: u16, channels: u16) -> Slot {
    Slot { offset, height: size, width: size, channels, pitch: channels, dtype: DType::S8, tensor: 0 }
}

fn bytes(n: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let weights: Vec<u8> = bytes(48 * 9 * 32, 1).iter().map(|&w| if w == 0x80 { 0 } else { w }).collect();
    let multipliers: Vec<u8> = (0..48).flat_map(|c| (2_000_000 + 2 * c * 1000_i32).to_le_bytes()).collect();
    let bias: Vec<u8> = (0..2 * 48).flat_map(|c| (c * 300 - 9000_i32).to_le_bytes()).collect();
    let table: [u8; 256] = std::array::from_fn(|i| 255 - i as u8);
    let (input, output) = (slot(0, 29, 32), slot(29 * 29 * 32, 29, 48));
    let epilogue = Epilogue {
        multipliers: &multipliers,
        bias: &bias,
        row: RowKey::Index(0),
        left_shift: 6,
        zero_point: -7,
        residual: Some(Residual { slot: output, params: AddParams { ma: 9000, mb: -5000, c: 77, shift: 14 } }),
        table: Some(&table),
    };
    let conv = Step::Conv(Conv {
        input,
        output,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pad: [1, 1],
        upsample: 1,
        groups: 1,
        input_zero_point: 3,
        weights: &weights,
        packing: Packing::Ohwi,
        scratch: None,
        epilogue,
    });
    let map = Step::Map(Map { input: output, output, table: Some(&table) });
    let before: Vec<i8> = bytes(29 * 29 * 80, 2).iter().map(|&b| b as i8).collect();
    for row in 0..2 {
        let mut want = before.clone();
        step::run(&mut want, &conv, row);
        step::run(&mut want, &map, 0);
        assert_ne!(want, before);
        for count in 1..=5 {
            let threads = Threads::new(count);
            assert_eq!(threads.count(), count);
            assert!(conv.parts(count) == count, "the layer is large enough to be shared");
            // Often, so that helpers are found at work, watching and asleep.
            for round in 0..20 {
                let mut got = before.clone();
                let mut pass = threads.pass(&[conv, map], 1);
                pass.run(&mut got, &conv, row);
                if round % 5 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                pass.run(&mut got, &map, 0);
                assert!(got == want, "{count} threads, row {row}, round {round}");
            }
        }
    }
}

#[test]
fn callers_do_not_disturb_each_other() {
    let threads = Threads::new(3);
    let input = slot(0, 100, 32);
    let table: [u8; 256] = std::array::from_fn(|i| i as u8 ^ 0x55);
    let map = Step::Map(Map { input, output: input, table: Some(&table) });
    assert!(map.parts(3) > 1);
    let before: Vec<i8> = bytes(input.elements(), 3).iter().map(|&b| b as i8).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let mut arena = before.clone();
                    let mut pass = threads.pass(&[map], 2);
                    pass.run(&mut arena, &map, 0);
                    assert_ne!(arena, before);
                    pass.run(&mut arena, &map, 0);
                    assert_eq!(arena, before);
                }
            });
        }
    });
}

#[test]
fn a_step_that_does_not_fit_is_refused_and_the_helpers_live_on() {
    let input = slot(0, 100, 32);
    let table: [u8; 256] = std::array::from_fn(|i| i as u8 ^ 0x55);
    let map = Step::Map(Map { input, output: input, table: Some(&table) });
    let threads = Threads::new(2);
    let refused = std::panic::AssertUnwindSafe(|| threads.pass(&[map], 1).run(&mut [0; 64], &map, 0));
    let why = std::panic::catch_unwind(refused).expect_err("64 bytes are too few");
    let text = why.downcast_ref::<&str>().copied().or(why.downcast_ref::<String>().map(|why| why.as_str()));
    assert!(text.is_some_and(|text| text.contains("does not fit the arena")), "{text:?}");
    let mut arena = vec![0; input.elements()];
    threads.pass(&[map], 1).run(&mut arena, &map, 0);
    assert!(arena.iter().all(|&x| x == 0xD5_u8 as i8));
}
