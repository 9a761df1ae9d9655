//! Steps that treat every element alike: sums, products, tables.

use super::Table;
use super::epilogue::AddParams;
use crate::slot::{DType, Slot};

/// Elementwise sum of two s8 tensors of one shape, then an optional table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add<'a> {
    /// First operand.
    pub a: Slot,
    /// Second operand.
    pub b: Slot,
    /// Result; may be the same place as either operand.
    pub output: Slot,
    /// The constants of the sum.
    pub params: AddParams,
    /// Fused activation.
    pub table: Option<Table<'a>>,
}

impl Add<'_> {
    /// Whether every slot is inside the arena and the shapes agree.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        same_shape_s8(&self.a, &self.output, arena_bytes)
            && same_shape_s8(&self.b, &self.output, arena_bytes)
            && self.params.shift >= 1
            && self.params.shift <= 30
    }
}

/// Elementwise product of two s8 tensors, then an optional table: the requantise law on
/// `(a - a_zero_point) * (b - b_zero_point)`.
///
/// `b` has the shape of `a`, or one pixel, which then meets every pixel of `a` (a channel-wise gain).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mul<'a> {
    /// First operand, of the output's shape.
    pub a: Slot,
    /// Second operand: the output's shape, or one pixel.
    pub b: Slot,
    /// Result; may be the same place as an operand of its shape.
    pub output: Slot,
    /// Zero point of `a`.
    pub a_zero_point: i8,
    /// Zero point of `b`.
    pub b_zero_point: i8,
    /// Requantise multiplier; even and positive.
    pub multiplier: i32,
    /// Requantise left shift, 0 to 14 (a product has 17 bits).
    pub left_shift: u8,
    /// Zero point of the requantised product (before the table).
    pub zero_point: i8,
    /// Fused activation.
    pub table: Option<Table<'a>>,
}

impl Mul<'_> {
    /// Whether `b` is one pixel that meets every pixel of `a`.
    #[inline(always)]
    pub const fn is_broadcast(&self) -> bool {
        self.b.pixels() == 1 && self.output.pixels() > 1
    }

    /// Whether every slot is inside the arena and the shapes agree.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        same_shape_s8(&self.a, &self.output, arena_bytes)
            && self.b.fits(arena_bytes)
            && self.b.dtype as u8 == DType::S8 as u8
            && self.b.channels == self.output.channels
            && (self.is_broadcast() || (self.b.height == self.output.height && self.b.width == self.output.width))
            && self.multiplier > 0
            && self.left_shift <= 14
    }
}

/// Elementwise `out = table[in]`: a unary function, or a change of scale, or (without a table) a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map<'a> {
    /// Operand.
    pub input: Slot,
    /// Result; may be the same place as the operand.
    pub output: Slot,
    /// The function; `None` copies.
    pub table: Option<Table<'a>>,
}

impl Map<'_> {
    /// Whether every slot is inside the arena and the shapes agree.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        same_shape_s8(&self.input, &self.output, arena_bytes)
    }
}

#[inline(always)]
pub(super) const fn same_shape_s8(a: &Slot, b: &Slot, arena_bytes: usize) -> bool {
    a.fits(arena_bytes)
        && b.fits(arena_bytes)
        && a.dtype as u8 == DType::S8 as u8
        && b.dtype as u8 == DType::S8 as u8
        && a.height == b.height
        && a.width == b.width
        && a.channels == b.channels
}
