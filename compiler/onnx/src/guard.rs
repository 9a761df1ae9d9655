//! Keeps tract from computing what it should only shape.
//!
//! tract folds constants while it infers shapes. Two things about that do not suit a compiler whose output must be the
//! same on every machine, whatever file it is given: transcendental functions and long sums come out of kernels
//! that are chosen by the processor, and a result is allocated before its size is looked at. Every operator is
//! therefore wrapped: results are bounded before they exist, and constants that would go through inexact arithmetic
//! reach their node as if they were not known, so that the node survives for the compiler to evaluate.

use crate::kept::Kept;
use std::collections::HashMap;
use std::sync::OnceLock;
use tract_onnx::model::{Onnx, OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::{not_a_typed_op, not_out_of_plan, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

/// Largest number of elements of any tensor of a model.
const MAX_ELEMENTS: usize = 1 << 26;
/// Largest number of elements that are computed while shapes are inferred.
const MAX_FOLDED: usize = 1 << 22;

/// Operators whose floating-point results depend on the order of their sums or on an approximation.
const INEXACT: &[&str] = &[
    "Attention",
    "AveragePool",
    "Celu",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Einsum",
    "Erf",
    "Exp",
    "Gemm",
    "GlobalAveragePool",
    "GroupNormalization",
    "HardSwish",
    "InstanceNormalization",
    "LayerNormalization",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Pow",
    "RMSNormalization",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "Sigmoid",
    "Sin",
    "Softmax",
    "Tan",
    "Tanh",
];

/// An importer for ONNX whose operators are wrapped.
pub(crate) fn framework() -> Onnx {
    let mut onnx = tract_onnx::onnx();
    for name in originals().0.keys().filter(|name| *name != "Constant") {
        onnx.op_register.insert(name, build);
    }
    for name in crate::kept::UNKNOWN_TO_TRACT {
        onnx.op_register.insert(name, build);
    }
    onnx.with_ignore_value_info(true)
}

fn originals() -> &'static OnnxOpRegister {
    static ORIGINALS: OnceLock<OnnxOpRegister> = OnceLock::new();
    ORIGINALS.get_or_init(|| tract_onnx::onnx().op_register)
}

fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (op, closures) = match Kept::of(node)? {
        Some(kept) => (expand(kept), Vec::new()),
        None => {
            let builder = originals().0.get(&node.op_type).with_context(|| format!("no operator {}", node.op_type))?;
            builder(context, node)?
        }
    };
    let inexact = INEXACT.contains(&node.op_type.as_str());
    Ok((Box::new(Guarded { op, inexact }), closures))
}

/// An operator of tract behind the guard.
#[derive(Clone, Debug)]
struct Guarded {
    op: Box<dyn InferenceOp>,
    inexact: bool,
}

impl PartialEq for Guarded {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Guarded {}

impl Op for Guarded {
    fn name(&self) -> StaticName {
        self.op.as_op().name()
    }

    not_a_typed_op!();
}

impl EvalOp for Guarded {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        if self.inexact && inputs.iter().any(|i| i.datum_type().is_float()) {
            return Ok(None);
        }
        self.op.as_op().eval_out_of_plan(inputs)
    }
}

impl InferenceOp for Guarded {
    fn infer(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let (inputs, outputs, observed) = self.op.infer_facts(inputs, outputs, observed)?;
        let mut elements = 0usize;
        for output in &outputs {
            if let Some(shape) = output.shape.as_concrete_finite()? {
                let size = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS);
                let size = size.with_context(|| format!("its result {shape:?} is too large"))?;
                elements = elements.saturating_add(size);
            }
        }
        let known: Option<TVec<TValue>> =
            inputs.iter().map(|i| i.value.concretize().map(|t| t.into_tvalue())).collect();
        let Some(known) = known.filter(|k| !k.is_empty() && elements <= MAX_FOLDED) else {
            return Ok((inputs, outputs, observed));
        };
        match self.eval_out_of_plan(known) {
            Ok(Some(values)) => {
                let values = values.into_iter().map(|v| v.into_arc_tensor().try_into()).collect::<TractResult<_>>()?;
                Ok((inputs, values, observed))
            }
            Ok(None) => Ok((inputs, outputs, observed)),
            Err(e) if e.root_cause().downcast_ref::<tract_data::TooEarly>().is_some() => {
                Ok((inputs, outputs, observed))
            }
            Err(e) => Err(e),
        }
    }

    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        self.op.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Vec<OutletId>> {
        self.op.observe_outlets(model, node)
    }

    fn incorporate(&self, model: &InferenceModel, node: &InferenceNode) -> TractResult<Option<InferenceModelPatch>> {
        self.op.incorporate(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.op.nboutputs()
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let facts =
            node.inputs.iter().map(|i| target.outlet_fact(mapping[i]).cloned()).collect::<TractResult<TVec<_>>>()?;
        let known = self.inexact && !facts.is_empty() && facts.iter().all(|f| f.konst.is_some());
        if !known {
            return self.op.to_typed(source, node, target, mapping);
        }
        let mut veiled = mapping.clone();
        for (slot, (input, fact)) in node.inputs.iter().zip(&facts).enumerate() {
            if fact.datum_type.is_float() {
                let name = format!("{}.known-{slot}", node.name);
                veiled.insert(*input, target.wire_node(name, Veil, &[mapping[input]])?[0]);
            }
        }
        self.op.to_typed(source, node, target, &veiled)
    }
}

/// Passes a constant on and hides that it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Veil;

impl Op for Veil {
    fn name(&self) -> StaticName {
        "Veil".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Veil {
    not_out_of_plan!();
}

impl TypedOp for Veil {
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
