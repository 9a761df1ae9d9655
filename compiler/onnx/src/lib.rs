//! Imports ONNX models into the graph of the flowlet compiler.
//!
//! The file is checked first ([`ImportError`] names what is wrong in the author's own names), then read and shaped by
//! tract, whose typed operations are translated one by one. This is the only crate that knows tract; its version is
//! pinned because the translation relies on how tract spells operations.
//!
//! What tract may not do is compute: a constant that goes through `exp` or a matrix product stays a node, so that the
//! compiler evaluates it, in an order that is the same on every machine. Elements are only moved, and exact
//! arithmetic (sums of shapes, casts) folded.
//!
//! ```no_run
//! let bytes = std::fs::read("model.onnx")?;
//! let graph = flowlet_onnx::import(&bytes, &flowlet_onnx::ImportOptions::default())?;
//! println!("{}", flowlet_compiler::ir::print(&graph, flowlet_compiler::ir::ConstStyle::Short));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod border;
mod error;
mod finite;
mod guard;
mod kept;
mod names;
mod proto_check;
mod quantised;
mod shapes;
mod tidy;
mod translate;
mod wire;

pub use error::{ImportError, UnsupportedNode};

use flowlet_compiler::coverage::Operator;
use flowlet_compiler::ir::Graph;
use std::collections::BTreeMap;

/// What the file does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Dimensions of inputs by name, for those that the file leaves open. An open leading axis that is not given
    /// here becomes 1.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Name of the graph; the name in the file if there is none.
    pub name: Option<String>,
}

/// The nodes of a model in their order, for [`flowlet_compiler::coverage::coverage`].
///
/// # Errors
/// When the file is not an ONNX model.
pub fn operators(bytes: &[u8]) -> Result<Vec<Operator>, ImportError> {
    let graph = proto_check::decode(bytes)?.graph.unwrap_or_default();
    let operator = |node: &tract_onnx::pb::NodeProto| Operator {
        node: proto_check::node_name(node).to_owned(),
        op: node.op_type.clone(),
    };
    Ok(graph.node.iter().map(operator).collect())
}

/// Imports a model.
///
/// Values are named after the ONNX nodes, the graph's outputs after the model's, and every node keeps the ONNX name
/// of the node it came from. Integers of any width become i64, floats of any width f32. Open leading axes become 1
/// and leave a remark.
///
/// # Errors
/// When the file is damaged, holds NaN or infinite weights, leaves dimensions open or uses operators that have no
/// translation (all of them are listed). No input makes it panic.
pub fn import(bytes: &[u8], options: &ImportOptions) -> Result<Graph, ImportError> {
    let mut proto = proto_check::decode(bytes)?;
    let Some(graph) = proto.graph.as_mut() else {
        return Err(ImportError::NotOnnx { offset: None, message: "the file holds no graph".to_owned() });
    };
    proto_check::check_graph(graph)?;
    proto_check::check_storage(graph)?;
    finite::check_finite(graph)?;
    let mut remarks = quantised::to_float(graph)?;
    border::check_operators(graph)?;
    remarks.extend(shapes::close_shapes(graph, options)?);
    let graph_name = options.name.clone().unwrap_or_else(|| graph.name.clone());
    let names = names::Names::rename(graph);
    let mut imported = border::guarded(&names, || {
        let model = border::typed_model(&proto)?;
        translate::translate(&model, &names, &graph_name)
    })?;
    tidy::tidy(&mut imported);
    translate::check_constants(&imported)?;
    let opset = proto.opset_import.iter().find(|o| o.domain.is_empty() || o.domain == "ai.onnx");
    imported.set_meta("onnx.opset", opset.map_or(0, |o| o.version).to_string());
    imported.set_meta("onnx.producer", format!("{} {}", proto.producer_name, proto.producer_version).trim());
    imported.remarks.extend(remarks);
    flowlet_compiler::ir::verify(&imported, flowlet_compiler::ir::Stage::Float)
        .map_err(|e| ImportError::Library { node: Some(e.node), message: e.message })?;
    Ok(imported)
}
