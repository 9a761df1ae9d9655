//! Programs that pull a sample towards what was observed, without derivatives of the network.

use super::samplers::{Field, Sampled, Sampler, Sketch, Through, check_times, integrate};
use super::verify::error;
use super::{At, Code, Image, LaneKind, Net, Num, ProgramError, Row};

/// What is observed of a picture, as a linear map `A`; its transpose is as simple.
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// Some values, where the input `mask` is 1: inpainting, and way-points of a trajectory.
    Masked,
    /// Means of blocks of `factor` x `factor` pixels: super-resolution.
    Averaged {
        /// Size of the picture.
        image: Image,
        /// Side of a block.
        factor: u16,
    },
    /// A blurred picture; the kernel is symmetric, so the map is its own transpose.
    Blurred {
        /// Size of the picture.
        image: Image,
        /// `(2 * radius + 1)^2` numbers by rows.
        kernel: Vec<f64>,
        /// Half the side of the kernel.
        radius: u16,
    },
    /// What a network says of the sample, such as the probability of each class. It has no transpose, so only a chain, which
    /// runs forward, can use it.
    Critic(Critic),
}

/// A network that looks at samples. It has neither time nor label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Critic {
    /// Name of its graph.
    pub name: String,
    /// Its input and the elements of a sample.
    pub input: (String, usize),
    /// Its output and the elements of it.
    pub output: (String, usize),
}

impl Observation {
    /// A Gaussian blur whose numbers sum to 1.
    pub fn gaussian_blur(image: Image, sigma: f64, radius: u16) -> Observation {
        let reach = i32::from(radius);
        let weight = |d: i32| libm::exp(-f64::from(d * d) / (2.0 * sigma * sigma));
        let mut kernel: Vec<f64> = (-reach..=reach)
            .flat_map(|y| (-reach..=reach).map(move |x| (y, x)))
            .map(|(y, x)| weight(y) * weight(x))
            .collect();
        let sum: f64 = kernel.iter().sum();
        kernel.iter_mut().for_each(|k| *k /= sum);
        Observation::Blurred { image, kernel, radius }
    }

    /// Elements of what is observed.
    fn len(&self, sample: usize) -> usize {
        match self {
            Observation::Masked | Observation::Blurred { .. } => sample,
            Observation::Averaged { factor, .. } => sample / usize::from(*factor).pow(2).max(1),
            Observation::Critic(critic) => critic.output.1,
        }
    }
}

/// The lanes of `A`.
struct Map {
    observed: At,
    mask: Option<At>,
    small: At,
    kernel: Option<Num>,
    critic: Option<usize>,
}

impl Map {
    fn new(sketch: &mut Sketch, observation: &Observation) -> Map {
        let len = sketch.len();
        let part = observation.len(len);
        let observed = sketch.b.lane("observed", part, LaneKind::Input, "");
        let mask = matches!(observation, Observation::Masked)
            .then(|| sketch.b.lane("mask", len, LaneKind::Input, "1 where observed, else 0"));
        let small = sketch.b.lane("residual", part, LaneKind::Local, "");
        let kernel = match observation {
            Observation::Blurred { kernel, .. } => {
                Some(sketch.b.bank("blur", kernel.len(), kernel.iter().map(|&k| k as f32).collect()))
            }
            Observation::Masked | Observation::Averaged { .. } | Observation::Critic(_) => None,
        };
        let critic = match observation {
            Observation::Critic(Critic { name, input, output }) => {
                let (inputs, outputs) = (vec![input.clone()], vec![output.clone()]);
                Some(sketch.b.net(Net { name: name.clone(), inputs, outputs, rows: 0, of: None, twin: false }))
            }
            Observation::Masked | Observation::Averaged { .. } | Observation::Blurred { .. } => None,
        };
        Map { observed, mask, small, kernel, critic }
    }

    /// Appends `residual = A of - observed`.
    fn residual(&self, sketch: &mut Sketch, code: &mut Code, observation: &Observation, of: At) {
        let (one, minus) = (sketch.b.number(1.0), sketch.b.number(-1.0));
        if let Some(critic) = self.critic {
            code.call(critic, &[(0, of)], Row::default(), &[(0, self.small)]);
            code.combine(self.small, &[(one, self.small), (minus, self.observed)]);
            return;
        }
        match (observation, self.mask, self.kernel) {
            (Observation::Averaged { image, factor }, ..) => {
                code.average(self.small, of, *image, *factor);
                code.combine(self.small, &[(one, self.small), (minus, self.observed)]);
            }
            (Observation::Blurred { image, radius, .. }, _, Some(kernel)) => {
                code.blur(self.small, of, *image, kernel, *radius);
                code.combine(self.small, &[(one, self.small), (minus, self.observed)]);
            }
            (Observation::Masked | Observation::Blurred { .. } | Observation::Critic(_), mask, _) => {
                code.combine(self.small, &[(one, of), (minus, self.observed)]);
                if let Some(mask) = mask {
                    code.product(self.small, self.small, mask);
                }
            }
        }
    }

    /// Appends `out = A-transpose residual`, scaled so that a step of 1 removes the residual of a constant picture.
    fn back(&self, sketch: &mut Sketch, code: &mut Code, observation: &Observation, out: At) {
        let one = sketch.b.number(1.0);
        match (observation, self.kernel) {
            (Observation::Averaged { image, factor }, _) => code.repeat(out, self.small, *image, *factor),
            (Observation::Blurred { image, radius, .. }, Some(kernel)) => {
                code.blur(out, self.small, *image, kernel, *radius)
            }
            (Observation::Masked | Observation::Blurred { .. } | Observation::Critic(_), _) => {
                code.combine(out, &[(one, self.small)])
            }
        };
    }
}

/// How far a state moves along the residual of its data estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Strength {
    /// The same in every step, as FlowChef has it. Trained networks diverge above a few tenths: off their data the
    /// estimate moves against the state.
    Constant(f64),
    /// In proportion to the flow time that the step goes to: `x = tau' data + (1 - tau') noise` holds the data in that share,
    /// so a factor of 1 replaces the data estimate by one that fits the observation. Our variant: on the digits it stands
    /// factors of 1 and more at 8 and 16 steps, where a constant one does not; with many more steps it diverges too.
    Growing(f64),
}

/// FlowChef (arXiv 2412.00100): in every step but the last, the data estimate `x + (1 - tau) v` is compared with what
/// was observed and `x` moves by `-strength * A-transpose (A estimate - observed)`; the same velocity then carries the step.
///
/// # Errors
/// As [`super::samplers::generate`], or an observation of another size than the sample.
pub fn flowchef(
    name: &str,
    field: Field,
    times: &[f64],
    observation: &Observation,
    strength: Strength,
) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    let (Strength::Constant(factor) | Strength::Growing(factor)) = strength;
    if !factor.is_finite() {
        return Err(error("strength", format!("{factor} is no number")));
    }
    if let Observation::Critic(critic) = observation {
        let message = "steering needs the transpose of what is observed, and a network has none: use a chain";
        return Err(error(format!("critic '{}'", critic.name), message));
    }
    let mut sketch = Sketch::new(name, vec![field]);
    let (len, steps) = (sketch.len(), times.len() - 1);
    let noise = sketch.b.lane("noise", len, LaneKind::Input, "standard deviations");
    let map = Map::new(&mut sketch, observation);
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let [v, estimate, pull] = ["v", "estimate", "pull"].map(|n| sketch.b.lane(n, len, LaneKind::Local, ""));
    let one = sketch.b.number(1.0);
    sketch.b.entry("generate");
    let mut start = Code::new();
    start.combine(x, &[(one, noise)]);
    sketch.b.block(1, start);
    let mut code = Code::new();
    let steered = steps - 1;
    if steered > 0 {
        sketch.velocity(&mut code, 0, x, None, v, &times[..steered])?;
        let rest = sketch.b.schedule("rest", times[..steered].iter().map(|tau| 1.0 - tau));
        code.combine(estimate, &[(one, x), (rest, v)]);
        map.residual(&mut sketch, &mut code, observation, estimate);
        map.back(&mut sketch, &mut code, observation, pull);
        let h = sketch.b.schedule("h", times[..steps].windows(2).map(|w| w[1] - w[0]));
        let strength = match strength {
            Strength::Constant(factor) => sketch.b.number(-factor as f32),
            Strength::Growing(factor) => {
                sketch.b.schedule("pull", times[1..=steered].iter().map(|next| -factor * next))
            }
        };
        code.combine(x, &[(one, x), (strength, pull), (h, v)]);
        sketch.b.block(steered, code);
    }
    let mut last = Code::new();
    sketch.velocity(&mut last, 0, x, None, v, &times[steered..steps])?;
    let h = sketch.b.number((times[steps] - times[steered]) as f32);
    last.combine(x, &[(one, x), (h, v)]);
    sketch.b.block(1, last);
    sketch.finish()
}

/// Energy-guided latents by preconditioned Crank-Nicolson (our forward-only variant of arXiv 2210.05559, 4.3): the chain
/// `z' = sqrt(1 - b^2) z + b n` over latents, accepted with probability `min(1, exp(lambda (E - E')))`, where `E` is the
/// squared distance of the generated sample from what was observed. `start` draws the first latent; `generate` makes
/// `rounds` proposals and may be called again. The energy of a critic is the squared distance of its output from the one that
/// is wanted: of the probabilities of classes from 1 for one of them, the Brier score.
///
/// An exponential deviate is half the sum of two squared normal ones, so that no logarithm is taken: accept where
/// `lambda (E - E') + (n1^2 + n2^2) / 2 >= 0`.
///
/// # Errors
/// As [`super::samplers::generate`].
pub fn crank_nicolson(
    name: &str,
    field: Field,
    times: &[f64],
    observation: &Observation,
    chain: Chain,
) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    let Chain { lambda, beta, rounds } = chain;
    if !(lambda.is_finite() && beta > 0.0 && beta <= 1.0) {
        return Err(error("chain", format!("lambda {lambda} must be finite and beta {beta} in (0, 1]")));
    }
    let mut sketch = Sketch::new(name, vec![field]);
    let len = sketch.len();
    let map = Map::new(&mut sketch, observation);
    let noise = sketch.b.lane("noise", len, LaneKind::Input, "standard deviations");
    let z = sketch.b.lane("latent", len, LaneKind::Kept, "standard deviations");
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let kept = sketch.b.lane("current", len, LaneKind::Kept, "");
    let energy = sketch.b.lane("energy", 1, LaneKind::Kept, "");
    let [fresh, proposal, candidate] =
        ["fresh", "proposal", "candidate"].map(|n| sketch.b.lane(n, len, LaneKind::Local, ""));
    let [e, when] = ["proposed_energy", "when"].map(|n| sketch.b.lane(n, 1, LaneKind::Local, ""));
    let pair = sketch.b.lane("pair", 2, LaneKind::Local, "");
    let v = sketch.b.lane("velocity", len, LaneKind::Local, "");
    let one = sketch.b.number(1.0);

    sketch.b.entry("start");
    let mut start = Code::new();
    start.combine(z, &[(one, noise)]);
    euler(&mut sketch, &mut start, z, candidate, v, times)?;
    map.residual(&mut sketch, &mut start, observation, candidate);
    start.dot(energy, map.small, map.small);
    start.combine(kept, &[(one, candidate)]).combine(x, &[(one, candidate)]);
    sketch.b.block(1, start);

    sketch.b.entry("generate");
    let (stay, step) = (sketch.b.number(libm::sqrt(1.0 - beta * beta) as f32), sketch.b.number(beta as f32));
    let mut code = Code::new();
    code.noise(fresh, 1, 2).noise(pair, 2, 2);
    code.combine(proposal, &[(stay, z), (step, fresh)]);
    euler(&mut sketch, &mut code, proposal, candidate, v, times)?;
    map.residual(&mut sketch, &mut code, observation, candidate);
    code.dot(e, map.small, map.small).dot(when, pair, pair);
    let (up, down, half) = (sketch.b.number(lambda as f32), sketch.b.number(-lambda as f32), sketch.b.number(0.5));
    code.combine(when, &[(up, energy), (down, e), (half, when)]);
    code.select(z, when, proposal, z).select(kept, when, candidate, kept).select(energy, when, e, energy);
    code.combine(x, &[(one, kept)]);
    sketch.b.block(rounds, code);
    sketch.finish()
}

/// How a chain of latents moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chain {
    /// Weight of the energy.
    pub lambda: f64,
    /// Size of a proposal, above 0 and at most 1.
    pub beta: f64,
    /// Proposals of a call.
    pub rounds: usize,
}

/// Appends the steps of an Euler run inside one round: `out = G(z)`.
fn euler(sketch: &mut Sketch, code: &mut Code, z: At, out: At, v: At, times: &[f64]) -> Result<(), ProgramError> {
    let one = sketch.b.number(1.0);
    code.combine(out, &[(one, z)]);
    for w in times.windows(2) {
        sketch.velocity(code, 0, out, None, v, &w[..1])?;
        let h = sketch.b.number((w[1] - w[0]) as f32);
        code.combine(out, &[(one, out), (h, v)]);
    }
    Ok(())
}

/// Inversion and editing by a solver that runs both ways (RF-Solver, arXiv 2411.04746): `invert` takes `data` to a latent
/// that is kept, `edit` takes that latent to a sample, under another label if the caller sets one.
///
/// # Errors
/// As [`super::samplers::generate`].
pub fn invert(name: &str, field: Field, sampler: Sampler, times: &[f64]) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    if matches!(sampler, Sampler::Stochastic { .. } | Sampler::Reanchor) {
        return Err(error("sampler", "only euler, heun, midpoint and rf-solver run backwards"));
    }
    let mut sketch = Sketch::new(name, vec![field]);
    let len = sketch.len();
    let data = sketch.b.lane("data", len, LaneKind::Input, "");
    let latent = sketch.b.lane("latent", len, LaneKind::Kept, "standard deviations");
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let one = sketch.b.number(1.0);
    let backwards: Vec<f64> = times.iter().rev().copied().collect();
    sketch.b.entry("invert");
    let mut start = Code::new();
    start.combine(latent, &[(one, data)]);
    sketch.b.block(1, start);
    integrate(&mut sketch, sampler, data, latent, &backwards)?;
    sketch.b.entry("edit");
    let mut again = Code::new();
    again.combine(x, &[(one, latent)]);
    sketch.b.block(1, again);
    integrate(&mut sketch, sampler, latent, x, times)?;
    sketch.finish()
}

/// Tensors inside a network that an edit takes over from the inversion.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    /// Their names and elements; RF-Edit takes the value tensors of attention layers.
    pub tensors: Vec<(String, usize)>,
    /// Steps of the edit, from the noise on, that read them.
    pub steps: usize,
}

/// RF-Edit (arXiv 2411.04746): [`invert`] by the midpoint rule, whose last steps keep tensors inside the network; the same
/// steps of `edit`, its first, read them in place of their own. A step and its reverse are paired as the paper's program
/// pairs them: first evaluation with first, second with second, so that the second ones are at the same time.
///
/// Memory grows with the number of steps that are kept, two frames a step and tensor; without any it is [`invert`]'s.
///
/// # Errors
/// As [`super::samplers::generate`]; more cached steps than steps, no tensor, or a network under guidance, whose second
/// pass has no tensors of its own.
pub fn edit(name: &str, field: Field, times: &[f64], cache: &Cache) -> Result<Sampled, ProgramError> {
    check_times(times)?;
    let (steps, cached) = (times.len() - 1, cache.steps);
    if cached == 0 || cached > steps || cache.tensors.is_empty() {
        let message =
            format!("{} tensors in {cached} of {steps} steps: give at least one of each", cache.tensors.len());
        return Err(error("cached tensors", message));
    }
    if matches!(&field, Field::Network(network) if network.guidance.is_some()) {
        return Err(error("cached tensors", "guidance makes a second pass, which would need tensors of its own"));
    }
    let mut sketch = Sketch::new(name, vec![field]);
    let len = sketch.len();
    let data = sketch.b.lane("data", len, LaneKind::Input, "");
    let latent = sketch.b.lane("latent", len, LaneKind::Kept, "standard deviations");
    let x = sketch.b.lane("sample", len, LaneKind::Output, "");
    let mut held = Vec::new();
    for (i, (tensor, len)) in cache.tensors.iter().enumerate() {
        held.push((tensor.clone(), sketch.b.frames(&format!("cache_{i}"), *len, 2 * cached, LaneKind::Held, "")));
    }
    let store = sketch.derive(0, "store", &held, false)?;
    let inject = sketch.derive(0, "inject", &held, true)?;
    let one = sketch.b.number(1.0);
    let backwards: Vec<f64> = times.iter().rev().copied().collect();
    let step = Midpoint::new(&mut sketch);
    sketch.b.entry("invert");
    let mut start = Code::new();
    start.combine(latent, &[(one, data)]);
    sketch.b.block(1, start);
    step.append(&mut sketch, latent, &backwards[..=steps - cached], None)?;
    // Step i of the edit is undone by step `steps - 1 - i` of the inversion; its frames are 2i and 2i + 1.
    let last = 2 * (cached - 1);
    let both = [store.moving(last, -2), store.moving(last + 1, -2)];
    step.append(&mut sketch, latent, &backwards[steps - cached..], Some(&both))?;
    sketch.b.entry("edit");
    let mut again = Code::new();
    again.combine(x, &[(one, latent)]);
    sketch.b.block(1, again);
    let both = [inject.moving(0, 2), inject.moving(1, 2)];
    step.append(&mut sketch, x, &times[..=cached], Some(&both))?;
    step.append(&mut sketch, x, &times[cached..], None)?;
    sketch.finish()
}

/// The lanes of midpoint steps.
struct Midpoint {
    v: At,
    y: At,
    v1: At,
}

impl Midpoint {
    fn new(sketch: &mut Sketch) -> Midpoint {
        let [v, y, v1] = ["v", "y", "v1"].map(|name| sketch.local(name));
        Midpoint { v, y, v1 }
    }

    /// Appends the steps along `times`, none for one time; the two passes of a step go through the given networks.
    fn append(
        &self,
        sketch: &mut Sketch,
        x: At,
        times: &[f64],
        through: Option<&[Through; 2]>,
    ) -> Result<(), ProgramError> {
        let steps = times.len() - 1;
        if steps == 0 {
            return Ok(());
        }
        let [first, second] = through.map_or([None, None], |[a, b]| [Some(a), Some(b)]);
        let middle: Vec<f64> = times.windows(2).map(|w| (w[0] + w[1]) / 2.0).collect();
        let one = sketch.b.number(1.0);
        let half = sketch.b.schedule("half", times.windows(2).map(|w| (w[1] - w[0]) / 2.0));
        let whole = sketch.b.schedule("h", times.windows(2).map(|w| w[1] - w[0]));
        let mut code = Code::new();
        sketch.pass(&mut code, (0, first), x, None, self.v, &times[..steps])?;
        code.combine(self.y, &[(one, x), (half, self.v)]);
        sketch.pass(&mut code, (0, second), self.y, None, self.v1, &middle)?;
        code.combine(x, &[(one, x), (whole, self.v1)]);
        sketch.b.block(steps, code);
        Ok(())
    }
}
