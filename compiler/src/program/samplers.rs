//! Samplers as programs of a few lines.
//!
//! All of them are written in **flow time** `tau`, 0 at the noise and 1 at the data: `x_tau = tau * x + (1 - tau) * z`, so
//! the velocity is `x - z`, the data estimate `x_tau + (1 - tau) v` and the noise estimate `x_tau - tau v`. [`Field`]
//! carries a network's own convention (where its noise is, how its time is scaled, what it predicts, guidance) to it.

use super::verify::error;
use super::{At, Builder, Code, LaneKind, Net, Program, ProgramError, Row};
pub use crate::flow::Prediction;

/// A velocity network and its conventions.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Name of its graph.
    pub name: String,
    /// Input that reads `x_tau`.
    pub input: String,
    /// Output.
    pub output: String,
    /// Elements of both.
    pub len: usize,
    /// Values of its label input, with the one that stands for none; 1 if it has no label.
    pub labels: usize,
    /// Whether the noise is at time 0.
    pub noise_at_zero: bool,
    /// What its time input reads for a time of 1.
    pub time_scale: f64,
    /// What it predicts: with [`Prediction::Data`] the velocity is `(x - x_tau) / (1 - tau)`, with [`Prediction::Noise`]
    /// `(x_tau - z) / tau`; programs know no more.
    pub prediction: Prediction,
    /// Classifier-free guidance.
    pub guidance: Option<Guidance>,
    /// A further input that reads the last velocity, of a refiner.
    pub velocity_input: Option<String>,
}

/// Classifier-free guidance: the result is `weight * v(label) + (1 - weight) * v(none)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guidance {
    /// The weight.
    pub weight: f64,
    /// The label that stands for none.
    pub none: usize,
    /// Whether one pass computes both velocities ([`crate::passes::twin`]), or two do. The bits are the same.
    pub one_pass: bool,
}

/// Where velocities come from.
pub enum Field {
    /// A network.
    Network(Network),
    /// `v = M(tau) x`: the exact velocity of Gaussian data ([`super::gaussian`]).
    Linear {
        /// Elements of `x`.
        len: usize,
        /// The matrix, row-major.
        matrix: Box<dyn Fn(f64) -> Vec<f64>>,
    },
}

impl Field {
    /// Elements of a sample.
    pub fn len(&self) -> usize {
        match self {
            Field::Network(network) => network.len,
            Field::Linear { len, .. } => *len,
        }
    }

    /// Whether a sample has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A program under construction, and the times at which each network is evaluated.
pub struct Sketch {
    /// The program.
    pub b: Builder,
    fields: Vec<Used>,
}

struct Used {
    field: Field,
    net: usize,
    /// Networks that are derived from it; they have its rows.
    derived: Vec<usize>,
    times: Vec<f64>,
    other: At,
    /// The network that computes both velocities of guidance.
    twin: Option<usize>,
}

/// A pass through a network that is derived from the field's own, with held tensors in its further ports.
#[derive(Clone, Debug)]
pub(super) struct Through {
    net: usize,
    /// Whether it reads the tensors, or writes them.
    reads: bool,
    /// Places of the tensors.
    tensors: Vec<At>,
}

impl Through {
    /// The same network with the frames of other rounds.
    pub(super) fn moving(&self, first: usize, step: i32) -> Through {
        Through { tensors: self.tensors.iter().map(|at| at.moving(first, step)).collect(), ..self.clone() }
    }
}

/// A program with the tables that its networks need: time `t` of network `n` for label `l` is row `t * labels + l`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampled {
    /// The program.
    pub program: Program,
    /// Each network with the values of its time input, in order.
    pub networks: Vec<(Network, Vec<f64>)>,
}

impl Sketch {
    /// An empty program over these fields. Networks of one graph are given once.
    pub fn new(name: &str, fields: Vec<Field>) -> Sketch {
        let mut b = Builder::new(name);
        let mut labels = 0;
        let mut used = Vec::new();
        for field in fields {
            let (mut net, mut other) = (usize::MAX, At { lane: usize::MAX, first: 0, step: 0 });
            let (mut derived, mut twin) = (Vec::new(), None);
            if let Field::Network(network) = &field {
                let mut inputs = vec![(network.input.clone(), network.len)];
                inputs.extend(network.velocity_input.iter().map(|name| (name.clone(), network.len)));
                net = b.net(Net {
                    name: network.name.clone(),
                    inputs,
                    outputs: vec![(network.output.clone(), network.len)],
                    rows: 0,
                    of: None,
                    twin: false,
                });
                // The label that stands for none is not the caller's to choose.
                let open = network.labels - usize::from(network.guidance.is_some_and(|g| g.none + 1 == network.labels));
                labels = labels.max(if network.labels > 1 { open } else { 0 });
                if let Some(guidance) = network.guidance {
                    other = b.lane(&format!("{}_none", network.name), network.len, LaneKind::Local, "");
                    if guidance.one_pass {
                        let mut both = b.like(net, &format!("{}_twin", network.name));
                        both.twin = true;
                        both.outputs.push((format!("{}.twin", network.output), network.len));
                        twin = Some(b.net(both));
                        derived.extend(twin);
                    }
                }
            }
            used.push(Used { field, net, derived, times: Vec::new(), other, twin });
        }
        b.labels(labels);
        Sketch { b, fields: used }
    }

    /// A lane that only the steps use, under a name that is free.
    pub(super) fn local(&mut self, name: &str) -> At {
        let len = self.len();
        self.b.local(name, len)
    }

    /// Elements of a sample.
    pub fn len(&self) -> usize {
        self.fields.first().map_or(0, |used| used.field.len())
    }

    /// Whether a sample has no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A network derived from that of a field: `tensors` inside it are further inputs, or further outputs.
    ///
    /// # Errors
    /// A field without a network.
    pub(super) fn derive(
        &mut self,
        which: usize,
        suffix: &str,
        tensors: &[(String, At)],
        reads: bool,
    ) -> Result<Through, ProgramError> {
        let used = &mut self.fields[which];
        let Field::Network(network) = &used.field else {
            return Err(error("cached tensors", "a linear field has no tensor inside it"));
        };
        let name = format!("{}_{suffix}", network.name);
        let mut net = self.b.like(used.net, &name);
        let ports = if reads { &mut net.inputs } else { &mut net.outputs };
        ports.extend(tensors.iter().map(|(name, at)| (name.clone(), self.b.len(*at))));
        let net = self.b.net(net);
        used.derived.push(net);
        Ok(Through { net, reads, tensors: tensors.iter().map(|(_, at)| *at).collect() })
    }

    /// Appends `out = velocity of field number which at x`, at flow time `times[round]`. `last` is what a refiner reads.
    ///
    /// # Errors
    /// A time at which the network's prediction says nothing about the velocity.
    pub fn velocity(
        &mut self,
        code: &mut Code,
        which: usize,
        x: At,
        last: Option<At>,
        out: At,
        times: &[f64],
    ) -> Result<(), ProgramError> {
        self.pass(code, (which, None), x, last, out, times)
    }

    /// As [`Sketch::velocity`], through a network that is derived from the field's own if one is given.
    pub(super) fn pass(
        &mut self,
        code: &mut Code,
        (which, through): (usize, Option<&Through>),
        x: At,
        last: Option<At>,
        out: At,
        times: &[f64],
    ) -> Result<(), ProgramError> {
        let used = &mut self.fields[which];
        let network = match &used.field {
            Field::Linear { matrix, len } => {
                let rows: Vec<f32> = times.iter().flat_map(|&tau| matrix(tau)).map(|v| v as f32).collect();
                let bank = self.b.bank("velocity", len * len, rows);
                code.matrix(out, x, if times.len() > 1 { bank.each() } else { bank });
                return Ok(());
            }
            Field::Network(network) => network.clone(),
        };
        let own = |tau: f64| network.time_scale * if network.noise_at_zero { tau } else { 1.0 - tau };
        let wanted: Vec<f64> = times.iter().map(|&tau| own(tau)).collect();
        let backwards: Vec<f64> = wanted.iter().rev().copied().collect();
        let n = wanted.len();
        let find = |times: &[f64], list: &[f64]| times.windows(n).position(|w| w == list);
        let (first, direction) = match (find(&used.times, &wanted), find(&used.times, &backwards)) {
            (Some(first), _) => (first, 1),
            (None, Some(first)) => (first + n - 1, -1),
            (None, None) => {
                used.times.extend(&wanted);
                (used.times.len() - n, 1)
            }
        };
        let step = if n > 1 { direction * network.labels as i32 } else { 0 };
        let row = Row { base: first * network.labels, step, label: network.labels > 1 };
        let mut reads = vec![(0, x)];
        match (&network.velocity_input, last) {
            (Some(_), Some(last)) => reads.push((1, last)),
            (None, _) => {}
            (Some(name), None) => {
                return Err(error(format!("network '{}'", network.name), format!("its input '{name}' is not given")));
            }
        }
        let (net, other, twin) = (used.net, used.other, used.twin);
        let plain_reads = reads.clone();
        let mut writes = vec![(0, out)];
        if let Some(through) = through {
            let ports = if through.reads { &mut reads } else { &mut writes };
            let first = ports.len();
            ports.extend(through.tensors.iter().enumerate().map(|(i, &at)| (first + i, at)));
        }
        let none = network.guidance.map_or(0, |g| g.none);
        let unguided = Row { base: row.base + none, step, label: false };
        match twin {
            Some(twin) => code.call_twin(twin, &reads, [row, unguided], &[(0, out), (1, other)]),
            None => code.call(through.map_or(net, |t| t.net), &reads, row, &writes),
        };
        let mut terms = Vec::new();
        let sign = if network.noise_at_zero { 1.0 } else { -1.0 };
        let (mut scale, mut of_x) = (vec![1.0; times.len()], vec![0.0; times.len()]);
        for (i, &tau) in times.iter().enumerate() {
            let distance = match network.prediction {
                Prediction::Velocity => {
                    scale[i] = sign;
                    continue;
                }
                Prediction::Data => 1.0 - tau,
                Prediction::Noise => -tau,
                Prediction::Preconditioned => {
                    let message =
                        "it is preconditioned (edm), which one step knows and programs do not: v, x0 and eps are known";
                    return Err(error(format!("network '{}'", network.name), message));
                }
            };
            if distance.abs() < 1e-6 {
                let message = format!(
                    "it predicts the {:?}, which says nothing about the velocity at flow time {tau}: leave that time out",
                    network.prediction
                );
                return Err(error(format!("network '{}'", network.name), message.to_lowercase()));
            }
            (scale[i], of_x[i]) = (1.0 / distance, -1.0 / distance);
        }
        let same = |values: &[f64]| values.iter().all(|v| *v == values[0]);
        let factor = |b: &mut Builder, name: &str, values: Vec<f64>| {
            if same(&values) { b.number(values[0] as f32) } else { b.schedule(name, values) }
        };
        let plain = same(&scale) && scale[0] == 1.0 && network.prediction == Prediction::Velocity;
        if let Some(Guidance { weight, one_pass, .. }) = network.guidance {
            if !one_pass {
                code.call(net, &plain_reads, unguided, &[(0, other)]);
            }
            terms.push((factor(&mut self.b, "guided", scale.iter().map(|s| s * weight).collect()), out));
            terms.push((factor(&mut self.b, "unguided", scale.iter().map(|s| s * (1.0 - weight)).collect()), other));
        } else if !plain {
            terms.push((factor(&mut self.b, "predicted", scale), out));
        }
        if network.prediction != Prediction::Velocity {
            terms.push((factor(&mut self.b, "state", of_x), x));
        }
        if !terms.is_empty() {
            code.combine(out, &terms);
        }
        Ok(())
    }

    /// The verified program and the times of its networks.
    ///
    /// # Errors
    /// What does not fit, by name.
    pub fn finish(mut self) -> Result<Sampled, ProgramError> {
        let mut networks = Vec::new();
        for used in self.fields {
            if let Field::Network(network) = used.field {
                for net in used.derived.into_iter().chain([used.net]) {
                    self.b.rows(net, used.times.len() * network.labels);
                }
                networks.push((network, used.times));
            }
        }
        Ok(Sampled { program: self.b.finish()?, networks })
    }
}

/// How a sampler goes from one flow time to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sampler {
    /// `x + h v(x, tau)`.
    Euler,
    /// The mean of the velocities at both ends; the last step is an Euler step where the flow ends, since a network is
    /// not trained at the data itself.
    Heun,
    /// `x + h v(x + h/2 v(x, tau), tau + h/2)`: the explicit midpoint rule, which RF-Solver is.
    Midpoint,
    /// RF-Solver as it is written (arXiv 2411.04746): `x + h v0 + h^2/2 (v1 - v0) / (h/2)`. Equal to [`Sampler::Midpoint`]
    /// but for rounding.
    RfSolver,
    /// From the data estimate back along the straight line to the first noise (RF++, arXiv 2405.20320).
    Reanchor,
    /// Fresh noise of relative size `eta` in every step but the last (others.md 3, rectified-flow form).
    Stochastic {
        /// 0 is [`Sampler::Euler`].
        eta: f64,
    },
}

impl Sampler {
    /// The sampler of this name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn named(name: &str, eta: f64) -> Result<Sampler, String> {
        Ok(match name {
            "euler" => Sampler::Euler,
            "heun" => Sampler::Heun,
            "midpoint" => Sampler::Midpoint,
            "rf-solver" => Sampler::RfSolver,
            "reanchor" => Sampler::Reanchor,
            "stochastic" => Sampler::Stochastic { eta },
            other => {
                return Err(format!(
                    "there is no sampler '{other}'; there are euler, heun, midpoint, rf-solver, reanchor and stochastic"
                ));
            }
        })
    }
}

/// `steps + 1` flow times at equal distances, from 0 to 1.
pub fn uniform(steps: usize) -> Vec<f64> {
    (0..=steps).map(|i| i as f64 / steps as f64).collect()
}

/// Checks flow times: at least two, ascending, in 0 to 1.
pub(super) fn check_times(times: &[f64]) -> Result<(), ProgramError> {
    let ascending = times.windows(2).all(|w| w[0] < w[1]);
    let inside = times.iter().all(|t| (0.0..=1.0).contains(t));
    if times.len() < 2 || !ascending || !inside {
        let message = format!("{times:?} are not at least two ascending numbers from 0 to 1");
        return Err(error("flow times", message));
    }
    Ok(())
}

/// A program that turns `noise` into `sample` along these flow times.
///
/// # Errors
/// Times that do not ascend from 0 to 1, or at which the network says nothing.
pub fn generate(name: &str, field: Field, sampler: Sampler, times: &[f64]) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    let mut sketch = Sketch::new(name, vec![field]);
    let len = sketch.len();
    let noise = sketch.b.lane("noise", len, LaneKind::Input, "standard deviations");
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let one = sketch.b.number(1.0);
    sketch.b.entry("generate");
    let mut start = Code::new();
    start.combine(x, &[(one, noise)]);
    sketch.b.block(1, start);
    integrate(&mut sketch, sampler, noise, x, times)?;
    sketch.finish()
}

/// Appends the steps of a sampler: `x` goes from flow time `times[0]` to the last, which may also descend.
pub(super) fn integrate(
    sketch: &mut Sketch,
    sampler: Sampler,
    noise: At,
    x: At,
    times: &[f64],
) -> Result<(), ProgramError> {
    let steps = times.len() - 1;
    let v = sketch.local("v");
    let one = sketch.b.number(1.0);
    let h: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
    let from = &times[..steps];
    let mut code = Code::new();
    match sampler {
        Sampler::Euler => {
            sketch.velocity(&mut code, 0, x, None, v, from)?;
            let h = sketch.b.schedule("h", h);
            code.combine(x, &[(one, x), (h, v)]);
            sketch.b.block(steps, code);
        }
        Sampler::Heun => {
            let ends = times[steps] >= 1.0;
            let full = if ends { steps - 1 } else { steps };
            if full > 0 {
                let y = sketch.local("y");
                let v1 = sketch.local("v1");
                sketch.velocity(&mut code, 0, x, None, v, &from[..full])?;
                let whole = sketch.b.schedule("h", h[..full].iter().copied());
                let half = sketch.b.schedule("half", h[..full].iter().map(|h| h / 2.0));
                code.combine(y, &[(one, x), (whole, v)]);
                sketch.velocity(&mut code, 0, y, None, v1, &times[1..=full])?;
                code.combine(x, &[(one, x), (half, v), (half, v1)]);
                sketch.b.block(full, code);
            }
            if ends {
                let mut last = Code::new();
                sketch.velocity(&mut last, 0, x, None, v, &from[full..])?;
                let h = sketch.b.number(h[full] as f32);
                last.combine(x, &[(one, x), (h, v)]);
                sketch.b.block(1, last);
            }
        }
        Sampler::Midpoint | Sampler::RfSolver => {
            let y = sketch.local("y");
            let v1 = sketch.local("v1");
            let middle: Vec<f64> = times.windows(2).map(|w| (w[0] + w[1]) / 2.0).collect();
            let half = sketch.b.schedule("half", h.iter().map(|h| h / 2.0));
            let whole = sketch.b.schedule("h", h.iter().copied());
            sketch.velocity(&mut code, 0, x, None, v, from)?;
            code.combine(y, &[(one, x), (half, v)]);
            sketch.velocity(&mut code, 0, y, None, v1, &middle)?;
            if sampler == Sampler::Midpoint {
                code.combine(x, &[(one, x), (whole, v1)]);
            } else {
                let slope = sketch.b.schedule("slope", h.iter().map(|h| 2.0 / h));
                let minus = sketch.b.schedule("minus_slope", h.iter().map(|h| -2.0 / h));
                let square = sketch.b.schedule("square", h.iter().map(|h| h * h / 2.0));
                code.combine(v1, &[(slope, v1), (minus, v)]);
                code.combine(x, &[(one, x), (whole, v), (square, v1)]);
            }
            sketch.b.block(steps, code);
        }
        Sampler::Reanchor => {
            sketch.velocity(&mut code, 0, x, None, v, from)?;
            // tau' (x + (1 - tau) v) + (1 - tau') z
            let to = &times[1..];
            let of_x = sketch.b.schedule("next", to.iter().copied());
            let of_v = sketch.b.schedule("next_v", to.iter().zip(from).map(|(next, tau)| next * (1.0 - tau)));
            let of_z = sketch.b.schedule("rest", to.iter().map(|next| 1.0 - next));
            code.combine(x, &[(of_x, x), (of_v, v), (of_z, noise)]);
            sketch.b.block(steps, code);
        }
        Sampler::Stochastic { eta } => {
            sketch.velocity(&mut code, 0, x, None, v, from)?;
            let fresh = sketch.local("fresh");
            let weights = stochastic(times, eta);
            let of_x = sketch.b.schedule("of_x", weights.iter().map(|w| w.x));
            let of_v = sketch.b.schedule("of_v", weights.iter().map(|w| w.v));
            let sigma = sketch.b.schedule("sigma", weights.iter().map(|w| w.sigma));
            code.noise(fresh, 1, 1);
            code.combine(x, &[(of_x, x), (of_v, v), (sigma, fresh)]);
            sketch.b.block(steps, code);
        }
    }
    Ok(())
}

/// Factors of one stochastic step: `x' = x * x + v * v + sigma * fresh`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stochastic {
    pub(super) x: f64,
    pub(super) v: f64,
    pub(super) sigma: f64,
    /// Share of the noise estimate that is kept.
    pub(super) kept: f64,
}

/// The rectified-flow form of a stochastic DDIM step (others.md 3), with noise levels `t = 1 - tau`, `s = 1 - tau'`:
/// `x' = (1 - s) data + sqrt(s^2 - sigma^2) noise + sigma fresh`, `sigma = eta s b / t`, `b^2 = t^2 - ((1-t)/(1-s))^2 s^2`.
pub(super) fn stochastic(times: &[f64], eta: f64) -> Vec<Stochastic> {
    times
        .windows(2)
        .map(|w| {
            let (tau, next) = (w[0], w[1]);
            let (t, s) = (1.0 - tau, 1.0 - next);
            let b = libm::sqrt((t * t - (tau / next * s) * (tau / next * s)).max(0.0));
            let sigma = eta * s * b / t;
            let kept = libm::sqrt((s * s - sigma * sigma).max(0.0));
            // data = x + (1 - tau) v, noise = x - tau v
            Stochastic { x: next + kept, v: next * (1.0 - tau) - kept * tau, sigma, kept }
        })
        .collect()
}

/// A program that records every state and velocity of an Euler run: `states` (one frame more than steps) and `velocities`.
/// The Bellman schedule is computed from them.
///
/// # Errors
/// As [`generate`].
pub fn trajectory(name: &str, field: Field, times: &[f64]) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    let mut sketch = Sketch::new(name, vec![field]);
    let (len, steps) = (sketch.len(), times.len() - 1);
    let noise = sketch.b.lane("noise", len, LaneKind::Input, "standard deviations");
    let states = sketch.b.frames("states", len, steps + 1, LaneKind::Output, "");
    let velocities = sketch.b.frames("velocities", len, steps, LaneKind::Output, "");
    let one = sketch.b.number(1.0);
    sketch.b.entry("generate");
    let mut start = Code::new();
    start.combine(states, &[(one, noise)]);
    sketch.b.block(1, start);
    let mut code = Code::new();
    sketch.velocity(&mut code, 0, states.moving(0, 1), None, velocities.moving(0, 1), &times[..steps])?;
    let h = sketch.b.schedule("h", times.windows(2).map(|w| w[1] - w[0]));
    code.combine(states.moving(1, 1), &[(one, states.moving(0, 1)), (h, velocities.moving(0, 1))]);
    sketch.b.block(steps, code);
    sketch.finish()
}

/// A sampler that starts from a mixture of noise and its last sample, which it carries from call to call:
/// `x = sqrt(1 - keep^2) * noise + keep * last`. After a reset the last sample is zero.
///
/// # Errors
/// As [`generate`].
pub fn stream(name: &str, field: Field, times: &[f64], keep: f64) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    let mut sketch = Sketch::new(name, vec![field]);
    let len = sketch.len();
    let noise = sketch.b.lane("noise", len, LaneKind::Input, "standard deviations");
    let last = sketch.b.lane("last", len, LaneKind::State, "");
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let fresh = sketch.b.number(libm::sqrt(1.0 - keep * keep) as f32);
    let (keep, one) = (sketch.b.number(keep as f32), sketch.b.number(1.0));
    sketch.b.entry("generate");
    let mut start = Code::new();
    start.combine(x, &[(fresh, noise), (keep, last)]);
    sketch.b.block(1, start);
    integrate(&mut sketch, Sampler::Euler, noise, x, times)?;
    let mut end = Code::new();
    end.combine(last, &[(one, x)]);
    sketch.b.block(1, end);
    sketch.finish()
}

/// A block of FlowTurbo (arXiv 2409.18128): two evaluations, one, or two of the refiner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turbo {
    /// Euler: one evaluation, whose velocity the next block may use.
    Euler,
    /// Heun: two evaluations of the network.
    Heun,
    /// The pseudo-corrector: Heun with the cached velocity of the block before; one evaluation.
    Pseudo,
    /// The refiner twice. Its graph adds the velocity that it refines, so that it gives a velocity as the network does.
    Refine,
}

/// A schedule such as `HPPR`.
///
/// # Errors
/// A letter that is none of E, H, P and R, or a schedule that begins with P or R: they need a velocity.
pub fn turbo_blocks(text: &str) -> Result<Vec<Turbo>, ProgramError> {
    let blocks: Option<Vec<Turbo>> = text
        .chars()
        .map(|c| match c {
            'E' => Some(Turbo::Euler),
            'H' => Some(Turbo::Heun),
            'P' => Some(Turbo::Pseudo),
            'R' => Some(Turbo::Refine),
            _ => None,
        })
        .collect();
    match blocks {
        Some(blocks) if matches!(blocks.first(), Some(Turbo::Heun | Turbo::Euler)) => Ok(blocks),
        _ => Err(error(format!("schedule '{text}'"), "write E, H, P and R for the blocks; the first is E or H")),
    }
}

/// A program over a network and a refiner of its velocity. The last block ends in an Euler step, as Heun's does, where the
/// flow ends.
///
/// # Errors
/// As [`generate`]; another number of blocks than steps.
pub fn turbo(
    name: &str,
    network: Field,
    refiner: Option<Field>,
    blocks: &[Turbo],
    times: &[f64],
) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    if blocks.len() + 1 != times.len() {
        let message = format!("{} blocks and {} steps", blocks.len(), times.len() - 1);
        return Err(error("schedule", message));
    }
    if blocks.contains(&Turbo::Refine) && refiner.is_none() {
        return Err(error("schedule", "an R block needs the refiner"));
    }
    let mut sketch = Sketch::new(name, std::iter::once(network).chain(refiner).collect());
    let len = sketch.len();
    let noise = sketch.b.lane("noise", len, LaneKind::Input, "standard deviations");
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let [y, cached, d] = ["y", "cached", "d"].map(|name| sketch.b.lane(name, len, LaneKind::Local, ""));
    let one = sketch.b.number(1.0);
    sketch.b.entry("generate");
    let mut start = Code::new();
    start.combine(x, &[(one, noise)]);
    sketch.b.block(1, start);
    for (block, w) in blocks.iter().zip(times.windows(2)) {
        let (tau, next, h) = (w[0], w[1], w[1] - w[0]);
        let (whole, half) = (sketch.b.number(h as f32), sketch.b.number((h / 2.0) as f32));
        let mut code = Code::new();
        match block {
            Turbo::Heun | Turbo::Euler => sketch.velocity(&mut code, 0, x, None, d, &[tau])?,
            Turbo::Pseudo => {
                code.combine(d, &[(one, cached)]);
            }
            Turbo::Refine => {
                sketch.velocity(&mut code, 1, x, Some(cached), d, &[tau])?;
            }
        }
        code.combine(y, &[(one, x), (whole, d)]);
        if next >= 1.0 || *block == Turbo::Euler {
            code.combine(x, &[(one, y)]).combine(cached, &[(one, d)]);
        } else {
            if *block == Turbo::Refine {
                sketch.velocity(&mut code, 1, y, Some(d), cached, &[next])?;
            } else {
                sketch.velocity(&mut code, 0, y, None, cached, &[next])?;
            }
            code.combine(x, &[(one, x), (half, d), (half, cached)]);
        }
        sketch.b.block(1, code);
    }
    sketch.finish()
}
