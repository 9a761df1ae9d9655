//! Interprets a checked plan.

use crate::arena::ARENA_ALIGNMENT;
use crate::error::{Kind, Name, RunError};
use crate::kernels::{conv, step};
use crate::plan::{CheckedPlan, Graph, Plan, Port, RowKey, Step};
use crate::port;

/// Index inputs that an executor holds.
pub const MAX_INDICES: usize = 8;

/// Names an input, output or entry point of the plan, or gives its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'k> {
    /// By name.
    Name(&'k str),
    /// By position in the plan.
    Number(usize),
}

impl<'k> From<&'k str> for Key<'k> {
    fn from(name: &'k str) -> Self {
        Key::Name(name)
    }
}

impl From<usize> for Key<'_> {
    fn from(number: usize) -> Self {
        Key::Number(number)
    }
}

/// Whether an entry point has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// Call [`Executor::step`] again.
    Pending,
    /// The outputs are ready.
    Done,
}

/// A plan with memory to run in.
///
/// ```
/// # use flowlet::plan::*;
/// use flowlet::{Arena, Executor};
/// # let slot = |tensor| Slot { offset: 0, height: 1, width: 1, channels: 2, pitch: 2, dtype: DType::S8, tensor };
/// # let quant = Quant { scale: 0.5, zero_point: 0 };
/// # let port = |name, tensor| Port { name, slot: slot(tensor), quant, inverse_scale: 2.0, unit: "" };
/// # let mut negate = [0u8; 256];
/// # for q in -127i32..128 { negate[(q + 128) as usize] = -q as u8; }
/// # let steps = [Step::Map(Map { input: slot(0), output: slot(1), table: Some(&negate) })];
/// # let (inputs, outputs) = ([port("noise", 0)], [port("image", 1)]);
/// # let graphs = [Graph { name: "generate", first: 0, len: 1, iterations: 1 }];
/// # let plan = Plan { version: PLAN_VERSION, name: "negate", model_hash: [0; 32], arena_bytes: 2, state: None,
/// #     inputs: &inputs, indices: &[], outputs: &outputs, graphs: &graphs, steps: &steps,
/// #     exactness: Exactness::Exact }.check()?;
/// let mut arena = Arena::<2>::new(); // `plan` negates two numbers
/// let mut model = Executor::new(plan, arena.bytes())?;
/// model.write_f32("noise", &[1.0, -2.5])?;
/// model.run("generate")?;
/// let mut image = [0.0; 2];
/// model.read_f32("image", &mut image)?;
/// assert_eq!(image, [-1.0, 2.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Executor<'p, 'a> {
    plan: Plan<'p>,
    arena: &'a mut [i8],
    indices: [u16; MAX_INDICES],
    /// Bit `i`: the bytes of input `i` are what the caller wrote. Inputs after the last bit are not watched.
    written: u32,
    cursor: Option<Cursor>,
}

/// The next kernel call of the entry point under way.
#[derive(Clone, Copy, Debug)]
struct Cursor {
    graph: usize,
    iteration: u16,
    step: u16,
}

impl<'p, 'a> Executor<'p, 'a> {
    /// Places a plan in an arena, of which it uses the first `arena_bytes`.
    ///
    /// # Errors
    /// An arena that is too small or misaligned, and by how much; weights that no kernel here reads, and for which
    /// instruction set they are packed.
    pub fn new(plan: CheckedPlan<'p>, arena: &'a mut [i8]) -> Result<Self, RunError> {
        let plan = *plan.plan();
        let (need_bytes, have_bytes) = (plan.arena_bytes as usize, arena.len());
        let Some(arena) = arena.get_mut(..need_bytes) else {
            return Err(RunError::ArenaTooSmall { need_bytes, have_bytes });
        };
        let skip_bytes = arena.as_ptr().align_offset(ARENA_ALIGNMENT);
        if skip_bytes != 0 {
            return Err(RunError::ArenaMisaligned { skip_bytes });
        }
        if plan.indices.len() > MAX_INDICES {
            return Err(RunError::TooManyIndices { have: plan.indices.len() });
        }
        for (number, step) in plan.steps.iter().enumerate() {
            if step.packing().is_some_and(|packing| !conv::is_readable(packing)) {
                return Err(RunError::NoKernel { isa: step.isa(), step: number });
            }
        }
        Ok(Self { plan, arena, indices: [0; MAX_INDICES], written: 0, cursor: None })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan<'p> {
        &self.plan
    }

    /// Sets an index input (a class label); it keeps its value until set again, and starts at 0.
    ///
    /// # Errors
    /// A value out of range, with the range, or an unknown input.
    pub fn set_index<'k>(&mut self, index: impl Into<Key<'k>>, value: u16) -> Result<(), RunError> {
        self.check_idle()?;
        let number = find(Kind::Index, index.into(), self.plan.indices, |index| index.name)?;
        let index = &self.plan.indices[number];
        if value >= index.count {
            return Err(RunError::IndexOutOfRange { name: Name::new(index.name), value, count: index.count });
        }
        self.indices[number] = value;
        Ok(())
    }

    /// The quantised values of an input, to be written in place.
    ///
    /// # Errors
    /// An unknown input, or one that is not a single slice of s8.
    pub fn input_mut<'k>(&mut self, input: impl Into<Key<'k>>) -> Result<&mut [i8], RunError> {
        let number = self.find_input(input.into())?;
        self.mark_written(number);
        port::borrow_mut(self.arena, &self.plan.inputs[number])
    }

    /// Quantises real numbers into an input, in NHWC order.
    ///
    /// # Errors
    /// An unknown input, a wrong number of values, or one that is NaN or infinite, with its position.
    pub fn write_f32<'k>(&mut self, input: impl Into<Key<'k>>, values: &[f32]) -> Result<(), RunError> {
        let number = self.find_input(input.into())?;
        port::write_f32(self.arena, &self.plan.inputs[number], values)?;
        self.mark_written(number);
        Ok(())
    }

    /// Copies quantised values into an input, in NHWC order.
    ///
    /// # Errors
    /// An unknown input, a wrong number of values, or an input that does not hold s8.
    pub fn write_s8<'k>(&mut self, input: impl Into<Key<'k>>, values: &[i8]) -> Result<(), RunError> {
        let number = self.find_input(input.into())?;
        port::write_s8(self.arena, &self.plan.inputs[number], values)?;
        self.mark_written(number);
        Ok(())
    }

    /// Fills an input with standard normal noise; the stream is the input's number.
    ///
    /// # Errors
    /// An unknown input.
    pub fn fill_noise<'k>(&mut self, input: impl Into<Key<'k>>, seed: u64) -> Result<(), RunError> {
        let number = self.find_input(input.into())?;
        port::fill_noise(self.arena, &self.plan.inputs[number], seed, number as u32)?;
        self.mark_written(number);
        Ok(())
    }

    /// Runs an entry point to its end.
    ///
    /// # Errors
    /// An unknown entry point, or one that reads an input which was not written.
    pub fn run<'k>(&mut self, graph: impl Into<Key<'k>>) -> Result<(), RunError> {
        self.begin(graph)?;
        while self.step() == Progress::Pending {}
        Ok(())
    }

    /// Starts an entry point, to be continued by [`Self::step`].
    ///
    /// # Errors
    /// As [`Self::run`], or if another one is under way.
    pub fn begin<'k>(&mut self, graph: impl Into<Key<'k>>) -> Result<(), RunError> {
        self.check_idle()?;
        let graph = find(Kind::Graph, graph.into(), self.plan.graphs, |graph| graph.name)?;
        let steps = self.steps_of(graph);
        for (number, input) in self.plan.inputs.iter().enumerate().take(32) {
            let read = steps.iter().any(|s| s.inputs().into_iter().flatten().any(|t| t.tensor == input.slot.tensor));
            if read && self.written & 1 << number == 0 {
                return Err(RunError::InputNotWritten { name: Name::new(input.name) });
            }
        }
        // From here on the steps use the memory of inputs that they no longer need.
        for (number, input) in self.plan.inputs.iter().enumerate().take(32) {
            let kept = |s: &Step<'_>| {
                (s.output().tensor == input.slot.tensor || !s.output().overlaps(&input.slot))
                    && !s.scratch().is_some_and(|scratch| scratch.overlaps(&input.slot))
            };
            if !steps.iter().all(kept) {
                self.written &= !(1 << number);
            }
        }
        self.cursor = (!steps.is_empty()).then_some(Cursor { graph, iteration: 0, step: 0 });
        Ok(())
    }

    /// Runs an entry point to its end on several threads: the same bytes as [`Self::run`].
    ///
    /// # Errors
    /// As [`Self::run`].
    #[cfg(feature = "std")]
    pub fn run_on<'k>(&mut self, threads: &crate::Threads, graph: impl Into<Key<'k>>) -> Result<(), RunError> {
        self.begin(graph)?;
        let Some(Cursor { graph, .. }) = self.cursor else { return Ok(()) };
        let mut pass = threads.pass(self.steps_of(graph), self.plan.graphs[graph].iterations.into());
        while self.advance(|arena, step, row| pass.run(arena, step, row)) == Progress::Pending {}
        Ok(())
    }

    /// Runs one kernel of the entry point under way, or nothing if there is none.
    pub fn step(&mut self) -> Progress {
        self.advance(step::run)
    }

    fn advance(&mut self, run: impl FnOnce(&mut [i8], &Step<'_>, usize)) -> Progress {
        let Some(mut at) = self.cursor else { return Progress::Done };
        let graph = self.plan.graphs[at.graph];
        let step = &self.plan.steps[usize::from(graph.first) + usize::from(at.step)];
        let row = step.bank().map_or(0, |(key, _)| self.row(key, at));
        run(self.arena, step, row);
        at.step += 1;
        if at.step == graph.len {
            at.step = 0;
            at.iteration += 1;
        }
        self.cursor = (at.iteration < graph.iterations).then_some(at);
        if self.cursor.is_some() { Progress::Pending } else { Progress::Done }
    }

    /// The row of a bias bank that a step reads now.
    fn row(&self, key: RowKey, at: Cursor) -> usize {
        usize::from(match key {
            RowKey::Fixed => 0,
            RowKey::Index(number) => self.indices[usize::from(number) % MAX_INDICES],
            RowKey::Iteration => at.iteration,
        })
    }

    /// Abandons the entry point under way; its outputs are unspecified.
    pub fn cancel(&mut self) {
        self.cursor = None;
    }

    /// The quantised values of an output, in NHWC order.
    ///
    /// # Errors
    /// An unknown output, or one that is not a single slice of s8.
    pub fn output<'k>(&self, output: impl Into<Key<'k>>) -> Result<&[i8], RunError> {
        port::borrow(self.arena, self.find_output(output.into())?)
    }

    /// Copies the quantised values of an output, whatever its pitch.
    ///
    /// # Errors
    /// An unknown output, a wrong number of values, or an output that does not hold s8.
    pub fn read_s8<'k>(&self, output: impl Into<Key<'k>>, values: &mut [i8]) -> Result<(), RunError> {
        port::read_s8(self.arena, self.find_output(output.into())?, values)
    }

    /// Reads an output as real numbers, in NHWC order.
    ///
    /// # Errors
    /// An unknown output, or a wrong number of values.
    pub fn read_f32<'k>(&self, output: impl Into<Key<'k>>, values: &mut [f32]) -> Result<(), RunError> {
        port::read_f32(self.arena, self.find_output(output.into())?, values)
    }

    /// The bytes of the arena that the plan uses, for inspection between steps.
    pub fn arena(&self) -> &[i8] {
        self.arena
    }

    fn steps_of(&self, graph: usize) -> &'p [Step<'p>] {
        let Graph { first, len, .. } = self.plan.graphs[graph];
        &self.plan.steps[usize::from(first)..usize::from(first) + usize::from(len)]
    }

    fn find_input(&self, input: Key<'_>) -> Result<usize, RunError> {
        self.check_idle()?;
        find(Kind::Input, input, self.plan.inputs, |port| port.name)
    }

    fn find_output(&self, output: Key<'_>) -> Result<&Port<'p>, RunError> {
        self.check_idle()?;
        Ok(&self.plan.outputs[find(Kind::Output, output, self.plan.outputs, |port| port.name)?])
    }

    fn mark_written(&mut self, input: usize) {
        self.written |= u32::checked_shl(1, input as u32).unwrap_or(0);
    }

    fn check_idle(&self) -> Result<(), RunError> {
        if self.cursor.is_some() { Err(RunError::Running) } else { Ok(()) }
    }
}

pub(crate) fn find<'t, T>(
    kind: Kind,
    key: Key<'_>,
    items: &'t [T],
    name: impl Fn(&'t T) -> &'t str,
) -> Result<usize, RunError> {
    match key {
        Key::Name(wanted) => items
            .iter()
            .position(|item| name(item) == wanted)
            .ok_or(RunError::Unknown { kind, name: Name::new(wanted) }),
        Key::Number(number) if number < items.len() => Ok(number),
        Key::Number(number) => Err(RunError::Unknown { kind, name: Name::decimal(number) }),
    }
}
