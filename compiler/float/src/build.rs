//! From a graph to steps.

use crate::error::FloatError;
use crate::finish::{Binary, Finish};
use crate::kernels::conv::{Conv, Form};
use crate::kernels::elementwise::{Loops, Reduce};
use crate::kernels::movement::runs;
use crate::kernels::norm::Norm;
use crate::kernels::pool::{Kind, Pool};
use crate::kernels::product::{Matrices, Product};
use crate::kernels::windows::Windows;
use crate::layout::{axes, broadcast_strides, period, strides, to_memory};
use crate::memory::{Life, Source, assign};
use crate::network::{Bias, Input, Kernel, Network, Output, Step};
use crate::weights::{Packed, Weights};
use flowlet_compiler::interp;
use flowlet_compiler::ir::{
    DType, Def, Graph, InputKind, Node, NormKind, Op, Product as HeadProduct, Split, Tensor, ValueId,
};
use flowlet_kernels::float::Instructions;

impl Network {
    /// Compiles a static f32 graph for the best instructions of this processor.
    ///
    /// # Errors
    /// The first node that this engine does not run.
    pub fn new(graph: &Graph, weights: Weights) -> Result<Network, FloatError> {
        Network::with_instructions(graph, weights, Instructions::best())
    }

    /// As [`Network::new`], for instructions that the caller chooses.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub fn with_instructions(
        graph: &Graph,
        weights: Weights,
        instructions: Instructions,
    ) -> Result<Network, FloatError> {
        let mut builder = Builder {
            graph,
            weights,
            values: vec![None; graph.values.len()],
            uses: graph.use_counts(),
            tensors: Vec::new(),
            constants: Vec::new(),
            steps: Vec::new(),
        };
        let inputs = builder.inputs()?;
        for node in &graph.nodes {
            let origin = &node.origin;
            let ty = graph.ty(node.output);
            if ty.dtype != DType::F32 {
                return Err(FloatError::unsupported(origin, format!("it computes {}", ty.dtype.name())));
            }
            if ty.elements() == 0 || ty.elements() >= u32::MAX as usize {
                return Err(FloatError::unsupported(origin, format!("a result of shape {:?}", ty.dims)));
            }
            builder.node(node)?;
        }
        builder.finish(inputs, instructions)
    }
}

/// What is known of a value.
#[derive(Clone, Copy)]
struct Value {
    source: Source,
    /// The step that computes it.
    step: Option<usize>,
    /// Whether one node reads it and nobody else.
    is_exclusive: bool,
}

struct Builder<'g> {
    graph: &'g Graph,
    weights: Weights,
    values: Vec<Option<Value>>,
    uses: Vec<usize>,
    /// Lengths of the tensors that steps compute or inputs bring.
    tensors: Vec<usize>,
    constants: Vec<Vec<f32>>,
    steps: Vec<Step>,
}

type Result<T, E = FloatError> = std::result::Result<T, E>;

impl Builder<'_> {
    fn inputs(&mut self) -> Result<Vec<Input>> {
        let mut slots = 0;
        let mut inputs = Vec::new();
        for &id in &self.graph.inputs {
            let value = self.graph.value(id);
            let name = value.name.clone();
            inputs.push(match (&value.def, value.ty.dtype) {
                (Def::Input(InputKind::Index { count }), _) => {
                    slots += 1;
                    Input::Index { name, count: *count, slot: slots - 1 }
                }
                (_, DType::F32) => {
                    let buffer = self.tensor(value.ty.elements());
                    let source = Source::Buffer(buffer);
                    // An input stays as it was written.
                    self.values[id.0 as usize] = Some(Value { source, step: None, is_exclusive: false });
                    Input::Tensor { name, dims: value.ty.dims.clone(), buffer }
                }
                (_, other) => {
                    return Err(FloatError::unsupported(&name, format!("an input of type {}", other.name())));
                }
            });
        }
        Ok(inputs)
    }

    /// The number of an index input among them.
    fn slot(&self, id: ValueId, origin: &str) -> Result<usize> {
        let is_index = |id: &ValueId| matches!(self.graph.value(*id).def, Def::Input(InputKind::Index { .. }));
        let position = self.graph.inputs.iter().filter(|id| is_index(id)).position(|&i| i == id);
        position.ok_or_else(|| FloatError::unsupported(origin, "an index that is computed"))
    }

    fn tensor(&mut self, elements: usize) -> usize {
        self.tensors.push(elements);
        self.tensors.len() - 1
    }

    fn dims(&self, id: ValueId) -> &[usize] {
        &self.graph.ty(id).dims
    }

    /// The dimensions of an image.
    fn image(&self, id: ValueId, origin: &str) -> Result<[usize; 4]> {
        let dims = self.dims(id);
        dims.try_into().map_err(|_| FloatError::unsupported(origin, format!("an image of shape {dims:?}")))
    }

    /// Where a value lies; constants are put in the order of memory when they are first read.
    fn value(&mut self, id: ValueId, origin: &str) -> Result<Value> {
        if let Some(value) = self.values[id.0 as usize] {
            return Ok(value);
        }
        let Some(tensor) = self.graph.constant(id) else {
            return Err(FloatError::unsupported(origin, "an operand that is an index"));
        };
        let Some(values) = tensor.as_f32() else {
            return Err(FloatError::unsupported(origin, format!("an operand of type {}", tensor.dtype().name())));
        };
        let mut memory = vec![0.0; values.len()];
        to_memory(&tensor.dims, values, &mut memory);
        self.constants.push(memory);
        let source = Source::Constant(self.constants.len() - 1);
        let value = Value { source, step: None, is_exclusive: false };
        self.values[id.0 as usize] = Some(value);
        Ok(value)
    }

    fn constant<'t>(&'t self, id: ValueId, origin: &str) -> Result<&'t [f32]> {
        let values = self.graph.constant(id).and_then(Tensor::as_f32);
        values.ok_or_else(|| FloatError::unsupported(origin, "weights that are computed"))
    }

    /// Adds the step that computes `node`.
    fn push(&mut self, node: &Node, kernel: Kernel, operands: &[ValueId]) -> Result<()> {
        let inputs: Result<Vec<Source>> =
            operands.iter().map(|&id| self.value(id, &node.origin).map(|v| v.source)).collect();
        let elements = self.graph.ty(node.output).elements();
        let output = self.tensor(elements);
        let origin = node.origin.clone();
        self.steps.push(Step { kernel, inputs: inputs?, output, elements, finish: Vec::new(), origin });
        self.define(node.output, Source::Buffer(output), Some(self.steps.len() - 1), true);
        Ok(())
    }

    fn define(&mut self, id: ValueId, source: Source, step: Option<usize>, is_exclusive: bool) {
        let is_exclusive = is_exclusive && self.uses[id.0 as usize] == 1 && !self.graph.outputs.contains(&id);
        self.values[id.0 as usize] = Some(Value { source, step, is_exclusive });
    }

    /// Ends the step that computes `x` with `finish`, if nobody else reads `x` and what `finish` reads is there by then;
    /// else adds a step.
    fn finish_with(&mut self, node: &Node, x: ValueId, finish: Finish, after: Option<usize>) -> Result<()> {
        let value = self.value(x, &node.origin)?;
        match value.step {
            Some(step) if value.is_exclusive && after.is_none_or(|after| after < step) => {
                self.steps[step].finish.push(finish);
                self.define(node.output, value.source, value.step, true);
            }
            _ => {
                self.push(node, Kernel::Copy, &[x])?;
                if let Some(step) = self.steps.last_mut() {
                    step.finish.push(finish);
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        let (x, origin) = (node.inputs[0], node.origin.as_str());
        match &node.op {
            Op::Conv(g) => {
                let (image, out) = (self.image(x, origin)?, self.image(node.output, origin)?);
                let [_, _, kh, kw] = self.image(node.inputs[1], origin)?;
                self.linear(node, Windows::conv(g, image, [kh, kw], out), image[1], g.groups)
            }
            Op::Linear => {
                let &[rows, channels] = self.dims(x) else {
                    return Err(FloatError::unsupported(origin, "an operand that is no matrix"));
                };
                self.linear(node, Windows::rows(rows, channels), channels, 1)
            }
            Op::ConvTranspose(g) => {
                let (image, out) = (self.image(x, origin)?, self.image(node.output, origin)?);
                let [_, per_group, kh, kw] = self.image(node.inputs[1], origin)?;
                let weight = self.constant(node.inputs[1], origin)?;
                let (taps, depth) = (kh * kw, image[1] / g.groups);
                // `[I, O/g, kh, kw]` seen as `[O][I/g][taps]`.
                let at = |o: usize, i: usize, tap: usize| {
                    weight[((o / per_group * depth + i) * per_group + o % per_group) * taps + tap]
                };
                let form = Form::choose(taps, depth, per_group, g.groups);
                let packed = form.pack([taps, depth, per_group, g.groups], at);
                let windows = Windows::transposed(g, image, [kh, kw], out);
                self.push_linear(node, windows, form, image[1], g.groups, packed)
            }
            Op::Affine => {
                let out = self.dims(node.output).to_vec();
                let channels = out[1];
                let [scale, shift] = [1, 2].map(|i| self.value(node.inputs[i], origin));
                let (scale, shift) = (scale?, shift?);
                let inner = self.dims(x).len() < 3 || axes(out.len()).last() == Some(&1);
                if !inner || channels == 0 {
                    return Err(FloatError::unsupported(origin, format!("an affine of shape {out:?}")));
                }
                let mul = Finish::Binary { function: Binary::Mul, other: scale.source, period: channels };
                let add = Binary::Add { alpha: 1.0, beta: 1.0, gamma: 0.0 };
                let add = Finish::Binary { function: add, other: shift.source, period: channels };
                let after = scale.step.max(shift.step);
                self.finish_with(node, x, mul, after)?;
                if let Some(step) = self.values[node.output.0 as usize].and_then(|v| v.step) {
                    self.steps[step].finish.push(add);
                }
                Ok(())
            }
            Op::Norm { kind, axis, groups, eps } => self.norm(node, *kind, *axis, *groups, *eps),
            Op::MatMul => self.matmul(node),
            Op::HeadProduct(p) => self.head_product(node, p),
            Op::Softmax { axis } => {
                let dims = self.dims(x);
                let (size, stride) = (dims[*axis], strides(dims)[*axis]);
                self.push(node, Kernel::Softmax { size, stride }, &[x])
            }
            Op::Add { alpha, beta, gamma } => {
                self.binary(node, Binary::Add { alpha: *alpha, beta: *beta, gamma: *gamma })
            }
            Op::Mul => self.binary(node, Binary::Mul),
            Op::Div => self.binary(node, Binary::Div),
            Op::Max => self.binary(node, Binary::Max),
            Op::Min => self.binary(node, Binary::Min),
            Op::Unary(u) => self.finish_with(node, x, Finish::Unary(*u), None),
            Op::Clip { lo, hi } => self.finish_with(node, x, Finish::Clip { lo: *lo, hi: *hi }, None),
            Op::FakeQuant { scale, zero_point } => {
                let finish = Finish::FakeQuant { scale: *scale, zero_point: f32::from(*zero_point) };
                self.finish_with(node, x, finish, None)
            }
            Op::ReduceMean { axes } => {
                let count: usize = axes.iter().map(|&a| self.dims(x)[a]).product();
                self.reduce(node, Reduce::Sum(1.0 / count as f32))
            }
            Op::ReduceSum { .. } => self.reduce(node, Reduce::Sum(1.0)),
            Op::ReduceMax { .. } => self.reduce(node, Reduce::Max),
            Op::MaxPool(window) => {
                let (image, out) = (self.image(x, origin)?, self.image(node.output, origin)?);
                let windows = Windows::pool(window, image, out);
                self.push(node, Kernel::Pool(Pool { windows, channels: image[1], kind: Kind::Max }), &[x])
            }
            Op::AveragePool { window, count_pad } => {
                let (image, out) = (self.image(x, origin)?, self.image(node.output, origin)?);
                let windows = Windows::pool(window, image, out);
                let kind = Kind::Average { count_pad: *count_pad };
                self.push(node, Kernel::Pool(Pool { windows, channels: image[1], kind }), &[x])
            }
            Op::Select => {
                if self.dims(x).len() > 2 && self.dims(node.output).iter().filter(|d| **d != 1).count() > 1 {
                    return Err(FloatError::unsupported(origin, "rows of more than one axis"));
                }
                let slot = self.slot(node.inputs[1], origin)?;
                // Rows are kept in ONNX order, in which they lie one after the other.
                let table = self.constant(x, origin)?.to_vec();
                self.constants.push(table);
                let source = Source::Constant(self.constants.len() - 1);
                self.push(node, Kernel::Select { slot }, &[])?;
                if let Some(step) = self.steps.last_mut() {
                    step.inputs.push(source);
                }
                Ok(())
            }
            Op::Cast { to: DType::F32 } if self.graph.ty(x).dtype == DType::F32 => self.same(node, x),
            Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Expand { .. }
            | Op::Concat { .. }
            | Op::Gather { .. }
            | Op::Upsample { .. }
            | Op::PixelUnshuffle { .. }
            | Op::PixelShuffle { .. } => self.movement(node),
            other => Err(FloatError::unsupported(origin, format!("there is no f32 kernel of '{}'", other.name()))),
        }
    }

    fn same(&mut self, node: &Node, x: ValueId) -> Result<()> {
        let value = self.value(x, &node.origin)?;
        self.define(node.output, value.source, value.step, value.is_exclusive);
        Ok(())
    }

    /// A convolution or linear layer with weights `[O][I/g][taps]`.
    fn linear(&mut self, node: &Node, windows: Windows, inputs: usize, groups: usize) -> Result<()> {
        let weight = self.constant(node.inputs[1], &node.origin)?;
        let (taps, depth) = (windows.taps, inputs / groups);
        let outputs = self.dims(node.inputs[1])[0] / groups;
        let form = Form::choose(taps, depth, outputs, groups);
        let packed = form.pack([taps, depth, outputs, groups], |o, i, tap| weight[(o * depth + i) * taps + tap]);
        self.push_linear(node, windows, form, inputs, groups, packed)
    }

    fn push_linear(
        &mut self,
        node: &Node,
        windows: Windows,
        form: Form,
        inputs: usize,
        groups: usize,
        packed: Vec<f32>,
    ) -> Result<()> {
        let too_large = || FloatError::unsupported(&node.origin, "it has a weight that f16 cannot hold");
        let weights = Packed::new(packed, self.weights).ok_or_else(too_large)?;
        let zeros = vec![0.0; inputs / groups];
        let outputs = self.dims(node.output)[1];
        let bias = match node.inputs[2..] {
            [] => Bias::None,
            [_] => Bias::Fixed,
            [_, row, ..] => Bias::Row { slot: self.slot(row, &node.origin)? },
        };
        let conv = Conv { windows, form, inputs, outputs, groups, weights, zeros };
        let mut operands = vec![node.inputs[0]];
        operands.extend(node.inputs.get(2));
        self.push(node, Kernel::Conv { conv, bias }, &operands)
    }

    fn norm(&mut self, node: &Node, kind: NormKind, axis: usize, groups: usize, eps: f32) -> Result<()> {
        let dims = self.dims(node.inputs[0]).to_vec();
        let (channels, all) = (dims[axis], dims.iter().product::<usize>());
        if strides(&dims)[axis] != 1 {
            return Err(FloatError::unsupported(&node.origin, format!("a norm over axis {axis} of {dims:?}")));
        }
        let norm = Norm { kind, samples: dims[0], pixels: all / channels / dims[0], channels, groups, eps };
        self.push(node, Kernel::Norm(norm), &node.inputs)
    }

    /// An operation of two operands that are broadcast.
    fn binary(&mut self, node: &Node, function: Binary) -> Result<()> {
        let [a, b] = [node.inputs[0], node.inputs[1]];
        let out = self.dims(node.output).to_vec();
        let [va, vb] = [self.value(a, &node.origin)?, self.value(b, &node.origin)?];
        let elements: usize = out.iter().product();
        let [pa, pb] = [a, b].map(|id| period(self.dims(id), &out));
        // The operand that was computed last takes the other at its end.
        let forms = [(pa, pb, a, vb, function), (pb, pa, b, va, function.exchanged())];
        let possible = forms.into_iter().filter_map(|(own, other, x, value, function)| {
            (own == Some(elements)).then_some((other?, x, value, function))
        });
        let latest =
            possible.max_by_key(|(_, x, ..)| self.values[x.0 as usize].and_then(|v| v.step.filter(|_| v.is_exclusive)));
        if let Some((period, x, other, function)) = latest {
            let finish = Finish::Binary { function, other: other.source, period };
            return self.finish_with(node, x, finish, other.step);
        }
        let order = axes(out.len());
        let [sa, sb] = [a, b].map(|id| {
            let strides = broadcast_strides(self.dims(id), &out);
            order.iter().map(|&axis| strides[axis]).collect::<Vec<_>>()
        });
        let lengths: Vec<usize> = order.iter().map(|&axis| out[axis]).collect();
        let loops = Loops::new(&lengths, [&sa, &sb]);
        self.push(node, Kernel::Binary { function, loops }, &[a, b])
    }

    fn reduce(&mut self, node: &Node, how: Reduce) -> Result<()> {
        let dims = self.dims(node.inputs[0]).to_vec();
        let out = broadcast_strides(self.dims(node.output), &dims);
        let order = axes(dims.len());
        let lengths: Vec<usize> = order.iter().map(|&a| dims[a]).collect();
        let places: Vec<usize> = order.iter().map(|&a| out[a]).collect();
        self.push(node, Kernel::Reduce { how, loops: Loops::new(&lengths, [&places]) }, &[node.inputs[0]])
    }

    fn matmul(&mut self, node: &Node) -> Result<()> {
        let [a, b] = [node.inputs[0], node.inputs[1]];
        let out = self.dims(node.output).to_vec();
        let rank = out.len();
        let depth = self.dims(a).last().copied().unwrap_or(1);
        let (rows, columns) = (out[rank - 2], out[rank - 1]);
        // Strides of the batch axes, rows and columns of each matrix, along the result's axes.
        let matrices = |dims: &[usize], out: &[usize]| {
            let own = strides(dims);
            let mut batch = out[..rank - 2].to_vec();
            batch.extend(&dims[dims.len() - 2..]);
            let steps = broadcast_strides(dims, &batch);
            let total: usize = out[..rank - 2].iter().product();
            let start = |mut i: usize| {
                let mut place = 0;
                for axis in (0..rank - 2).rev() {
                    place += i % out[axis] * steps[axis];
                    i /= out[axis];
                }
                place
            };
            Matrices { starts: (0..total).map(start).collect(), row: own[dims.len() - 2], column: own[dims.len() - 1] }
        };
        let product = Product {
            a: matrices(self.dims(a), &out),
            b: matrices(self.dims(b), &out),
            out: matrices(&out, &out),
            rows,
            depth,
            columns,
            alpha: 1.0,
        };
        self.push(node, Kernel::Product(product), &[a, b])
    }

    fn head_product(&mut self, node: &Node, p: &HeadProduct) -> Result<()> {
        let origin = node.origin.as_str();
        let (da, db) = (self.image(node.inputs[0], origin)?, self.image(node.inputs[1], origin)?);
        let out = self.image(node.output, origin)?;
        // Pixels are rows in memory, channels are columns.
        let matrices = |[_, c, _, w]: [usize; 4], split: Split| {
            let step = match split {
                Split::Rows => w * c,
                Split::Channels => c / p.batch,
            };
            Matrices { starts: (0..p.batch).map(|n| n * step).collect(), row: c, column: 1 }
        };
        let (rows, depth) = match p.a {
            Split::Rows => (da[3], da[1]),
            Split::Channels => (da[2] * da[3], da[1] / p.batch),
        };
        let columns = if p.out == Split::Rows { out[1] } else { out[1] / p.batch };
        let mut b = matrices(db, p.b);
        if p.transposed {
            (b.row, b.column) = (b.column, b.row);
        }
        let (a, out) = (matrices(da, p.a), matrices(out, p.out));
        let product = Product { a, b, out, rows, depth, columns, alpha: p.alpha };
        self.push(node, Kernel::Product(product), &node.inputs)
    }

    /// An operation that only moves elements: the interpreter moves their places once.
    fn movement(&mut self, node: &Node) -> Result<()> {
        let origin = node.origin.as_str();
        let moved = if matches!(node.op, Op::Gather { .. }) { 1 } else { node.inputs.len() };
        let mut operands: Vec<Tensor> = Vec::new();
        for (number, &id) in node.inputs.iter().enumerate() {
            if number >= moved {
                let indices = self.graph.constant(id);
                let computed = || FloatError::unsupported(origin, "indices that are computed");
                operands.push(indices.ok_or_else(computed)?.clone());
                continue;
            }
            let dims = self.dims(id);
            let elements: usize = dims.iter().product();
            let memory: Vec<i64> = (0..elements as i64).map(|i| (number as i64) << 32 | i).collect();
            let mut places = vec![0; elements];
            crate::layout::from_memory(dims, &memory, &mut places);
            operands.push(Tensor::i64(dims, places));
        }
        let result = interp::eval(&node.op, &operands.iter().collect::<Vec<_>>());
        let result = result.map_err(|e| FloatError::unsupported(origin, e.message))?;
        let places = result.as_i64().unwrap_or(&[]);
        let mut memory = vec![0; places.len()];
        to_memory(&result.dims, places, &mut memory);
        let sources: Vec<(u32, u32)> = memory.iter().map(|&p| ((p >> 32) as u32, p as u32)).collect();
        let runs = runs(&sources);
        let elements = |id: ValueId| self.graph.ty(id).elements();
        if let [run] = runs[..]
            && run.from == 0
            && run.length as usize == elements(node.inputs[run.operand as usize])
        {
            return self.same(node, node.inputs[run.operand as usize]);
        }
        self.push(node, Kernel::Move(runs), &node.inputs[..moved])
    }

    /// Plans memory.
    fn finish(mut self, mut inputs: Vec<Input>, instructions: Instructions) -> Result<Network> {
        let mut outputs = Vec::new();
        for &id in &self.graph.outputs {
            let value = self.graph.value(id);
            if value.ty.dtype != DType::F32 {
                return Err(FloatError::unsupported(&value.name, format!("an output of {}", value.ty.dtype.name())));
            }
            let name = value.name.clone();
            outputs.push(Output { dims: value.ty.dims.clone(), source: self.value(id, &name)?.source });
        }
        let end = self.steps.len();
        let mut lives: Vec<Life> =
            self.tensors.iter().map(|&elements| Life { elements, first: usize::MAX, last: 0 }).collect();
        for input in &inputs {
            if let Input::Tensor { buffer, .. } = input {
                (lives[*buffer].first, lives[*buffer].last) = (0, end);
            }
        }
        for (number, step) in self.steps.iter().enumerate() {
            // Time 0 is before the first step.
            lives[step.output].first = number + 1;
            lives[step.output].last = lives[step.output].last.max(number + 1);
            let others = step.finish.iter().filter_map(|f| match f {
                Finish::Binary { other, .. } => Some(other),
                _ => None,
            });
            for source in step.inputs.iter().chain(others) {
                if let Source::Buffer(tensor) = source {
                    lives[*tensor].last = lives[*tensor].last.max(number + 1);
                }
            }
        }
        for output in &outputs {
            if let Source::Buffer(tensor) = output.source {
                lives[tensor].last = end + 1;
            }
        }
        // Inputs are first, so that none shares its buffer with a step before it.
        let (places, buffers) = assign(&lives);
        let place = |source: &mut Source| {
            if let Source::Buffer(tensor) = source {
                *tensor = places[*tensor];
            }
        };
        for input in &mut inputs {
            if let Input::Tensor { buffer, .. } = input {
                *buffer = places[*buffer];
            }
        }
        for step in &mut self.steps {
            step.output = places[step.output];
            step.inputs.iter_mut().for_each(place);
            for finish in &mut step.finish {
                if let Finish::Binary { other, .. } = finish {
                    place(other);
                }
            }
        }
        outputs.iter_mut().for_each(|output| place(&mut output.source));
        let scratch = self.steps.iter().map(|step| match &step.kernel {
            Kernel::Conv { conv, .. } => conv.scratch(),
            Kernel::Product(product) => product.scratch(),
            Kernel::Norm(norm) => norm.scratch(),
            _ => 0,
        });
        Ok(Network {
            name: self.graph.name.clone(),
            scratch: scratch.max().unwrap_or(0),
            steps: self.steps,
            constants: self.constants,
            buffers,
            inputs,
            outputs,
            instructions,
        })
    }
}
