//! Softmax over channels.

use super::elementwise::same_shape_s8;
use crate::slot::Slot;

/// Softmax over the channels of each pixel: `out = sat8(-128 + (256 * e + sum / 2) / sum)` with
/// `e = table[max - q]`, scale 1/256 and zero point -128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Softmax<'a> {
    /// Operand; its scale is inside the table.
    pub input: Slot,
    /// Result; may be the same place as the operand.
    pub output: Slot,
    /// `exp(-d * scale)` for `d = 0..256` as 256 little-endian u16; entry 0 is positive.
    pub table: &'a [u8; 512],
}

impl Softmax<'_> {
    /// Whether every slot is inside the arena, the shapes agree and the sum cannot be zero.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        same_shape_s8(&self.input, &self.output, arena_bytes) && (self.table[0] > 0 || self.table[1] > 0)
    }
}
