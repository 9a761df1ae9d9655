//! A graph whose kernels are chosen and whose constants are packed; memory is still open.

use super::weights::Blob;
use super::{Kernel, LowerError};
use crate::ir::Remark;
use flowlet_plan::Quant;

/// Height, width and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) height: u16,
    pub(super) width: u16,
    pub(super) channels: u16,
}

impl Shape {
    pub(super) fn pixels(self) -> usize {
        usize::from(self.height) * usize::from(self.width)
    }

    pub(super) fn elements(self) -> usize {
        self.pixels() * usize::from(self.channels)
    }

    /// `[1, C, H, W]`, `[1, K]`, or tokens `[1, T, C]`, which lie in memory like an image of one row.
    pub(super) fn of(dims: &[usize], node: &str, op: &str) -> Result<Self, LowerError> {
        let unsupported = |reason: String| LowerError::Unsupported { node: node.to_owned(), op: op.to_owned(), reason };
        let (n, [c, h, w]) = match *dims {
            [n, c, h, w] => (n, [c, h, w]),
            [n, k] => (n, [k, 1, 1]),
            [n, t, c] => (n, [c, 1, t]),
            _ => return Err(unsupported(format!("a tensor of {dims:?} is none of [N,C,H,W], [N,T,C] and [N,K]"))),
        };
        if n != 1 {
            return Err(unsupported(format!("a plan runs a batch of 1, not of {n}: export the model with batch 1")));
        }
        match (u16::try_from(h), u16::try_from(w), u16::try_from(c)) {
            (Ok(height), Ok(width), Ok(channels)) if height > 0 && width > 0 && channels > 0 => {
                Ok(Shape { height, width, channels })
            }
            _ => Err(unsupported(format!("every size of {dims:?} must be 1 to 65535"))),
        }
    }
}

/// A tensor that needs memory.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// A port: it must be one run of bytes.
    pub(super) port: bool,
    /// Read after the last step.
    pub(super) output: bool,
}

/// A tensor, or a part of it, as one step reads it; another shape than the tensor's own is a reshape that moves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) tensor: usize,
    pub(super) shape: Shape,
    /// First element that is read.
    pub(super) offset: usize,
    /// Elements between pixels where the tensor is not part of another one.
    pub(super) pitch: u16,
}

impl View {
    pub(super) fn whole(tensor: usize, shape: Shape) -> Self {
        View { tensor, shape, offset: 0, pitch: shape.channels }
    }

    /// The same bytes under another shape, unless there are gaps between them.
    pub(super) fn reshaped(self, shape: Shape) -> Option<Self> {
        if shape.channels == self.shape.channels {
            return Some(View { shape, ..self });
        }
        let contiguous = self.pitch == self.shape.channels || self.shape.pixels() == 1;
        contiguous.then_some(View { shape, pitch: shape.channels, ..self })
    }

    /// Elements `start..start + count` along axis 1 (channels), 2 (rows) or, of a single row, 3 (pixels).
    pub(super) fn sliced(self, axis: usize, start: usize, count: u16) -> Option<Self> {
        let (mut view, pitch) = (self, usize::from(self.pitch));
        let step = match axis {
            1 => {
                view.shape.channels = count;
                1
            }
            2 => {
                view.shape.height = count;
                usize::from(self.shape.width) * pitch
            }
            3 if self.shape.height == 1 => {
                view.shape.width = count;
                pitch
            }
            _ => return None,
        };
        view.offset += start * step;
        Some(view)
    }
}

/// The axis of a concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    Channels,
    /// Whole pixels follow each other: rows, or the pixels of a single row.
    Pixels,
}

impl Along {
    /// Elements between the beginnings of an operand and the next.
    pub(super) fn extent(self, shape: Shape) -> usize {
        match self {
            Along::Channels => shape.channels.into(),
            Along::Pixels => shape.elements(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Kernel(Kernel),
    /// Concatenation.
    Join(Along),
}

#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) work: Work,
    pub(super) reads: Vec<View>,
    pub(super) write: usize,
    /// The tensor that is its memory while it runs.
    pub(super) scratch: Option<usize>,
    /// Name of the value.
    pub(super) name: String,
    /// ONNX name of the node.
    pub(super) origin: String,
    /// The line of the graph's text form.
    pub(super) text: String,
}

#[derive(Clone, Debug)]
pub(super) struct DraftPort {
    pub(super) name: String,
    pub(super) view: View,
    pub(super) quant: Quant,
    pub(super) unit: String,
}

#[derive(Default)]
pub(super) struct Draft {
    pub(super) tensors: Vec<Tensor>,
    pub(super) ops: Vec<Op>,
    pub(super) inputs: Vec<DraftPort>,
    pub(super) indices: Vec<(String, u16)>,
    pub(super) outputs: Vec<DraftPort>,
    pub(super) blob: Blob,
    pub(super) remarks: Vec<Remark>,
}
