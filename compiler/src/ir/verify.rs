//! The verifier, run between passes. Stages only add invariants:
//!
//! - every stage: unique names, operands defined before use, every node's type agrees with its shape rule, outputs exist
//! - [`Stage::Static`]: every remaining input is a tensor or an index; no shape or time arithmetic is left open
//! - [`Stage::Quantized`]: every value that a node computes is s8 with a scale; only quantised and moving operations

use super::{DType, Def, Graph, InputKind, Op, infer};
use std::collections::HashSet;

/// How far a graph has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// As imported and lifted.
    Float,
    /// Time is gone; finite inputs select rows of tables.
    Static,
    /// Integers only: what a `.flq` holds.
    Quantized,
}

/// A violated invariant: a defect of the pass that ran last, or of the file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyError {
    /// The ONNX name of the node, or the name of the value.
    pub node: String,
    /// One sentence.
    pub message: String,
}

impl std::fmt::Display for VerifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}': {}", self.node, self.message)
    }
}

impl std::error::Error for VerifyError {}

/// Checks the invariants of `stage`.
///
/// # Errors
/// The first violation.
pub fn verify(graph: &Graph, stage: Stage) -> Result<(), VerifyError> {
    let fail = |node: &str, message: String| Err(VerifyError { node: node.to_owned(), message });
    let mut names = HashSet::new();
    let mut defined = vec![false; graph.values.len()];
    for (i, value) in graph.values.iter().enumerate() {
        if !names.insert(value.name.as_str()) {
            return fail(&value.name, "the name is used twice".to_owned());
        }
        defined[i] = !matches!(value.def, Def::Node);
        if let Def::Const(tensor) = &value.def
            && (tensor.dims != value.ty.dims || tensor.dtype() != value.ty.dtype)
        {
            return fail(&value.name, "the constant does not have its stated type".to_owned());
        }
    }
    for &id in &graph.inputs {
        let value = graph.value(id);
        match value.def {
            Def::Input(InputKind::Index { count }) => {
                if count == 0 || value.ty.dtype != DType::I64 || value.ty.elements() != 1 {
                    return fail(&value.name, "an index input is one i64 with at least one value".to_owned());
                }
            }
            Def::Input(InputKind::Tensor) => {}
            Def::Const(_) | Def::Node => return fail(&value.name, "a graph input is computed".to_owned()),
        }
    }
    for node in &graph.nodes {
        let value = graph.value(node.output);
        if !matches!(value.def, Def::Node) || std::mem::replace(&mut defined[node.output.0 as usize], true) {
            return fail(&node.origin, format!("'{}' is defined twice", value.name));
        }
        if let Some(&id) = node.inputs.iter().find(|id| !defined[id.0 as usize] || **id == node.output) {
            return fail(&node.origin, format!("'{}' is read before it is defined", graph.value(id).name));
        }
        let types: Vec<_> = node.inputs.iter().map(|&id| graph.ty(id)).collect();
        let inferred = match infer(&node.op, &types) {
            Ok(ty) => ty,
            Err(e) => return fail(&node.origin, e.message),
        };
        if inferred.dims != value.ty.dims || inferred.dtype != value.ty.dtype {
            return fail(
                &node.origin,
                format!("the stated type {:?} is not the computed {:?}", value.ty.dims, inferred.dims),
            );
        }
        if inferred.quant.is_some() && inferred.quant != value.ty.quant {
            return fail(&node.origin, "an operation that moves elements changed their scale".to_owned());
        }
        if stage >= Stage::Quantized {
            quantized_node(graph, node).or_else(|m| fail(&node.origin, m))?;
        }
    }
    match graph.outputs.iter().find(|id| !defined[id.0 as usize]) {
        Some(&id) => fail(&graph.value(id).name, "a graph output is never computed".to_owned()),
        None if graph.outputs.is_empty() => fail(&graph.name, "the graph has no output".to_owned()),
        None => Ok(()),
    }
}

fn quantized_node(graph: &Graph, node: &super::Node) -> Result<(), String> {
    let ty = graph.ty(node.output);
    if ty.dtype != DType::S8 || ty.quant.is_none() {
        return Err(format!("'{}' has no s8 form yet", node.op.name()));
    }
    match &node.op {
        Op::QConv { indexed, .. } => {
            for &id in &node.inputs[1..4] {
                if graph.constant(id).is_none() {
                    return Err("weights, multipliers and biases are constants".to_owned());
                }
            }
            let multipliers = graph.constant(node.inputs[2]).and_then(|t| t.as_i32()).unwrap_or(&[]);
            if let Some(m) = multipliers.iter().find(|m| **m < 0 || **m % 2 != 0) {
                return Err(format!(
                    "a requantise multiplier is even and not negative, not {m}: quantize the model again"
                ));
            }
            let rows = graph.ty(node.inputs[3]).dims[0];
            let needed = match (indexed, node.inputs.get(4).map(|&id| &graph.value(id).def)) {
                (true, Some(Def::Input(InputKind::Index { count }))) => *count,
                (true, _) => return Err("a bias row is selected by an index input".to_owned()),
                (false, _) => 1,
            };
            if rows != needed {
                return Err(format!("{rows} bias rows for {needed} values of the input that selects them"));
            }
            Ok(())
        }
        Op::QNorm { epsilon, gain_shift, .. } => {
            let constant = node.inputs[1..].iter().all(|&id| graph.constant(id).is_some());
            if !constant || *epsilon == 0 || *epsilon >= 1 << 62 || *gain_shift > 30 {
                return Err("gains and offsets are constants, epsilon is 1 to 2^62, a gain shift at most 30".to_owned());
            }
            Ok(())
        }
        Op::QConvTranspose { .. } | Op::QSoftmax => {
            match node.inputs[1..].iter().all(|&id| graph.constant(id).is_some()) {
                true => Ok(()),
                false => Err("weights and tables are constants".to_owned()),
            }
        }
        Op::QHeadProduct { multiplier, left_shift, .. }
        | Op::QAveragePool { multiplier, left_shift, .. }
        | Op::QMul { multiplier, left_shift, .. } => match *multiplier > 0 && *multiplier % 2 == 0 && *left_shift <= 30
        {
            true => Ok(()),
            false => Err("a requantise multiplier is even and positive, a shift at most 30".to_owned()),
        },
        Op::QAdd { .. }
        | Op::QMap
        | Op::MaxPool(_)
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Concat { .. }
        | Op::Reshape { .. }
        | Op::PixelShuffle { .. }
        | Op::PixelUnshuffle { .. }
        | Op::Upsample { .. } => Ok(()),
        _ => Err(format!("'{}' has no s8 form yet", node.op.name())),
    }
}
