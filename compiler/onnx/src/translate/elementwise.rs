//! Functions of single elements and arithmetic between two tensors.

use super::constant::uniform;
use super::{At, Binding, Refused, Translator, dtype_of};
use flowlet_compiler::ir::{Comparison, DType, Op, Tensor, Unary, ValueId};
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::ops::binary::{BinMiniOp, TypedBinOp};
use tract_onnx::tract_core::ops::cast::Cast;
use tract_onnx::tract_core::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use tract_onnx::tract_core::ops::{logic, math, nn};

impl Translator<'_> {
    /// `None` if the operation belongs to another family.
    pub(super) fn elementwise(&mut self, at: &At<'_>, op: &dyn TypedOp) -> Result<Option<Binding>, Refused> {
        if let Some(op) = op.downcast_ref::<TypedBinOp>() {
            return self.binary(at, op.0.as_ref()).map(Some);
        }
        if let Some(op) = op.downcast_ref::<ElementWiseOp>() {
            return self.function(at, op.0.as_ref()).map(Some);
        }
        if op.is::<logic::Iff>() {
            let inputs = [self.operand(at, 0)?, self.operand(at, 1)?, self.operand(at, 2)?];
            return self.emit(at, Op::Where, &inputs).map(|id| Some(Binding::Value(id)));
        }
        if let Some(op) = op.downcast_ref::<Cast>() {
            return self.cast(at, op).map(Some);
        }
        Ok(None)
    }

    fn cast(&mut self, at: &At<'_>, op: &Cast) -> Result<Binding, Refused> {
        let to = dtype_of(op.to).map_err(|reason| format!("its result {reason}"))?;
        let from = dtype_of(self.input_fact(at, 0)?.datum_type).map_err(|reason| format!("its operand {reason}"))?;
        if from == to {
            // Widths of one kind have one form here.
            return self.binding(at, 0);
        }
        self.unary(at, Op::Cast { to })
    }

    fn function(&mut self, at: &At<'_>, op: &dyn ElementWiseMiniOp) -> Result<Binding, Refused> {
        if self.input_fact(at, 0).and_then(|f| dtype_of(f.datum_type))? != DType::F32 {
            return Err(format!("'{}' of integers is not supported", op.name()));
        }
        if let Some(unary) = simple(op) {
            return self.unary(at, Op::Unary(unary));
        }
        let x = self.operand(at, 0)?;
        if op.is::<math::Rsqrt>() {
            let root = self.emit(at, Op::Unary(Unary::Sqrt), &[x])?;
            return self.emit(at, Op::Unary(Unary::Reciprocal), &[root]).map(Binding::Value);
        }
        if op.is::<nn::HardSwish>() {
            let sixth = self.scalar(at, x, 1.0 / 6.0);
            let scaled = self.emit(at, Op::Mul, &[x, sixth])?;
            let half = self.scalar(at, x, 0.5);
            let shifted = self.emit(at, Op::add(), &[scaled, half])?;
            let gate = self.emit(at, Op::Clip { lo: 0.0, hi: 1.0 }, &[shifted])?;
            return self.emit(at, Op::Mul, &[x, gate]).map(Binding::Value);
        }
        if let Some(leaky) = op.downcast_ref::<nn::LeakyRelu>() {
            let up = self.emit(at, Op::Unary(Unary::Relu), &[x])?;
            let minus = self.emit(at, Op::Unary(Unary::Neg), &[x])?;
            let down = self.emit(at, Op::Unary(Unary::Relu), &[minus])?;
            let op = Op::Add { alpha: 1.0, beta: -leaky.alpha, gamma: 0.0 };
            return self.emit(at, op, &[up, down]).map(Binding::Value);
        }
        Err(format!("the function '{}' has no translation", op.name()))
    }

    /// A constant that broadcasts against `like`.
    pub(super) fn scalar(&mut self, at: &At<'_>, like: ValueId, value: f32) -> ValueId {
        let dims = vec![1; self.graph.ty(like).dims.len()];
        self.graph.add_const(&format!("{}.constant", at.name), Tensor::f32(&dims, vec![value]))
    }

    fn binary(&mut self, at: &At<'_>, op: &dyn BinMiniOp) -> Result<Binding, Refused> {
        if let Some((comparison, swapped)) = comparison(op) {
            let (a, b) = (self.operand(at, 0)?, self.operand(at, 1)?);
            let inputs = if swapped { [b, a] } else { [a, b] };
            return self.emit(at, Op::Compare(comparison), &inputs).map(Binding::Value);
        }
        let output = dtype_of(at.node.outputs[0].fact.datum_type)?;
        for slot in 0..2 {
            if dtype_of(self.input_fact(at, slot)?.datum_type)? != output {
                return Err(format!("'{}' of different element types is not supported", op.name()));
            }
        }
        if output == DType::F32
            && let Some(binding) = self.with_constant(at, op)?
        {
            return Ok(binding);
        }
        let ours = if op.is::<math::Add>() {
            Op::add()
        } else if op.is::<math::Sub>() {
            Op::sub()
        } else if op.is::<math::SubF>() {
            Op::Add { alpha: -1.0, beta: 1.0, gamma: 0.0 }
        } else if op.is::<math::Mul>() {
            Op::Mul
        } else if op.is::<math::Div>() && output == DType::F32 {
            Op::Div
        } else if op.is::<math::Pow>() && output == DType::F32 {
            Op::Pow
        } else if op.is::<math::Max>() {
            Op::Max
        } else if op.is::<math::Min>() {
            Op::Min
        } else {
            return Err(format!("'{}' of {} tensors has no translation", op.name(), output.name()));
        };
        let (mut a, mut b) = (self.operand(at, 0)?, self.operand(at, 1)?);
        if (ours == Op::Mul || ours == Op::add()) && self.graph.constant(a).is_some() {
            // Constants come second, so that later passes look in one place.
            (a, b) = (b, a);
        }
        self.emit(at, ours, &[a, b]).map(Binding::Value)
    }

    /// Arithmetic with one number: clamps, powers with a name of their own, and neutral elements.
    fn with_constant(&mut self, at: &At<'_>, op: &dyn BinMiniOp) -> Result<Option<Binding>, Refused> {
        let number = |slot| self.constant(at, slot).and_then(|t| uniform(&t));
        let (left, right) = (number(0), number(1));
        let (slot, value) = match (left, right) {
            (_, Some(value)) => (0, value),
            (Some(value), None) => (1, value),
            (None, None) => return Ok(None),
        };
        let same_shape = self.input_dims(at, slot)? == self.output_dims(at)?;
        if op.is::<math::Max>() || op.is::<math::Min>() {
            if !same_shape {
                return Ok(None);
            }
            let clamp = match op.is::<math::Max>() {
                true if value == 0.0 => Op::Unary(Unary::Relu),
                true => Op::Clip { lo: value.max(f32::MIN), hi: f32::MAX },
                false => Op::Clip { lo: f32::MIN, hi: value.min(f32::MAX) },
            };
            let x = self.operand(at, slot)?;
            return self.emit(at, clamp, &[x]).map(|id| Some(Binding::Value(id)));
        }
        let neutral = ((op.is::<math::Add>() || (op.is::<math::Sub>() && slot == 0)) && value == 0.0)
            || ((op.is::<math::Mul>() || (op.is::<math::Div>() && slot == 0)) && value == 1.0)
            || (op.is::<math::Pow>() && slot == 0 && value == 1.0);
        if neutral && same_shape {
            return self.binding(at, slot).map(Some);
        }
        if op.is::<math::Pow>() && slot == 0 && same_shape {
            let unary = [(2.0, Unary::Square), (0.5, Unary::Sqrt), (-1.0, Unary::Reciprocal)];
            if let Some((_, unary)) = unary.into_iter().find(|(exponent, _)| *exponent == value) {
                let x = self.operand(at, 0)?;
                return self.emit(at, Op::Unary(unary), &[x]).map(|id| Some(Binding::Value(id)));
            }
        }
        Ok(None)
    }
}

/// The comparison that an operation makes, and whether its operands change places.
fn comparison(op: &dyn BinMiniOp) -> Option<(Comparison, bool)> {
    let table = [
        (op.is::<logic::CompEq>(), Comparison::Equal, false),
        (op.is::<logic::CompLT>(), Comparison::Less, false),
        (op.is::<logic::CompGT>(), Comparison::Less, true),
        (op.is::<logic::CompLTE>(), Comparison::LessOrEqual, false),
        (op.is::<logic::CompGTE>(), Comparison::LessOrEqual, true),
    ];
    table.into_iter().find(|(found, ..)| *found).map(|(_, comparison, swapped)| (comparison, swapped))
}

/// Functions that we have under the same meaning.
fn simple(op: &dyn ElementWiseMiniOp) -> Option<Unary> {
    let table: [(bool, Unary); 17] = [
        (op.is::<nn::Sigmoid>(), Unary::Sigmoid),
        (op.is::<math::Tanh>(), Unary::Tanh),
        (op.is::<math::Sin>(), Unary::Sin),
        (op.is::<math::Cos>(), Unary::Cos),
        (op.is::<math::Exp>(), Unary::Exp),
        (op.is::<math::Ln>(), Unary::Log),
        (op.is::<math::Sqrt>(), Unary::Sqrt),
        (op.is::<math::Recip>(), Unary::Reciprocal),
        (op.is::<math::Neg>(), Unary::Neg),
        (op.is::<math::Abs>(), Unary::Abs),
        (op.is::<math::Erf>(), Unary::Erf),
        (op.is::<math::Square>(), Unary::Square),
        (op.is::<nn::Silu>(), Unary::Silu),
        (op.is::<nn::GeluExact>(), Unary::Gelu),
        (op.is::<math::Floor>(), Unary::Floor),
        (op.is::<math::Ceil>(), Unary::Ceil),
        (op.is::<math::RoundHalfToEven>(), Unary::Round),
    ];
    table.into_iter().find(|(found, _)| *found).map(|(_, unary)| unary)
}
