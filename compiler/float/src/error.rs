//! What can go wrong.

/// Why a network cannot be made or run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloatError {
    /// A node that this engine does not run; the interpreter does.
    Unsupported {
        /// The node's ONNX name.
        node: String,
        /// What about it.
        message: String,
    },
    /// An input has another length than the graph declares, holds what is not finite, or an index is out of range.
    Input {
        /// The input.
        name: String,
        /// What is wrong and what is expected.
        message: String,
    },
}

impl FloatError {
    pub(crate) fn unsupported(node: &str, message: impl Into<String>) -> Self {
        FloatError::Unsupported { node: node.to_owned(), message: message.into() }
    }

    pub(crate) fn input(name: &str, message: impl Into<String>) -> Self {
        FloatError::Input { name: name.to_owned(), message: message.into() }
    }
}

impl std::fmt::Display for FloatError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FloatError::Unsupported { node, message } => {
                write!(f, "node '{node}': {message}; the interpreter runs it")
            }
            FloatError::Input { name, message } => write!(f, "input '{name}': {message}"),
        }
    }
}

impl std::error::Error for FloatError {}
