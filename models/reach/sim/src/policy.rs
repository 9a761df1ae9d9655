//! A policy that is a compiled network: int8 through the executor, f32 through the interpreter.

use crate::camera::{PIXELS, picture};
use crate::episode::{CHUNK, Chunk, Observation};
use anyhow::{anyhow, bail};
use flowlet_compiler::ir::{Graph, Type};
use flowlet_compiler::quantize::noise_tensor;
use flowlet_score::{Engine, Feed, Worker};

/// How a graph's outputs become a chunk, found by its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `noise`, `joints` and `scene` or `image` -> `actions`.
    OneStep,
    /// `joints`, `scene` -> `actions`.
    NoNoise,
    /// `x`, `t`, `joints`, `scene` -> `velocity`, `actions`: one of so many Euler steps.
    Steps(usize),
}

/// How often a network is called for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Once; it reads no noise, so that trying again gives the same.
    OneAnswer,
    /// Once, with noise.
    One,
    /// Once for each step of its flow.
    Many,
}

/// A network that plans actions.
pub struct Policy<'a> {
    engine: Engine<'a>,
    form: Form,
    /// Which number among the outputs the actions have.
    actions: usize,
    velocity: Option<usize>,
}

/// Euler steps of a teacher.
pub const TEACHER_STEPS: usize = 50;

impl<'a> Policy<'a> {
    /// Recognises what kind of policy a network is.
    ///
    /// # Errors
    /// When its inputs and outputs are those of no policy; the message names them.
    pub fn new(engine: Engine<'a>) -> anyhow::Result<Self> {
        let graph = engine.graph();
        let sizes = inputs(graph);
        let has = |wanted: &[(&str, usize)]| {
            sizes.len() == wanted.len() && wanted.iter().all(|w| sizes.iter().any(|(n, s)| (*n, *s) == *w))
        };
        let seen = [("joints", 3), ("scene", 5)];
        let noise = ("noise", 2 * CHUNK);
        let form = if has(&[noise, seen[0], seen[1]]) || has(&[noise, seen[0], ("image", PIXELS * PIXELS)]) {
            Form::OneStep
        } else if has(&seen) {
            Form::NoNoise
        } else if has(&[("x", 2 * CHUNK), ("t", 1), seen[0], seen[1]]) {
            Form::Steps(TEACHER_STEPS)
        } else {
            bail!(
                "'{}' is no policy for this arm: it reads {}; expected are joints (3 numbers) and scene (5) or image ({}), \
                 and for a flow noise ({} numbers)",
                graph.name,
                sizes.iter().map(|(n, s)| format!("{n} ({s})")).collect::<Vec<_>>().join(", "),
                PIXELS * PIXELS,
                2 * CHUNK
            );
        };
        let output = |name: &str| graph.outputs.iter().position(|&id| graph.value(id).name == name);
        let actions = output("actions").ok_or_else(|| anyhow!("'{}' has no output 'actions'", graph.name))?;
        let size = graph.ty(graph.outputs[actions]).elements();
        if size != 2 * CHUNK {
            bail!("'{}' gives {size} actions; expected are {CHUNK} for 2 joints", graph.name);
        }
        let velocity = output("velocity");
        if matches!(form, Form::Steps(_)) && velocity.is_none() {
            bail!("'{}' has no output 'velocity'", graph.name);
        }
        Ok(Policy { engine, form, actions, velocity })
    }

    /// What a plan costs, and whether there is more than one.
    pub fn calls(&self) -> Calls {
        match self.form {
            Form::NoNoise => Calls::OneAnswer,
            Form::OneStep => Calls::One,
            Form::Steps(_) => Calls::Many,
        }
    }

    /// What one thread needs to plan.
    pub fn planner(&self) -> Planner<'_, 'a> {
        Planner { policy: self, worker: self.engine.worker() }
    }
}

fn inputs(graph: &Graph) -> Vec<(&str, usize)> {
    graph.inputs.iter().map(|&id| (graph.value(id).name.as_str(), graph.ty(id).elements())).collect()
}

/// A policy with the memory of one thread.
pub struct Planner<'p, 'a> {
    policy: &'p Policy<'a>,
    worker: Worker<'p, 'a>,
}

impl Planner<'_, '_> {
    /// A chunk of actions for what is seen; `seed` chooses among the answers.
    ///
    /// # Errors
    /// When the network cannot be run.
    pub fn plan(&mut self, seen: &Observation, seed: u64) -> anyhow::Result<Chunk> {
        let values = match self.policy.form {
            Form::OneStep | Form::NoNoise => self.call(seen, Feed::Noise(seed), 0.0)?.swap_remove(self.policy.actions),
            Form::Steps(steps) => self.integrate(seen, seed, steps)?,
        };
        Ok(std::array::from_fn(|k| [values[2 * k].into(), values[2 * k + 1].into()]))
    }

    fn integrate(&mut self, seen: &Observation, seed: u64, steps: usize) -> anyhow::Result<Vec<f32>> {
        let noise = noise_tensor(&Type::f32(&[1, CHUNK, 2]), seed, 0);
        let mut x = noise.as_f32().unwrap_or(&[]).to_vec();
        for k in 0..steps {
            let mut outputs = self.call(seen, Feed::Values(&x), k as f32 / steps as f32)?;
            if k + 1 == steps {
                return Ok(outputs.swap_remove(self.policy.actions));
            }
            if let Some(velocity) = self.policy.velocity {
                x = x.iter().zip(&outputs[velocity]).map(|(x, v)| x + v / steps as f32).collect();
            }
        }
        bail!("a flow of no steps has no answer")
    }

    fn call(&mut self, seen: &Observation, start: Feed<'_>, t: f32) -> anyhow::Result<Vec<Vec<f32>>> {
        let graph = self.policy.engine.graph();
        let time = [t];
        let sees = |name| inputs(graph).iter().any(|(input, _)| *input == name);
        let image = if sees("image") { picture(seen) } else { Vec::new() };
        let feeds: Vec<Feed<'_>> = inputs(graph)
            .into_iter()
            .map(|(name, _)| match name {
                "joints" => Feed::Values(&seen.joints),
                "scene" => Feed::Values(&seen.scene),
                "image" => Feed::Values(&image),
                "t" => Feed::Values(&time),
                _ => start,
            })
            .collect();
        Ok(self.worker.run(&feeds)?.values)
    }
}
