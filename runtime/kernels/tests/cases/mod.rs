#![allow(dead_code)] // each test binary uses a part
//! Random kernel calls over the shapes that break kernels: sizes around blocks, primes, every kind of border, gaps
//! between pixels, zero points at the limits, saturating values.

use flowlet_kernels::plan::*;

/// A linear congruential generator; its high bits are good enough to choose shapes.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    /// Bytes that are often extreme, and never -128 if they are weights.
    pub fn fill(&mut self, bytes: &mut [u8], weights: bool) {
        let style = self.below(4);
        for byte in bytes {
            let value = match style {
                0 => self.pick(&[-128i8, 127]),
                1 => self.pick(&[-128, -127, -1, 0, 1, 126, 127]),
                _ => self.next() as i8,
            };
            *byte = if weights { value.max(-127) } else { value } as u8;
        }
    }
}

pub const ARENA_BYTES: usize = if cfg!(miri) { 1 << 11 } else { 1 << 16 };
pub const CONSTANT_BYTES: usize = 1 << 16;
pub const CHANNELS: &[u16] = if cfg!(miri) { &[1, 3, 5] } else { &[1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 24] };
pub const SIZES: &[u16] = if cfg!(miri) { &[1, 2, 3, 4] } else { &[1, 3, 4, 5, 7, 14] };

/// A slot after the bytes already used, with a gap before it and sometimes between its pixels.
pub fn slot(random: &mut Random, used: &mut u32, [height, width, channels]: [u16; 3], tensor: u16) -> Slot {
    let pitch = channels + random.pick(&[0, 0, 1, 5]);
    let slot = Slot { offset: *used + random.below(5), height, width, channels, pitch, dtype: DType::S8, tensor };
    *used = slot.end() as u32;
    slot
}

pub fn add_params(random: &mut Random) -> AddParams {
    let shift = 1 + random.below(30) as u8;
    AddParams { ma: random.next() as i16, mb: random.next() as i16, c: random.next() as i32 >> random.below(31), shift }
}

/// A convolution whose constants are written into `constants`.
pub fn conv<'a>(random: &mut Random, constants: &'a mut [u8], table: &'a [u8; 256]) -> Conv<'a> {
    let kernel = random.pick(&[[1, 1], [3, 3], [1, 3], [3, 1], [5, 5], [6, 6]]);
    let (mut output, mut input) = ([1; 3], [1; 3]);
    let (mut stride, mut pad) = ([1; 2], [0; 2]);
    let upsample = random.pick(&[1, 1, 2]);
    for axis in 0..2 {
        input[axis] = random.pick(SIZES);
        stride[axis] = random.pick(&[1, 1, 2, 3]);
        let k = u32::from(kernel[axis]);
        pad[axis] = random.below(k) as u8;
        let below = random.below(k);
        let room = u32::from(input[axis]) * u32::from(upsample) + u32::from(pad[axis]) + below;
        // Too small an input still has one output, which sees padding only below.
        output[axis] = (room.saturating_sub(k) / u32::from(stride[axis]) + 1) as u16;
    }
    input[2] = random.pick(CHANNELS);
    output[2] = random.pick(CHANNELS);
    let mut used = 0;
    let input = slot(random, &mut used, input, 0);
    let output = slot(random, &mut used, output, 1);
    let residual = match random.below(3) {
        0 => None,
        1 => Some(Residual { slot: output, params: add_params(random) }),
        _ => {
            let shape = [output.height, output.width, output.channels];
            Some(Residual { slot: slot(random, &mut used, shape, 2), params: add_params(random) })
        }
    };
    let (i, o) = (usize::from(input.channels), usize::from(output.channels));
    let rows = 1 + random.below(3) as usize;
    let (weights, rest) = constants.split_at_mut(usize::from(kernel[0]) * usize::from(kernel[1]) * i * o);
    let (multipliers, rest) = rest.split_at_mut(4 * o);
    let bias = &mut rest[..4 * o * rows];
    random.fill(weights, true);
    let small = random.below(2) > 0;
    for word in multipliers.chunks_exact_mut(4) {
        let m = if small { random.next() >> 12 } else { random.next() >> 1 } & !1;
        word.copy_from_slice(&m.max(2).to_le_bytes());
    }
    let shrink = random.below(32);
    for word in bias.chunks_exact_mut(4) {
        word.copy_from_slice(&(random.next() as i32 >> shrink).to_le_bytes());
    }
    Conv {
        input,
        output,
        kernel,
        stride,
        pad,
        upsample,
        input_zero_point: zero_point(random),
        weights,
        packing: Packing::Ohwi,
        multipliers,
        bias,
        row: RowKey::Fixed,
        left_shift: random.pick(&[0, 1, 5, 9, 14, 30]),
        output_zero_point: zero_point(random),
        residual,
        table: (random.below(2) > 0).then_some(table),
    }
}

pub fn zero_point(random: &mut Random) -> i8 {
    let any = random.next() as i8;
    random.pick(&[-128, 127, 0, any])
}
