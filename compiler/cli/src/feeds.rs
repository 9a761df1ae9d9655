//! What the inputs of many samples read: arrays, noise, indices.

use crate::options::read_npy;
use anyhow::{Context, bail};
use flowlet_compiler::ir::{DType, Def, Graph, InputKind, ValueId};
use flowlet_score::Feed;
use std::path::Path;

/// One source for each input of a graph.
#[derive(Clone, Debug)]
pub struct Samples {
    sources: Vec<Source>,
    count: usize,
}

/// What one input reads over all samples.
#[derive(Clone, Debug)]
pub enum Source {
    /// Values of an array, one sample after the other.
    Array {
        /// The values.
        values: Vec<f32>,
        /// Values of one sample.
        width: usize,
        /// Whether they are values of an index input.
        index: bool,
    },
    /// A seed for each sample.
    Seeds(Vec<u64>),
    /// An index for each sample.
    Indices(Vec<usize>),
}

impl Source {
    /// Number of samples.
    pub fn count(&self) -> usize {
        match self {
            Source::Array { values, width, .. } => values.len() / (*width).max(1),
            Source::Seeds(seeds) => seeds.len(),
            Source::Indices(indices) => indices.len(),
        }
    }
}

impl Samples {
    /// Sources in the order of the graph's inputs. Those with one sample serve all samples of the others.
    ///
    /// # Errors
    /// When two have different numbers of samples.
    pub fn new(graph: &Graph, sources: Vec<Source>) -> anyhow::Result<Self> {
        let counts: Vec<usize> = sources.iter().map(Source::count).collect();
        let count = counts.iter().copied().max().unwrap_or(1);
        for (&id, &own) in graph.inputs.iter().zip(&counts) {
            if own != count && own != 1 {
                bail!("input '{}' has {own} samples and another input has {count}", graph.value(id).name);
            }
        }
        Ok(Samples { sources, count })
    }

    /// `FOLDER/<input>.npy` for each input. Index inputs without a file take their values in turn.
    ///
    /// # Errors
    /// When a file is missing or does not fit.
    pub fn from_folder(graph: &Graph, folder: &Path) -> anyhow::Result<Self> {
        let file = |id: ValueId| folder.join(format!("{}.npy", graph.value(id).name));
        let mut sources = Vec::new();
        for &id in &graph.inputs {
            let (path, value) = (file(id), graph.value(id));
            if !path.exists() && matches!(value.def, Def::Input(InputKind::Index { .. })) {
                sources.push(None);
                continue;
            }
            sources.push(Some(array(graph, id, &path).with_context(|| format!("input '{}'", value.name))?));
        }
        let count = sources.iter().flatten().map(Source::count).max().unwrap_or(1);
        let in_turn = |id: &ValueId| match graph.value(*id).def {
            Def::Input(InputKind::Index { count: values }) => Source::Indices((0..count).map(|i| i % values).collect()),
            Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => Source::Indices(vec![0]),
        };
        let filled = sources.into_iter().zip(&graph.inputs).map(|(s, id)| s.unwrap_or_else(|| in_turn(id))).collect();
        Samples::new(graph, filled)
    }

    /// Number of samples.
    pub fn count(&self) -> usize {
        self.count
    }

    /// What sample `i` reads.
    pub fn feeds(&self, i: usize) -> Vec<Feed<'_>> {
        self.sources
            .iter()
            .map(|source| {
                let own = if source.count() == 1 { 0 } else { i };
                match source {
                    Source::Array { values, width, index: false } => Feed::Values(&values[own * width..][..*width]),
                    Source::Array { values, .. } => Feed::Index(values[own] as usize),
                    Source::Seeds(seeds) => Feed::Noise(seeds[own]),
                    Source::Indices(indices) => Feed::Index(indices[own]),
                }
            })
            .collect()
    }
}

/// Reads the array of one input.
///
/// # Errors
/// When the file is not an array, or its shape or a value does not fit the input.
pub fn array(graph: &Graph, id: ValueId, path: &Path) -> anyhow::Result<Source> {
    let array = read_npy(path)?;
    let (value, shown) = (graph.value(id), path.display());
    let dims = &value.ty.dims;
    if !fits(&array.shape, dims) {
        let one: Vec<String> = dims.iter().skip(1).map(|d| format!(", {d}")).collect();
        bail!("{shown} has shape {:?}; expected {dims:?}, or [samples{}]", array.shape, one.concat());
    }
    let (width, values) = (value.ty.elements(), array.to_f32());
    if let Some(i) = values.iter().position(|x| !x.is_finite()) {
        bail!("{shown}: sample {}, element {} is {}; only finite numbers can be read", i / width, i % width, values[i]);
    }
    let integers = value.ty.dtype == DType::I64;
    if integers && array.to_i64().is_none() {
        bail!("{shown} holds fractions; the input takes integers");
    }
    let index = match value.def {
        Def::Input(InputKind::Index { count }) => {
            if let Some(&bad) = values.iter().find(|v| **v < 0.0 || **v >= count as f32) {
                bail!("{shown} holds {bad}; valid are 0 to {}", count - 1);
            }
            true
        }
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => false,
    };
    if values.is_empty() {
        bail!("{shown} holds no sample");
    }
    Ok(Source::Array { values, width, index })
}

/// Whether an array of this shape is one sample of `dims`, or samples first.
fn fits(shape: &[usize], dims: &[usize]) -> bool {
    let stacked = shape.split_first().is_some_and(|(_, rest)| rest == dims);
    let batched = match (shape.split_first(), dims.split_first()) {
        (Some((_, rest)), Some((1, one))) => rest == one,
        _ => false,
    };
    shape == dims || batched || stacked
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn one_sample_or_samples_first() {
        assert!(fits(&[1, 3, 8], &[1, 3, 8]));
        assert!(fits(&[16, 3, 8], &[1, 3, 8]));
        assert!(fits(&[16], &[1]));
        assert!(fits(&[16], &[]));
        assert!(fits(&[16, 4, 5], &[4, 5]));
        assert!(!fits(&[16, 3], &[1, 3, 8]));
        assert!(!fits(&[16, 3, 9], &[1, 3, 8]));
    }
}
