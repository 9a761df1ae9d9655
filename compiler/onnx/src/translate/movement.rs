//! Operations that move elements: reshapes, transpositions, slices, joins, lookups, padding, repetition.

use super::constant::{reshape, transpose};
use super::{At, Binding, Refused, Translator};
use flowlet_compiler::ir::{DType, Op, Tensor, ValueId};
use std::sync::Arc;
use tract_onnx::prelude::TDim;
use tract_onnx::tract_core::internal::{AxisOp, TypedOp};
use tract_onnx::tract_core::ops::Downsample;
use tract_onnx::tract_core::ops::array::{
    Gather, MultiBroadcastTo, Pad, PadMode, Slice, StridedSlice, Tile, TypedConcat,
};

impl Translator<'_> {
    /// `None` if the operation belongs to another family.
    pub(super) fn movement(&mut self, at: &At<'_>, op: &dyn TypedOp) -> Result<Option<Binding>, Refused> {
        if let Some(op) = op.downcast_ref::<AxisOp>() {
            return self.axis(at, op).map(Some);
        }
        if let Some(op) = op.downcast_ref::<Slice>() {
            return self.slice(at, op).map(Some);
        }
        if let Some(op) = op.downcast_ref::<StridedSlice>() {
            return self.strided_slice(at, op).map(Some);
        }
        if let Some(op) = op.downcast_ref::<Downsample>() {
            return self.downsample(at, op).map(Some);
        }
        if let Some(op) = op.downcast_ref::<TypedConcat>() {
            let parts: Vec<ValueId> =
                (0..at.node.inputs.len()).map(|i| self.operand(at, i)).collect::<Result<_, _>>()?;
            return self.emit(at, Op::Concat { axis: op.axis }, &parts).map(|id| Some(Binding::Value(id)));
        }
        if let Some(op) = op.downcast_ref::<Gather>() {
            return self.gather(at, op).map(Some);
        }
        if op.is::<MultiBroadcastTo>() {
            let dims = self.output_dims(at)?;
            if dims == self.input_dims(at, 0)? {
                return self.binding(at, 0).map(Some);
            }
            return self.unary(at, Op::Expand { dims }).map(Some);
        }
        if let Some(op) = op.downcast_ref::<Tile>() {
            return self.tile(at, op).map(Some);
        }
        if let Some(op) = op.downcast_ref::<Pad>() {
            return self.pad(at, op).map(Some);
        }
        Ok(None)
    }

    fn axis(&mut self, at: &At<'_>, op: &AxisOp) -> Result<Binding, Refused> {
        let (from, to) = (self.input_dims(at, 0)?, self.output_dims(at)?);
        if let Binding::Constant { name, tensor } = self.binding(at, 0)? {
            // Moving the elements of a constant is exact, so that it can be done here.
            let moved = match op {
                AxisOp::Move(a, b) => transpose(&tensor, &move_axis(from.len(), *a, *b)?),
                AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..) => reshape(&tensor, &to),
            };
            return Ok(Binding::Constant { name, tensor: Arc::new(moved) });
        }
        match op {
            AxisOp::Move(a, b) if a == b => self.binding(at, 0),
            AxisOp::Move(a, b) => self.unary(at, Op::Transpose { perm: move_axis(from.len(), *a, *b)? }),
            AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..) if from == to => self.binding(at, 0),
            AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..) => self.unary(at, Op::Reshape { dims: to }),
        }
    }

    fn slice(&mut self, at: &At<'_>, op: &Slice) -> Result<Binding, Refused> {
        let (start, end) = (fixed(&op.start)?, fixed(&op.end)?);
        let size = self.input_dims(at, 0)?.get(op.axis).copied().unwrap_or(0);
        if start == 0 && end == size {
            return self.binding(at, 0);
        }
        self.unary(at, Op::Slice { axis: op.axis, start, end, step: 1 })
    }

    fn strided_slice(&mut self, at: &At<'_>, op: &StridedSlice) -> Result<Binding, Refused> {
        let list = |slot: usize, what: &str| -> Result<Vec<i64>, Refused> {
            let tensor = self.constant(at, slot).ok_or_else(|| format!("its {what} must be constant"))?;
            tensor.as_i64().map(<[i64]>::to_vec).ok_or_else(|| format!("its {what} must be integers"))
        };
        let (starts, ends) = (list(1, "starts")?, list(2, "ends")?);
        let axes = op.optional_axes_input.map(|slot| list(slot, "axes")).transpose()?;
        let steps = op.optional_steps_input.map(|slot| list(slot, "steps")).transpose()?;
        let dims = self.input_dims(at, 0)?;
        let mut x = self.operand(at, 0)?;
        for (i, (&start, &end)) in starts.iter().zip(&ends).enumerate() {
            let axis = axes.as_ref().map_or(Some(i as i64), |a| a.get(i).copied()).unwrap_or(-1);
            let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok();
            let axis =
                axis.filter(|&a| a < dims.len()).ok_or_else(|| format!("an axis is not among {}", dims.len()))?;
            let step = steps.as_ref().and_then(|s| s.get(i).copied()).unwrap_or(1);
            let step = usize::try_from(step).ok().filter(|&s| s > 0);
            let step = step.ok_or_else(|| "slices that run backwards are not supported".to_owned())?;
            let (start, end) = (from_front(start, dims[axis]), from_front(end, dims[axis]));
            if (start, end, step) != (0, dims[axis], 1) {
                x = self.emit(at, Op::Slice { axis, start, end: end.max(start), step }, &[x])?;
            }
        }
        Ok(Binding::Value(x))
    }

    fn downsample(&mut self, at: &At<'_>, op: &Downsample) -> Result<Binding, Refused> {
        let step = usize::try_from(op.stride).map_err(|_| "slices that run backwards are not supported".to_owned())?;
        let end = self.input_dims(at, 0)?.get(op.axis).copied().unwrap_or(0);
        self.unary(at, Op::Slice { axis: op.axis, start: op.modulo, end, step })
    }

    fn gather(&mut self, at: &At<'_>, op: &Gather) -> Result<Binding, Refused> {
        let dims = self.input_dims(at, 0)?;
        let rows = *dims.get(op.axis).ok_or_else(|| format!("axis {} does not exist in {dims:?}", op.axis))?;
        let indices = match self.constant(at, 1) {
            Some(tensor) => {
                let fixed = fixed_indices(&tensor, rows)?;
                if let [row] = fixed[..] {
                    return self.take(at, op.axis, row);
                }
                let tensor = Tensor::i64(&tensor.dims, fixed.iter().map(|&i| i as i64).collect());
                self.graph.add_const(&format!("{}.indices", at.name), tensor)
            }
            None => self.operand(at, 1)?,
        };
        let data = self.operand(at, 0)?;
        self.emit(at, Op::Gather { axis: op.axis }, &[data, indices]).map(Binding::Value)
    }

    /// One row: a slice, without its axis if the index had none.
    fn take(&mut self, at: &At<'_>, axis: usize, row: usize) -> Result<Binding, Refused> {
        let data = self.operand(at, 0)?;
        let slice = self.emit(at, Op::Slice { axis, start: row, end: row + 1, step: 1 }, &[data])?;
        let dims = self.output_dims(at)?;
        if self.graph.ty(slice).dims == dims {
            return Ok(Binding::Value(slice));
        }
        self.emit(at, Op::Reshape { dims }, &[slice]).map(Binding::Value)
    }

    fn tile(&mut self, at: &At<'_>, op: &Tile) -> Result<Binding, Refused> {
        let from = self.input_dims(at, 0)?;
        let times: Vec<usize> = op.multipliers.iter().map(fixed).collect::<Result<_, _>>()?;
        let to = self.output_dims(at)?;
        if times.len() != from.len() || times.contains(&0) {
            return Err(format!("{times:?} repetitions do not fit {from:?}"));
        }
        if from == to {
            return self.binding(at, 0);
        }
        let x = self.operand(at, 0)?;
        if from.iter().zip(&times).all(|(&size, &n)| n == 1 || size == 1) {
            return self.emit(at, Op::Expand { dims: to }, &[x]).map(Binding::Value);
        }
        let pairs = |first: &[usize]| first.iter().zip(&from).flat_map(|(&n, &d)| [n, d]).collect::<Vec<usize>>();
        let split = self.emit(at, Op::Reshape { dims: pairs(&vec![1; from.len()]) }, &[x])?;
        let wide = self.emit(at, Op::Expand { dims: pairs(&times) }, &[split])?;
        self.emit(at, Op::Reshape { dims: to }, &[wide]).map(Binding::Value)
    }

    fn pad(&mut self, at: &At<'_>, op: &Pad) -> Result<Binding, Refused> {
        if op.pads.iter().all(|&p| p == (0, 0)) {
            return self.binding(at, 0);
        }
        let zero = match &op.mode {
            PadMode::Constant(value) => value.cast_to_scalar::<f32>().is_ok_and(|v| v == 0.0),
            PadMode::Reflect | PadMode::Edge => false,
        };
        let spatial = op.pads.len() == 3 || op.pads.len() == 4;
        if !zero || !spatial || op.pads[..2].iter().any(|&p| p != (0, 0)) {
            return Err("only zero padding of images, before a convolution, is supported".to_owned());
        }
        let pad = match op.pads[2..] {
            [h, w] => [h.0, w.0, h.1, w.1],
            [w] => [0, w.0, 0, w.1],
            _ => return Err("padding over more than two axes is not supported".to_owned()),
        };
        Ok(Binding::Padded { inner: self.operand(at, 0)?, pad })
    }
}

fn move_axis(rank: usize, from: usize, to: usize) -> Result<Vec<usize>, Refused> {
    if from >= rank || to >= rank {
        return Err(format!("axis {} does not exist in a tensor of rank {rank}", from.max(to)));
    }
    let mut perm: Vec<usize> = (0..rank).filter(|&axis| axis != from).collect();
    perm.insert(to, from);
    Ok(perm)
}

fn fixed(dim: &TDim) -> Result<usize, Refused> {
    dim.to_i64().ok().and_then(|v| usize::try_from(v).ok()).ok_or_else(|| format!("'{dim}' is not a fixed size"))
}

/// A bound of a slice counted from the front and moved into the axis.
fn from_front(bound: i64, size: usize) -> usize {
    let bound = if bound < 0 { bound.saturating_add_unsigned(size as u64) } else { bound };
    usize::try_from(bound).unwrap_or(0).min(size)
}

/// Indices counted from the front; ONNX also counts from the back.
fn fixed_indices(tensor: &Tensor, rows: usize) -> Result<Vec<usize>, Refused> {
    if tensor.dtype() != DType::I64 {
        return Err("indices are expected as integers".to_owned());
    }
    let values = tensor.as_i64().unwrap_or(&[]);
    let fix = |&i: &i64| {
        let from_front = if i < 0 { i.checked_add_unsigned(rows as u64) } else { Some(i) };
        let row = from_front.and_then(|i| usize::try_from(i).ok()).filter(|&i| i < rows);
        row.ok_or_else(|| format!("the index {i} is outside of {rows} rows"))
    };
    values.iter().map(fix).collect()
}
