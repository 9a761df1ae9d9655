//! What can be wrong with a model, told by the names that its author gave.

use std::fmt;

/// A node that has no translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// The node's ONNX name, or the name of its first output if it has none.
    pub name: String,
    /// The ONNX operator.
    pub op: String,
    /// Why, and what to do instead where that is known.
    pub reason: String,
}

impl fmt::Display for UnsupportedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node '{}' ({}): {}", self.name, self.op, self.reason)
    }
}

/// Why a model could not be imported.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ImportError {
    /// The bytes are not an ONNX model, or the file is cut short or damaged.
    NotOnnx {
        /// Where the file stops making sense, if that is known.
        offset: Option<usize>,
        /// What was found there.
        message: String,
    },
    /// A node or an output reads a tensor that nothing defines.
    Dangling {
        /// The reader.
        node: String,
        /// The tensor.
        tensor: String,
    },
    /// Nodes read each other's results in a circle.
    Cycle {
        /// The nodes on the circle, in the order in which they feed each other.
        nodes: Vec<String>,
    },
    /// The file is well formed and contradicts itself.
    Malformed {
        /// The node, tensor or graph.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// A constant holds NaN or an infinity.
    NonFinite {
        /// The initializer or constant node.
        tensor: String,
        /// Flat index of the first such element, in row-major order.
        index: usize,
        /// The element.
        value: f32,
    },
    /// An input has a dimension that the file leaves open.
    OpenDimension {
        /// The input.
        input: String,
        /// The axis.
        axis: usize,
        /// The symbol that stands for the dimension, if it has one.
        symbol: Option<String>,
        /// The value for `--shape` that would close it; open dimensions are filled with an example.
        example: String,
    },
    /// A shape was given that the model contradicts.
    Shape {
        /// The input.
        input: String,
        /// What does not fit.
        message: String,
    },
    /// Operators without a translation: all of them, not only the first.
    Unsupported {
        /// In the order of the graph.
        nodes: Vec<UnsupportedNode>,
    },
    /// The import library refused the model.
    Library {
        /// The node it was at, if it said so.
        node: Option<String>,
        /// Its own words, with the model's names.
        message: String,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::NotOnnx { offset: Some(at), message } => {
                write!(f, "not a complete ONNX file: {message} at byte {at}; export or copy the file again")
            }
            ImportError::NotOnnx { offset: None, message } => {
                write!(f, "not an ONNX file: {message}; export or copy the file again")
            }
            ImportError::Dangling { node, tensor } => write!(
                f,
                "node '{node}' reads the tensor '{tensor}', which no node, input or initializer defines; the file was \
                 edited or cut, export it again"
            ),
            ImportError::Cycle { nodes } => write!(
                f,
                "the nodes '{}' feed each other in a circle; a graph must be free of cycles, unroll the loop before \
                 the export",
                nodes.join("' -> '")
            ),
            ImportError::Malformed { name, message } => write!(f, "'{name}': {message}"),
            ImportError::NonFinite { tensor, index, value } => write!(
                f,
                "the constant '{tensor}' holds {value} at element {index}: the training diverged or the export went \
                 wrong; check the weights before exporting"
            ),
            ImportError::OpenDimension { input, axis, symbol, example } => {
                let name = symbol.as_ref().map_or("without a name".to_owned(), |s| format!("'{s}'"));
                write!(f, "input '{input}' has the open dimension {name} at axis {axis}: add --shape {input}={example}")
            }
            ImportError::Shape { input, message } => write!(f, "input '{input}': {message}"),
            ImportError::Unsupported { nodes } => {
                let plural = if nodes.len() == 1 { "node has" } else { "nodes have" };
                write!(f, "{} {plural} no translation:", nodes.len())?;
                nodes.iter().try_for_each(|n| write!(f, "\n  {n}"))
            }
            ImportError::Library { node: Some(node), message } => write!(f, "node '{node}': {message}"),
            ImportError::Library { node: None, message } => write!(f, "the model could not be read: {message}"),
        }
    }
}

impl std::error::Error for ImportError {}
