//! The float passes, listed once in their order. Each is a function, a file and a folder of filetests.
//!
//! A pass never leaves a graph that the verifier refuses, states in a remark what it did and what it declined to do, and
//! reads nothing but the graph and the options: the same input always gives the same output.

mod fold_constants;
mod fold_norm;
mod fold_sampler;
mod layout;
mod lift;
mod prune_dead;
mod rewrite;
mod specialize;
mod taps;
mod twin;

pub(crate) use rewrite::{conditioning_ops, depends_only_on, norm_ops, per_channel};
pub use taps::{expose, inject};
pub use twin::twin;

pub use crate::flow::{Flow, Prediction};
use crate::ir::{Graph, InferError, Stage, Tensor, VerifyError, verify};

/// What the user decided about a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Inputs that become constants, by ONNX name: the deployed time, a guidance weight.
    pub set: Vec<(String, Tensor)>,
    /// Number of values of integer inputs that select rows. Inputs that only index a constant table need no entry.
    pub indices: Vec<(String, usize)>,
    /// How the network's output becomes a sample; `None` leaves the graph as it is.
    pub flow: Option<Flow>,
    /// The times of a program that runs the network more than once.
    pub schedule: Option<Schedule>,
    /// Leaves the factors of norms out of the weights of the layers after them, so that networks that differ in their norms
    /// alone have the same int8 weights ([`crate::pack`]).
    pub keep_factors: bool,
}

/// A time that takes several values: with every integer input it becomes one index input, [`Schedule::ROW`], whose value is
/// `time * labels + label` (further integer inputs follow as lower digits).
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// ONNX name of the time input.
    pub time: String,
    /// Its values, in order.
    pub values: Vec<f32>,
}

impl Schedule {
    /// Name of the index input.
    pub const ROW: &str = "row";
}

/// Why a pass could not continue.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PassError {
    /// An option names an input that the model does not have.
    UnknownInput {
        /// The name.
        name: String,
        /// Inputs that the model has.
        known: Vec<String>,
    },
    /// A value given for an input does not fit it.
    BadValue {
        /// The input.
        name: String,
        /// What is expected.
        message: String,
    },
    /// An integer input whose number of values is not known.
    OpenIndex {
        /// The input.
        name: String,
    },
    /// A tensor inside a graph that cannot be a further output or input.
    Tensor {
        /// Name of the graph.
        graph: String,
        /// Name of the tensor.
        name: String,
        /// Why not.
        message: String,
    },
    /// A graph that a transformation does not take.
    Graph {
        /// Its name.
        name: String,
        /// Why not.
        message: String,
    },
    /// An operation was evaluated on operands it does not accept.
    Eval(InferError),
    /// A pass broke an invariant: a defect of this compiler.
    Bug {
        /// The pass.
        pass: &'static str,
        /// What the verifier found.
        error: VerifyError,
    },
}

impl std::fmt::Display for PassError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PassError::UnknownInput { name, known } => {
                write!(f, "the model has no input '{name}'; its inputs are {}", known.join(", "))
            }
            PassError::BadValue { name, message } => write!(f, "input '{name}': {message}"),
            PassError::OpenIndex { name } => write!(
                f,
                "input '{name}' is an integer and the number of its values is not known: fix it with --set {name}=VALUE or state the number with --index {name}=COUNT"
            ),
            PassError::Tensor { graph, name, message } => write!(f, "tensor '{name}' of '{graph}' {message}"),
            PassError::Graph { name, message } => write!(f, "'{name}' {message}"),
            PassError::Eval(e) => e.fmt(f),
            PassError::Bug { pass, error } => write!(f, "defect in pass {pass}: {error}; please report it"),
        }
    }
}

impl std::error::Error for PassError {}

impl From<InferError> for PassError {
    fn from(e: InferError) -> Self {
        PassError::Eval(e)
    }
}

/// One entry of the pipeline.
pub struct Pass {
    /// Its name in remarks, filetests and `--print-after`.
    pub name: &'static str,
    /// The function.
    pub run: fn(&mut Graph, &Options) -> Result<(), PassError>,
    /// The invariants that hold afterwards.
    pub leaves: Stage,
}

/// Every float pass, in order.
pub const PIPELINE: &[Pass] = &[
    Pass { name: "lift", run: lift::run, leaves: Stage::Float },
    Pass { name: "specialize", run: specialize::run, leaves: Stage::Static },
    Pass { name: "fold_constants", run: fold_constants::run, leaves: Stage::Static },
    Pass { name: "layout", run: layout::run, leaves: Stage::Static },
    Pass { name: "fold_norm", run: fold_norm::run, leaves: Stage::Static },
    Pass { name: "prune_dead", run: prune_dead::run, leaves: Stage::Static },
    Pass { name: "fold_sampler", run: fold_sampler::run, leaves: Stage::Static },
];

/// Runs one pass and the verifier after it.
///
/// # Errors
/// What the pass found, or a defect of the pass.
pub fn run_pass(pass: &Pass, graph: &mut Graph, options: &Options) -> Result<(), PassError> {
    (pass.run)(graph, options)?;
    graph.sweep();
    verify(graph, pass.leaves).map_err(|error| PassError::Bug { pass: pass.name, error })
}
