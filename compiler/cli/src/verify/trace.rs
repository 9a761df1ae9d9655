//! Where a graph first leaves the numbers that it should compute.

use super::file_of;
use super::golden::difference;
use crate::options::read_npy;
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Graph, Tensor, ValueId};
use flowlet_score::Feed;
use flowlet_score::engine::input_tensors;
use std::path::Path;

/// Every f32 tensor that a node computes, in order.
fn computed(graph: &Graph, feeds: &[Feed<'_>]) -> anyhow::Result<Vec<(ValueId, Vec<f32>)>> {
    let inputs = input_tensors(graph, feeds)?;
    let mut all = Vec::new();
    let mut observe = |id: ValueId, tensor: &Tensor| {
        if let Some(values) = tensor.as_f32() {
            all.push((id, values.to_vec()));
        }
    };
    Interpreter::new(graph).run_with(&inputs, &mut observe)?;
    Ok(all)
}

fn named(graph: &Graph, id: ValueId) -> (String, String) {
    let origin = graph.nodes.iter().find(|n| n.output == id).map(|n| n.origin.clone());
    let name = graph.value(id).name.clone();
    (name.clone(), origin.unwrap_or(name))
}

/// The first value (name and ONNX node) that differs from `FOLDER/<name>.npy`, of those that have such a file.
pub(super) fn against_files(
    graph: &Graph,
    feeds: &[Feed<'_>],
    sample: usize,
    folder: &Path,
    tolerance: f64,
) -> anyhow::Result<Option<(String, String)>> {
    for (id, values) in computed(graph, feeds)? {
        let path = file_of(folder, &graph.value(id).name);
        if !path.exists() {
            continue;
        }
        let all = read_npy(&path)?.to_f32();
        let expected = all.get(sample * values.len()..(sample + 1) * values.len()).unwrap_or(&[]);
        if expected.is_empty() || difference(&[expected], &[&values]).relative > tolerance {
            return Ok(Some(named(graph, id)));
        }
    }
    Ok(None)
}

/// The first value of `folded` that equals no tensor of `imported`. Passes move what a name stands for, so that values
/// are recognised by their numbers.
pub(super) fn against_graph(
    imported: &Graph,
    imported_feeds: &[Feed<'_>],
    folded: &Graph,
    folded_feeds: &[Feed<'_>],
    tolerance: f64,
) -> anyhow::Result<Option<(String, String)>> {
    let known = computed(imported, imported_feeds)?;
    let values = computed(folded, folded_feeds)?;
    let strange = values.iter().find(|(_, v)| {
        let equal = |k: &[f32]| k.len() == v.len() && difference(&[k], &[v]).relative <= tolerance;
        !known.iter().any(|(_, k)| equal(k))
    });
    Ok(strange.map(|(id, _)| named(folded, *id)))
}
