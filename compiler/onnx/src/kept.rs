//! Activations that stay one operation.
//!
//! tract spells these out as it types a model (a softplus as `ln(exp(x) + 1)`, which overflows), so that they would
//! have to be recognised again. They pass through it as operations of ours instead.

use flowlet_compiler::ir::Unary;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::{not_out_of_plan, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

/// An activation with one operand, and a result of the same type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kept {
    /// A function that the compiler has under the same name.
    Unary(Unary),
    /// `x` where positive, else `alpha * (exp(x) - 1)`.
    Elu(f32),
    /// GELU by its approximation with a hyperbolic tangent.
    GeluTanh,
}

impl Eq for Kept {}

impl Kept {
    /// The activation that an ONNX node stands for, if it is one of these.
    pub(crate) fn of(node: &NodeProto) -> TractResult<Option<Kept>> {
        Ok(Some(match node.op_type.as_str() {
            "Softplus" => Kept::Unary(Unary::Softplus),
            "Mish" => Kept::Unary(Unary::Mish),
            "Swish" => match node.get_attr_opt::<f32>("alpha")? {
                None | Some(1.0) => Kept::Unary(Unary::Silu),
                Some(alpha) => bail!("swish with alpha = {alpha} is not supported, with 1 it is"),
            },
            "Gelu" => match node.get_attr_opt::<String>("approximate")?.as_deref() {
                None | Some("none") => Kept::Unary(Unary::Gelu),
                Some("tanh") => Kept::GeluTanh,
                Some(other) => bail!("gelu with the approximation '{other}' is not supported"),
            },
            "Elu" => Kept::Elu(node.get_attr_opt::<f32>("alpha")?.unwrap_or(1.0)),
            _ => return Ok(None),
        }))
    }
}

impl Expansion for Kept {
    fn name(&self) -> StaticName {
        "Kept".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(&self, prefix: &str, target: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        target.wire_node(prefix, *self, inputs)
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }
}

impl Op for Kept {
    fn name(&self) -> StaticName {
        "Kept".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Kept {
    not_out_of_plan!();
}

impl TypedOp for Kept {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}
