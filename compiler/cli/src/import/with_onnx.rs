//! Import through `flowlet-onnx`.

use crate::options::Dims;
use flowlet_compiler::coverage::Operator;
use flowlet_compiler::ir::Graph;
use flowlet_onnx::ImportOptions;

/// The graph of an ONNX file.
///
/// # Errors
/// What is wrong with the file, by the names that its author gave.
pub fn import(bytes: &[u8], shapes: &[(String, Dims)], name: &str) -> anyhow::Result<Graph> {
    let shapes = shapes.iter().map(|(input, dims)| (input.clone(), dims.0.clone())).collect();
    let options = ImportOptions { shapes, name: Some(name.to_owned()) };
    Ok(flowlet_onnx::import(bytes, &options)?)
}

/// The operators of an ONNX file.
///
/// # Errors
/// When it is not one.
pub fn operators(bytes: &[u8]) -> anyhow::Result<Vec<Operator>> {
    Ok(flowlet_onnx::operators(bytes)?)
}
