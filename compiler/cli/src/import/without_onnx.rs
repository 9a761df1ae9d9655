//! What stands in for the importer.

use crate::options::Dims;
use flowlet_compiler::coverage::Operator;
use flowlet_compiler::ir::Graph;

/// Says how to get a program that imports.
///
/// # Errors
/// Always.
pub fn import(_: &[u8], _: &[(String, Dims)], _: &str) -> anyhow::Result<Graph> {
    anyhow::bail!(
        "it is not a .flq, and this flowlet was built without the importer of .onnx files: build it with the feature \
         'onnx' (cargo build --release -p flowlet-cli --features onnx, some minutes), or give the .flq"
    )
}

/// No file gets this far.
///
/// # Errors
/// Never.
pub fn operators(_: &[u8]) -> anyhow::Result<Vec<Operator>> {
    Ok(Vec::new())
}
