//! What a step computes, with its constants as sections of the blob.

use super::Section;
use flowlet_plan::{Add, AddParams, Conv, Map, Packing, Residual, RowKey, Shuffle, ShuffleKind, Slot, Step, Table};

/// A chosen kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Convolution or fully connected layer.
    Conv(Box<ConvKernel>),
    /// Elementwise sum.
    Add {
        /// Constants of the sum.
        params: AddParams,
        /// Fused activation.
        table: Option<Section>,
    },
    /// Elementwise table, or a copy without one.
    Map {
        /// The function.
        table: Option<Section>,
    },
    /// Space to depth or back.
    Shuffle {
        /// Block size.
        block: u8,
        /// Direction.
        kind: ShuffleKind,
    },
}

/// A [`Conv`] without its slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvKernel {
    /// Kernel rows and columns.
    pub kernel: [u8; 2],
    /// Vertical and horizontal stride.
    pub stride: [u8; 2],
    /// Padding above and left.
    pub pad: [u8; 2],
    /// Nearest-neighbour factor of the reads.
    pub upsample: u8,
    /// The value that padding reads.
    pub input_zero_point: i8,
    /// Packed weights.
    pub weights: Section,
    /// Order of the weights.
    pub packing: Packing,
    /// Requantise multipliers.
    pub multipliers: Section,
    /// Bias bank.
    pub bias: Section,
    /// What chooses the bias row.
    pub row: RowKey,
    /// Left shift of the requantise law.
    pub left_shift: u8,
    /// Zero point of the requantised result.
    pub output_zero_point: i8,
    /// Constants of the residual sum; its tensor is the step's second input.
    pub residual: Option<AddParams>,
    /// Fused activation.
    pub table: Option<Section>,
}

impl Kernel {
    /// Which inputs a step may write over, by position.
    pub(super) fn in_place(&self) -> &'static [usize] {
        match self {
            Kernel::Conv(conv) if conv.residual.is_some() => &[1],
            Kernel::Conv(_) | Kernel::Shuffle { .. } => &[],
            Kernel::Add { .. } => &[0, 1],
            Kernel::Map { .. } => &[0],
        }
    }

    /// Name of the kernel family, as in `flowlet_kernels`.
    pub fn name(&self) -> &'static str {
        match self {
            Kernel::Conv(_) => "conv",
            Kernel::Add { .. } => "add",
            Kernel::Map { .. } => "map",
            Kernel::Shuffle { .. } => "shuffle",
        }
    }

    /// The step with these slots and the constants of this blob; `None` if a slot or a table is missing.
    pub(super) fn bind<'a>(&self, inputs: &[Slot], output: Slot, blob: &'a [u8]) -> Option<Step<'a>> {
        let bind_table = |table: Option<Section>| -> Option<Option<Table<'a>>> {
            let Some(section) = table else { return Some(None) };
            Some(Some(section.of(blob).try_into().ok()?))
        };
        let first = *inputs.first()?;
        Some(match self {
            Kernel::Conv(conv) => Step::Conv(Conv {
                input: first,
                output,
                kernel: conv.kernel,
                stride: conv.stride,
                pad: conv.pad,
                upsample: conv.upsample,
                input_zero_point: conv.input_zero_point,
                weights: conv.weights.of(blob),
                packing: conv.packing,
                multipliers: conv.multipliers.of(blob),
                bias: conv.bias.of(blob),
                row: conv.row,
                left_shift: conv.left_shift,
                output_zero_point: conv.output_zero_point,
                residual: match conv.residual {
                    Some(params) => Some(Residual { slot: *inputs.get(1)?, params }),
                    None => None,
                },
                table: bind_table(conv.table)?,
            }),
            Kernel::Add { params, table } => {
                Step::Add(Add { a: first, b: *inputs.get(1)?, output, params: *params, table: bind_table(*table)? })
            }
            Kernel::Map { table } => Step::Map(Map { input: first, output, table: bind_table(*table)? }),
            Kernel::Shuffle { block, kind } => {
                Step::Shuffle(Shuffle { input: first, output, block: *block, kind: *kind })
            }
        })
    }
}
