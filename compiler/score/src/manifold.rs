//! Precision and recall on features (Kynkaanniemi et al., NeurIPS 2019).
//!
//! The manifold of a set of features is the union of balls around each of them, with the distance to its `k`-th nearest
//! neighbour in the set as radius. Precision is the share of generated features inside the manifold of the real ones,
//! recall the share of real features inside that of the generated ones.

use crate::{Progress, ScoreError, map_samples};
use std::num::NonZeroUsize;

/// The neighbour that gives a radius; the paper's choice.
pub const NEIGHBOUR: usize = 3;

/// Both shares, and of how many features of each set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Share of generated features inside the manifold of the real ones.
    pub precision: f64,
    /// Share of real features inside the manifold of the generated ones.
    pub recall: f64,
    /// Features that were taken of each set.
    pub count: usize,
}

/// Precision and recall of `generated` features against `real` ones, both rows of `width` numbers, with the `k`-th
/// neighbour. Both depend on the number of features, so as many are taken of one set as of the other: the first of the
/// larger one. `progress` counts to four times that number ([`PrecisionRecall::count`]).
///
/// # Errors
/// When a set has not more than `k` rows, or a feature is not finite.
pub fn precision_recall(
    real: &[f32],
    generated: &[f32],
    width: usize,
    k: usize,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<PrecisionRecall, ScoreError> {
    let rows = |set: &[f32]| set.len().checked_div(width).unwrap_or(0);
    let count = rows(real).min(rows(generated));
    if count <= k {
        let message = format!("precision and recall with {k} neighbours need more than {k} samples, not {count}");
        return Err(ScoreError::Statistics(message));
    }
    if real.iter().chain(generated).any(|x| !x.is_finite()) {
        return Err(ScoreError::Statistics("a feature is not finite".to_owned()));
    }
    let (real, generated) = (&real[..count * width], &generated[..count * width]);
    let stage = |stage: usize| move |done: usize| progress(stage * count + done);
    let real_radii = radii(real, width, k, threads, &stage(0))?;
    let precision = share_inside(generated, real, &real_radii, width, threads, &stage(1))?;
    let generated_radii = radii(generated, width, k, threads, &stage(2))?;
    let recall = share_inside(real, generated, &generated_radii, width, threads, &stage(3))?;
    Ok(PrecisionRecall { precision, recall, count })
}

/// Squared distance of each row to its `k`-th nearest other row.
fn radii(
    rows: &[f32],
    width: usize,
    k: usize,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<Vec<f32>, ScoreError> {
    let kth = |nearest: &mut Vec<f32>, i: usize| {
        nearest.clear();
        let own = &rows[i * width..(i + 1) * width];
        nearest.extend(rows.chunks_exact(width).enumerate().filter(|(j, _)| *j != i).map(|(_, r)| distance(own, r)));
        Ok(*nearest.select_nth_unstable_by(k - 1, f32::total_cmp).1)
    };
    map_samples(rows.len() / width, threads, progress, Vec::new, kth)
}

/// The share of `rows` that lie in a ball of squared radius `radii[j]` around the `j`-th centre.
fn share_inside(
    rows: &[f32],
    centres: &[f32],
    radii: &[f32],
    width: usize,
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> Result<f64, ScoreError> {
    let inside = |(): &mut (), i: usize| {
        let row = &rows[i * width..(i + 1) * width];
        Ok::<bool, ScoreError>(centres.chunks_exact(width).zip(radii).any(|(c, r)| distance(row, c) <= *r))
    };
    let found = map_samples(rows.len() / width, threads, progress, || (), inside)?;
    Ok(found.iter().filter(|inside| **inside).count() as f64 / found.len() as f64)
}

/// Squared distance, summed in eight lanes of fixed order: the same on every machine, and vector code on most.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut sums = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += (a - b) * (a - b);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| (a - b) * (a - b)).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(real: &[f32], generated: &[f32], width: usize, k: usize) -> PrecisionRecall {
        precision_recall(real, generated, width, k, NonZeroUsize::MIN, &|_| {}).unwrap()
    }

    #[test]
    fn a_line_by_hand() {
        // Radii with k = 1: 1, 1 and 8 around the real numbers, 9.5, 9.5 and 89.5 around the generated ones.
        let found = measured(&[0.0, 1.0, 9.0], &[0.5, 10.0, 99.5], 1, 1);
        assert_eq!((found.precision, found.recall, found.count), (2.0 / 3.0, 1.0, 3));
    }

    #[test]
    fn a_collapsed_generator_is_precise_and_recalls_little() {
        let real: Vec<f32> = (0..40).flat_map(|i| [(i % 8) as f32, (i / 8) as f32]).collect();
        let collapsed: Vec<f32> = (0..40).flat_map(|i| [2.0 + 0.001 * i as f32, 2.0]).collect();
        let found = measured(&real, &collapsed, 2, 3);
        assert_eq!(found.precision, 1.0);
        assert!(found.recall < 0.1, "{found:?}");
        let swapped = measured(&collapsed, &real, 2, 3);
        assert_eq!((swapped.precision, swapped.recall), (found.recall, found.precision));
    }

    #[test]
    fn lanes_and_rest_sum_all_differences() {
        let a: Vec<f32> = (0..19).map(|i| i as f32).collect();
        let b: Vec<f32> = (0..19).map(|i| i as f32 - 2.0).collect();
        assert_eq!(distance(&a, &b), 76.0);
    }

    #[test]
    fn as_many_rows_are_taken_of_one_set_as_of_the_other() {
        let real: Vec<f32> = (0..10).map(|i| i as f32).collect();
        let found = measured(&real, &real[..5], 1, 3);
        assert_eq!((found.precision, found.recall, found.count), (1.0, 1.0, 5));
    }

    #[test]
    fn too_few_or_no_numbers_are_refused() {
        let refused = |real: &[f32]| precision_recall(real, real, 1, 3, NonZeroUsize::MIN, &|_| {}).unwrap_err();
        assert!(refused(&[1.0, 2.0, 3.0]).to_string().contains("more than 3"));
        assert!(refused(&[1.0, 2.0, 3.0, f32::NAN]).to_string().contains("not finite"));
    }
}
