//! Order of a linear layer's weights in its constant bytes. A kernel reads exactly one packing, written offline.

use crate::isa::Isa;

/// How far the weights of one output channel run before they are padded with zeros to a multiple of
/// [`Panels::kr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// The whole filter, `[kernel_row][kernel_column][in_channel]`: for kernels that gather a pixel's window first.
    Filter,
    /// One kernel row, `[kernel_column][in_channel]`: for kernels that read rows of the tensor where they lie.
    Row,
    /// One kernel place, `[in_channel]`: for kernels that read one pixel at a time where it lies.
    Tap,
}

/// Weights in panels of `nr` output channels and steps of `kr` products:
/// `[outputs / nr][run][run length / kr][nr][kr]`, padded with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panels {
    /// Whose kernel reads them.
    pub isa: Isa,
    /// Output channels in a panel.
    pub nr: u8,
    /// Products of one output channel that lie together.
    pub kr: u8,
    /// What is padded to a multiple of `kr`.
    pub run: Run,
}

/// The order of the weights of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// `[out_channel][kernel_row][kernel_column][in_channel / groups]`: what the portable kernel reads.
    Ohwi,
    /// Panels of output channels; one group.
    Panels(Panels),
    /// Cortex-M DSP, tiles of pixels: `[outputs / 2][products / 4][2][2][2]`, the whole filter padded with zeros to a
    /// multiple of 4 products; one group. A word holds products `k` and `k + 2` of two neighbouring channels, so that
    /// one SXTB16 gives the pair of either channel, in the order in which SXTB16 takes four activations apart.
    DspPairs,
    /// Cortex-M DSP, depthwise: `[channels / 4][kernel place][2][2]` of s16, channels `c` and `c + 2` in a word.
    DspDepthwise,
    /// Depthwise (`groups` equals both channel counts): `[channels / nr][kernel place][nr]`, padded with zeros.
    Depthwise {
        /// Whose kernel reads them.
        isa: Isa,
        /// Channels that lie together.
        nr: u8,
    },
}

impl Packing {
    /// Whose kernel reads it.
    #[inline(always)]
    pub const fn isa(self) -> Isa {
        match self {
            Packing::Ohwi => Isa::Scalar,
            Packing::Panels(panels) => panels.isa,
            Packing::DspPairs | Packing::DspDepthwise => Isa::ArmDsp,
            Packing::Depthwise { isa, .. } => isa,
        }
    }

    /// Whether block sizes are positive.
    #[inline(always)]
    pub const fn is_sane(self) -> bool {
        match self {
            Packing::Ohwi | Packing::DspPairs | Packing::DspDepthwise => true,
            Packing::Panels(panels) => panels.nr > 0 && panels.kr > 0,
            Packing::Depthwise { nr, .. } => nr > 0,
        }
    }

    /// Output channels, padded to the packing's block.
    #[inline(always)]
    pub const fn padded_outputs(self, outputs: usize) -> usize {
        match self {
            Packing::Ohwi => outputs,
            Packing::Panels(panels) => round_up(outputs, panels.nr as usize),
            Packing::DspPairs => outputs.next_multiple_of(2),
            Packing::DspDepthwise => outputs.next_multiple_of(4),
            Packing::Depthwise { nr, .. } => round_up(outputs, nr as usize),
        }
    }

    /// Weights of one output channel with its padding: `kernel` places of `inputs` channels each.
    #[inline(always)]
    pub const fn padded_filter(self, kernel: [u8; 2], inputs: usize) -> usize {
        let (rows, columns) = (kernel[0] as usize, kernel[1] as usize);
        match self {
            Packing::Ohwi | Packing::Depthwise { .. } | Packing::DspDepthwise => rows * columns * inputs,
            Packing::DspPairs => (rows * columns * inputs).next_multiple_of(4),
            Packing::Panels(panels) => {
                let kr = panels.kr as usize;
                match panels.run {
                    Run::Filter => round_up(rows * columns * inputs, kr),
                    Run::Row => rows * round_up(columns * inputs, kr),
                    Run::Tap => rows * columns * round_up(inputs, kr),
                }
            }
        }
    }

    /// Bytes of the weights of `outputs` filters of `kernel` places and `inputs` channels (of one group).
    #[inline(always)]
    pub const fn bytes(self, outputs: usize, kernel: [u8; 2], inputs: usize) -> usize {
        self.padded_outputs(outputs).saturating_mul(self.padded_filter(kernel, inputs)).saturating_mul(self.width())
    }

    /// Bytes of one weight.
    #[inline(always)]
    pub const fn width(self) -> usize {
        match self {
            Packing::DspDepthwise => 2,
            Packing::Ohwi | Packing::Panels(_) | Packing::DspPairs | Packing::Depthwise { .. } => 1,
        }
    }

    /// Whether it is for layers in which every channel is a group of its own.
    #[inline(always)]
    pub const fn is_depthwise(self) -> bool {
        match self {
            Packing::Depthwise { .. } | Packing::DspDepthwise => true,
            Packing::Ohwi | Packing::Panels(_) | Packing::DspPairs => false,
        }
    }

    /// Place in the bytes of (the low byte of) the weight of output channel `o`, kernel place `(ky, kx)` and input channel `i` (of its
    /// group).
    pub const fn index(self, kernel: [u8; 2], inputs: usize, [o, ky, kx, i]: [usize; 4]) -> usize {
        let columns = kernel[1] as usize;
        match self {
            Packing::Ohwi => ((o * kernel[0] as usize + ky) * columns + kx) * inputs + i,
            Packing::DspPairs => {
                let k = (ky * columns + kx) * inputs + i;
                let pair = (o / 2) * 2 * self.padded_filter(kernel, inputs);
                pair + k / 4 * 8 + k % 2 * 4 + k % 4 / 2 * 2 + o % 2
            }
            Packing::DspDepthwise => {
                let taps = kernel[0] as usize * columns;
                ((o / 4) * taps + ky * columns + kx) * 8 + o % 2 * 4 + o % 4 / 2 * 2
            }
            Packing::Depthwise { nr, .. } => {
                let nr = nr as usize;
                let taps = kernel[0] as usize * columns;
                ((o / nr) * taps + ky * columns + kx) * nr + o % nr
            }
            Packing::Panels(panels) => {
                let (nr, kr) = (panels.nr as usize, panels.kr as usize);
                let k = match panels.run {
                    Run::Filter => (ky * columns + kx) * inputs + i,
                    Run::Row => ky * (columns * inputs).next_multiple_of(kr) + kx * inputs + i,
                    Run::Tap => (ky * columns + kx) * inputs.next_multiple_of(kr) + i,
                };
                (o / nr) * nr * self.padded_filter(kernel, inputs) + (k / kr) * nr * kr + (o % nr) * kr + k % kr
            }
        }
    }
}

/// The next multiple of `block`; `n` for a block of zero, which [`Packing::is_sane`] excludes: a panic here would stay
/// in firmware.
#[inline(always)]
const fn round_up(n: usize, block: usize) -> usize {
    match n.checked_rem(block) {
        None | Some(0) => n,
        Some(over) => n + (block - over),
    }
}
