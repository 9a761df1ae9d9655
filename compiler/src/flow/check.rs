//! Whether a flow convention can be the one that a network was trained with: a wrong one gives noise, without an error.
//!
//! A sample is data, and data do not hold the noise that they began with. The slope of the sample on its noise,
//! `cov(x, z) / var(z)`, is near 0 for the right convention; for the opposite direction it is near 2 (`z - v = 2z - x`), and
//! near 1 in size where a velocity is taken for the data or the data for a velocity.

use super::{Flow, Prediction};
use crate::interp::{InterpError, Interpreter};
use crate::ir::{Graph, Op, Tensor};

/// Above this slope a sample holds so much of its noise that another convention is looked for.
const SUSPECT: f64 = 0.75;
/// How much closer to 0 another convention's slope must be.
const CLEARLY: f64 = 0.5;
/// By how much of the range, on each side, a value may leave it before it counts as outside.
const MARGIN: f64 = 0.05;

/// What one convention makes of the network's output.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// The convention, as its options are spelled.
    pub convention: &'static str,
    /// Slope of the sample on its noise, over all elements of all samples.
    pub slope: f64,
    /// Share of values outside the range of the data, if that is known.
    pub outside: Option<f64>,
    /// Mean difference of neighbouring pixels over their standard deviation, of pictures: 1.13 for white noise.
    pub variation: Option<f64>,
}

/// The stated convention beside the others.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectionCheck {
    /// Number of samples.
    pub samples: usize,
    /// What the model is compiled with.
    pub stated: Candidate,
    /// What else it might have been trained with.
    pub others: Vec<Candidate>,
}

impl DirectionCheck {
    /// The convention that fits much better than the stated one, if there is one.
    pub fn better(&self) -> Option<&Candidate> {
        let slope = self.stated.slope.abs();
        let fits = |c: &&Candidate| {
            c.slope.abs() < CLEARLY * slope
                && c.outside.zip(self.stated.outside).is_none_or(|(own, stated)| own <= stated)
        };
        let others = self.others.iter().filter(fits).min_by(|a, b| a.slope.abs().total_cmp(&b.slope.abs()));
        others.filter(|_| slope > SUSPECT)
    }

    /// The warning, if another convention fits much better.
    pub fn warning(&self) -> Option<String> {
        let better = self.better()?;
        Some(format!(
            "the flow convention looks wrong: as stated ({}) a sample holds {:.2} of its own noise, with {} it would hold \
             {:.2} ({} samples); look at noise_at and prediction",
            self.stated.convention, self.stated.slope, better.convention, better.slope, self.samples
        ))
    }
}

/// Statistics of samples, with the sums that they are made of.
struct Statistics {
    flow_range: Option<(f64, f64)>,
    image: Option<[usize; 2]>,
    values: Vec<(f64, f64)>,
    steps: f64,
    steps_counted: usize,
}

impl Statistics {
    fn add(&mut self, x: &[f64], z: &[f32]) {
        self.values.extend(x.iter().copied().zip(z.iter().map(|&z| f64::from(z))));
        let Some([height, width]) = self.image else { return };
        for plane in x.chunks_exact(height * width) {
            for row in plane.chunks_exact(width) {
                self.steps += row.windows(2).map(|w| (w[1] - w[0]).abs()).sum::<f64>();
                self.steps_counted += width - 1;
            }
        }
    }

    fn finish(&self, convention: &'static str) -> Candidate {
        let n = self.values.len().max(1) as f64;
        let mean = |f: &dyn Fn(&(f64, f64)) -> f64| self.values.iter().map(f).sum::<f64>() / n;
        let (mx, mz) = (mean(&|v| v.0), mean(&|v| v.1));
        let cov = mean(&|v| (v.0 - mx) * (v.1 - mz));
        let (var_x, var_z) = (mean(&|v| (v.0 - mx).powi(2)), mean(&|v| (v.1 - mz).powi(2)));
        let outside = self.flow_range.map(|(lo, hi)| {
            let margin = MARGIN * (hi - lo);
            mean(&|v| f64::from(u8::from(v.0 < lo - margin || v.0 > hi + margin)))
        });
        let variation =
            (self.steps_counted > 0 && var_x > 0.0).then(|| self.steps / self.steps_counted as f64 / var_x.sqrt());
        Candidate { convention, slope: cov / var_z.max(f64::MIN_POSITIVE), outside, variation }
    }
}

/// Draws `samples` (one list of inputs each) with a static f32 graph that ends in the sampler of `flow`, and compares the
/// stated convention with the others that the same outputs of the network could be read by. `None` when the graph does not
/// end in it, or its step is no number.
///
/// # Errors
/// When the samples do not fit the graph.
pub fn check_direction(
    graph: &Graph,
    flow: &Flow,
    samples: &[Vec<Tensor>],
) -> Result<Option<DirectionCheck>, InterpError> {
    let (Ok(step), Some(noise), [output]) =
        (flow.step(), graph.inputs.iter().position(|&id| graph.value(id).name == flow.noise), &graph.outputs[..])
    else {
        return Ok(None);
    };
    // The clamp hides what lies outside.
    let clamped = graph.nodes.iter().find(|n| n.output == *output && matches!(n.op, Op::Clip { .. }));
    let mut open = graph.clone();
    open.outputs = vec![clamped.map_or(*output, |n| n.inputs[0])];
    let (low, width) = flow.range.map_or((0.0, 1.0), |(lo, hi)| (f64::from(lo), f64::from(hi) - f64::from(lo)));
    let dims = &graph.ty(*output).dims;
    let image = match dims[..] {
        [_, _, h, w] if h > 1 && w > 1 => Some([h, w]),
        _ => None,
    };
    let stated = match (flow.prediction, flow.noise_at_zero) {
        (Prediction::Velocity, true) => "noise_at = 0, prediction = v",
        (Prediction::Velocity, false) => "noise_at = 1, prediction = v",
        (prediction, _) => match prediction {
            Prediction::Data => "prediction = x0",
            Prediction::Noise => "prediction = eps",
            Prediction::Preconditioned | Prediction::Velocity => "prediction = edm",
        },
    };
    // What the network reads is the state; others make this of it and of the output.
    let readings: [(&'static str, f64, f64); 3] = [
        ("noise_at = 0, prediction = v", 1.0, 1.0),
        ("noise_at = 1, prediction = v", 1.0, -1.0),
        ("prediction = x0", 0.0, 1.0),
    ];
    let statistics = || Statistics {
        flow_range: flow.range.map(|(lo, hi)| (f64::from(lo), f64::from(hi))),
        image,
        values: Vec::new(),
        steps: 0.0,
        steps_counted: 0,
    };
    let mut own = statistics();
    let mut others: Vec<Statistics> = readings.iter().map(|_| statistics()).collect();
    let interpreter = Interpreter::new(&open);
    for sample in samples {
        let results = interpreter.run(sample)?;
        let (Some(z), Some(drawn)) = (sample[noise].as_f32(), results.first().and_then(Tensor::as_f32)) else {
            return Ok(None);
        };
        let x: Vec<f64> = drawn.iter().map(|&s| f64::from(s) * width + low).collect();
        own.add(&x, z);
        for ((_, skip, sign), statistics) in readings.iter().zip(&mut others) {
            let read = |(x, z): (&f64, &f32)| {
                let z = f64::from(*z);
                let f = (x - step.skip * z) / step.output;
                skip * step.input * z + sign * f
            };
            statistics.add(&x.iter().zip(z).map(read).collect::<Vec<_>>(), z);
        }
    }
    let others = readings.iter().zip(&others).filter(|((name, ..), _)| *name != stated);
    Ok(Some(DirectionCheck {
        samples: samples.len(),
        stated: own.finish(stated),
        others: others.map(|((name, ..), statistics)| statistics.finish(name)).collect(),
    }))
}
