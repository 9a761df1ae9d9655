//! Where a tensor lives.

/// Element type of a tensor in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// Signed 8-bit, affine: `real = (q - zero_point) * scale`.
    S8,
    /// IEEE 754 binary32: carried sampler state and poses.
    F32,
}

impl DType {
    /// Size of one element in bytes.
    #[inline(always)]
    pub const fn size_bytes(self) -> usize {
        match self {
            DType::S8 => 1,
            DType::F32 => 4,
        }
    }
}

/// Affine quantisation of an s8 tensor: `real = (q - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    /// Real value of one quantisation step; finite and positive.
    pub scale: f32,
    /// The s8 value that stands for real zero.
    pub zero_point: i8,
}

/// A tensor `[height, width, channels]` in the arena, channels innermost.
///
/// `pitch` is the distance between neighbouring pixels in elements. It exceeds `channels` when the tensor is a channel
/// range of a wider one, which is how a concatenation is placed instead of copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First byte of the tensor in the arena.
    pub offset: u32,
    /// Rows.
    pub height: u16,
    /// Columns.
    pub width: u16,
    /// Channels.
    pub channels: u16,
    /// Elements between pixels; at least `channels`.
    pub pitch: u16,
    /// Element type.
    pub dtype: DType,
    /// Which tensor these bytes belong to. Channel ranges of one concatenation share an identity; [`crate::Plan::check`]
    /// refuses a plan in which a tensor is overwritten by another identity before its last read.
    pub tensor: u16,
}

impl Slot {
    /// Number of pixels, `height * width`.
    #[inline(always)]
    pub const fn pixels(&self) -> usize {
        self.height as usize * self.width as usize
    }

    /// Number of elements, `height * width * channels`.
    pub const fn elements(&self) -> usize {
        self.pixels().saturating_mul(self.channels as usize)
    }

    /// Bytes from the first to past the last element, gaps between pixels included.
    #[inline(always)]
    pub const fn span_bytes(&self) -> usize {
        let pixels = self.pixels();
        if pixels == 0 || self.channels == 0 {
            return 0;
        }
        // Saturates where a 32-bit address would wrap, so that such a slot fits no arena.
        (pixels - 1)
            .saturating_mul(self.pitch as usize)
            .saturating_add(self.channels as usize)
            .saturating_mul(self.dtype.size_bytes())
    }

    /// First byte past the tensor.
    #[inline(always)]
    pub const fn end(&self) -> usize {
        (self.offset as usize).saturating_add(self.span_bytes())
    }

    /// Whether the slot is well formed (no empty dimension, pitch wide enough, aligned) and ends inside the arena.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        self.height > 0
            && self.width > 0
            && self.channels > 0
            && self.pitch >= self.channels
            && (self.offset as usize).is_multiple_of(self.dtype.size_bytes())
            && self.end() <= arena_bytes
    }

    /// Whether the elements lie next to each other, without gaps between pixels.
    pub const fn is_contiguous(&self) -> bool {
        self.pitch == self.channels || self.pixels() == 1
    }

    /// Whether the two byte ranges share a byte.
    pub const fn overlaps(&self, other: &Slot) -> bool {
        (self.offset as usize) < other.end() && (other.offset as usize) < self.end()
    }

    /// Whether both name the same bytes in the same order.
    pub const fn same_place(&self, other: &Slot) -> bool {
        self.offset == other.offset
            && self.height == other.height
            && self.width == other.width
            && self.channels == other.channels
            && self.pitch == other.pitch
            && self.dtype as u8 == other.dtype as u8
    }
}
