//! The author's own outputs.

use super::file_of;
use crate::options::read_npy;
use anyhow::bail;
use flowlet_compiler::ir::Graph;
use std::path::Path;

/// How far two sets of outputs are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Largest absolute difference.
    pub absolute: f64,
    /// The same, as a share of the range of the expected values.
    pub relative: f64,
    /// Where it is.
    pub sample: usize,
    /// Where it is in the sample.
    pub element: usize,
}

/// Compares outputs sample by sample. What is missing or not a number is infinitely far away.
pub(super) fn difference(expected: &[&[f32]], found: &[&[f32]]) -> Difference {
    let mut worst = Difference::default();
    if expected.len() != found.len() {
        worst.absolute = f64::INFINITY;
    }
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (sample, (a, b)) in expected.iter().zip(found).enumerate() {
        for (element, &x) in a.iter().enumerate() {
            let x = f64::from(x);
            (low, high) = (low.min(x), high.max(x));
            let apart = b.get(element).map_or(f64::INFINITY, |&y| (x - f64::from(y)).abs());
            let apart = if apart.is_nan() { f64::INFINITY } else { apart };
            if apart > worst.absolute {
                worst = Difference { absolute: apart, relative: 0.0, sample, element };
            }
        }
    }
    let range = (high - low).max(f64::MIN_POSITIVE);
    worst.relative = if worst.absolute == 0.0 { 0.0 } else { worst.absolute / range };
    worst
}

/// The values of `count` samples of `width` elements.
pub(super) fn expected(path: &Path, width: usize, count: usize) -> anyhow::Result<Vec<f32>> {
    let array = read_npy(path)?;
    if array.len() != width * count {
        let shape = &array.shape;
        bail!("{} has shape {shape:?}; the inputs make {count} samples of {width} elements", path.display());
    }
    Ok(array.to_f32())
}

/// The samples whose golden inputs have the values that the graph holds as constants.
pub(super) fn deployed(graph: &Graph, folder: &Path, count: usize) -> anyhow::Result<Vec<usize>> {
    let mut kept: Vec<usize> = (0..count).collect();
    for (key, value) in &graph.meta {
        let Some((name, constant)) = key.strip_prefix("set.").zip(value.parse::<f32>().ok()) else { continue };
        let path = file_of(folder, name);
        if !path.exists() {
            continue;
        }
        let values = read_npy(&path)?.to_f32();
        let width = values.len() / count.max(1);
        kept.retain(|&i| values.get(i * width..(i + 1) * width).is_some_and(|v| v.iter().all(|x| *x == constant)));
    }
    Ok(kept)
}

/// The author's samples: the file of the graph's output, or that of the velocity carried through the sampler.
pub(super) fn sampled(graph: &Graph, folder: &Path, kept: &[usize]) -> anyhow::Result<Option<Vec<Vec<f32>>>> {
    let Some(&output) = graph.outputs.first() else { return Ok(None) };
    let width = graph.ty(output).elements();
    let rows = |path: &Path| -> anyhow::Result<Vec<Vec<f32>>> {
        let values = read_npy(path)?.to_f32();
        let row = |&i: &usize| values.get(i * width..(i + 1) * width).map(<[f32]>::to_vec);
        match kept.iter().map(row).collect() {
            Some(rows) => Ok(rows),
            None => bail!("{} holds fewer samples than the inputs", path.display()),
        }
    };
    let direct = file_of(folder, &graph.value(output).name);
    if direct.exists() {
        return rows(&direct).map(Some);
    }
    let (Some(velocity), Some(noise)) = (graph.meta("flow.velocity"), graph.meta("noise")) else { return Ok(None) };
    let path = file_of(folder, velocity);
    if !path.exists() {
        return Ok(None);
    }
    // Golden arrays hold what the author's network read and wrote; `flow.step` is stated where it is not z + v or z - v.
    let [input, skip, factor] = match graph.meta("flow.step") {
        None => [1.0, 1.0, if graph.meta("flow.noise_at") == Some("0") { 1.0 } else { -1.0 }],
        Some(step) => {
            let numbers: Vec<f32> = step.split(',').filter_map(|n| n.parse().ok()).collect();
            let Ok(numbers) = <[f32; 3]>::try_from(numbers) else { return Ok(None) };
            numbers
        }
    };
    if input != 1.0 {
        return Ok(None);
    }
    let range = graph.meta("flow.range").and_then(|r| r.split_once(','));
    let range = range.and_then(|(lo, hi)| Some((lo.parse::<f32>().ok()?, hi.parse::<f32>().ok()?)));
    let sample = |(z, v): (&f32, &f32)| {
        let x = skip * z + factor * v;
        range.map_or(x, |(lo, hi)| ((x - lo) / (hi - lo)).clamp(0.0, 1.0))
    };
    let (z, v) = (rows(&file_of(folder, noise))?, rows(&path)?);
    Ok(Some(z.iter().zip(&v).map(|(z, v)| z.iter().zip(v).map(sample).collect()).collect()))
}

/// Which files would serve as a reference.
pub(super) fn wanted(graph: &Graph) -> String {
    let output = graph.outputs.first().map_or("output", |&id| &graph.value(id).name);
    match graph.meta("flow.velocity") {
        Some(velocity) => format!("add {velocity}.npy or {output}.npy"),
        None => format!("add {output}.npy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_element_is_found_and_related_to_the_range() {
        let d = difference(&[&[0.0, 1.0], &[2.0, 4.0]], &[&[0.0, 1.0], &[2.0, 3.0]]);
        assert_eq!(d, Difference { absolute: 1.0, relative: 0.25, sample: 1, element: 1 });
    }

    #[test]
    fn not_a_number_is_far_away() {
        assert_eq!(difference(&[&[1.0, 2.0]], &[&[1.0, f32::NAN]]).absolute, f64::INFINITY);
        assert_eq!(difference(&[&[1.0, 2.0]], &[&[1.0]]).absolute, f64::INFINITY);
        assert_eq!(difference(&[&[1.0]], &[]).absolute, f64::INFINITY);
    }
}
