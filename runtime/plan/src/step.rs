//! One kernel call: geometry, constants and slots.

use crate::slot::{DType, Slot};

/// A unary function on s8, tabulated: entry `q + 128` holds the result for `q`, as a two's complement byte.
pub type Table<'a> = &'a [u8; 256];

/// Order of a convolution's weights in its constant bytes. A kernel reads exactly one packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// `[out_channel][kernel_row][kernel_column][in_channel]`, s8: what the portable scalar kernel reads.
    Ohwi,
}

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

/// 2-D convolution; a fully connected layer is a 1x1 convolution of one pixel.
///
/// `acc[o] = bias[row][o] + sum w[o][ky][kx][i] * x[...]` with padding reading `input_zero_point`, then the requantise
/// law with `multipliers[o]` and `left_shift`, then the residual, then the table. The term `-zero_point * sum(w)` is
/// inside the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv<'a> {
    /// Input tensor, before the optional upsampling.
    pub input: Slot,
    /// Output tensor.
    pub output: Slot,
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Vertical and horizontal stride.
    pub stride: [u8; 2],
    /// Padding above and left, in (upsampled) input pixels; below and right follow from the output size.
    pub pad: [u8; 2],
    /// Nearest-neighbour factor by which reads are upsampled: 1 or 2.
    pub upsample: u8,
    /// The value that padding reads.
    pub input_zero_point: i8,
    /// Packed s8 weights, in the order of `packing`.
    pub weights: &'a [u8],
    /// Order of `weights`.
    pub packing: Packing,
    /// Requantise multipliers, i32 little-endian, one for each output channel; even and positive.
    pub multipliers: &'a [u8],
    /// Bias bank, i32 little-endian, `[rows][out_channel]`.
    pub bias: &'a [u8],
    /// What chooses the bias row.
    pub row: RowKey,
    /// Requantise left shift, 0 to 30, shared by the layer.
    pub left_shift: u8,
    /// Zero point of the requantised result (before residual and table).
    pub output_zero_point: i8,
    /// Fused residual sum.
    pub residual: Option<Residual>,
    /// Fused activation.
    pub table: Option<Table<'a>>,
}

impl Conv<'_> {
    /// Number of rows in the bias bank.
    #[inline(always)]
    pub const fn rows(&self) -> usize {
        self.bias.len() / (4 * self.output.channels as usize)
    }

    /// Multiply-accumulates of one call, padding counted.
    pub const fn macs(&self) -> u64 {
        self.output.elements() as u64 * self.kernel[0] as u64 * self.kernel[1] as u64 * self.input.channels as u64
    }

    /// Whether every slot is inside the arena, the geometry is consistent and every constant has its length.
    /// This is the bound that the kernels' `unsafe` blocks rely on.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        let (input, output) = (&self.input, &self.output);
        if !(input.fits(arena_bytes) && output.fits(arena_bytes)) {
            return false;
        }
        if input.dtype as u8 != DType::S8 as u8 || output.dtype as u8 != DType::S8 as u8 {
            return false;
        }
        if self.kernel[0] == 0 || self.kernel[1] == 0 || self.stride[0] == 0 || self.stride[1] == 0 {
            return false;
        }
        if !(self.upsample == 1 || self.upsample == 2) || self.left_shift > 30 {
            return false;
        }
        let out_channels = output.channels as usize;
        let taps = self.kernel[0] as usize * self.kernel[1] as usize * input.channels as usize;
        if self.weights.len() != out_channels.saturating_mul(taps) || self.multipliers.len() != 4 * out_channels {
            return false;
        }
        if self.bias.is_empty() || !self.bias.len().is_multiple_of(4 * out_channels) {
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

#[inline(always)]
const fn same_shape_s8(a: &Slot, b: &Slot, arena_bytes: usize) -> bool {
    a.fits(arena_bytes)
        && b.fits(arena_bytes)
        && a.dtype as u8 == DType::S8 as u8
        && b.dtype as u8 == DType::S8 as u8
        && a.height == b.height
        && a.width == b.width
        && a.channels == b.channels
}

/// One kernel call. Matches over it are exhaustive everywhere: a new variant breaks the build in the executor, the
/// printer, the code generator and the checker until each handles it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Convolution or fully connected layer.
    Conv(Conv<'a>),
    /// Elementwise sum.
    Add(Add<'a>),
    /// Elementwise table or copy.
    Map(Map<'a>),
    /// Space to depth and back.
    Shuffle(Shuffle),
}

impl<'a> Step<'a> {
    /// The tensor that the step writes.
    pub const fn output(&self) -> &Slot {
        match self {
            Step::Conv(s) => &s.output,
            Step::Add(s) => &s.output,
            Step::Map(s) => &s.output,
            Step::Shuffle(s) => &s.output,
        }
    }

    /// The tensors that the step reads; unused places are `None`.
    pub const fn inputs(&self) -> [Option<&Slot>; 2] {
        match self {
            Step::Conv(s) => match &s.residual {
                Some(r) => [Some(&s.input), Some(&r.slot)],
                None => [Some(&s.input), None],
            },
            Step::Add(s) => [Some(&s.a), Some(&s.b)],
            Step::Map(s) => [Some(&s.input), None],
            Step::Shuffle(s) => [Some(&s.input), None],
        }
    }

    /// Whether the step may write over its input number `input` (0 or 1) when both name the same place.
    pub const fn in_place(&self, input: usize) -> bool {
        match self {
            Step::Conv(_) => input == 1,
            Step::Add(_) | Step::Map(_) => true,
            Step::Shuffle(_) => false,
        }
    }

    /// Whether slots and constants are consistent and inside an arena of this size.
    #[inline(always)]
    pub const fn fits(&self, arena_bytes: usize) -> bool {
        match self {
            Step::Conv(s) => s.fits(arena_bytes),
            Step::Add(s) => s.fits(arena_bytes),
            Step::Map(s) => s.fits(arena_bytes),
            Step::Shuffle(s) => s.fits(arena_bytes),
        }
    }

    /// Multiply-accumulates of one call.
    pub const fn macs(&self) -> u64 {
        match self {
            Step::Conv(s) => s.macs(),
            Step::Add(_) | Step::Map(_) | Step::Shuffle(_) => 0,
        }
    }
}
