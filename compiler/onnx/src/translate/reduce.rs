//! Sums, means and extremes over axes.

use super::{At, Binding, Refused, Translator};
use flowlet_compiler::ir::{Op, Unary};
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::ops::nn::{Reduce, Reducer};

impl Translator<'_> {
    /// `None` if the operation belongs to another family.
    pub(super) fn reduction(&mut self, at: &At<'_>, op: &dyn TypedOp) -> Result<Option<Binding>, Refused> {
        if let Some(op) = op.downcast_ref::<Reduce>() {
            return self.reduce(at, op).map(Some);
        }
        Ok(None)
    }

    fn reduce(&mut self, at: &At<'_>, op: &Reduce) -> Result<Binding, Refused> {
        let mut axes = op.axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        match op.reducer {
            Reducer::Sum => self.unary(at, Op::ReduceSum { axes }),
            Reducer::MeanOfSquares => {
                let x = self.operand(at, 0)?;
                let square = self.emit(at, Op::Unary(Unary::Square), &[x])?;
                self.emit(at, Op::ReduceMean { axes }, &[square]).map(Binding::Value)
            }
            Reducer::Max => self.unary(at, Op::ReduceMax { axes }),
            Reducer::Min => {
                let x = self.operand(at, 0)?;
                let minus = self.emit(at, Op::Unary(Unary::Neg), &[x])?;
                let greatest = self.emit(at, Op::ReduceMax { axes }, &[minus])?;
                self.emit(at, Op::Unary(Unary::Neg), &[greatest]).map(Binding::Value)
            }
            Reducer::ArgMax(_) | Reducer::ArgMin(_) | Reducer::Prod | Reducer::All | Reducer::Any => {
                Err(format!("reducing by {:?} is not supported", op.reducer))
            }
        }
    }
}
