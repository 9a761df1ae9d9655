//! Scores of generated pictures.

use crate::engine::{Engine, Feed};
use crate::fidelity::{Fidelity, fidelity};
use crate::frechet::{Gaussian, frechet};
use crate::generate::Pictures;
use crate::manifold::{NEIGHBOUR, PrecisionRecall, precision_recall};
use crate::{Progress, Reference, ScoreError, map_samples};
use flowlet_compiler::ir::Graph;
use std::num::NonZeroUsize;

/// A feature network with what real data look like in it, and an independent classifier where there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Scorer {
    features: Graph,
    reference: Reference,
    accuracy: Option<Graph>,
}

/// Scores of a set of pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Number of pictures.
    pub samples: usize,
    /// Frechet distance of their features to those of real data.
    pub fd: f64,
    /// Share of pictures that the classifier gives to the label asked for, if there is a classifier.
    pub accuracy: Option<f64>,
    /// Precision and recall of their features, if the reference has features of single samples and there are enough
    /// pictures.
    pub manifold: Option<PrecisionRecall>,
    /// Distance to the pictures of a reference drawn from the same noise, if there is one.
    pub fidelity: Option<Fidelity>,
}

impl Scorer {
    /// A scorer from a graph with one picture as its input and one vector of features as its output.
    ///
    /// # Errors
    /// When the graph has another form, or the features are not as many as the reference's.
    pub fn new(features: Graph, reference: Reference) -> Result<Self, ScoreError> {
        let (width, dims) = (feature_count(&features)?, reference.gaussian().dims());
        if width != dims {
            let message = format!("it gives {width} features and the reference has {dims}");
            return Err(ScoreError::Model { name: features.name.clone(), message });
        }
        Ok(Scorer { features, reference, accuracy: None })
    }

    /// Adds a classifier: one picture as its input, one logit for each label as its output.
    ///
    /// # Errors
    /// When the graph has another form.
    pub fn with_accuracy(mut self, classifier: Graph) -> Result<Self, ScoreError> {
        feature_count(&classifier)?;
        self.accuracy = Some(classifier);
        Ok(self)
    }

    /// Labels that the classifier tells apart, if there is one.
    pub fn labels(&self) -> Option<usize> {
        self.accuracy.as_ref().map(|graph| graph.ty(graph.outputs[0]).elements())
    }

    /// What `progress` of [`Scorer::score`] counts to for so many pictures.
    pub fn work(&self, pictures: usize) -> usize {
        pictures * (1 + usize::from(self.accuracy.is_some())) + 4 * self.manifold_count(pictures).unwrap_or(0)
    }

    /// Features that precision and recall are taken on.
    fn manifold_count(&self, pictures: usize) -> Option<usize> {
        let count = pictures.min(self.reference.rows().len() / self.reference.gaussian().dims());
        (count > NEIGHBOUR).then_some(count)
    }

    /// Scores pictures; `reference` are those of another arithmetic on the same seeds and labels. `progress` counts
    /// to [`Scorer::work`].
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
        let features = features(&self.features, pictures, threads, progress)?;
        let (width, mut done) = (self.reference.gaussian().dims(), pictures.len());
        let found = Gaussian::fit(&features, width)?;
        let mut accuracy = None;
        if let Some(classifier) = &self.accuracy {
            accuracy = Some(share_right(classifier, pictures, threads, &|n| progress(done + n))?);
            done += pictures.len();
        }
        let manifold = self.manifold_count(pictures.len()).map(|_| {
            let rows = self.reference.rows();
            precision_recall(rows, &features, width, NEIGHBOUR, threads, &|n| progress(done + n))
        });
        Ok(Scores {
            samples: pictures.len(),
            fd: frechet(&found, self.reference.gaussian())?,
            accuracy,
            manifold: manifold.transpose()?,
            fidelity: reference.map(|r| fidelity(r, pictures)),
        })
    }
}

/// The features of each picture, row by row, values clamped to [0, 1].
///
/// # Errors
/// When pictures do not fit the network.
pub fn features(
    network: &Graph,
    pictures: &Pictures,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<Vec<f32>, ScoreError> {
    Ok(look_at(network, pictures, threads, progress)?.concat())
}

/// The number of features that a scoring network gives.
///
/// # Errors
/// When it has not one input and one output.
pub fn feature_count(network: &Graph) -> Result<usize, ScoreError> {
    match (&network.inputs[..], &network.outputs[..]) {
        ([_], [output]) => Ok(network.ty(*output).elements()),
        (inputs, outputs) => {
            let (inputs, outputs) = (inputs.len(), outputs.len());
            let message = format!("a scoring network has one input and one output, not {inputs} and {outputs}");
            Err(ScoreError::Model { name: network.name.clone(), message })
        }
    }
}

/// The share of pictures that a classifier gives to their label.
///
/// # Errors
/// Pictures that are not the classifier's.
pub fn share_right(
    classifier: &Graph,
    pictures: &Pictures,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<f64, ScoreError> {
    let logits = look_at(classifier, pictures, threads, progress)?;
    let right = logits.iter().zip(pictures.labels()).filter(|(l, label)| argmax(l) == Some(**label)).count();
    Ok(right as f64 / pictures.len().max(1) as f64)
}

/// The seeds and labels that scores are taken over: picture `i` of draw `d` has seed `d * samples + i`, and label `i`
/// modulo the number of labels.
pub fn scored_draws(labels: usize, samples: usize, draw: usize) -> Vec<(u64, usize)> {
    (0..samples).map(|i| ((draw * samples + i) as u64, i % labels.max(1))).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_wins() {
        assert_eq!(argmax(&[0.0, 2.0, 2.0]), Some(1));
        assert_eq!(argmax(&[f32::NAN]), None);
    }
}
