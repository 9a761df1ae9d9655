//! The static graph.

use crate::slot::{Quant, Slot};
use crate::step::Step;

/// Version of the plan's layout. A runtime refuses any other with a sentence; see STABILITY.md.
pub const PLAN_VERSION: u16 = 2;

/// Whether a plan's outputs are the same bits everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Integer arithmetic (and ordered f32 carry) only: every target gives the same bytes, so a digest means something.
    Exact,
    /// Some step states an error bound instead.
    Bounded,
}

/// A named tensor at the edge of the graph.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Port<'a> {
    /// The ONNX name of the input or output.
    pub name: &'a str,
    /// Where it lives.
    pub slot: Slot,
    /// How its s8 values map to reals.
    pub quant: Quant,
    /// Reciprocal of `quant.scale`, rounded once offline, so that quantising is one multiplication.
    pub inverse_scale: f32,
    /// Unit of the real value, for people: "standard deviations", "intensity 0..1", "rad".
    pub unit: &'a str,
}

/// An input that takes one of `count` values and chooses rows of constant tables (a class label).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index<'a> {
    /// The ONNX name of the input.
    pub name: &'a str,
    /// Number of values; valid are `0..count`.
    pub count: u16,
}

/// An entry point: a run of consecutive steps, executed `iterations` times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graph<'a> {
    /// Name of the entry point ("generate", "encode", "act").
    pub name: &'a str,
    /// First step.
    pub first: u16,
    /// Number of steps.
    pub len: u16,
    /// How often the run repeats; row `i` of [`crate::RowKey::Iteration`] banks is used in round `i`.
    pub iterations: u16,
}

/// A compiled model: several entry points over one arena and one weight set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan<'a> {
    /// Must be [`PLAN_VERSION`].
    pub version: u16,
    /// Model name.
    pub name: &'a str,
    /// SHA-256 of the `.flq` this was lowered from: the model's identity.
    pub model_hash: [u8; 32],
    /// Size of the arena; it must be aligned to 16 bytes.
    pub arena_bytes: u32,
    /// Bytes that survive between calls (carried state), if any.
    pub state: Option<Slot>,
    /// Tensor inputs.
    pub inputs: &'a [Port<'a>],
    /// Finite inputs.
    pub indices: &'a [Index<'a>],
    /// Tensor outputs.
    pub outputs: &'a [Port<'a>],
    /// Entry points.
    pub graphs: &'a [Graph<'a>],
    /// All steps, in order of execution.
    pub steps: &'a [Step<'a>],
    /// Whether outputs are the same bits everywhere.
    pub exactness: Exactness,
}

impl Plan<'_> {
    /// Multiply-accumulates of one pass over all steps.
    pub const fn macs(&self) -> u64 {
        let (mut i, mut sum) = (0, 0);
        while i < self.steps.len() {
            sum += self.steps[i].macs();
            i += 1;
        }
        sum
    }
}
