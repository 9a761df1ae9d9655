//! What a step computes, with its constants as sections of the blob.

use super::Section;
use super::draft::Shape;
use flowlet_plan::{
    Add, AddParams, Conv, ConvTranspose, Epilogue, Isa, Map, MatMul, Matrices, Mul, Norm, NormKind, Packing, Pool,
    PoolKind, Residual, RowKey, Shuffle, ShuffleKind, Slot, Softmax, Split, Step, Table, Transpose,
    matmul_scratch_bytes, scratch_bytes,
};

/// A chosen kernel: a [`Step`] without its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Convolution or fully connected layer.
    Conv(Box<ConvKernel>),
    /// Transposed convolution.
    ConvTranspose(Box<ConvTransposeKernel>),
    /// Batched matrix product.
    MatMul(MatMulKernel),
    /// Elementwise sum.
    Add {
        /// Constants of the sum.
        params: AddParams,
        /// Fused activation.
        table: Option<Section>,
    },
    /// Elementwise product.
    Mul(MulKernel),
    /// Elementwise table, or a copy without one.
    Map {
        /// The function.
        table: Option<Section>,
    },
    /// Softmax over channels.
    Softmax {
        /// The exponential function.
        table: Section,
    },
    /// Norm with statistics at run time.
    Norm(NormKernel),
    /// Pooling.
    Pool {
        /// Window rows and columns.
        kernel: [u16; 2],
        /// Vertical and horizontal stride.
        stride: [u16; 2],
        /// Padding above and left.
        pad: [u16; 2],
        /// What is computed.
        kind: PoolKind,
    },
    /// Space to depth or back.
    Shuffle {
        /// Block size.
        block: u8,
        /// Direction.
        kind: ShuffleKind,
    },
    /// Pixels and channels exchanged.
    Transpose,
}

/// An [`Epilogue`] without its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpilogueKernel {
    /// Requantise multipliers.
    pub multipliers: Section,
    /// Bias bank.
    pub bias: Section,
    /// What chooses the bias row.
    pub row: RowKey,
    /// Left shift of the requantise law.
    pub left_shift: u8,
    /// Zero point of the requantised result.
    pub zero_point: i8,
    /// Constants of the residual sum; its tensor is the step's second input.
    pub residual: Option<AddParams>,
    /// Fused activation.
    pub table: Option<Section>,
}

/// A [`Conv`] without its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvKernel {
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Vertical and horizontal stride.
    pub stride: [u8; 2],
    /// Vertical and horizontal dilation.
    pub dilation: [u8; 2],
    /// Padding above and left.
    pub pad: [u8; 2],
    /// Nearest-neighbour factor of the reads.
    pub upsample: u8,
    /// Groups of channels.
    pub groups: u16,
    /// The value that padding reads.
    pub input_zero_point: i8,
    /// Packed weights.
    pub weights: Section,
    /// Order of the weights.
    pub packing: Packing,
    /// What happens to the accumulators.
    pub epilogue: EpilogueKernel,
}

/// A [`ConvTranspose`] without its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvTransposeKernel {
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Vertical and horizontal stride.
    pub stride: [u8; 2],
    /// Rows and columns cut off above and left.
    pub pad: [u8; 2],
    /// The value that places outside the input have.
    pub input_zero_point: i8,
    /// Packed weights, phase by phase.
    pub weights: Section,
    /// Order of the weights.
    pub packing: Packing,
    /// What happens to the accumulators.
    pub epilogue: EpilogueKernel,
}

/// A [`MatMul`] without its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatMulKernel {
    /// How the batch lies in the left operand, the right operand and the result.
    pub splits: [Split; 3],
    /// Number of products.
    pub batch: u16,
    /// Whether the right operand holds the transpose of the right side.
    pub transposed: bool,
    /// Zero point of the left operand.
    pub a_zero_point: i8,
    /// Requantise multiplier.
    pub multiplier: i32,
    /// Requantise left shift.
    pub left_shift: u8,
    /// Zero point of the result.
    pub zero_point: i8,
}

/// A [`Mul`] without its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MulKernel {
    /// Zero points of the operands.
    pub zero_points: [i8; 2],
    /// Requantise multiplier.
    pub multiplier: i32,
    /// Requantise left shift.
    pub left_shift: u8,
    /// Zero point of the product.
    pub zero_point: i8,
    /// Fused activation.
    pub table: Option<Section>,
}

/// A [`Norm`] without its slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormKernel {
    /// Statistics.
    pub kind: NormKind,
    /// Zero point of the operand.
    pub input_zero_point: i8,
    /// Added to the spread.
    pub epsilon: u64,
    /// Gains.
    pub gain: Section,
    /// Binary point of the gains.
    pub gain_shift: u8,
    /// Offsets.
    pub offset: Section,
    /// Fused activation.
    pub table: Option<Section>,
}

impl EpilogueKernel {
    fn bind<'a>(&self, inputs: &[Slot], blob: &'a [u8]) -> Option<Epilogue<'a>> {
        Some(Epilogue {
            multipliers: self.multipliers.of(blob),
            bias: self.bias.of(blob),
            row: self.row,
            left_shift: self.left_shift,
            zero_point: self.zero_point,
            residual: match self.residual {
                Some(params) => Some(Residual { slot: *inputs.get(1)?, params }),
                None => None,
            },
            table: bind_table(self.table, blob)?,
        })
    }

    fn constants(&self) -> impl Iterator<Item = Section> {
        [self.multipliers, self.bias].into_iter().chain(self.table)
    }
}

/// `None` if the section is not a table.
fn bind_table(table: Option<Section>, blob: &[u8]) -> Option<Option<Table<'_>>> {
    let Some(section) = table else { return Some(None) };
    Some(Some(section.of(blob).try_into().ok()?))
}

impl Kernel {
    /// Which inputs a step may write over, by position.
    pub(super) fn in_place(&self) -> &'static [usize] {
        let residual =
            |epilogue: &EpilogueKernel| -> &'static [usize] { if epilogue.residual.is_some() { &[1] } else { &[] } };
        match self {
            Kernel::Conv(conv) => residual(&conv.epilogue),
            Kernel::ConvTranspose(conv) => residual(&conv.epilogue),
            Kernel::MatMul(_) | Kernel::Pool { .. } | Kernel::Shuffle { .. } | Kernel::Transpose => &[],
            Kernel::Add { .. } | Kernel::Mul(_) => &[0, 1],
            Kernel::Map { .. } | Kernel::Softmax { .. } | Kernel::Norm(_) => &[0],
        }
    }

    /// Name of the kernel family: a module of `flowlet_kernels`.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Conv(_) => "conv",
            Kernel::ConvTranspose(_) => "conv_transpose",
            Kernel::MatMul(_) => "matmul",
            Kernel::Add { .. } => "add",
            Kernel::Mul(_) => "mul",
            Kernel::Map { .. } => "map",
            Kernel::Softmax { .. } => "softmax",
            Kernel::Norm(_) => "norm",
            Kernel::Pool { .. } => "pool",
            Kernel::Shuffle { .. } => "shuffle",
            Kernel::Transpose => "transpose",
        }
    }

    /// Bytes of scratch that the step's kernel uses, for operands of these shapes.
    pub(super) fn scratch_bytes(&self, isa: Isa, operands: &[Shape]) -> usize {
        let channels = operands.first().map_or(0, |shape| shape.channels);
        match self {
            Kernel::Conv(conv) => scratch_bytes(conv.packing, conv.kernel, channels.into()),
            Kernel::ConvTranspose(conv) => {
                let phase = [conv.kernel[0].div_ceil(conv.stride[0]), conv.kernel[1].div_ceil(conv.stride[1])];
                scratch_bytes(conv.packing, phase, channels.into())
            }
            Kernel::MatMul(product) => {
                let Some(right) = operands.get(1) else { return 0 };
                let batch = usize::from(product.batch).max(1);
                let (rows, columns) = match product.splits[1] {
                    Split::Rows => (right.width.into(), right.channels.into()),
                    Split::Channels => (right.pixels(), usize::from(right.channels) / batch),
                };
                let [k, n] = if product.transposed { [columns, rows] } else { [rows, columns] };
                matmul_scratch_bytes(isa, k, n)
            }
            Kernel::Add { .. }
            | Kernel::Mul(_)
            | Kernel::Map { .. }
            | Kernel::Softmax { .. }
            | Kernel::Norm(_)
            | Kernel::Pool { .. }
            | Kernel::Shuffle { .. }
            | Kernel::Transpose => 0,
        }
    }

    /// The row of the bias bank, for kernels that have one.
    pub fn row(&self) -> Option<RowKey> {
        match self {
            Kernel::Conv(conv) => Some(conv.epilogue.row),
            Kernel::ConvTranspose(conv) => Some(conv.epilogue.row),
            Kernel::MatMul(_)
            | Kernel::Add { .. }
            | Kernel::Mul(_)
            | Kernel::Map { .. }
            | Kernel::Softmax { .. }
            | Kernel::Norm(_)
            | Kernel::Pool { .. }
            | Kernel::Shuffle { .. }
            | Kernel::Transpose => None,
        }
    }

    /// Sections of the weights that the step reads.
    pub fn constants(&self) -> Vec<Section> {
        match self {
            Kernel::Conv(conv) => core::iter::once(conv.weights).chain(conv.epilogue.constants()).collect(),
            Kernel::ConvTranspose(conv) => core::iter::once(conv.weights).chain(conv.epilogue.constants()).collect(),
            Kernel::Add { table, .. } | Kernel::Map { table } | Kernel::Mul(MulKernel { table, .. }) => {
                table.iter().copied().collect()
            }
            Kernel::Softmax { table } => vec![*table],
            Kernel::Norm(norm) => [norm.gain, norm.offset].into_iter().chain(norm.table).collect(),
            Kernel::MatMul(_) | Kernel::Pool { .. } | Kernel::Shuffle { .. } | Kernel::Transpose => Vec::new(),
        }
    }

    /// The step with these slots and the constants of this blob; `None` if a slot or a table is missing.
    pub(super) fn bind<'a>(
        &self,
        inputs: &[Slot],
        output: Slot,
        scratch: Option<Slot>,
        blob: &'a [u8],
    ) -> Option<Step<'a>> {
        let input = *inputs.first()?;
        Some(match self {
            Kernel::Conv(conv) => Step::Conv(Conv {
                input,
                output,
                kernel: conv.kernel,
                stride: conv.stride,
                dilation: conv.dilation,
                pad: conv.pad,
                upsample: conv.upsample,
                groups: conv.groups,
                input_zero_point: conv.input_zero_point,
                weights: conv.weights.of(blob),
                packing: conv.packing,
                scratch,
                epilogue: conv.epilogue.bind(inputs, blob)?,
            }),
            Kernel::ConvTranspose(conv) => Step::ConvTranspose(ConvTranspose {
                input,
                output,
                kernel: conv.kernel,
                stride: conv.stride,
                pad: conv.pad,
                input_zero_point: conv.input_zero_point,
                weights: conv.weights.of(blob),
                packing: conv.packing,
                scratch,
                epilogue: conv.epilogue.bind(inputs, blob)?,
            }),
            Kernel::MatMul(product) => Step::MatMul(MatMul {
                a: Matrices { slot: input, split: product.splits[0] },
                b: Matrices { slot: *inputs.get(1)?, split: product.splits[1] },
                output: Matrices { slot: output, split: product.splits[2] },
                batch: product.batch,
                transposed: product.transposed,
                a_zero_point: product.a_zero_point,
                multiplier: product.multiplier,
                left_shift: product.left_shift,
                zero_point: product.zero_point,
                scratch,
            }),
            Kernel::Add { params, table } => Step::Add(Add {
                a: input,
                b: *inputs.get(1)?,
                output,
                params: *params,
                table: bind_table(*table, blob)?,
            }),
            Kernel::Mul(product) => Step::Mul(Mul {
                a: input,
                b: *inputs.get(1)?,
                output,
                a_zero_point: product.zero_points[0],
                b_zero_point: product.zero_points[1],
                multiplier: product.multiplier,
                left_shift: product.left_shift,
                zero_point: product.zero_point,
                table: bind_table(product.table, blob)?,
            }),
            Kernel::Map { table } => Step::Map(Map { input, output, table: bind_table(*table, blob)? }),
            Kernel::Softmax { table } => {
                Step::Softmax(Softmax { input, output, table: table.of(blob).try_into().ok()? })
            }
            Kernel::Norm(norm) => Step::Norm(Norm {
                input,
                output,
                kind: norm.kind,
                input_zero_point: norm.input_zero_point,
                epsilon: norm.epsilon,
                gain: norm.gain.of(blob),
                gain_shift: norm.gain_shift,
                offset: norm.offset.of(blob),
                table: bind_table(norm.table, blob)?,
            }),
            Kernel::Pool { kernel, stride, pad, kind } => {
                Step::Pool(Pool { input, output, kernel: *kernel, stride: *stride, pad: *pad, kind: *kind })
            }
            Kernel::Shuffle { block, kind } => Step::Shuffle(Shuffle { input, output, block: *block, kind: *kind }),
            Kernel::Transpose => Step::Transpose(Transpose { input, output }),
        })
    }
}
