//! What happens to an accumulator: requantise, residual, table.

use super::Table;
use crate::slot::{DType, Slot};

/// Which row of a bias bank a convolution reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKey {
    /// Always row 0.
    Fixed,
    /// The value of the plan's index input with this number (a class label).
    Index(u8),
    /// The running number of the repeated step (a K-step program's time path).
    Iteration,
}

/// Constants of the s8 sum `sat8((a*ma + b*mb + c + 2^(shift-1)) >> shift)`; the zero points are inside `c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddParams {
    /// Multiplier of the first operand.
    pub ma: i16,
    /// Multiplier of the second operand.
    pub mb: i16,
    /// Constant term.
    pub c: i32,
    /// Right shift, 1 to 30.
    pub shift: u8,
}

/// A second operand added to a convolution's s8 result before the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Residual {
    /// The tensor added; same dimensions as the convolution's output.
    pub slot: Slot,
    /// `a` is the convolution's s8 result, `b` the residual.
    pub params: AddParams,
}
/// What a kernel does with an accumulator: add the bias, requantise, add the residual, look up the table.
///
/// Constants for each output channel are padded to the packing's block with zeros, so that a kernel may read whole
/// blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epilogue<'a> {
    /// Requantise multipliers, i32 little-endian, one for each (padded) output channel; even, and positive where a
    /// channel exists.
    pub multipliers: &'a [u8],
    /// Bias bank, i32 little-endian, `[rows][padded out_channel]`. The term `-input_zero_point * sum(w)` is inside.
    pub bias: &'a [u8],
    /// What chooses the bias row.
    pub row: RowKey,
    /// Requantise left shift, 0 to 30, shared by the layer.
    pub left_shift: u8,
    /// Zero point of the requantised result (before residual and table).
    pub zero_point: i8,
    /// Fused residual sum.
    pub residual: Option<Residual>,
    /// Fused activation.
    pub table: Option<Table<'a>>,
}

impl Epilogue<'_> {
    /// Output channels that the constants are written for, padding counted.
    #[inline(always)]
    pub const fn padded_channels(&self) -> usize {
        self.multipliers.len() / 4
    }

    /// Number of rows in the bias bank.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        if self.multipliers.is_empty() { 0 } else { self.bias.len() / self.multipliers.len() }
    }

    /// Whether the constants are written for `padded_channels` outputs and the residual has the output's shape.
    #[inline(always)]
    pub const fn fits(&self, output: &Slot, padded_channels: usize, arena_bytes: usize) -> bool {
        if self.left_shift > 30 || self.multipliers.len() != 4 * padded_channels {
            return false;
        }
        if self.bias.is_empty() || !self.bias.len().is_multiple_of(4 * padded_channels) {
            return false;
        }
        match self.residual {
            None => true,
            Some(r) => {
                r.slot.fits(arena_bytes)
                    && r.slot.dtype as u8 == DType::S8 as u8
                    && r.slot.height == output.height
                    && r.slot.width == output.width
                    && r.slot.channels == output.channels
                    && r.params.shift >= 1
                    && r.params.shift <= 30
            }
        }
    }
}
