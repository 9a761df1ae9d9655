//! Pooling.

use crate::slot::{DType, Slot};

/// What becomes of the values under a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The largest; places outside the input do not count.
    Max,
    /// The requantise law on `sum(q - input_zero_point)`; places outside the input count as the zero point.
    Average {
        /// Zero point of the input.
        input_zero_point: i8,
        /// Requantise multiplier, `scale_in / (scale_out * places)`; even and positive.
        multiplier: i32,
        /// Requantise left shift, 0 to 30.
        left_shift: u8,
        /// Zero point of the output.
        zero_point: i8,
    },
}

/// Pooling over windows of each channel; a global pool has a kernel of the input's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Operand.
    pub input: Slot,
    /// Result; must not overlap the operand.
    pub output: Slot,
    /// Window rows and columns.
    pub kernel: [u16; 2],
    /// Vertical and horizontal stride.
    pub stride: [u16; 2],
    /// Padding above and left; below and right follow from the output's size. Less than the kernel.
    pub pad: [u16; 2],
    /// What is computed.
    pub kind: PoolKind,
}

impl Pool {
    /// Whether every slot is inside the arena and every window holds at least one place of the input.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        let law = match self.kind {
            PoolKind::Max => true,
            PoolKind::Average { multiplier, left_shift, .. } => multiplier > 0 && left_shift <= 30,
        };
        self.input.fits(arena_bytes)
            && self.output.fits(arena_bytes)
            && self.input.dtype as u8 == DType::S8 as u8
            && self.output.dtype as u8 == DType::S8 as u8
            && self.input.channels == self.output.channels
            && window_fits(self.kernel[0], self.stride[0], self.pad[0], self.input.height, self.output.height)
            && window_fits(self.kernel[1], self.stride[1], self.pad[1], self.input.width, self.output.width)
            && law
    }
}

/// Whether the first and the last window hold at least one place of the input.
#[inline(always)]
const fn window_fits(kernel: u16, stride: u16, pad: u16, input: u16, output: u16) -> bool {
    kernel > 0
        && stride > 0
        && pad < kernel
        && output > 0
        && (output as usize - 1) * (stride as usize) < input as usize + pad as usize
}
