//! Norms with statistics of the sample become fixed affines where the deployed time leaves those statistics nearly constant.
//!
//! At one time and one noise level the mean and spread of a layer vary little from sample to sample. The affine that takes a
//! norm's place is, for each channel, the least-squares line through what went into the norm and what came out of it on the
//! calibration samples; with statistics that do not vary it is the norm itself. `fold_norm` then makes weights of it.
//!
//! This changes what the model computes, so it is never done without a budget: norms are frozen one after the other, the best
//! fit first, and each stays frozen only while the measured error at the graph's output stays inside the budget.

use super::{Calibration, QuantizeError};
use crate::interp::Interpreter;
use crate::ir::{Graph, Op, Remark, Stage, Tensor, ValueId, verify};
use crate::passes::{self, Options, PIPELINE};
use std::collections::HashMap;

const PASS: &str = "freeze_norm";

/// One norm and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Freeze {
    /// ONNX name of the norm.
    pub node: String,
    /// Power of the norm's output over that of the fixed affine's error, on the calibration samples, in dB.
    pub fit_db: f64,
    /// Share of the budget that the graph used with this norm frozen too.
    pub used: f64,
    /// Whether it stayed frozen: `used` is at most 1.
    pub frozen: bool,
}

/// Sums over samples and positions of one channel: `x`, `y`, `x^2`, `x y`, `y^2`, and their number.
type Sums = [f64; 6];

/// The line `y = scale * x + shift`, and its squared error summed.
fn line(s: &Sums) -> (f64, f64, f64) {
    let [x, y, xx, xy, yy, n] = *s;
    let (mx, my) = (x / n, y / n);
    let (vx, vy, cov) = ((xx / n - mx * mx).max(0.0), (yy / n - my * my).max(0.0), xy / n - mx * my);
    // A channel that does not vary is its mean.
    if vx <= 1e-12 * (xx / n) {
        return (0.0, my, vy * n);
    }
    let scale = cov / vx;
    (scale, my - scale * mx, (vy - scale * cov).max(0.0) * n)
}

/// A norm that could be frozen.
struct Candidate {
    output: ValueId,
    node: String,
    scale: Vec<f32>,
    shift: Vec<f32>,
    fit_db: f64,
}

/// Freezes norms of a static f32 graph. `used` measures a graph: the share of the error budget that it uses, more than 1
/// being outside. `progress` is called with steps done and steps in all. The norms are listed in the order that they were
/// tried in.
///
/// # Errors
/// When the samples do not fit, or what `used` found.
pub fn freeze_norms(
    graph: &Graph,
    calibration: &Calibration,
    used: &mut dyn FnMut(&Graph) -> Result<f64, QuantizeError>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Graph, Vec<Freeze>), QuantizeError> {
    let candidates = candidates(graph, calibration)?;
    let mut frozen = graph.clone();
    let mut all = Vec::new();
    for (i, candidate) in candidates.iter().enumerate() {
        let mut trial = frozen.clone();
        replace(&mut trial, candidate);
        let used = used(&trial)?;
        let inside = used <= 1.0;
        let (node, fit_db) = (candidate.node.clone(), candidate.fit_db);
        let message = if inside {
            frozen = trial;
            format!("its statistics became fixed; alone that is {fit_db:.1} dB at its output")
        } else {
            format!("kept: frozen too, the output would use {used:.2} of the error budget")
        };
        frozen.remarks.push(Remark { pass: PASS.to_owned(), node: node.clone(), message });
        all.push(Freeze { node, fit_db, used, frozen: inside });
        progress(i + 1, candidates.len());
    }
    // Affines, as fixed norms are, become weights; what that leaves constant is evaluated.
    for pass in PIPELINE.iter().filter(|p| ["fold_constants", "fold_norm"].contains(&p.name)) {
        passes::run_pass(pass, &mut frozen, &Options::default()).map_err(|e| QuantizeError::Bug(e.to_string()))?;
    }
    frozen.set_meta("norm_ops_after", passes::norm_ops(&frozen).to_string());
    verify(&frozen, Stage::Static).map_err(|e| QuantizeError::Bug(e.to_string()))?;
    Ok((frozen, all))
}

fn replace(graph: &mut Graph, candidate: &Candidate) {
    let name = graph.value(candidate.output).name.clone();
    let c = candidate.scale.len();
    let scale = graph.add_const(&format!("{name}.fixed_scale"), Tensor::f32(&[c], candidate.scale.clone()));
    let shift = graph.add_const(&format!("{name}.fixed_shift"), Tensor::f32(&[c], candidate.shift.clone()));
    if let Some(node) = graph.nodes.iter_mut().find(|n| n.output == candidate.output) {
        node.inputs = vec![node.inputs[0], scale, shift];
        node.op = Op::Affine;
    }
}

/// Every norm with its line, the best fit first.
fn candidates(graph: &Graph, calibration: &Calibration) -> Result<Vec<Candidate>, QuantizeError> {
    let norms: HashMap<ValueId, ValueId> = graph
        .nodes
        .iter()
        .filter(|n| matches!(n.op, Op::Norm { axis: 1, .. }) && graph.constant(n.inputs[0]).is_none())
        .map(|n| (n.output, n.inputs[0]))
        .collect();
    let read: Vec<ValueId> = norms.values().copied().collect();
    let mut sums: HashMap<ValueId, Vec<Sums>> = HashMap::new();
    let interpreter = Interpreter::new(graph);
    for sample in &calibration.samples {
        let mut inputs: HashMap<ValueId, Vec<f32>> = HashMap::new();
        let mut observe = |id: ValueId, tensor: &Tensor| {
            let Some(values) = tensor.as_f32() else { return };
            if let Some(x) = norms.get(&id).and_then(|input| inputs.get(input)) {
                let channels = tensor.dims[1];
                let inner: usize = tensor.dims[2..].iter().product();
                let own = sums.entry(id).or_insert_with(|| vec![[0.0; 6]; channels]);
                for (i, (&x, &y)) in x.iter().zip(values).enumerate() {
                    let (x, y) = (f64::from(x), f64::from(y));
                    let terms = [x, y, x * x, x * y, y * y, 1.0];
                    own[i / inner % channels].iter_mut().zip(terms).for_each(|(s, t)| *s += t);
                }
            }
            if read.contains(&id) {
                inputs.insert(id, values.to_vec());
            }
        };
        interpreter.run_with(sample, &mut observe).map_err(|e| QuantizeError::Calibration(e.to_string()))?;
    }
    let mut all = Vec::new();
    for node in &graph.nodes {
        let Some(channels) = sums.get(&node.output) else { continue };
        let lines: Vec<(f64, f64, f64)> = channels.iter().map(line).collect();
        let (error, power): (f64, f64) = (lines.iter().map(|l| l.2).sum(), channels.iter().map(|s| s[4]).sum());
        all.push(Candidate {
            output: node.output,
            node: node.origin.clone(),
            scale: lines.iter().map(|l| l.0 as f32).collect(),
            shift: lines.iter().map(|l| l.1 as f32).collect(),
            fit_db: 10.0 * libm::log10(power / error.max(power * 1e-15).max(f64::MIN_POSITIVE)),
        });
    }
    all.sort_by(|a, b| b.fit_db.total_cmp(&a.fit_db));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_fixed_affine_is_that_affine() {
        let mut s = [0.0; 6];
        for x in [-1.0f64, 0.5, 2.0] {
            let y = 3.0 * x - 1.0;
            s.iter_mut().zip([x, y, x * x, x * y, y * y, 1.0]).for_each(|(s, t)| *s += t);
        }
        let (scale, shift, error) = line(&s);
        assert!((scale - 3.0).abs() < 1e-9 && (shift + 1.0).abs() < 1e-9 && error < 1e-9, "{scale} {shift} {error}");
    }

    #[test]
    fn a_channel_that_does_not_vary_is_its_mean() {
        assert_eq!(line(&[4.0, 6.0, 8.0, 12.0, 18.0, 2.0]), (0.0, 3.0, 0.0));
    }
}
