//! Weights, biases and multipliers that only count.

use flowlet::plan::{DType, Epilogue, Packing, RowKey, Slot};

/// `N` bytes, aligned as in generated code.
#[repr(C, align(16))]
pub struct Constants<const N: usize>(pub [u8; N]);

impl<const N: usize> Constants<N> {
    /// Uniform bytes.
    pub const fn random() -> Self {
        let mut bytes = [0; N];
        let (mut state, mut i) = (1u32, 0);
        while i < N {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            bytes[i] = (state >> 24) as u8;
            i += 1;
        }
        Self(bytes)
    }
}

/// Channels of the widest layer.
const MOST_CHANNELS: usize = 128;

/// A multiplier of 2^21 for each channel.
static MULTIPLIERS: Constants<{ 4 * MOST_CHANNELS }> = {
    let mut bytes = [0; 4 * MOST_CHANNELS];
    let mut i = 2;
    while i < bytes.len() {
        bytes[i] = 0x20;
        i += 4;
    }
    Constants(bytes)
};
static BIAS: Constants<{ 4 * MOST_CHANNELS }> = Constants([0; 4 * MOST_CHANNELS]);

/// The end of a layer of so many output channels with `phases` rows of biases.
pub const fn epilogue(packing: Packing, outputs: usize, phases: usize) -> Epilogue<'static> {
    let words = packing.padded_outputs(outputs);
    Epilogue {
        multipliers: MULTIPLIERS.0.split_at(4 * words).0,
        bias: BIAS.0.split_at(4 * words * phases).0,
        row: RowKey::Fixed,
        left_shift: 1,
        zero_point: -3,
        residual: None,
        table: None,
    }
}

/// A tensor without gaps.
pub const fn slot(offset: u32, dims: [u16; 3], tensor: u16) -> Slot {
    let [height, width, channels] = dims;
    Slot { offset, height, width, channels, pitch: channels, dtype: DType::S8, tensor }
}

/// The zero point of every input.
pub const ZERO_POINT: i8 = 7;
