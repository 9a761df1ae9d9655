//! The proof that a plan is safe to run, evaluated at compile time for generated code.

use crate::plan::{PLAN_VERSION, Plan};
use crate::slot::Slot;
use crate::step::RowKey;

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
    /// Two inputs share bytes, so that writing one destroys the other.
    PortOverlap {
        /// Position among the inputs.
        port: usize,
        /// The other one.
        other: usize,
    },
    /// The carried state leaves the arena, or an input or another tensor uses its bytes.
    State,
    /// A slot leaves the arena, shapes disagree, or a constant has the wrong length.
    StepOutOfBounds {
        /// Position of the step.
        step: usize,
    },
    /// A step reads a tensor of which no input, state or earlier steps have written every element.
    ReadBeforeWrite {
        /// Position of the step.
        step: usize,
    },
    /// A step overwrites bytes that a later step (or an output port, or a later round or call) still reads.
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
    /// A step writes over another part of the tensor that it writes: two channel ranges of a concatenation collide.
    Collision {
        /// Position of the step.
        step: usize,
    },
    /// A step's scratch memory overlaps a tensor that the step reads or writes.
    Scratch {
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
            PlanError::PortOverlap { port, other } => write!(f, "inputs {port} and {other} share bytes of the arena"),
            PlanError::State => write!(f, "the carried state leaves the arena, or something else uses its bytes"),
            PlanError::StepOutOfBounds { step } => {
                write!(f, "step {step}: a slot leaves the arena, shapes disagree, or a constant has the wrong length")
            }
            PlanError::ReadBeforeWrite { step } => {
                write!(f, "step {step} reads a tensor that was not written, or not all of it")
            }
            PlanError::LiveOverlap { step, writer } => {
                write!(f, "step {writer} overwrites a tensor that step {step} still reads")
            }
            PlanError::InPlace { step } => write!(f, "step {step} writes over its own input"),
            PlanError::Collision { step } => {
                write!(f, "step {step} writes over another part of the tensor that it writes")
            }
            PlanError::Scratch { step } => {
                write!(f, "the scratch memory of step {step} overlaps a tensor that the step uses")
            }
            PlanError::Rows { step } => {
                write!(f, "step {step}: the bias bank does not match the input that selects its row")
            }
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
        if !self.state_is_private() {
            return Err(PlanError::State);
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
            let mut other = 0;
            while p < self.inputs.len() && other < p {
                if self.inputs[other].slot.overlaps(&port.slot) {
                    return Err(PlanError::PortOverlap { port: other, other: p });
                }
                other += 1;
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
                let apart = if slot.tensor == step.output().tensor {
                    disjoint_channels(slot, step.output())
                } else {
                    !slot.overlaps(step.output())
                };
                let in_place = step.in_place(k) && slot.same_place(step.output());
                if !(apart || in_place) {
                    return Err(PlanError::InPlace { step: i });
                }
            }
            k += 1;
        }
        let mut j = 0;
        while j < i {
            let (earlier, output) = (self.steps[j].output(), step.output());
            if earlier.tensor == output.tensor && !earlier.same_place(output) && !disjoint_channels(earlier, output) {
                return Err(PlanError::Collision { step: i });
            }
            j += 1;
        }
        if let Err(error) = self.check_scratch(i) {
            return Err(error);
        }
        let Some((row, rows)) = step.bank() else { return Ok(()) };
        let needed = match row {
            RowKey::Fixed => 1,
            RowKey::Index(n) => {
                if n as usize >= self.indices.len() {
                    return Err(PlanError::Rows { step: i });
                }
                self.indices[n as usize].count as usize
            }
            RowKey::Iteration => self.iterations_of(i),
        };
        if rows < needed || needed == 0 {
            return Err(PlanError::Rows { step: i });
        }
        Ok(())
    }

    /// A step's scratch touches nothing that the step reads or writes.
    const fn check_scratch(&self, i: usize) -> Result<(), PlanError> {
        let step = &self.steps[i];
        let Some(scratch) = step.scratch() else { return Ok(()) };
        if scratch.overlaps(step.output()) {
            return Err(PlanError::Scratch { step: i });
        }
        let inputs = step.inputs();
        let mut k = 0;
        while k < inputs.len() {
            if let Some(slot) = inputs[k]
                && scratch.overlaps(slot)
            {
                return Err(PlanError::Scratch { step: i });
            }
            k += 1;
        }
        Ok(())
    }

    /// Rounds that the step takes part in: the most of all entry points that contain it.
    const fn iterations_of(&self, step: usize) -> usize {
        let (mut g, mut most) = (0, 1);
        while g < self.graphs.len() {
            if self.contains(g, step) && self.graphs[g].iterations as usize > most {
                most = self.graphs[g].iterations as usize;
            }
            g += 1;
        }
        most
    }

    const fn contains(&self, graph: usize, step: usize) -> bool {
        let first = self.graphs[graph].first as usize;
        step >= first && step < first + self.graphs[graph].len as usize
    }

    /// `slot` is read at position `at`: every element of it was written, and no other tensor over it since.
    const fn check_read(&self, at: usize, slot: &Slot) -> Result<(), PlanError> {
        let mut since = 0;
        while since < at && self.steps[since].output().tensor != slot.tensor {
            since += 1;
        }
        let external = self.is_external(slot);
        if !self.is_covered(at, slot) {
            return Err(PlanError::ReadBeforeWrite { step: at });
        }
        // What the caller or an earlier call wrote is live from the start.
        let written = !external && since < at;
        let mut j = 0;
        while j < self.steps.len() {
            let other = self.steps[j].output();
            let scratched = match self.steps[j].scratch() {
                Some(scratch) => scratch.overlaps(slot),
                None => false,
            };
            if scratched || other.tensor != slot.tensor && other.overlaps(slot) {
                let between = j < at && (!written || j > since);
                if between || self.runs_between(since, written, j, at) {
                    return Err(PlanError::LiveOverlap { step: at, writer: j });
                }
            }
            j += 1;
        }
        Ok(())
    }

    /// Whether step `j` can run after step `since` (or the caller, if not `written`) has written a tensor and before
    /// step `at` reads it, because an entry point repeats or because entry points are called in any order.
    const fn runs_between(&self, since: usize, written: bool, j: usize, at: usize) -> bool {
        let mut g = 0;
        while g < self.graphs.len() {
            if self.contains(g, at) && !(written && self.contains(g, since)) {
                let repeats = self.graphs[g].iterations > 1 && self.contains(g, j);
                // A tensor that one entry point leaves for others: only what runs before its writer may use its bytes.
                let held = written && (j > since || !self.share_graph(since, j));
                if repeats || held {
                    return true;
                }
            }
            g += 1;
        }
        false
    }

    const fn share_graph(&self, a: usize, b: usize) -> bool {
        let mut g = 0;
        while g < self.graphs.len() {
            if self.contains(g, a) && self.contains(g, b) {
                return true;
            }
            g += 1;
        }
        false
    }

    /// What the caller, the last call and the first steps write: inputs, then the state, then outputs of steps.
    const fn written(&self, k: usize) -> Option<&Slot> {
        let inputs = self.inputs.len();
        if k < inputs {
            Some(&self.inputs[k].slot)
        } else if k == inputs {
            self.state.as_ref()
        } else {
            Some(self.steps[k - inputs - 1].output())
        }
    }

    /// Whether every element of `slot` was written before step `at`: by one writer, or by several as channel ranges.
    const fn is_covered(&self, at: usize, slot: &Slot) -> bool {
        let count = self.inputs.len() + 1 + at;
        let (mut byte, mut pitch) = (slot.offset as usize, 0);
        let mut k = 0;
        while k < count {
            if let Some(w) = self.written(k)
                && w.tensor == slot.tensor
                && w.dtype as u8 == slot.dtype as u8
            {
                if pitch == 0 {
                    pitch = w.pitch as usize;
                }
                let next = byte >= w.offset as usize && byte < w.end();
                if slot.is_contiguous() && w.is_contiguous() && next {
                    byte = w.end();
                    if byte >= slot.end() {
                        return true;
                    }
                    // What follows may have been written earlier.
                    k = 0;
                    continue;
                }
            }
            k += 1;
        }
        pitch > 0 && self.is_covered_by_ranges(count, slot, pitch)
    }

    /// [`Self::is_covered`] by channel ranges of one pitch and at least as many pixels; a flattened `slot` is seen with that pitch again.
    const fn is_covered_by_ranges(&self, count: usize, slot: &Slot, pitch: usize) -> bool {
        let size = slot.dtype.size_bytes();
        let (pixels, channels) = if slot.is_contiguous() && slot.elements().is_multiple_of(pitch) {
            (slot.elements() / pitch, pitch)
        } else {
            (slot.pixels(), slot.channels as usize)
        };
        let mut byte = slot.offset as usize;
        let end = byte + channels * size;
        let mut k = 0;
        while k < count {
            if let Some(w) = self.written(k)
                && w.tensor == slot.tensor
                && w.dtype as u8 == slot.dtype as u8
                && w.pitch as usize == pitch
                && byte >= w.offset as usize
            {
                // The slot may be some of the pixels of what was written.
                let inside = byte - w.offset as usize;
                let (pixel, channel) = (inside / (pitch * size), inside % (pitch * size));
                let range = w.channels as usize * size;
                if channel < range && pixel + pixels <= w.pixels() {
                    byte += range - channel;
                    if byte >= end {
                        return true;
                    }
                    k = 0;
                    continue;
                }
            }
            k += 1;
        }
        false
    }

    /// Whether the carried state is inside the arena and no input and no other tensor uses its bytes.
    const fn state_is_private(&self) -> bool {
        let Some(state) = &self.state else { return true };
        if !state.fits(self.arena_bytes as usize) {
            return false;
        }
        let mut i = 0;
        while i < self.steps.len() + self.inputs.len() {
            let other =
                if i < self.steps.len() { self.steps[i].output() } else { &self.inputs[i - self.steps.len()].slot };
            let scratched = i < self.steps.len()
                && match self.steps[i].scratch() {
                    Some(scratch) => scratch.overlaps(state),
                    None => false,
                };
            if scratched || other.tensor != state.tensor && other.overlaps(state) {
                return false;
            }
            i += 1;
        }
        true
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
