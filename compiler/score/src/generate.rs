//! Pictures from seeds.

use crate::{Engine, Feed, Progress, ScoreError, map_samples};
use flowlet_compiler::ir::{Def, Graph, InputKind};
use std::num::NonZeroUsize;

/// Pictures of one shape with the labels that were asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictures {
    dims: Vec<usize>,
    values: Vec<f32>,
    raw: Vec<i8>,
    labels: Vec<usize>,
}

impl Pictures {
    /// Pictures from real numbers in graph order; as many labels as pictures.
    ///
    /// # Errors
    /// When the lengths disagree.
    pub fn new(dims: &[usize], values: Vec<f32>, labels: Vec<usize>) -> Result<Self, ScoreError> {
        let size: usize = dims.iter().product();
        if size * labels.len() != values.len() {
            let message = format!("{} values are not {} pictures of shape {dims:?}", values.len(), labels.len());
            return Err(ScoreError::Statistics(message));
        }
        Ok(Pictures { dims: dims.to_vec(), values, raw: Vec::new(), labels })
    }

    /// The same pictures with the bytes that a digest of them is taken over.
    #[must_use]
    pub fn with_raw(mut self, raw: Vec<i8>) -> Self {
        self.raw = raw;
        self
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no picture.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Dimensions of one picture, in graph order with the batch axis.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Values of one picture.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// The values of all pictures, one after the other.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values of picture `i`.
    pub fn picture(&self, i: usize) -> &[f32] {
        let size = self.elements();
        self.values.get(i * size..(i + 1) * size).unwrap_or(&[])
    }

    /// What the digest is taken over: the s8 values of all pictures in NHWC order, or the bytes of the f32 lanes that a
    /// program over int8 networks draws in. Empty for float graphs.
    pub fn raw(&self) -> &[i8] {
        &self.raw
    }

    /// The labels asked for.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The same pictures under other labels.
    #[must_use]
    pub fn relabelled(mut self, change: impl Fn(usize) -> usize) -> Self {
        for label in &mut self.labels {
            *label = change(*label);
        }
        self
    }
}

/// The number of labels that a model's index input takes; 1 when it has none.
pub fn label_count(graph: &Graph) -> usize {
    let counts = graph.inputs.iter().filter_map(|&id| match graph.value(id).def {
        Def::Input(InputKind::Index { count }) => Some(count),
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => None,
    });
    counts.max().unwrap_or(1)
}

/// Draws one picture for each `(seed, label)` from the model's noise input. A label is ignored by a model without an
/// index input.
///
/// # Errors
/// When the model reads more than noise and a label, or a label is out of range.
pub fn generate(
    engine: &Engine<'_>,
    draws: &[(u64, usize)],
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<Pictures, ScoreError> {
    let graph = engine.graph();
    let fail = |message: String| ScoreError::Model { name: graph.name.clone(), message };
    let noise = graph.meta("noise");
    for &id in &graph.inputs {
        let value = graph.value(id);
        if value.def == Def::Input(InputKind::Tensor) && noise != Some(value.name.as_str()) {
            return Err(fail(format!("input '{}' is not noise, so that a seed says nothing about it", value.name)));
        }
    }
    let Some(&output) = graph.outputs.first() else { return Err(fail("it has no output".to_owned())) };
    let feeds = |(seed, label): (u64, usize)| -> Vec<Feed<'static>> {
        graph
            .inputs
            .iter()
            .map(|&id| match graph.value(id).def {
                Def::Input(InputKind::Index { .. }) => Feed::Index(label),
                Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => Feed::Noise(seed),
            })
            .collect()
    };
    let outcomes =
        map_samples(draws.len(), threads, progress, || engine.worker(), |worker, i| worker.run(&feeds(draws[i])))?;
    let mut pictures = Pictures {
        dims: graph.ty(output).dims.clone(),
        values: Vec::new(),
        raw: Vec::new(),
        labels: draws.iter().map(|(_, label)| *label).collect(),
    };
    for outcome in outcomes {
        pictures.values.extend(outcome.values.into_iter().next().unwrap_or_default());
        pictures.raw.extend(outcome.raw.into_iter().flatten());
    }
    Ok(pictures)
}
