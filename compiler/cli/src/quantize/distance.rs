//! The Frechet distance of int8 pictures over that of f32 pictures, for `--budget fd=1.05x`.

use crate::engines::{Float, with_engine};
use crate::progress::Bar;
use crate::score::{Args, Networks};
use flowlet_compiler::flq;
use flowlet_compiler::ir::Graph;
use flowlet_score::{Scorer, all_threads, generate, label_count, scored_draws};
use std::num::NonZeroUsize;
use std::path::Path;

/// Pictures of one distance.
const PICTURES: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1999);

/// Which seeds are drawn: not the first, with which `flowlet score` begins.
const DRAW: usize = 1;

/// A scorer, and the distance of the f32 model.
pub(super) struct Distance {
    scorer: Scorer,
    float: f64,
}

impl Distance {
    /// Scores the f32 graph with the networks of the folder `scoring` beside the model's.
    ///
    /// # Errors
    /// When there is no such folder or the model draws no pictures.
    pub(super) fn new(model: &Path, float: &Graph) -> anyhow::Result<Self> {
        let networks = Networks::load(&Args::of(model, PICTURES))?;
        let mut distance = Distance { scorer: networks.scorer()?.clone(), float: 1.0 };
        distance.float = distance.ratio(float)?;
        Ok(distance)
    }

    /// The distance of another form of the model over that of the f32 graph.
    ///
    /// # Errors
    /// When it draws no pictures.
    pub(super) fn ratio(&self, graph: &Graph) -> anyhow::Result<f64> {
        let bar = Bar::new("drawing", PICTURES.get());
        let labels = label_count(graph).min(self.scorer.labels().unwrap_or(usize::MAX));
        let draws = scored_draws(labels, PICTURES.get(), DRAW);
        let pictures = with_engine(graph, flq::hash(&flq::write(graph)), Float::Exact, |engine| {
            Ok(generate(engine, &draws, all_threads(), &|done| bar.at(done))?)
        })?;
        Ok(self.scorer.score(&pictures, None, all_threads(), &|_| {})?.fd / self.float)
    }
}
