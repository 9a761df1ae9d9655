//! Steps that move elements without changing them.

use crate::slot::{DType, Slot};

/// Direction of a [`Shuffle`], with ONNX's channel orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShuffleKind {
    /// `[H, W, C] -> [H/b, W/b, C*b*b]`, output channel `c*b*b + dy*b + dx` (PyTorch's `pixel_unshuffle`).
    PixelUnshuffle,
    /// `[H, W, C*b*b] -> [H*b, W*b, C]`, the inverse (`pixel_shuffle`, ONNX DepthToSpace mode CRD).
    PixelShuffle,
}

/// Moves pixels between space and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shuffle {
    /// Operand.
    pub input: Slot,
    /// Result; must not overlap the operand.
    pub output: Slot,
    /// Block size b.
    pub block: u8,
    /// Direction.
    pub kind: ShuffleKind,
}

impl Shuffle {
    /// Whether every slot is inside the arena and the shapes agree.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        let (small, large) = match self.kind {
            ShuffleKind::PixelUnshuffle => (&self.output, &self.input),
            ShuffleKind::PixelShuffle => (&self.input, &self.output),
        };
        let b = self.block as usize;
        self.input.fits(arena_bytes)
            && self.output.fits(arena_bytes)
            && self.input.dtype as u8 == DType::S8 as u8
            && self.output.dtype as u8 == DType::S8 as u8
            && b >= 1
            && large.height as usize == small.height as usize * b
            && large.width as usize == small.width as usize * b
            && small.channels as usize == large.channels as usize * b * b
    }
}

/// Exchanges pixels and channels: `out[0][c][p] = in[p][c]`, where `p` counts pixels in row-major order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transpose {
    /// Operand `[height, width, channels]`.
    pub input: Slot,
    /// Result `[height, width, channels]` with as many pixels as the operand has channels, and the reverse; must not
    /// overlap the operand.
    pub output: Slot,
}

impl Transpose {
    /// Whether every slot is inside the arena and the shapes agree.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        self.input.fits(arena_bytes)
            && self.output.fits(arena_bytes)
            && self.input.dtype as u8 == DType::S8 as u8
            && self.output.dtype as u8 == DType::S8 as u8
            && self.input.pixels() == self.output.channels as usize
            && self.output.pixels() == self.input.channels as usize
    }
}
