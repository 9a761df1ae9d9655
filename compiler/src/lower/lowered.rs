//! The owned result of lowering.

use super::{Kernel, MemoryReport, Section, WeightsPart};
use crate::ir::Remark;
use crate::target::Target;
use flowlet_plan::{Exactness, Graph, Index, PLAN_VERSION, Plan, Port, Quant, RowKey, Slot, Step};

/// A model lowered for one target: everything that code generation and the executor need.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Model name.
    pub name: String,
    /// SHA-256 of the `.flq`.
    pub model_hash: [u8; 32],
    /// What it was lowered for.
    pub target: Target,
    /// Number of constants in the graph, for people.
    pub parameters: usize,
    /// Tensor inputs.
    pub inputs: Vec<LoweredPort>,
    /// Index inputs: name and number of values.
    pub indices: Vec<(String, u16)>,
    /// Tensor outputs.
    pub outputs: Vec<LoweredPort>,
    /// Steps in order.
    pub steps: Vec<LoweredStep>,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Every constant of the plan, in the order of [`Lowered::constants`].
    pub weights: Vec<u8>,
    /// What each section of the weights holds.
    pub constants: Vec<(String, Section)>,
    /// Where the tensors lie.
    pub memory: MemoryReport,
    /// The memory of the target that holds the arena; `None` where the target names none.
    pub arena_memory: Option<String>,
    /// The memories that hold the weights, in the order of their bytes; none where the target names none.
    pub weights_parts: Vec<WeightsPart>,
    /// Facts that the graph carries.
    pub meta: Vec<(String, String)>,
    /// What lowering could not do for free, and why.
    pub remarks: Vec<Remark>,
}

/// A named tensor at the edge of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct LoweredPort {
    /// Name of the input or output.
    pub name: String,
    /// Where it lies; always one run of bytes.
    pub slot: Slot,
    /// How its values map to reals.
    pub quant: Quant,
    /// Unit of the real values, or empty.
    pub unit: String,
}

impl LoweredPort {
    /// The port as the plan holds it.
    pub fn borrow(&self) -> Port<'_> {
        let inverse_scale = 1.0 / self.quant.scale;
        Port { name: &self.name, slot: self.slot, quant: self.quant, inverse_scale, unit: &self.unit }
    }
}

/// One kernel call.
#[derive(Clone, Debug, PartialEq)]
pub struct LoweredStep {
    /// The kernel and its constants.
    pub kernel: Kernel,
    /// Tensors that it reads: the input, then a residual or second operand.
    pub inputs: Vec<Slot>,
    /// The tensor that it writes.
    pub output: Slot,
    /// Memory that it uses while it runs.
    pub scratch: Option<Slot>,
    /// Name of the value that it computes.
    pub name: String,
    /// ONNX name of the node that it came from.
    pub origin: String,
    /// The node in the graph's text form.
    pub text: String,
}

impl LoweredStep {
    /// The step as the plan holds it, with constants from `weights`.
    pub fn bind<'a>(&self, weights: &'a [u8]) -> Option<Step<'a>> {
        self.kernel.bind(&self.inputs, self.output, self.scratch, weights)
    }
}

impl Lowered {
    /// Name of the only entry point.
    pub const ENTRY: &'static str = "generate";

    /// Calls `f` with the plan.
    pub fn with_plan<R>(&self, f: impl FnOnce(Plan<'_>) -> R) -> R {
        f(self.plan().borrow())
    }

    /// The plan, with constants borrowed from `self`.
    pub fn plan(&self) -> OwnedPlan<'_> {
        OwnedPlan {
            lowered: self,
            inputs: self.inputs.iter().map(LoweredPort::borrow).collect(),
            indices: self.indices.iter().map(|(name, count)| Index { name, count: *count }).collect(),
            outputs: self.outputs.iter().map(LoweredPort::borrow).collect(),
            graphs: [Graph { name: Self::ENTRY, first: 0, len: self.steps.len() as u16, iterations: 1 }],
            steps: self.steps.iter().filter_map(|s| s.bind(&self.weights)).collect(),
        }
    }

    /// Multiply-accumulates of one pass.
    pub fn macs(&self) -> u64 {
        self.with_plan(|plan| plan.macs())
    }

    /// Bytes that one more row of the tables takes: one more label, or one more time of a program.
    pub fn row_bytes(&self) -> usize {
        self.with_plan(|plan| {
            let bank = |step: &Step<'_>| match step {
                Step::Conv(s) if s.epilogue.row != RowKey::Fixed => s.epilogue.bias.len() / s.epilogue.rows().max(1),
                Step::ConvTranspose(s) if s.epilogue.row != RowKey::Fixed => s.epilogue.bias.len() / s.rows().max(1),
                Step::Conv(_)
                | Step::ConvTranspose(_)
                | Step::MatMul(_)
                | Step::Add(_)
                | Step::Mul(_)
                | Step::Map(_)
                | Step::Softmax(_)
                | Step::Norm(_)
                | Step::Pool(_)
                | Step::Shuffle(_)
                | Step::Transpose(_) => 0,
            };
            plan.steps.iter().map(bank).sum()
        })
    }

    /// The fact stored under `key`.
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.meta.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }
}

/// A plan that borrows its constants and owns its lists.
#[derive(Clone, Debug)]
pub struct OwnedPlan<'a> {
    lowered: &'a Lowered,
    inputs: Vec<Port<'a>>,
    indices: Vec<Index<'a>>,
    outputs: Vec<Port<'a>>,
    graphs: [Graph<'a>; 1],
    steps: Vec<Step<'a>>,
}

impl OwnedPlan<'_> {
    /// The plan as the runtime takes it.
    pub fn borrow(&self) -> Plan<'_> {
        Plan {
            version: PLAN_VERSION,
            name: &self.lowered.name,
            model_hash: self.lowered.model_hash,
            arena_bytes: self.lowered.arena_bytes as u32,
            state: None,
            inputs: &self.inputs,
            indices: &self.indices,
            outputs: &self.outputs,
            graphs: &self.graphs,
            steps: &self.steps,
            exactness: Exactness::Exact,
        }
    }
}
