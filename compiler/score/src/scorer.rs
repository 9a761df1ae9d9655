//! Scores of generated pictures.

use crate::engine::{Engine, Feed};
use crate::fidelity::{Fidelity, fidelity};
use crate::frechet::{Gaussian, frechet};
use crate::generate::{Pictures, generate, label_count};
use crate::npy::Array;
use crate::{Progress, ScoreError, map_samples};
use flowlet_compiler::ir::Graph;
use std::num::NonZeroUsize;
use std::path::Path;

/// A feature network with the statistics of real data in it, and an independent classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Scorer {
    features: Graph,
    accuracy: Graph,
    reference: Gaussian,
}

/// Scores of a set of pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Number of pictures.
    pub samples: usize,
    /// Frechet distance of their features to those of real data.
    pub fd: f64,
    /// Share of pictures that the classifier gives to the label asked for.
    pub accuracy: f64,
    /// Distance to the pictures of a reference drawn from the same noise, if there is one.
    pub fidelity: Option<Fidelity>,
}

impl Scorer {
    /// A scorer from two graphs, each with one picture as its input and one vector as its output.
    ///
    /// # Errors
    /// When a graph has another form, or the features are not as many as the statistics.
    pub fn new(features: Graph, accuracy: Graph, reference: Gaussian) -> Result<Self, ScoreError> {
        for graph in [&features, &accuracy] {
            if graph.inputs.len() != 1 || graph.outputs.len() != 1 {
                let message = "a scoring network has one input and one output".to_owned();
                return Err(ScoreError::Model { name: graph.name.clone(), message });
            }
        }
        let width = features.ty(features.outputs[0]).elements();
        if width != reference.dims() {
            let message = format!("it gives {width} features and the reference has {}", reference.dims());
            return Err(ScoreError::Model { name: features.name.clone(), message });
        }
        Ok(Scorer { features, accuracy, reference })
    }

    /// The statistics `reference_mu.npy` and `reference_sigma.npy` of a folder.
    ///
    /// # Errors
    /// When a file is missing or its numbers are no statistics.
    pub fn reference(folder: &Path) -> Result<Gaussian, ScoreError> {
        Gaussian::new(&load(&folder.join("reference_mu.npy"))?, &load(&folder.join("reference_sigma.npy"))?)
    }

    /// The features of each picture, values clamped to [0, 1].
    ///
    /// # Errors
    /// When pictures do not fit the network.
    pub fn features(
        &self,
        pictures: &Pictures,
        threads: NonZeroUsize,
        progress: Progress<'_>,
    ) -> Result<Vec<f32>, ScoreError> {
        Ok(look_at(&self.features, pictures, threads, progress)?.concat())
    }

    /// The share of pictures that the classifier gives to their label.
    ///
    /// # Errors
    /// When pictures do not fit the network.
    pub fn accuracy(
        &self,
        pictures: &Pictures,
        threads: NonZeroUsize,
        progress: Progress<'_>,
    ) -> Result<f64, ScoreError> {
        let logits = look_at(&self.accuracy, pictures, threads, progress)?;
        let right = logits.iter().zip(pictures.labels()).filter(|(l, label)| argmax(l) == Some(**label)).count();
        Ok(right as f64 / pictures.len().max(1) as f64)
    }

    /// Scores pictures; `reference` are those of another arithmetic on the same seeds and labels. `progress` counts
    /// to twice their number.
    ///
    /// # Errors
    /// When pictures do not fit the networks or are too few.
    pub fn score(
        &self,
        pictures: &Pictures,
        reference: Option<&Pictures>,
        threads: NonZeroUsize,
        progress: Progress<'_>,
    ) -> Result<Scores, ScoreError> {
        let features = self.features(pictures, threads, progress)?;
        let found = Gaussian::fit(&features, self.reference.dims())?;
        let accuracy = self.accuracy(pictures, threads, &|n| progress(pictures.len() + n))?;
        Ok(Scores {
            samples: pictures.len(),
            fd: frechet(&found, &self.reference)?,
            accuracy,
            fidelity: reference.map(|r| fidelity(r, pictures)),
        })
    }
}

/// The draws that scores are taken over: seed `i` with label `i` modulo the number of labels.
pub fn scored_draws(graph: &Graph, samples: usize) -> Vec<(u64, usize)> {
    let labels = label_count(graph);
    (0..samples).map(|i| (i as u64, i % labels)).collect()
}

/// The pictures that scores are taken over.
///
/// # Errors
/// As [`generate`].
pub fn scored_pictures(
    engine: &Engine<'_>,
    samples: usize,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<Pictures, ScoreError> {
    generate(engine, &scored_draws(engine.graph(), samples), threads, progress)
}

fn look_at(
    graph: &Graph,
    pictures: &Pictures,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<Vec<Vec<f32>>, ScoreError> {
    let engine = Engine::interpreter(graph);
    map_samples(
        pictures.len(),
        threads,
        progress,
        || engine.worker(),
        |worker, i| {
            let clamped: Vec<f32> = pictures.picture(i).iter().map(|v| v.clamp(0.0, 1.0)).collect();
            let outcome = worker.run(&[Feed::Values(&clamped)])?;
            Ok(outcome.values.into_iter().next().unwrap_or_default())
        },
    )
}

/// The first of the largest values.
fn argmax(values: &[f32]) -> Option<usize> {
    let best = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    values.iter().position(|&v| v == best)
}

fn load(path: &Path) -> Result<Vec<f64>, ScoreError> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| ScoreError::Io { path: name.clone(), message: e.to_string() })?;
    Ok(Array::read(&bytes).map_err(|error| ScoreError::Npy { path: name, error })?.to_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_wins() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0]), Some(1));
        assert_eq!(argmax(&[f32::NAN]), None);
    }
}
