//! Kernel calls over the shapes that break kernels: sizes around tiles, primes, every kind of border, gaps between
//! pixels, zero points and weights at their limits, values that saturate, results in place. A shape that does not fit
//! the memory gives `None`.

use flowlet_kernels::conv::pack;
use flowlet_kernels::plan::*;

use crate::memory::{Places, take};
use crate::random::Random;

/// Channels: 1, around tiles of 2, 4, 8, 16 and 32, primes, fewer than four.
const CHANNELS: &[u16] = &[1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 15, 16, 17, 24, 31, 32, 33];
/// Channels beyond what kernels without weights take at a time.
const WIDE: &[u16] = &[64, 65, 129, 150];
/// Rows and columns.
const SIZES: &[u16] = &[1, 2, 3, 4, 5, 7, 8];

/// The limit on the products of one case, so that an emulated core ends in time.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Multiply-accumulates.
    pub macs: u64,
}

fn small(value: u32) -> u8 {
    value as u8
}

fn table<'m>(random: &mut Random, rest: &mut &'m mut [u8]) -> Option<Option<Table<'m>>> {
    if random.coin() {
        return Some(None);
    }
    let table: &mut [u8; 256] = take(rest, 256)?.first_chunk_mut()?;
    let step = random.next() as u8 | 1;
    let first = random.next() as u8;
    for (i, entry) in table.iter_mut().enumerate() {
        *entry = first.wrapping_add((i as u8).wrapping_mul(step));
    }
    Some(Some(table))
}

fn add_params(random: &mut Random) -> AddParams {
    let shift = 1 + small(random.below(30));
    AddParams { ma: random.next() as i16, mb: random.next() as i16, c: random.next() as i32 >> random.below(31), shift }
}

fn multiplier(random: &mut Random) -> i32 {
    let m = if random.coin() { random.next() >> 12 } else { random.next() >> 1 } & !1;
    m.max(2) as i32
}

fn epilogue<'m>(
    random: &mut Random,
    places: &mut Places,
    rest: &mut &'m mut [u8],
    output: &Slot,
    packing: Packing,
    phases: usize,
) -> Option<Epilogue<'m>> {
    let outputs = usize::from(output.channels);
    let padded = packing.padded_outputs(outputs);
    let multipliers = take(rest, 4 * padded)?;
    multipliers.fill(0);
    for word in multipliers.chunks_exact_mut(4).take(outputs) {
        word.copy_from_slice(&multiplier(random).to_le_bytes());
    }
    let rows = phases * (1 + random.below(2) as usize);
    let bias = take(rest, 4 * padded * rows)?;
    let shrink = random.below(32);
    for row in bias.chunks_exact_mut(4 * padded) {
        row.fill(0);
        for word in row.chunks_exact_mut(4).take(outputs) {
            word.copy_from_slice(&(random.next() as i32 >> shrink).to_le_bytes());
        }
    }
    let residual = match random.below(3) {
        0 => None,
        1 => Some(Residual { slot: *output, params: add_params(random) }),
        _ => {
            let shape = [output.height, output.width, output.channels];
            Some(Residual { slot: places.slot(random, shape), params: add_params(random) })
        }
    };
    Some(Epilogue {
        multipliers,
        bias,
        row: RowKey::Fixed,
        left_shift: random.pick(&[0, 0, 1, 5, 9, 14, 30]),
        zero_point: random.zero_point(),
        residual,
        table: table(random, rest)?,
    })
}

fn filters<'m>(random: &mut Random, rest: &mut &'m mut [u8], bytes: usize) -> Option<&'m mut [u8]> {
    let filters = take(rest, bytes)?;
    random.weights(filters);
    Some(filters)
}

/// A convolution in this packing.
pub(crate) fn conv<'m>(
    random: &mut Random,
    mut rest: &'m mut [u8],
    packing: Packing,
    arena: usize,
    limit: Limit,
) -> Option<Conv<'m>> {
    let depthwise = packing.is_depthwise();
    let kernel = random.pick(&[[1, 1], [1, 1], [3, 3], [3, 3], [1, 3], [1, 5], [3, 1], [5, 5], [2, 2], [4, 4]]);
    let (mut output, mut input) = ([1u16; 3], [1u16; 3]);
    let (mut stride, mut pad, mut dilation) = ([1u8; 2], [0u8; 2], [1u8; 2]);
    let upsample = if depthwise { 1 } else { random.pick(&[1, 1, 1, 2]) };
    for axis in 0..2 {
        input[axis] = random.pick(SIZES);
        stride[axis] = random.pick(&[1, 1, 2, 3]);
        dilation[axis] = random.pick(&[1, 1, 1, 2]);
        let reach = (u32::from(kernel[axis]) - 1) * u32::from(dilation[axis]) + 1;
        pad[axis] = small(random.below(reach));
        let below = random.below(reach);
        let room = u32::from(input[axis]) * u32::from(upsample) + u32::from(pad[axis]) + below;
        // Too small an input still has one output, which sees padding below.
        output[axis] = (room.saturating_sub(reach) / u32::from(stride[axis]) + 1) as u16;
    }
    let groups = match packing {
        Packing::Ohwi => random.pick(&[1, 1, 1, 2, 3]),
        Packing::Panels(_) | Packing::DspPairs => 1,
        Packing::Depthwise { .. } | Packing::DspDepthwise => random.pick(CHANNELS),
    };
    input[2] = if depthwise { groups } else { groups * random.pick(CHANNELS) };
    output[2] = if depthwise { groups } else { groups * random.pick(CHANNELS) };
    let mut places = Places::default();
    let input = places.slot(random, input);
    let output = places.slot(random, output);
    let inputs = usize::from(input.channels / groups);
    let outputs = usize::from(output.channels);
    let rest = &mut rest;
    let plain = filters(random, rest, outputs * usize::from(kernel[0]) * usize::from(kernel[1]) * inputs)?;
    let weights = take(rest, packing.bytes(outputs, kernel, inputs))?;
    pack::pack(packing, plain, outputs, kernel, inputs, weights);
    let epilogue = epilogue(random, &mut places, rest, &output, packing, 1)?;
    let mut step = Conv {
        input,
        output,
        kernel,
        stride,
        dilation,
        pad,
        upsample,
        groups,
        input_zero_point: random.zero_point(),
        weights,
        packing,
        scratch: None,
        epilogue,
    };
    step.scratch = places.scratch(step.scratch_bytes());
    (step.fits(arena) && step.macs() <= limit.macs).then_some(step)
}

/// A transposed convolution in this packing.
pub(crate) fn conv_transpose<'m>(
    random: &mut Random,
    mut rest: &'m mut [u8],
    packing: Packing,
    arena: usize,
    limit: Limit,
) -> Option<ConvTranspose<'m>> {
    let kernel = random.pick(&[[2, 2], [4, 4], [3, 3], [1, 4], [1, 3], [1, 1], [5, 2]]);
    let (mut output, mut input) = ([1u16; 3], [1u16; 3]);
    let (mut stride, mut pad) = ([1u8; 2], [0u8; 2]);
    for axis in 0..2 {
        input[axis] = random.pick(SIZES);
        stride[axis] = random.pick(&[1, 2, 2, 3]);
        pad[axis] = small(random.below(u32::from(kernel[axis])));
        let full = (u32::from(input[axis]) - 1) * u32::from(stride[axis]) + u32::from(kernel[axis]);
        // Also output paddings, and outputs cut short.
        output[axis] = (full + random.below(3)).saturating_sub(2 * u32::from(pad[axis])).max(1) as u16;
    }
    input[2] = random.pick(CHANNELS);
    output[2] = random.pick(CHANNELS);
    let mut places = Places::default();
    let input = places.slot(random, input);
    let output = places.slot(random, output);
    let rest = &mut rest;
    let taps = usize::from(kernel[0]) * usize::from(kernel[1]);
    let plain = filters(random, rest, usize::from(output.channels) * taps * usize::from(input.channels))?;
    let phases = usize::from(stride[0]) * usize::from(stride[1]);
    let mut step = ConvTranspose {
        input,
        output,
        kernel,
        stride,
        pad,
        input_zero_point: random.zero_point(),
        weights: &[],
        packing,
        scratch: None,
        epilogue: epilogue(random, &mut places, rest, &output, packing, phases)?,
    };
    let weights = take(rest, step.weight_bytes())?;
    pack::pack_phases(&step, plain, weights);
    step.weights = weights;
    step.scratch = places.scratch(step.scratch_bytes());
    (step.fits(arena) && step.macs() <= limit.macs).then_some(step)
}

/// A batched matrix product.
pub(crate) fn matmul(random: &mut Random, arena: usize, limit: Limit) -> Option<MatMul> {
    let batch = random.pick(&[1, 1, 2, 3]);
    let [m, k, n] = [random.pick(CHANNELS), random.pick(CHANNELS), random.pick(CHANNELS)];
    // Longer than any kernel's buffer for a dot product on a microcontroller.
    let k = if random.below(16) == 0 { 515 } else { k };
    let transposed = random.coin();
    let mut places = Places::default();
    let need = Isa::ALL.map(|isa| matmul_scratch_bytes(isa, k.into(), n.into())).into_iter().max().unwrap_or(0);
    let scratch = if random.coin() { places.scratch(need) } else { None };
    let mut matrices = |random: &mut Random, rows: u16, columns: u16| {
        let split = if random.coin() { Split::Rows } else { Split::Channels };
        let shape = match split {
            Split::Rows => [batch, rows, columns],
            Split::Channels => [1, rows, columns * batch],
        };
        Matrices { slot: places.slot(random, shape), split }
    };
    let step = MatMul {
        a: matrices(random, m, k),
        b: if transposed { matrices(random, n, k) } else { matrices(random, k, n) },
        output: matrices(random, m, n),
        batch,
        transposed,
        a_zero_point: random.zero_point(),
        multiplier: multiplier(random),
        left_shift: random.pick(&[0, 0, 1, 5, 9, 14]),
        zero_point: random.zero_point(),
        scratch,
    };
    (step.fits(arena) && step.macs() <= limit.macs).then_some(step)
}

fn shape(random: &mut Random) -> [u16; 3] {
    let channels = if random.below(8) == 0 { WIDE } else { CHANNELS };
    [random.pick(SIZES), random.pick(SIZES), random.pick(channels)]
}

/// A sum.
pub(crate) fn add<'m>(random: &mut Random, mut rest: &'m mut [u8], arena: usize) -> Option<Add<'m>> {
    let shape = shape(random);
    let mut places = Places::default();
    let (a, b, new) = (places.slot(random, shape), places.slot(random, shape), places.slot(random, shape));
    let output = [a, b, new][random.below(3) as usize];
    let b = if random.below(3) == 0 { a } else { b };
    let step = Add { a, b, output, params: add_params(random), table: table(random, &mut rest)? };
    step.fits(arena).then_some(step)
}

/// A product.
pub(crate) fn mul<'m>(random: &mut Random, mut rest: &'m mut [u8], arena: usize) -> Option<Mul<'m>> {
    let shape = shape(random);
    let broadcast = random.below(3) == 0;
    let mut places = Places::default();
    let a = places.slot(random, shape);
    let b = places.slot(random, if broadcast { [1, 1, shape[2]] } else { shape });
    let new = places.slot(random, shape);
    let output = match random.below(3) {
        0 => a,
        1 if !broadcast => b,
        _ => new,
    };
    let step = Mul {
        a,
        b,
        output,
        a_zero_point: random.zero_point(),
        b_zero_point: random.zero_point(),
        multiplier: multiplier(random),
        left_shift: random.pick(&[0, 1, 7, 14]),
        zero_point: random.zero_point(),
        table: table(random, &mut rest)?,
    };
    step.fits(arena).then_some(step)
}

/// A table or a copy.
pub(crate) fn map<'m>(random: &mut Random, mut rest: &'m mut [u8], arena: usize) -> Option<Map<'m>> {
    let shape = shape(random);
    let mut places = Places::default();
    let (input, new) = (places.slot(random, shape), places.slot(random, shape));
    let output = if random.coin() { input } else { new };
    let step = Map { input, output, table: table(random, &mut rest)? };
    step.fits(arena).then_some(step)
}

/// A softmax.
pub(crate) fn softmax<'m>(random: &mut Random, mut rest: &'m mut [u8], arena: usize) -> Option<Softmax<'m>> {
    let shape = shape(random);
    let mut places = Places::default();
    let (input, new) = (places.slot(random, shape), places.slot(random, shape));
    let output = if random.coin() { input } else { new };
    let table: &mut [u8; 512] = take(&mut rest, 512)?.first_chunk_mut()?;
    // A decay of some rate, or all ones.
    let rate = random.pick(&[0, 1 << 12, 1 << 14, 60_000]);
    let mut e = 65_535u32;
    for entry in table.chunks_exact_mut(2) {
        entry.copy_from_slice(&(e as u16).to_le_bytes());
        e -= (e * rate) >> 16;
    }
    let step = Softmax { input, output, table };
    step.fits(arena).then_some(step)
}

/// A norm.
pub(crate) fn norm<'m>(random: &mut Random, mut rest: &'m mut [u8], arena: usize) -> Option<Norm<'m>> {
    let shape = shape(random);
    let mut places = Places::default();
    let (input, new) = (places.slot(random, shape), places.slot(random, shape));
    let output = if random.coin() { input } else { new };
    let kind = match random.below(4) {
        0 => NormKind::Layer,
        1 => NormKind::Rms,
        2 => NormKind::Group { groups: shape[2] },
        _ => NormKind::Group { groups: if shape[2].is_multiple_of(4) { 4 } else { 1 } },
    };
    let rest = &mut rest;
    let mut words = |random: &mut Random, bits: u32| -> Option<&'m [u8]> {
        let words = take(rest, 4 * usize::from(shape[2]))?;
        for word in words.chunks_exact_mut(4) {
            word.copy_from_slice(&(random.next() as i32 >> bits).to_le_bytes());
        }
        Some(words)
    };
    let (gain, offset) = (words(random, 1)?, words(random, 8)?);
    let step = Norm {
        input,
        output,
        kind,
        input_zero_point: random.zero_point(),
        epsilon: u64::from(random.next() >> random.below(32)).max(1),
        gain,
        gain_shift: random.pick(&[0, 12, 24, 26, 30]),
        offset,
        table: table(random, rest)?,
    };
    step.fits(arena).then_some(step)
}

/// A pool.
pub(crate) fn pool(random: &mut Random, arena: usize) -> Option<Pool> {
    let (mut kernel, mut stride, mut pad) = ([1u16; 2], [1u16; 2], [0u16; 2]);
    let mut input = shape(random);
    // More places than a 16-bit sum holds.
    if random.below(16) == 0 {
        [input[0], input[1]] = [17, 16];
    }
    let mut output = input;
    for axis in 0..2 {
        kernel[axis] = random.pick(&[1, 2, 2, 3, input[axis]]);
        stride[axis] = random.pick(&[1, 2, 2, kernel[axis]]);
        pad[axis] = random.below(u32::from(kernel[axis])) as u16;
        output[axis] = 1 + (input[axis] + pad[axis] - 1) / stride[axis];
        output[axis] = 1 + random.below(u32::from(output[axis])) as u16;
    }
    let kind = if random.coin() {
        PoolKind::Max
    } else {
        PoolKind::Average {
            input_zero_point: random.zero_point(),
            multiplier: multiplier(random),
            left_shift: random.pick(&[0, 0, 1, 7, 15]),
            zero_point: random.zero_point(),
        }
    };
    let mut places = Places::default();
    let step =
        Pool { input: places.slot(random, input), output: places.slot(random, output), kernel, stride, pad, kind };
    step.fits(arena).then_some(step)
}

/// A space-to-depth or its inverse.
pub(crate) fn shuffle(random: &mut Random, arena: usize) -> Option<Shuffle> {
    let block = random.pick(&[1u8, 2, 3, 4]);
    let [h, w, c] = [random.pick(&SIZES[..4]), random.pick(&SIZES[..4]), random.pick(CHANNELS)];
    let b = u16::from(block);
    let mut places = Places::default();
    let (large, small) = (places.slot(random, [h * b, w * b, c]), places.slot(random, [h, w, c * b * b]));
    let step = if random.coin() {
        Shuffle { input: large, output: small, block, kind: ShuffleKind::PixelUnshuffle }
    } else {
        Shuffle { input: small, output: large, block, kind: ShuffleKind::PixelShuffle }
    };
    step.fits(arena).then_some(step)
}

/// A transposition.
pub(crate) fn transpose(random: &mut Random, arena: usize) -> Option<Transpose> {
    let [h, w, c] = shape(random);
    let mut places = Places::default();
    let (input, output) = (places.slot(random, [h, w, c]), places.slot(random, [1, c, h * w]));
    let step = Transpose { input, output };
    step.fits(arena).then_some(step)
}
