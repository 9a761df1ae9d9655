//! From tract's typed operations to ours, one file a family.

mod constant;
mod conv;
mod elementwise;
mod kept;
mod matmul;
mod movement;
mod reduce;
mod resample;
mod window;

pub(crate) use constant::check_constants;

use crate::names::Names;
use crate::{ImportError, UnsupportedNode};
use flowlet_compiler::ir::{DType, Graph, InputKind, Op, Tensor, Type, ValueId};
use std::collections::HashMap;
use std::sync::Arc;
use tract_onnx::prelude::{DatumType, OutletId, TypedFact, TypedModel, TypedNode};
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::ops;

/// Why a node has no translation: one sentence, with a way out where one is known.
type Refused = String;

/// ONNX operators that are never translated, with the reason.
pub(crate) fn refusal(op: &str) -> Option<&'static str> {
    match op {
        "LSTM" | "GRU" | "RNN" => Some("recurrent layers are not supported yet"),
        "If" | "Loop" | "Scan" => Some("control flow does not compile to a static graph; unroll it before the export"),
        "TopK" | "NonZero" | "NonMaxSuppression" | "Compress" | "Unique" => {
            Some("the shape of its result depends on the data, which a static graph cannot hold")
        }
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike" | "Multinomial" | "Bernoulli" => {
            Some("random numbers are drawn outside the model; make them an input")
        }
        _ => crate::quantised::refusal(op),
    }
}

/// What stands behind an outlet of the typed model.
#[derive(Clone)]
enum Binding {
    /// A value of our graph.
    Value(ValueId),
    /// A constant that becomes a value when something reads it.
    Constant { name: String, tensor: Arc<Tensor> },
    /// A value behind zero padding, which only a convolution can take over: top, left, bottom, right.
    Padded { inner: ValueId, pad: [usize; 4] },
}

/// Translates a typed model.
pub(crate) fn translate(model: &TypedModel, names: &Names, graph_name: &str) -> Result<Graph, ImportError> {
    let failed = |e: tract_onnx::prelude::TractError| ImportError::Library { node: None, message: format!("{e:#}") };
    let mut t = Translator { model, names, graph: Graph::new(graph_name), bound: HashMap::new(), refused: Vec::new() };
    for &outlet in model.input_outlets().map_err(failed)? {
        t.input(outlet)?;
    }
    for id in model.eval_order().map_err(failed)? {
        t.visit(model.node(id));
    }
    if !t.refused.is_empty() {
        return Err(ImportError::Unsupported { nodes: t.refused });
    }
    let outputs = model.output_outlets().map_err(failed)?.to_vec();
    for outlet in outputs {
        let label = model.outlet_label(outlet).unwrap_or("output").to_owned();
        let id = t.output(outlet, &label)?;
        t.graph.outputs.push(id);
    }
    t.graph.sweep();
    Ok(t.graph)
}

struct Translator<'a> {
    model: &'a TypedModel,
    names: &'a Names,
    graph: Graph,
    bound: HashMap<OutletId, Binding>,
    refused: Vec<UnsupportedNode>,
}

/// The node that is being translated.
struct At<'a> {
    node: &'a TypedNode,
    /// ONNX name.
    origin: String,
    /// Name for the value.
    name: String,
}

impl<'a> Translator<'a> {
    fn input(&mut self, outlet: OutletId) -> Result<(), ImportError> {
        let name = self.model.node(outlet.node).name.clone();
        let malformed = |message: String| ImportError::Malformed { name: name.clone(), message };
        let fact = self.model.outlet_fact(outlet).map_err(|e| malformed(format!("{e:#}")))?;
        let dtype = dtype_of(fact.datum_type).map_err(|reason| malformed(format!("this input {reason}")))?;
        let dims = fact.shape.as_concrete().ok_or_else(|| malformed("the shape is not known".to_owned()))?;
        if Some(fact.datum_type) != natural(dtype) {
            self.remark(&name, format!("an input of {:?} becomes {}", fact.datum_type, dtype.name()));
        }
        let id = self.graph.add_input(&name, Type::new(dtype, dims), InputKind::Tensor);
        self.bound.insert(outlet, Binding::Value(id));
        Ok(())
    }

    /// The value of a model output, under the name that the model gives it.
    fn output(&mut self, outlet: OutletId, label: &str) -> Result<ValueId, ImportError> {
        let refused = |reason: String| ImportError::Malformed { name: label.to_owned(), message: reason };
        let id = self.value(outlet).map_err(refused)?;
        let is_node = matches!(self.graph.value(id).def, flowlet_compiler::ir::Def::Node);
        if is_node && !self.graph.outputs.contains(&id) && self.graph.find(label).is_none_or(|other| other == id) {
            let clean = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '_' };
            let clean: String = label.chars().map(clean).collect();
            if !clean.is_empty() && self.graph.find(&clean).is_none_or(|other| other == id) {
                self.graph.value_mut(id).name = clean;
            }
        }
        Ok(id)
    }

    fn visit(&mut self, node: &'a TypedNode) {
        if self.bound.contains_key(&OutletId::new(node.id, 0)) {
            return;
        }
        let origin = self.names.origin(&node.name).map_or(node.name.clone(), |(o, _)| o.name.clone());
        let at = At { node, origin, name: self.names.value(&node.name) };
        let result = match &node.outputs[..] {
            [output] => match &output.fact.konst {
                Some(konst) => constant::convert(konst)
                    .map(|tensor| Binding::Constant { name: at.name.clone(), tensor: Arc::new(tensor) }),
                None => self.translate_node(&at),
            },
            outputs if outputs[1..].iter().all(|o| o.successors.is_empty()) => self.translate_node(&at),
            outputs => Err(format!("an operation with {} results is not supported", outputs.len())),
        };
        match result {
            Ok(binding) => {
                self.bound.insert(OutletId::new(node.id, 0), binding);
            }
            Err(reason) => self.refuse(&at, reason),
        }
    }

    /// Notes a node that has no translation, and goes on with a stand-in so that later ones are found as well.
    fn refuse(&mut self, at: &At<'_>, reason: Refused) {
        let op = self.names.origin(&at.node.name).map_or(at.node.op.name().into_owned(), |(o, _)| o.op.clone());
        let reason = refusal(&op).map_or(reason, str::to_owned);
        if !self.refused.iter().any(|r| r.name == at.origin) {
            self.refused.push(UnsupportedNode { name: at.origin.clone(), op, reason });
        }
        for (slot, output) in at.node.outputs.iter().enumerate() {
            let dtype = dtype_of(output.fact.datum_type).unwrap_or(DType::F32);
            let dims = output.fact.shape.as_concrete().unwrap_or(&[]);
            let id = self.graph.add_input("missing", Type::new(dtype, dims), InputKind::Tensor);
            self.bound.insert(OutletId::new(at.node.id, slot), Binding::Value(id));
        }
    }

    fn translate_node(&mut self, at: &At<'a>) -> Result<Binding, Refused> {
        let op: &dyn TypedOp = at.node.op.as_ref();
        if op.is::<ops::identity::Identity>() || op.is::<crate::guard::Veil>() {
            return self.binding(at, 0);
        }
        if op.name() == "Dropout" {
            return self.dropout(at);
        }
        if let Some(op) = op.downcast_ref::<ops::cnn::Conv>() {
            return self.conv(at, op);
        }
        if let Some(op) = op.downcast_ref::<crate::kept::Kept>() {
            return self.kept(at, op);
        }
        if let Some(op) = op.downcast_ref::<ops::einsum::EinSum>() {
            return self.einsum(at, op);
        }
        if let Some(binding) = self.elementwise(at, op)? {
            return Ok(binding);
        }
        if let Some(binding) = self.movement(at, op)? {
            return Ok(binding);
        }
        if let Some(binding) = self.window(at, op)? {
            return Ok(binding);
        }
        if let Some(binding) = self.reduction(at, op)? {
            return Ok(binding);
        }
        if let Some(binding) = self.resample(at, op)? {
            return Ok(binding);
        }
        Err(format!("tract's operation '{}' has no translation", op.name()))
    }

    /// Drops nothing, unless the model was exported for training. The type is private to tract.
    fn dropout(&self, at: &At<'_>) -> Result<Binding, Refused> {
        let training = match self.constant(at, 2) {
            Some(mode) => mode.as_i64().is_some_and(|v| v.iter().any(|&v| v != 0)),
            None => at.node.inputs.len() > 2,
        };
        if training {
            return Err("the model was exported for training; export it in evaluation mode".to_owned());
        }
        self.binding(at, 0)
    }

    fn remark(&mut self, node: &str, message: String) {
        self.graph.remarks.push(flowlet_compiler::ir::Remark {
            pass: "import".to_owned(),
            node: node.to_owned(),
            message,
        });
    }

    /// What stands behind operand `slot`.
    fn binding(&self, at: &At<'_>, slot: usize) -> Result<Binding, Refused> {
        let outlet = at.node.inputs.get(slot).ok_or_else(|| format!("operand {slot} is missing"))?;
        self.bound.get(outlet).cloned().ok_or_else(|| format!("operand {slot} was never computed"))
    }

    /// The value of an outlet, made from its constant if necessary.
    fn value(&mut self, outlet: OutletId) -> Result<ValueId, Refused> {
        match self.bound.get(&outlet).cloned() {
            Some(Binding::Value(id)) => Ok(id),
            Some(Binding::Constant { name, tensor }) => {
                let id = self.graph.add_const(&name, Tensor::clone(&tensor));
                self.bound.insert(outlet, Binding::Value(id));
                Ok(id)
            }
            Some(Binding::Padded { .. }) => Err("zero padding is supported before a convolution only".to_owned()),
            None => Err("an operand was never computed".to_owned()),
        }
    }

    /// The value of operand `slot`.
    fn operand(&mut self, at: &At<'_>, slot: usize) -> Result<ValueId, Refused> {
        let outlet = *at.node.inputs.get(slot).ok_or_else(|| format!("operand {slot} is missing"))?;
        self.value(outlet)
    }

    /// The constant of operand `slot`, if it is one.
    fn constant(&self, at: &At<'_>, slot: usize) -> Option<Arc<Tensor>> {
        match self.bound.get(at.node.inputs.get(slot)?)? {
            Binding::Constant { tensor, .. } => Some(tensor.clone()),
            Binding::Value(id) => self.graph.constant(*id).map(|t| Arc::new(t.clone())),
            Binding::Padded { .. } => None,
        }
    }

    fn input_fact(&self, at: &At<'_>, slot: usize) -> Result<&'a TypedFact, Refused> {
        let outlet = *at.node.inputs.get(slot).ok_or_else(|| format!("operand {slot} is missing"))?;
        self.model.outlet_fact(outlet).map_err(|e| format!("{e:#}"))
    }

    fn input_dims(&self, at: &At<'_>, slot: usize) -> Result<Vec<usize>, Refused> {
        concrete(self.input_fact(at, slot)?)
    }

    fn output_dims(&self, at: &At<'_>) -> Result<Vec<usize>, Refused> {
        concrete(&at.node.outputs[0].fact)
    }

    /// Appends a node that belongs to `at`.
    fn emit(&mut self, at: &At<'_>, op: Op, inputs: &[ValueId]) -> Result<ValueId, Refused> {
        self.graph.add_node(&at.name, op, inputs, &at.origin).map_err(|e| e.message)
    }

    /// Appends a node of one operand as the translation of `at`.
    fn unary(&mut self, at: &At<'_>, op: Op) -> Result<Binding, Refused> {
        let x = self.operand(at, 0)?;
        self.emit(at, op, &[x]).map(Binding::Value)
    }
}

fn concrete(fact: &TypedFact) -> Result<Vec<usize>, Refused> {
    let dims = fact.shape.as_concrete().ok_or_else(|| format!("its shape {:?} is not fixed", fact.shape))?;
    Ok(dims.to_vec())
}

/// Our element type for one of tract's.
fn dtype_of(datum: DatumType) -> Result<DType, Refused> {
    if datum.is_quantized() || datum == DatumType::String {
        return Err(format!("has elements of {datum:?}, which the compiler does not compute with"));
    }
    if datum.is_float() {
        return Ok(DType::F32);
    }
    if datum.is_integer() || datum.is_tdim() || datum == DatumType::Bool {
        return Ok(DType::I64);
    }
    Err(format!("has elements of {datum:?}, which the compiler does not compute with"))
}

/// The element type of tract that ours stands for without a conversion.
fn natural(dtype: DType) -> Option<DatumType> {
    match dtype {
        DType::F32 => Some(DatumType::F32),
        DType::I64 => Some(DatumType::I64),
        DType::I32 | DType::S8 => None,
    }
}
