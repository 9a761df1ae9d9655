//! Why a graph cannot be lowered for a target.

use crate::ir::VerifyError;
use flowlet_plan::PlanError;

/// A memory of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Region {
    /// Read-only memory: weights.
    Flash,
    /// Working memory: the arena.
    Ram,
}

impl std::fmt::Display for Region {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Region::Flash => "flash",
            Region::Ram => "RAM",
        })
    }
}

/// Why a graph cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LowerError {
    /// The graph is not a valid quantised one.
    Invalid(VerifyError),
    /// A node or port that no kernel of the target computes.
    Unsupported {
        /// The ONNX name of the node, or the name of the port.
        node: String,
        /// The operation.
        op: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// The model is larger than the target's memory.
    Budget {
        /// Which memory.
        region: Region,
        /// Name of the target.
        target: String,
        /// What the model needs, without program and stack.
        need_bytes: usize,
        /// What the target has.
        have_bytes: usize,
        /// The largest constants or, for RAM, the tensors that live at the fullest moment; largest first.
        largest: Vec<(String, usize)>,
    },
    /// No memory of the part holds what must lie in one.
    Memories {
        /// Which kind of memory.
        region: Region,
        /// Name of the target.
        target: String,
        /// What the model needs, without program and stack.
        need_bytes: usize,
        /// Names of the memories of that kind with their sizes.
        memories: Vec<(String, usize)>,
        /// The largest constants or, for RAM, the tensors that live at the fullest moment; largest first.
        largest: Vec<(String, usize)>,
    },
    /// The plan that was built breaks one of its rules: a constant that no compiler writes, or a defect of this one.
    Plan(PlanError),
}

impl std::fmt::Display for LowerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LowerError::Invalid(e) => write!(f, "only a quantised graph can be lowered: {e}"),
            LowerError::Unsupported { node, op, reason } => write!(f, "node '{node}' ({op}): {reason}"),
            LowerError::Budget { region, target, need_bytes, have_bytes, largest } => {
                let list: Vec<String> = largest.iter().map(|(name, bytes)| format!("{name} ({bytes})")).collect();
                let what = match region {
                    Region::Flash => "weights need",
                    Region::Ram => "the arena needs",
                };
                write!(
                    f,
                    "the model does not fit {target}: {what} {need_bytes} bytes of {region} and the part has \
                     {have_bytes}, {} too few; the largest are {}",
                    need_bytes - have_bytes,
                    list.join(", ")
                )
            }
            LowerError::Memories { region, target, need_bytes, memories, largest } => {
                let list = |all: &[(String, usize)]| -> String {
                    all.iter().map(|(name, bytes)| format!("{name} ({bytes})")).collect::<Vec<_>>().join(", ")
                };
                let what = match region {
                    Region::Flash => "weights need",
                    Region::Ram => "the arena needs",
                };
                let there = match memories.is_empty() {
                    true => "the part has none".to_owned(),
                    false => format!("the part has {}", list(memories)),
                };
                write!(
                    f,
                    "the model does not fit {target}: {what} {need_bytes} bytes of {region} and {there}; the largest are {}",
                    list(largest)
                )
            }
            LowerError::Plan(e) => {
                write!(f, "the plan breaks a rule: {e}; if this compiler wrote the model, please report it")
            }
        }
    }
}

impl std::error::Error for LowerError {}

impl From<VerifyError> for LowerError {
    fn from(error: VerifyError) -> Self {
        LowerError::Invalid(error)
    }
}

impl From<PlanError> for LowerError {
    fn from(error: PlanError) -> Self {
        LowerError::Plan(error)
    }
}
