//! The proof that a plan is safe to run, evaluated at compile time for generated code.

use crate::plan::{PLAN_VERSION, Plan};
use crate::slot::Slot;
use crate::step::{RowKey, Step};

/// Why a plan is refused. `step` is the position in [`Plan::steps`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// Written for another layout of the plan.
    Version {
        /// The version found.
        found: u16,
    },
    /// A port's slot leaves the arena or is misaligned.
    PortOutOfBounds {
        /// Position among the inputs, or among the outputs after them.
        port: usize,
    },
    /// A port's scale is not a positive finite number or disagrees with its reciprocal.
    PortScale {
        /// Position among the inputs, or among the outputs after them.
        port: usize,
    },
    /// A slot leaves the arena, shapes disagree, or a constant has the wrong length.
    StepOutOfBounds {
        /// Position of the step.
        step: usize,
    },
    /// A step reads a tensor that no input, state or earlier step has written.
    ReadBeforeWrite {
        /// Position of the step.
        step: usize,
    },
    /// A step overwrites bytes that a later step (or an output port) still reads.
    LiveOverlap {
        /// The step that reads (or `steps.len()` for an output port).
        step: usize,
        /// The step that overwrote.
        writer: usize,
    },
    /// A step writes over its own input in a way that its kernel does not allow.
    InPlace {
        /// Position of the step.
        step: usize,
    },
    /// A bias bank has fewer rows than the input that chooses among them has values, or that input does not exist.
    Rows {
        /// Position of the step.
        step: usize,
    },
    /// An entry point names steps that do not exist, or repeats zero times.
    GraphRange {
        /// Position among the graphs.
        graph: usize,
    },
    /// No entry point, no input or no output.
    Empty,
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            PlanError::Version { found } => write!(
                f,
                "plan version {found} cannot be run by this runtime, which runs version {PLAN_VERSION}: lower the .flq again with a matching compiler"
            ),
            PlanError::PortOutOfBounds { port } => write!(f, "port {port} does not lie inside the arena"),
            PlanError::PortScale { port } => write!(f, "port {port} has a scale that is not positive and finite"),
            PlanError::StepOutOfBounds { step } => write!(
                f,
                "step {step}: a slot leaves the arena, shapes disagree, or a constant has the wrong length"
            ),
            PlanError::ReadBeforeWrite { step } => write!(f, "step {step} reads a tensor that nothing has written"),
            PlanError::LiveOverlap { step, writer } => {
                write!(f, "step {writer} overwrites a tensor that step {step} still reads")
            }
            PlanError::InPlace { step } => write!(f, "step {step} writes over its own input"),
            PlanError::Rows { step } => write!(f, "step {step}: the bias bank does not match the input that selects its row"),
            PlanError::GraphRange { graph } => write!(f, "entry point {graph} names steps that do not exist"),
            PlanError::Empty => write!(f, "a plan needs an entry point, an input and an output"),
        }
    }
}

impl core::error::Error for PlanError {}

/// A plan that [`Plan::check`] has proved: the only form that can be executed.
#[derive(Clone, Copy, Debug)]
pub struct CheckedPlan<'a>(Plan<'a>);

impl<'a> CheckedPlan<'a> {
    /// The plan.
    pub const fn plan(&self) -> &Plan<'a> {
        &self.0
    }
}

impl<'a> Plan<'a> {
    /// Proves every slot in bounds, aligned, written before it is read and not overwritten while live, and every
    /// constant of the length that its kernel reads.
    ///
    /// # Errors
    /// The first violated rule, with the position of the step or port.
    pub const fn check(self) -> Result<CheckedPlan<'a>, PlanError> {
        if self.version != PLAN_VERSION {
            return Err(PlanError::Version { found: self.version });
        }
        if self.graphs.is_empty() || self.outputs.is_empty() || self.inputs.is_empty() {
            return Err(PlanError::Empty);
        }
        if let Err(error) = self.check_ports() {
            return Err(error);
        }
        let mut g = 0;
        while g < self.graphs.len() {
            let graph = &self.graphs[g];
            if graph.iterations == 0 || graph.first as usize + graph.len as usize > self.steps.len() {
                return Err(PlanError::GraphRange { graph: g });
            }
            g += 1;
        }
        let mut i = 0;
        while i < self.steps.len() {
            if let Err(error) = self.check_step(i) {
                return Err(error);
            }
            i += 1;
        }
        let mut o = 0;
        while o < self.outputs.len() {
            if let Err(error) = self.check_read(self.steps.len(), &self.outputs[o].slot) {
                return Err(error);
            }
            o += 1;
        }
        Ok(CheckedPlan(self))
    }

    const fn check_ports(&self) -> Result<(), PlanError> {
        let mut p = 0;
        while p < self.inputs.len() + self.outputs.len() {
            let port = if p < self.inputs.len() { &self.inputs[p] } else { &self.outputs[p - self.inputs.len()] };
            if !port.slot.fits(self.arena_bytes as usize) {
                return Err(PlanError::PortOutOfBounds { port: p });
            }
            let (scale, inverse) = (port.quant.scale, port.inverse_scale);
            let product = scale * inverse;
            if !(scale > 0.0 && scale < f32::INFINITY && product > 0.999 && product < 1.001) {
                return Err(PlanError::PortScale { port: p });
            }
            p += 1;
        }
        Ok(())
    }

    const fn check_step(&self, i: usize) -> Result<(), PlanError> {
        let step = &self.steps[i];
        if !step.fits(self.arena_bytes as usize) {
            return Err(PlanError::StepOutOfBounds { step: i });
        }
        let inputs = step.inputs();
        let mut k = 0;
        while k < inputs.len() {
            if let Some(slot) = inputs[k] {
                if let Err(error) = self.check_read(i, slot) {
                    return Err(error);
                }
                if slot.overlaps(step.output())
                    && slot.tensor != step.output().tensor
                    && !(step.in_place(k) && slot.same_place(step.output()))
                {
                    return Err(PlanError::InPlace { step: i });
                }
                if slot.tensor == step.output().tensor && !disjoint_channels(slot, step.output()) {
                    return Err(PlanError::InPlace { step: i });
                }
            }
            k += 1;
        }
        match step {
            Step::Conv(conv) => {
                let needed = match conv.row {
                    RowKey::Fixed => 1,
                    RowKey::Index(n) => {
                        if n as usize >= self.indices.len() {
                            return Err(PlanError::Rows { step: i });
                        }
                        self.indices[n as usize].count as usize
                    }
                    RowKey::Iteration => self.iterations_of(i),
                };
                if conv.rows() < needed || needed == 0 {
                    return Err(PlanError::Rows { step: i });
                }
                Ok(())
            }
            Step::Add(_) | Step::Map(_) | Step::Shuffle(_) => Ok(()),
        }
    }

    const fn iterations_of(&self, step: usize) -> usize {
        let mut g = 0;
        while g < self.graphs.len() {
            let graph = &self.graphs[g];
            if step >= graph.first as usize && step < graph.first as usize + graph.len as usize {
                return graph.iterations as usize;
            }
            g += 1;
        }
        1
    }

    /// `slot` is read at position `at`: some earlier write must have produced its tensor, and no other tensor may
    /// have been written over it since.
    const fn check_read(&self, at: usize, slot: &Slot) -> Result<(), PlanError> {
        let mut since = usize::MAX;
        let mut i = at;
        while i > 0 {
            i -= 1;
            if self.steps[i].output().tensor == slot.tensor {
                since = i;
            }
        }
        if since == usize::MAX {
            if !self.is_external(slot) {
                return Err(PlanError::ReadBeforeWrite { step: at });
            }
            since = 0;
        }
        let mut j = since;
        while j < at {
            let written = self.steps[j].output();
            if written.tensor != slot.tensor && written.overlaps(slot) {
                return Err(PlanError::LiveOverlap { step: at, writer: j });
            }
            j += 1;
        }
        Ok(())
    }

    const fn is_external(&self, slot: &Slot) -> bool {
        let mut p = 0;
        while p < self.inputs.len() {
            if self.inputs[p].slot.tensor == slot.tensor {
                return true;
            }
            p += 1;
        }
        match self.state {
            Some(state) => state.tensor == slot.tensor,
            None => false,
        }
    }
}

/// Two channel ranges of one concatenation that do not touch.
const fn disjoint_channels(a: &Slot, b: &Slot) -> bool {
    if !a.overlaps(b) {
        return true;
    }
    if a.pitch != b.pitch || a.dtype as u8 != b.dtype as u8 {
        return false;
    }
    let size = a.dtype.size_bytes();
    let (low, high) = if a.offset <= b.offset { (a, b) } else { (b, a) };
    let gap = (high.offset as usize - low.offset as usize) / size;
    gap >= low.channels as usize && gap + high.channels as usize <= a.pitch as usize
}
