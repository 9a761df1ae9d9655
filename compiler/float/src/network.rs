//! A network that is ready to run.

use crate::error::FloatError;
use crate::finish::{Binary, Finish, apply};
use crate::kernels::conv::Conv;
use crate::kernels::elementwise::{Loops, Reduce, binary, reduce};
use crate::kernels::movement::{Run, copy};
use crate::kernels::norm::Norm;
use crate::kernels::pool::Pool;
use crate::kernels::product::Product;
use crate::kernels::softmax;
use crate::layout::{from_memory, to_memory};
use crate::memory::{Memory, Source, View};
use flowlet_kernels::Threads;
use flowlet_kernels::float::{Instructions, LANES, Lanes, Work};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// A graph compiled for this processor. It is shared by threads; each run needs a [`Memory`].
#[derive(Clone, Debug)]
pub struct Network {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    pub(crate) constants: Vec<Vec<f32>>,
    /// Lengths of the buffers.
    pub(crate) buffers: Vec<usize>,
    pub(crate) scratch: usize,
    pub(crate) inputs: Vec<Input>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) instructions: Instructions,
}

/// An input of the graph, in its order.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Tensor { name: String, dims: Vec<usize>, buffer: usize },
    Index { name: String, count: usize, slot: usize },
}

#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub dims: Vec<usize>,
    pub source: Source,
}

#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub kernel: Kernel,
    pub inputs: Vec<Source>,
    /// Buffer of the result; before memory is planned, its tensor.
    pub output: usize,
    pub elements: usize,
    /// What is done with the result at once.
    pub finish: Vec<Finish>,
    /// The ONNX name of the node.
    pub origin: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Kernel {
    /// Inputs: `x`, and a bias unless there is none.
    Conv {
        conv: Conv,
        bias: Bias,
    },
    /// Inputs: `x, [gamma, beta]`.
    Norm(Norm),
    /// Softmax along an axis of this size and distance in memory.
    Softmax {
        size: usize,
        stride: usize,
    },
    Product(Product),
    Binary {
        function: Binary,
        loops: Loops<2>,
    },
    Reduce {
        how: Reduce,
        loops: Loops<1>,
    },
    Pool(Pool),
    Move(Vec<Run>),
    /// Row of a table that an index input selects.
    Select {
        slot: usize,
    },
    /// The operand itself: what changes it follows in `finish`.
    Copy,
}

/// The bias of a linear layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bias {
    None,
    Fixed,
    /// The row that an index input selects.
    Row {
        slot: usize,
    },
}

/// What one step is and costs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepInfo {
    /// The ONNX name of the node that it began as.
    pub origin: String,
    /// The kind of kernel.
    pub kernel: &'static str,
    /// Multiply-accumulates of convolutions, linear layers and products.
    pub macs: usize,
    /// Numbers of the result.
    pub elements: usize,
    /// Elementwise operations that end it.
    pub finished_by: usize,
}

/// Calls what it is given with each number below the first argument.
type Share<'s> = dyn FnMut(usize, &(dyn Fn(usize) + Sync)) + 's;

/// Multiply-accumulates, or a tenth as many numbers of another step, from which a step is shared among threads.
const WORTH_SHARING: usize = 200_000;
/// The same of all steps, from which threads are woken.
const WORTH_WAKING: usize = 2_000_000;
const COST_OF_A_NUMBER: usize = 10;

impl Network {
    /// Memory to run in with up to `threads` threads.
    pub fn memory(&self, threads: usize) -> Memory {
        let indices = self.inputs.iter().filter(|i| matches!(i, Input::Index { .. })).count();
        Memory {
            buffers: self.buffers.iter().map(|&length| vec![0.0; length]).collect(),
            scratch: vec![vec![0.0; self.scratch]; threads.max(1)],
            indices: vec![0; indices],
        }
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The instructions it was made for.
    pub fn instructions(&self) -> Instructions {
        self.instructions
    }

    /// Bytes of weights and other constants.
    pub fn constant_bytes(&self) -> usize {
        let layers = self.steps.iter().map(|step| match &step.kernel {
            Kernel::Conv { conv, .. } => conv.weights.bytes(),
            _ => 0,
        });
        layers.sum::<usize>() + 4 * self.constants.iter().map(Vec::len).sum::<usize>()
    }

    /// Its steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = StepInfo> {
        self.steps.iter().map(|step| StepInfo {
            origin: step.origin.clone(),
            kernel: step.kernel.name(),
            macs: step.kernel.macs(),
            elements: step.elements,
            finished_by: step.finish.len(),
        })
    }

    /// Writes an input from numbers in ONNX order.
    ///
    /// # Errors
    /// A wrong number of them, one that is not finite, or an input that is an index.
    pub fn write(&self, memory: &mut Memory, input: usize, values: &[f32]) -> Result<(), FloatError> {
        match self.input(input)? {
            Input::Index { name, count, .. } => {
                Err(FloatError::input(name, format!("it takes an index below {count}, not real numbers")))
            }
            Input::Tensor { name, dims, buffer } => {
                let elements: usize = dims.iter().product();
                if values.len() != elements {
                    let message = format!("expected {elements} numbers of shape {dims:?}, found {}", values.len());
                    return Err(FloatError::input(name, message));
                }
                if let Some(i) = values.iter().position(|v| !v.is_finite()) {
                    return Err(FloatError::input(name, format!("element {i} is not a finite number")));
                }
                to_memory(dims, values, &mut memory.buffers[*buffer][..elements]);
                Ok(())
            }
        }
    }

    /// Sets an index input; it keeps its value until set again, and is 0 at first.
    ///
    /// # Errors
    /// A value out of range, or an input that takes numbers.
    pub fn set_index(&self, memory: &mut Memory, input: usize, value: usize) -> Result<(), FloatError> {
        match self.input(input)? {
            Input::Index { name, count, .. } if value >= *count => {
                Err(FloatError::input(name, format!("{value} is out of range; valid are 0 to {}", count - 1)))
            }
            Input::Index { slot, .. } => {
                memory.indices[*slot] = value;
                Ok(())
            }
            Input::Tensor { name, dims, .. } => {
                Err(FloatError::input(name, format!("it takes numbers of shape {dims:?}, not an index")))
            }
        }
    }

    fn input(&self, number: usize) -> Result<&Input, FloatError> {
        let count = self.inputs.len();
        self.inputs.get(number).ok_or_else(|| {
            FloatError::input(&number.to_string(), format!("there is no such input; the graph has {count}"))
        })
    }

    /// Number of outputs.
    pub fn output_count(&self) -> usize {
        self.outputs.len()
    }

    /// Dimensions of an output in ONNX order; `None` if there is none of this number.
    pub fn output_dims(&self, output: usize) -> Option<&[usize]> {
        self.outputs.get(output).map(|o| &o.dims[..])
    }

    /// Copies an output in ONNX order. Nothing is copied where the graph has no such output.
    ///
    /// # Panics
    /// When `values` has another length than the output.
    pub fn read(&self, memory: &Memory, output: usize, values: &mut [f32]) {
        if let Some(Output { dims, source }) = self.outputs.get(output) {
            let view = View { buffers: &memory.buffers, constants: &self.constants, indices: &memory.indices };
            from_memory(dims, &view.get(source)[..values.len()], values);
        }
    }

    /// Runs the network on this thread.
    pub fn run(&self, memory: &mut Memory) {
        for step in &self.steps {
            self.step(step, memory, 1, &mut |_, work| work(0));
        }
    }

    /// Runs the network on several threads: the same numbers as [`Self::run`].
    pub fn run_on(&self, memory: &mut Memory, threads: &Threads) {
        let cost: usize = self.steps.iter().map(Step::cost).sum();
        let mut pass = threads.pass_if(cost >= WORTH_WAKING);
        for step in &self.steps {
            let count = if step.cost() >= WORTH_SHARING { pass.count().min(memory.scratch.len()) } else { 1 };
            self.step(step, memory, count, &mut |parts, work| pass.share(parts, work));
        }
    }

    /// The shortest time of each step on this thread in several runs, in microseconds.
    pub fn profile(&self, memory: &mut Memory, runs: usize) -> Vec<(StepInfo, f64)> {
        let mut shortest = vec![f64::INFINITY; self.steps.len()];
        for _ in 0..runs {
            for (step, shortest) in self.steps.iter().zip(&mut shortest) {
                let start = Instant::now();
                self.step(step, memory, 1, &mut |_, work| work(0));
                *shortest = shortest.min(start.elapsed().as_secs_f64() * 1e6);
            }
        }
        self.steps().zip(shortest).collect()
    }

    /// Runs a step in at most `count` parts, which `share` calls.
    fn step(&self, step: &Step, memory: &mut Memory, count: usize, share: &mut Share<'_>) {
        // The result leaves its buffer's place, so that all others can be read.
        let mut out = std::mem::take(&mut memory.buffers[step.output]);
        let Memory { buffers, scratch, indices } = memory;
        let view = View { buffers, constants: &self.constants, indices };
        let (rows, width) = step.rows();
        let result = &mut out[..step.elements];
        let chunk = rows.div_ceil(count).next_multiple_of(step.kernel.granule()).min(rows);
        if chunk == rows {
            self.rows(step, &view, 0..rows, result, &mut scratch[0]);
        } else {
            let parts = rows.div_ceil(chunk);
            let next = Mutex::new(result.chunks_mut(chunk * width).zip(scratch.iter_mut()).enumerate());
            share(parts, &|_| {
                let part = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                if let Some((i, (out, scratch))) = part {
                    self.rows(step, &view, i * chunk..rows.min((i + 1) * chunk), out, scratch);
                }
            });
        }
        memory.buffers[step.output] = out;
    }

    /// Computes rows of a step's result.
    fn rows(&self, step: &Step, view: &View<'_>, rows: Range<usize>, out: &mut [f32], scratch: &mut [f32]) {
        let run = self.instructions;
        let operand = |i: usize| step.inputs.get(i).map_or(&[][..], |source| view.get(source));
        let first = rows.start * step.rows().1;
        match &step.kernel {
            Kernel::Conv { conv, bias } => {
                let bias = match bias {
                    Bias::None => None,
                    Bias::Fixed => Some(&operand(1)[..conv.outputs]),
                    Bias::Row { slot } => Some(&operand(1)[view.indices[*slot] * conv.outputs..][..conv.outputs]),
                };
                run.run(ConvWork { conv, input: operand(0), bias, rows, out: &mut *out, scratch });
            }
            Kernel::Norm(norm) => {
                let x = &operand(0)[first..first + out.len()];
                let affine = (step.inputs.len() == 3).then(|| [operand(1), operand(2)]);
                run.run(NormWork { norm, x, affine, out: &mut *out, scratch });
            }
            Kernel::Softmax { size, stride } => {
                out.copy_from_slice(&operand(0)[first..first + out.len()]);
                if *stride == 1 {
                    run.run(SoftmaxWork { size: *size, out: &mut *out });
                } else {
                    softmax::strided(*size, *stride, out);
                }
            }
            Kernel::Product(product) => {
                let operands = [operand(0), operand(1)];
                run.run(ProductWork { product, operands, rows, first, out: &mut *out, scratch });
            }
            Kernel::Binary { function, loops } => {
                let operands = [operand(0), operand(1)];
                run.run(BinaryWork { function: *function, loops, operands, out: &mut *out });
            }
            Kernel::Reduce { how, loops } => {
                let x = operand(0);
                let elements = loops.lengths.iter().product();
                run.run(ReduceWork { how: *how, loops, x: &x[..elements], out: &mut *out });
            }
            Kernel::Pool(pool) => run.run(PoolWork { pool, x: operand(0), rows, out: &mut *out }),
            Kernel::Move(runs) => copy(runs, operand, out),
            Kernel::Select { slot } => {
                let start = view.indices[*slot] * out.len();
                out.copy_from_slice(&operand(0)[start..start + out.len()]);
            }
            Kernel::Copy => out.copy_from_slice(&operand(0)[first..first + out.len()]),
        }
        if !step.finish.is_empty() {
            run.run(FinishWork { operations: &step.finish, view, first, out });
        }
    }
}

impl Kernel {
    fn name(&self) -> &'static str {
        match self {
            Kernel::Conv { .. } => "conv",
            Kernel::Norm(_) => "norm",
            Kernel::Softmax { .. } => "softmax",
            Kernel::Product(_) => "product",
            Kernel::Binary { .. } => "binary",
            Kernel::Reduce { .. } => "reduce",
            Kernel::Pool(_) => "pool",
            Kernel::Move(_) => "move",
            Kernel::Select { .. } => "select",
            Kernel::Copy => "elementwise",
        }
    }

    fn macs(&self) -> usize {
        match self {
            Kernel::Conv { conv, .. } => conv.macs(),
            Kernel::Product(product) => product.macs(),
            _ => 0,
        }
    }

    /// Rows of a part are a multiple of it.
    fn granule(&self) -> usize {
        match self {
            Kernel::Conv { .. } => 12,
            Kernel::Copy => LANES,
            _ => 1,
        }
    }
}

impl Step {
    fn cost(&self) -> usize {
        self.kernel.macs() + COST_OF_A_NUMBER * self.elements * (1 + self.finish.len())
    }

    /// Rows that can be computed apart, and how many numbers each has.
    fn rows(&self) -> (usize, usize) {
        let rows = match &self.kernel {
            Kernel::Conv { conv, .. } if conv.windows.order.is_none() => conv.pixels(),
            Kernel::Norm(norm) if norm.has_rows() => norm.samples * norm.pixels,
            Kernel::Softmax { size, stride: 1 } => self.elements / size,
            Kernel::Product(product) => product.parts(),
            Kernel::Pool(pool) => pool.windows.offsets.len() / pool.windows.taps,
            Kernel::Copy => self.elements,
            Kernel::Conv { .. }
            | Kernel::Norm(_)
            | Kernel::Softmax { .. }
            | Kernel::Binary { .. }
            | Kernel::Reduce { .. }
            | Kernel::Move(_)
            | Kernel::Select { .. } => 1,
        };
        (rows.max(1), self.elements / rows.max(1))
    }
}

struct ConvWork<'w> {
    conv: &'w Conv,
    input: &'w [f32],
    bias: Option<&'w [f32]>,
    rows: Range<usize>,
    out: &'w mut [f32],
    scratch: &'w mut [f32],
}

impl Work for ConvWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        // A layer whose pixels are not in order is one row of `Step::rows`, and computes all of them.
        let rows = if self.conv.windows.order.is_some() { 0..self.conv.pixels() } else { self.rows };
        self.conv.run(lanes, self.input, self.bias, rows, self.out, self.scratch);
    }
}

struct NormWork<'w> {
    norm: &'w Norm,
    x: &'w [f32],
    affine: Option<[&'w [f32]; 2]>,
    out: &'w mut [f32],
    scratch: &'w mut [f32],
}

impl Work for NormWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        self.norm.run(lanes, self.x, self.affine, self.out, self.scratch);
    }
}

struct SoftmaxWork<'w> {
    size: usize,
    out: &'w mut [f32],
}

impl Work for SoftmaxWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        softmax::rows(lanes, self.size, self.out);
    }
}

struct ProductWork<'w> {
    product: &'w Product,
    operands: [&'w [f32]; 2],
    rows: Range<usize>,
    first: usize,
    out: &'w mut [f32],
    scratch: &'w mut [f32],
}

impl Work for ProductWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let (matrices, rows) = self.product.part(self.rows);
        self.product.run(lanes, self.operands, matrices, rows, (self.first, self.out), self.scratch);
    }
}

struct BinaryWork<'w> {
    function: Binary,
    loops: &'w Loops<2>,
    operands: [&'w [f32]; 2],
    out: &'w mut [f32],
}

impl Work for BinaryWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        binary(lanes, self.loops, self.function, self.operands, self.out);
    }
}

struct ReduceWork<'w> {
    how: Reduce,
    loops: &'w Loops<1>,
    x: &'w [f32],
    out: &'w mut [f32],
}

impl Work for ReduceWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        reduce(lanes, self.loops, self.how, self.x, self.out);
    }
}

struct PoolWork<'w> {
    pool: &'w Pool,
    x: &'w [f32],
    rows: Range<usize>,
    out: &'w mut [f32],
}

impl Work for PoolWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        self.pool.run(lanes, self.x, self.rows, self.out);
    }
}

struct FinishWork<'w> {
    operations: &'w [Finish],
    view: &'w View<'w>,
    first: usize,
    out: &'w mut [f32],
}

impl Work for FinishWork<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        apply(lanes, self.operations, self.view, self.first, self.out);
    }
}
