//! The rows of the table that have no weights.

use flowlet::kernels::{add, matmul, mul, pool, softmax};
use flowlet::plan::{Add, AddParams, MatMul, Matrices, Mul, Pool, PoolKind, Softmax, Split};

use crate::constants::slot;
use crate::{Arena, bench};

const PICTURE: [u16; 3] = [28, 28, 32];
const BYTES: u32 = 28 * 28 * 32;

static ADD: Add<'static> = Add {
    a: slot(0, PICTURE, 0),
    b: slot(BYTES, PICTURE, 1),
    output: slot(2 * BYTES, PICTURE, 2),
    params: AddParams { ma: 9000, mb: 8000, c: 1000, shift: 14 },
    table: None,
};

static MUL: Mul<'static> = Mul {
    a: slot(0, PICTURE, 0),
    b: slot(BYTES, PICTURE, 1),
    output: slot(2 * BYTES, PICTURE, 2),
    a_zero_point: 7,
    b_zero_point: -3,
    multiplier: 40_000_000,
    left_shift: 1,
    zero_point: -5,
    table: None,
};

/// A pool over windows of `kernel` places at strides of their size.
const fn pool_of(picture: [u16; 3], kernel: u16, kind: PoolKind) -> Pool {
    let [height, width, channels] = picture;
    Pool {
        input: slot(0, picture, 0),
        output: slot(BYTES, [height / kernel, width / kernel, channels], 1),
        kernel: [kernel; 2],
        stride: [kernel; 2],
        pad: [0; 2],
        kind,
    }
}

const fn average(places: i32) -> PoolKind {
    PoolKind::Average { input_zero_point: 7, multiplier: (1 << 30) / places * 2, left_shift: 1, zero_point: 7 }
}

static AVERAGE: Pool = pool_of(PICTURE, 2, average(4));
static MAX: Pool = pool_of(PICTURE, 2, PoolKind::Max);
static GLOBAL: Pool = pool_of([7, 7, 128], 7, average(49));

/// `exp(-d / 32)` in 16 bits, by repeated multiplication: good enough to count with.
static EXP: [u8; 512] = {
    let mut table = [0; 512];
    let (mut e, mut i) = (65535u32, 0);
    while i < 256 {
        [table[2 * i], table[2 * i + 1]] = (e as u16).to_le_bytes();
        e = (e * 31) / 32;
        i += 1;
    }
    table
};

const fn softmax_of(rows: u16, channels: u16) -> Softmax<'static> {
    Softmax { input: slot(0, [rows, 1, channels], 0), output: slot(BYTES, [rows, 1, channels], 1), table: &EXP }
}

static SOFTMAX_10: Softmax<'static> = softmax_of(1, 10);
static SOFTMAX_256: Softmax<'static> = softmax_of(1, 256);
static SOFTMAX_49: Softmax<'static> = softmax_of(49, 49);

/// Four products of 49 x 32 and 32 x 49, the right side as it lies in memory.
static PRODUCT: MatMul = MatMul {
    a: Matrices { slot: slot(0, [4, 49, 32], 0), split: Split::Rows },
    b: Matrices { slot: slot(BYTES, [4, 32, 49], 1), split: Split::Rows },
    output: Matrices { slot: slot(2 * BYTES, [4, 49, 49], 2), split: Split::Rows },
    batch: 4,
    transposed: false,
    a_zero_point: 7,
    multiplier: 8_000_000,
    left_shift: 1,
    zero_point: -3,
    scratch: Some(slot(3 * BYTES, [2048, 1, 8], 3)),
};

/// Runs them.
pub fn run(arena: &mut Arena) {
    bench(arena, "softmax_1x10", |arena| softmax::run(arena.bytes(), &SOFTMAX_10));
    bench(arena, "softmax_1x256", |arena| softmax::run(arena.bytes(), &SOFTMAX_256));
    bench(arena, "softmax_49x49", |arena| softmax::run(arena.bytes(), &SOFTMAX_49));
    bench(arena, "add_28x28x32", |arena| add::run(arena.bytes(), &ADD));
    bench(arena, "mul_28x28x32", |arena| mul::run(arena.bytes(), &MUL));
    bench(arena, "avgpool2x2_28x28x32", |arena| pool::run(arena.bytes(), &AVERAGE));
    bench(arena, "maxpool2x2_28x28x32", |arena| pool::run(arena.bytes(), &MAX));
    bench(arena, "gap_7x7x128", |arena| pool::run(arena.bytes(), &GLOBAL));
    bench(arena, "bmm_4x49x32_32x49", |arena| matmul::run(arena.bytes(), &PRODUCT));
}
