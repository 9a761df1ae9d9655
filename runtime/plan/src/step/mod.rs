//! One kernel call: geometry, constants and slots.

mod conv;
mod elementwise;
mod epilogue;
mod matmul;
mod norm;
mod packing;
mod pool;
mod shuffle;
mod softmax;

pub use conv::{ARM_DSP_PIXELS, ARM_MVE_PIXELS, Conv, ConvTranspose, HOST_PLACES, HOST_PRODUCTS, scratch_bytes};
pub use elementwise::{Add, Map, Mul};
pub use epilogue::{AddParams, Epilogue, Residual, RowKey};
pub use matmul::{MatMul, Matrices, Split, matmul_scratch_bytes};
pub use norm::{Norm, NormKind};
pub use packing::{Packing, Panels, Run};
pub use pool::{Pool, PoolKind};
pub use shuffle::{Shuffle, ShuffleKind, Transpose};
pub use softmax::Softmax;

use crate::slot::Slot;

/// A unary function on s8, tabulated: entry `q + 128` holds the result for `q`, as a two's complement byte.
pub type Table<'a> = &'a [u8; 256];

/// One kernel call. Matches over it are exhaustive everywhere: a new variant breaks the build in the executor, the
/// printer, the code generator and the checker until each handles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Convolution or fully connected layer.
    Conv(Conv<'a>),
    /// Transposed convolution.
    ConvTranspose(ConvTranspose<'a>),
    /// Batched matrix product of two tensors.
    MatMul(MatMul),
    /// Elementwise sum.
    Add(Add<'a>),
    /// Elementwise product.
    Mul(Mul<'a>),
    /// Elementwise table or copy.
    Map(Map<'a>),
    /// Softmax over channels.
    Softmax(Softmax<'a>),
    /// Norm with statistics at run time.
    Norm(Norm<'a>),
    /// Pooling.
    Pool(Pool),
    /// Space to depth and back.
    Shuffle(Shuffle),
    /// Pixels and channels exchanged.
    Transpose(Transpose),
}

impl<'a> Step<'a> {
    /// The tensor that the step writes.
    pub const fn output(&self) -> &Slot {
        match self {
            Step::Conv(s) => &s.output,
            Step::ConvTranspose(s) => &s.output,
            Step::MatMul(s) => &s.output.slot,
            Step::Add(s) => &s.output,
            Step::Mul(s) => &s.output,
            Step::Map(s) => &s.output,
            Step::Softmax(s) => &s.output,
            Step::Norm(s) => &s.output,
            Step::Pool(s) => &s.output,
            Step::Shuffle(s) => &s.output,
            Step::Transpose(s) => &s.output,
        }
    }

    /// The tensors that the step reads; unused places are `None`.
    pub const fn inputs(&self) -> [Option<&Slot>; 2] {
        match self {
            Step::Conv(s) => with_residual(&s.input, &s.epilogue),
            Step::ConvTranspose(s) => with_residual(&s.input, &s.epilogue),
            Step::MatMul(s) => [Some(&s.a.slot), Some(&s.b.slot)],
            Step::Add(s) => [Some(&s.a), Some(&s.b)],
            Step::Mul(s) => [Some(&s.a), Some(&s.b)],
            Step::Map(s) => [Some(&s.input), None],
            Step::Softmax(s) => [Some(&s.input), None],
            Step::Norm(s) => [Some(&s.input), None],
            Step::Pool(s) => [Some(&s.input), None],
            Step::Shuffle(s) => [Some(&s.input), None],
            Step::Transpose(s) => [Some(&s.input), None],
        }
    }

    /// Memory that the step uses while it runs and that holds nothing before or after.
    pub const fn scratch(&self) -> Option<&Slot> {
        match self {
            Step::Conv(s) => s.scratch.as_ref(),
            Step::ConvTranspose(s) => s.scratch.as_ref(),
            Step::MatMul(s) => s.scratch.as_ref(),
            Step::Add(_)
            | Step::Mul(_)
            | Step::Map(_)
            | Step::Softmax(_)
            | Step::Norm(_)
            | Step::Pool(_)
            | Step::Shuffle(_)
            | Step::Transpose(_) => None,
        }
    }

    /// Whether the step may write over its input number `input` (0 or 1) when both name the same place.
    pub const fn in_place(&self, input: usize) -> bool {
        match self {
            Step::Conv(_) | Step::ConvTranspose(_) => input == 1,
            Step::Add(_) | Step::Map(_) | Step::Softmax(_) | Step::Norm(_) => true,
            Step::Mul(s) => input == 0 || !s.is_broadcast(),
            Step::MatMul(_) | Step::Pool(_) | Step::Shuffle(_) | Step::Transpose(_) => false,
        }
    }

    /// The order of the step's weights, if it has weights.
    pub const fn packing(&self) -> Option<Packing> {
        match self {
            Step::Conv(s) => Some(s.packing),
            Step::ConvTranspose(s) => Some(s.packing),
            Step::MatMul(_)
            | Step::Add(_)
            | Step::Mul(_)
            | Step::Map(_)
            | Step::Softmax(_)
            | Step::Norm(_)
            | Step::Pool(_)
            | Step::Shuffle(_)
            | Step::Transpose(_) => None,
        }
    }

    /// Whose kernel the step's constants are packed for.
    pub const fn isa(&self) -> crate::Isa {
        match self.packing() {
            Some(packing) => packing.isa(),
            None => crate::Isa::Scalar,
        }
    }

    /// Whether slots and constants are consistent and inside an arena of this size.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        match self {
            Step::Conv(s) => s.fits(arena_bytes),
            Step::ConvTranspose(s) => s.fits(arena_bytes),
            Step::MatMul(s) => s.fits(arena_bytes),
            Step::Add(s) => s.fits(arena_bytes),
            Step::Mul(s) => s.fits(arena_bytes),
            Step::Map(s) => s.fits(arena_bytes),
            Step::Softmax(s) => s.fits(arena_bytes),
            Step::Norm(s) => s.fits(arena_bytes),
            Step::Pool(s) => s.fits(arena_bytes),
            Step::Shuffle(s) => s.fits(arena_bytes),
            Step::Transpose(s) => s.fits(arena_bytes),
        }
    }

    /// The rows of the step's bias bank and what chooses among them, if it has one.
    pub const fn bank(&self) -> Option<(RowKey, usize)> {
        match self {
            Step::Conv(s) => Some((s.epilogue.row, s.epilogue.rows())),
            Step::ConvTranspose(s) => Some((s.epilogue.row, s.rows())),
            Step::MatMul(_)
            | Step::Add(_)
            | Step::Mul(_)
            | Step::Map(_)
            | Step::Softmax(_)
            | Step::Norm(_)
            | Step::Pool(_)
            | Step::Shuffle(_)
            | Step::Transpose(_) => None,
        }
    }

    /// Multiply-accumulates of one call.
    pub const fn macs(&self) -> u64 {
        match self {
            Step::Conv(s) => s.macs(),
            Step::ConvTranspose(s) => s.macs(),
            Step::MatMul(s) => s.macs(),
            Step::Add(_)
            | Step::Mul(_)
            | Step::Map(_)
            | Step::Softmax(_)
            | Step::Norm(_)
            | Step::Pool(_)
            | Step::Shuffle(_)
            | Step::Transpose(_) => 0,
        }
    }
}

const fn with_residual<'s>(input: &'s Slot, epilogue: &'s Epilogue<'_>) -> [Option<&'s Slot>; 2] {
    match &epilogue.residual {
        Some(r) => [Some(input), Some(&r.slot)],
        None => [Some(input), None],
    }
}
