//! `[programs.NAME]` of a `model.toml`.

use anyhow::{anyhow, bail};
use flowlet_compiler::program::Image;
use flowlet_compiler::program::samplers::{Sampler, turbo_blocks, uniform};
use flowlet_compiler::program::steer::{Cache, Chain, Critic, Observation, Strength};
use serde::Deserialize;

/// A program around the model.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProgramToml {
    /// What it does: euler, heun, midpoint, rf-solver, reanchor, stochastic, stream, turbo, invert, rf-edit, flowchef,
    /// cycle or chain.
    pub sampler: String,
    /// Number of equal steps.
    pub steps: Option<usize>,
    /// Flow times instead, ascending from 0 (noise) to 1 (data).
    pub times: Option<Vec<f64>>,
    /// Classifier-free guidance: weight of the label's velocity.
    pub guidance: Option<f64>,
    /// Whether one pass computes the velocities of the label and of none, or two passes do. The samples are the same.
    #[serde(default)]
    pub guidance_in_one_pass: bool,
    /// The label that stands for none; guidance needs it.
    pub none: Option<usize>,
    /// Solver of `invert`, by default midpoint.
    pub solver: Option<String>,
    /// Tensors inside the network that `rf-edit` takes over from the inversion, as `flowlet explain --text` names them.
    pub inject: Option<Vec<String>>,
    /// Steps of the edit, from the noise on, that read them.
    pub inject_steps: Option<usize>,
    /// Relative size of fresh noise: `stochastic`, `cycle`.
    pub eta: Option<f64>,
    /// Share of the last sample in the next one's start: `stream`.
    pub keep: Option<f64>,
    /// Blocks of `turbo`, such as HPPR.
    pub blocks: Option<String>,
    /// ONNX file of the refiner of `turbo`, beside the model.
    pub refiner: Option<String>,
    /// ONNX file of the network that `cycle` decodes with.
    pub to: Option<String>,
    /// What `flowchef` and `chain` observe: mask, average or blur; `chain` also a critic.
    pub observe: Option<String>,
    /// ONNX file of the critic, beside the model: a sample in, a vector out, such as probabilities of classes.
    pub critic: Option<String>,
    /// Side of an averaged block.
    pub factor: Option<u16>,
    /// Standard deviation of the blur, in pixels.
    pub sigma: Option<f64>,
    /// Step of `flowchef` along the residual, the same at all times.
    pub strength: Option<f64>,
    /// The same, in proportion to the flow time; 1 without either.
    pub growing_strength: Option<f64>,
    /// Weight of the energy of `chain`.
    pub lambda: Option<f64>,
    /// Size of a proposal of `chain`.
    pub beta: Option<f64>,
    /// Proposals of a call of `chain`.
    pub rounds: Option<usize>,
    /// Runs that calibrate the networks, by default 64.
    pub calibration: Option<usize>,
    /// Array of samples, beside the model, for programs that read data.
    pub data: Option<String>,
    /// Array of their labels.
    pub data_labels: Option<String>,
}

/// What a program does, with its numbers.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Kind {
    Generate(Sampler),
    Stream { keep: f64 },
    Turbo { blocks: String },
    Invert(Sampler),
    Edit(Cache),
    FlowChef { observation: Observation, strength: Strength },
    Cycle { eta: f64 },
    Chain { observation: Observation, chain: Chain },
}

impl ProgramToml {
    /// The flow times.
    ///
    /// # Errors
    /// When neither or both of `steps` and `times` are given.
    pub fn times(&self) -> anyhow::Result<Vec<f64>> {
        let blocks = self.blocks.as_ref().map(String::len);
        match (self.steps.or(blocks), &self.times) {
            (Some(steps @ 1..=1000), None) => Ok(uniform(steps)),
            (Some(steps), None) => bail!("steps = {steps}: give 1 to 1000"),
            (_, Some(times)) if self.steps.is_none() => Ok(times.clone()),
            (Some(_), Some(_)) => bail!("give steps or times, not both"),
            (None, None) => bail!("give steps = N, or times = [0.0, ..., 1.0]"),
            (None, Some(times)) => Ok(times.clone()),
        }
    }

    /// What the program does; `image` is the sample's size if it is a picture, `critic` the network that is named.
    ///
    /// # Errors
    /// A sampler that there is not, or a number that is missing.
    pub fn kind(&self, image: Option<Image>, critic: Option<Critic>) -> anyhow::Result<Kind> {
        let number =
            |name: &str, value: Option<f64>| value.ok_or_else(|| anyhow!("'{}' needs {name} = ...", self.sampler));
        Ok(match self.sampler.as_str() {
            "stream" => Kind::Stream { keep: number("keep", self.keep)? },
            "turbo" => {
                let blocks = self.blocks.clone().ok_or_else(|| anyhow!("'turbo' needs blocks = \"HPPR\""))?;
                turbo_blocks(&blocks).map_err(|e| anyhow!("{e}"))?;
                Kind::Turbo { blocks }
            }
            "invert" => {
                let solver = self.solver.as_deref().unwrap_or("midpoint");
                Kind::Invert(Sampler::named(solver, 0.0).map_err(|e| anyhow!("{e}"))?)
            }
            "rf-edit" => {
                let names = self.inject.as_ref().ok_or_else(|| anyhow!("'rf-edit' needs inject = [\"TENSOR\"]"))?;
                let steps = self.inject_steps.ok_or_else(|| anyhow!("'rf-edit' needs inject_steps = N"))?;
                Kind::Edit(Cache { tensors: names.iter().map(|name| (name.clone(), 0)).collect(), steps })
            }
            "flowchef" => Kind::FlowChef {
                observation: self.observation(image, critic)?,
                strength: match (self.strength, self.growing_strength) {
                    (Some(s), None) => Strength::Constant(s),
                    (None, s) => Strength::Growing(s.unwrap_or(1.0)),
                    (Some(_), Some(_)) => bail!("give strength or growing_strength, not both"),
                },
            },
            "cycle" => Kind::Cycle { eta: number("eta", self.eta)? },
            "chain" => Kind::Chain {
                observation: self.observation(image, critic)?,
                chain: Chain {
                    lambda: number("lambda", self.lambda)?,
                    beta: number("beta", self.beta)?,
                    rounds: self.rounds.unwrap_or(1),
                },
            },
            name => {
                let eta = if name == "stochastic" { number("eta", self.eta)? } else { 0.0 };
                Kind::Generate(Sampler::named(name, eta).map_err(|e| {
                    anyhow!("{e}; other programs are stream, turbo, invert, rf-edit, flowchef, cycle and chain")
                })?)
            }
        })
    }

    fn observation(&self, image: Option<Image>, critic: Option<Critic>) -> anyhow::Result<Observation> {
        let image = || image.ok_or_else(|| anyhow!("the sample is no picture, so only observe = \"mask\" is possible"));
        Ok(match self.observe.as_deref() {
            None | Some("mask") => Observation::Masked,
            Some("average") => Observation::Averaged { image: image()?, factor: self.factor.unwrap_or(2) },
            Some("blur") => {
                let sigma = self.sigma.unwrap_or(1.0);
                if !(sigma > 0.0 && sigma <= 8.0) {
                    bail!("sigma = {sigma}: give a width above 0 and at most 8 pixels");
                }
                Observation::gaussian_blur(image()?, sigma, (2.0 * sigma).ceil() as u16)
            }
            Some("critic") => {
                Observation::Critic(critic.ok_or_else(|| anyhow!("observe = \"critic\" needs critic = \"FILE.onnx\""))?)
            }
            Some(other) => bail!("observe = \"{other}\": mask, average, blur and critic are known"),
        })
    }
}
