//! Why samples could not be drawn or scored.

use crate::npy::NpyError;
use crate::npz::NpzError;
use flowlet::RunError;
use flowlet_compiler::interp::InterpError;
use flowlet_float::FloatError;

/// Why samples could not be drawn or scored.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ScoreError {
    /// The interpreter refused the inputs.
    Interpreter(InterpError),
    /// The f32 engine refused the inputs.
    Float(FloatError),
    /// The executor refused the inputs.
    Executor(RunError),
    /// An array file is not usable.
    Npy {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: NpyError,
    },
    /// An archive of arrays is not usable.
    Npz {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: NpzError,
    },
    /// A file could not be read.
    Io {
        /// The file.
        path: String,
        /// What the system said.
        message: String,
    },
    /// A model has not the form that scoring needs.
    Model {
        /// The model.
        name: String,
        /// What is expected.
        message: String,
    },
    /// Numbers that no distance can be computed from.
    Statistics(String),
}

impl std::fmt::Display for ScoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ScoreError::Interpreter(e) => e.fmt(f),
            ScoreError::Float(e) => e.fmt(f),
            ScoreError::Executor(e) => e.fmt(f),
            ScoreError::Npy { path, error } => write!(f, "{path}: {error}"),
            ScoreError::Npz { path, error } => write!(f, "{path}: {error}"),
            ScoreError::Io { path, message } => write!(f, "{path}: {message}"),
            ScoreError::Model { name, message } => write!(f, "model '{name}': {message}"),
            ScoreError::Statistics(m) => write!(f, "statistics: {m}"),
        }
    }
}

impl std::error::Error for ScoreError {}

impl From<InterpError> for ScoreError {
    fn from(e: InterpError) -> Self {
        ScoreError::Interpreter(e)
    }
}

impl From<FloatError> for ScoreError {
    fn from(e: FloatError) -> Self {
        ScoreError::Float(e)
    }
}

impl From<RunError> for ScoreError {
    fn from(e: RunError) -> Self {
        ScoreError::Executor(e)
    }
}
