//! The target's packing: which order of weights the best kernel for a layer reads.

use flowlet_kernels::conv::{
    AVX2_DEPTHWISE, AVX2_PANELS, AVX2_ROWS, AVX512_PANELS, DSP_ROWS_OF_4, DSP_ROWS_OF_5, MVE_DEPTHWISE, MVE_PANELS,
    NEON_DEPTHWISE, NEON_DOT_PANELS, NEON_I8MM_PANELS, NEON_PANELS, pack,
};
use flowlet_plan::{ConvTranspose, DType, Epilogue, HOST_PLACES, HOST_PRODUCTS, Isa, Packing, RowKey, Slot};

/// The layer as far as the choice of a kernel depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    /// Output channels.
    pub(super) outputs: usize,
    /// Kernel rows and columns.
    pub(super) kernel: [u8; 2],
    /// Input channels of one group.
    pub(super) inputs: usize,
    /// Groups.
    pub(super) groups: usize,
    /// Output pixels.
    pub(super) pixels: usize,
}

impl Layer {
    /// Whether a host's panels can hold it: one group, and a window that fits the kernel's stack.
    fn suits(&self, panels: Packing) -> bool {
        self.groups == 1 && panels.padded_filter(self.kernel, self.inputs) <= HOST_PRODUCTS
    }

    /// Whether a host's depthwise kernel can hold it, which lists its kernel places.
    fn suits_lists(&self) -> bool {
        self.is_depthwise() && usize::from(self.kernel[0]) * usize::from(self.kernel[1]) <= HOST_PLACES
    }

    fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.inputs == 1 && self.outputs == self.groups
    }
}

/// Most output channels that AVX2 computes one by one: a panel of sixteen would be mostly padding.
const AVX2_FEW: usize = 4;

/// The packing that the instruction set's kernel for this layer reads; the portable one where it has none.
pub(super) fn choose(isa: Isa, layer: &Layer) -> Packing {
    match isa {
        Isa::ArmDsp if layer.is_depthwise() => Packing::DspDepthwise,
        Isa::ArmDsp if layer.groups > 1 => Packing::Ohwi,
        // A tile is four pixels; fewer are computed one by one.
        Isa::ArmDsp if layer.pixels > 3 => Packing::DspPairs,
        Isa::ArmDsp if layer.outputs.is_multiple_of(5) && !layer.outputs.is_multiple_of(4) => DSP_ROWS_OF_5,
        Isa::ArmDsp => DSP_ROWS_OF_4,
        Isa::Avx2 | Isa::Avx512Vnni if layer.suits_lists() => AVX2_DEPTHWISE,
        Isa::Avx2 | Isa::Avx512Vnni if layer.outputs <= AVX2_FEW && layer.suits(AVX2_ROWS) => AVX2_ROWS,
        Isa::Avx2 if layer.suits(AVX2_PANELS) => AVX2_PANELS,
        Isa::Avx512Vnni if layer.suits(AVX512_PANELS) => AVX512_PANELS,
        Isa::Neon | Isa::NeonDot | Isa::NeonI8mm if layer.suits_lists() => NEON_DEPTHWISE,
        Isa::Neon if layer.suits(NEON_PANELS) => NEON_PANELS,
        Isa::NeonDot if layer.suits(NEON_DOT_PANELS) => NEON_DOT_PANELS,
        Isa::NeonI8mm if layer.suits(NEON_I8MM_PANELS) => NEON_I8MM_PANELS,
        Isa::ArmMve if layer.is_depthwise() => MVE_DEPTHWISE,
        Isa::ArmMve if layer.groups == 1 => MVE_PANELS,
        Isa::Scalar | Isa::ArmMve | Isa::Neon | Isa::NeonDot | Isa::NeonI8mm | Isa::Avx2 | Isa::Avx512Vnni => {
            Packing::Ohwi
        }
    }
}

/// Filters `[O, I, kh, kw]` in this packing.
pub(super) fn packed(packing: Packing, weights: &[i8], layer: &Layer) -> Vec<u8> {
    let filters = ohwi(weights, layer);
    let mut packed = vec![0; packing.bytes(layer.outputs, layer.kernel, layer.inputs)];
    pack::pack(packing, &filters, layer.outputs, layer.kernel, layer.inputs, &mut packed);
    packed
}

/// Filters `[O, I, kh, kw]` of a transposed convolution, phase by phase in this packing.
pub(super) fn packed_phases(packing: Packing, weights: &[i8], layer: &Layer, stride: [u8; 2]) -> Vec<u8> {
    let slot = |channels: usize| Slot {
        offset: 0,
        height: 1,
        width: 1,
        channels: channels as u16,
        pitch: channels as u16,
        dtype: DType::S8,
        tensor: 0,
    };
    let step = ConvTranspose {
        input: slot(layer.inputs),
        output: slot(layer.outputs),
        kernel: layer.kernel,
        stride,
        pad: [0, 0],
        input_zero_point: 0,
        weights: &[],
        packing,
        scratch: None,
        epilogue: Epilogue {
            multipliers: &[],
            bias: &[],
            row: RowKey::Fixed,
            left_shift: 0,
            zero_point: 0,
            residual: None,
            table: None,
        },
    };
    let mut packed = vec![0; step.weight_bytes()];
    pack::pack_phases(&step, &ohwi(weights, layer), &mut packed);
    packed
}

/// Constants for each output channel, `[rows][outputs]`, as little-endian words padded to the packing's block.
pub(super) fn padded_words(packing: Packing, values: &[i32], outputs: usize) -> Vec<u8> {
    let padded = packing.padded_outputs(outputs);
    let mut words = Vec::with_capacity(4 * padded * values.len() / outputs.max(1));
    for row in values.chunks(outputs.max(1)) {
        let end = words.len() + 4 * padded;
        words.extend(row.iter().flat_map(|v| v.to_le_bytes()));
        words.resize(end, 0);
    }
    words
}

/// Weights `[O, I, kh, kw]` in the order `[O, kh, kw, I]`.
fn ohwi(weights: &[i8], layer: &Layer) -> Vec<u8> {
    let taps = usize::from(layer.kernel[0]) * usize::from(layer.kernel[1]);
    let mut filters = Vec::with_capacity(weights.len());
    for filter in weights.chunks_exact((layer.inputs * taps).max(1)).take(layer.outputs) {
        for tap in 0..taps {
            filters.extend((0..layer.inputs).map(|channel| filter[channel * taps + tap] as u8));
        }
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_channels_become_innermost() {
        let weights: Vec<i8> = (0..12).collect(); // [1, 3, 2, 2]
        let layer = Layer { outputs: 1, kernel: [2, 2], inputs: 3, groups: 1, pixels: 1 };
        assert_eq!(packed(Packing::Ohwi, &weights, &layer), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
    }
}
