//! Chooses a kernel for every node and packs its constants: the first half of lowering.

use super::draft::{Along, Draft, DraftPort, Op as DraftOp, Shape, Tensor, View, Work};
use super::pack::{Layer, choose, packed, packed_phases, padded_words};
use super::weights::{Blob, bytes};
use super::{
    ConvKernel, ConvTransposeKernel, EpilogueKernel, Kernel, LowerError, MatMulKernel, MulKernel, NormKernel, Section,
};
use crate::interp::{plan_kind, plan_split};
use crate::ir::{
    ConstStyle, ConvGeometry, Def, Graph, InputKind, Node, Op, Remark, Tensor as Values, ValueId, Window, print,
};
use crate::target::Target;
use flowlet_plan::{PoolKind, RowKey, ShuffleKind};
use std::collections::HashMap;

/// Most channels that an identity convolution is built for: its weights grow with their square.
const MAX_IDENTITY: usize = 2048;

/// Bytes of a row of scratch memory: its alignment.
const SCRATCH_ROW: usize = 8;

/// Where a value lies, and what a reader must still do to it.
#[derive(Clone, Copy)]
struct Source {
    view: View,
    /// Nearest-neighbour factor that the reading convolution applies.
    upsample: usize,
    /// The value is `[1, C*H*W]` in ONNX order: only a fully connected layer can read it, as a kernel of HxW.
    flat: bool,
}

pub(super) fn select(graph: &Graph, target: &Target, blob: Blob) -> Result<Draft, LowerError> {
    let lines: Vec<String> =
        print(graph, ConstStyle::Blob).lines().filter(|l| l.starts_with("  %")).map(|l| l.trim().to_owned()).collect();
    let mut selector = Selector {
        graph,
        target,
        draft: Draft { blob, ..Draft::default() },
        sources: HashMap::new(),
        moved: HashMap::new(),
    };
    selector.inputs()?;
    for (position, (node, line)) in graph.nodes.iter().zip(lines).enumerate() {
        selector.node(position, node, line)?;
    }
    selector.outputs()?;
    Ok(selector.draft)
}

struct Selector<'g> {
    graph: &'g Graph,
    target: &'g Target,
    draft: Draft,
    sources: HashMap<ValueId, Source>,
    /// Values that reshapes and transpositions make of another: where from, and by which nodes.
    moved: HashMap<ValueId, (ValueId, Vec<usize>)>,
}

fn unsupported<T>(node: &Node, reason: impl Into<String>) -> Result<T, LowerError> {
    Err(LowerError::Unsupported { node: node.origin.clone(), op: node.op.name().to_owned(), reason: reason.into() })
}

fn narrow(node: &Node, what: &str, value: usize) -> Result<u8, LowerError> {
    u8::try_from(value).or_else(|_| unsupported(node, format!("{what} of {value} is larger than 255")))
}

impl Selector<'_> {
    fn inputs(&mut self) -> Result<(), LowerError> {
        for &id in &self.graph.inputs {
            let value = self.graph.value(id);
            if let Def::Input(InputKind::Index { count }) = value.def {
                let count =
                    u16::try_from(count).map_err(|_| port_error(&value.name, "an index has at most 65535 values"))?;
                self.draft.indices.push((value.name.clone(), count));
                continue;
            }
            let tensor = self.tensor(id, "input")?;
            self.draft.tensors[tensor].port = true;
            let port = self.port(id, self.sources[&id].view)?;
            self.draft.inputs.push(port);
        }
        Ok(())
    }

    fn outputs(&mut self) -> Result<(), LowerError> {
        for &id in &self.graph.outputs {
            if let Some((_, chain)) = self.moved.get(&id)
                && let Some(&last) = chain.last()
            {
                self.settle(&self.graph.nodes[last], id)?;
            }
            let name = &self.graph.value(id).name;
            let source = self.sources.get(&id).ok_or_else(|| port_error(name, "the output is a constant"))?;
            if source.flat {
                return Err(port_error(name, "the output is a flattened picture; make the picture the output"));
            }
            let view = self.own_bytes(id, source.view);
            let tensor = &mut self.draft.tensors[view.tensor];
            (tensor.port, tensor.output) = (true, true);
            let port = self.port(id, view)?;
            self.draft.outputs.push(port);
        }
        Ok(())
    }

    fn port(&self, id: ValueId, view: View) -> Result<DraftPort, LowerError> {
        let value = self.graph.value(id);
        let quant = value
            .ty
            .quant
            .ok_or_else(|| port_error(&value.name, "the port is not quantised: run 'flowlet quantize'"))?;
        let unit = self.graph.meta(&format!("unit.{}", value.name)).unwrap_or_default().to_owned();
        Ok(DraftPort { name: value.name.clone(), view, quant, unit })
    }

    /// A new tensor for a value.
    fn tensor(&mut self, id: ValueId, op: &str) -> Result<usize, LowerError> {
        let value = self.graph.value(id);
        let shape = Shape::of(&value.ty.dims, &value.name, op)?;
        let tensor = self.draft.tensors.len();
        self.draft.tensors.push(Tensor { name: value.name.clone(), shape, port: false, output: false });
        self.sources.insert(id, Source { view: View::whole(tensor, shape), upsample: 1, flat: false });
        Ok(tensor)
    }

    fn push(&mut self, node: &Node, text: String, work: Work, reads: Vec<View>) -> Result<(), LowerError> {
        let write = self.tensor(node.output, node.op.name())?;
        let name = self.graph.value(node.output).name.clone();
        let scratch = match &work {
            Work::Kernel(kernel) => {
                let shapes: Vec<_> = reads.iter().map(|view| view.shape).collect();
                self.scratch(kernel.scratch_bytes(self.target.isa, &shapes), &name)
            }
            Work::Join(_) => None,
        };
        self.draft.ops.push(DraftOp { work, reads, write, scratch, name, origin: node.origin.clone(), text });
        Ok(())
    }

    /// Memory of this many bytes for one step, if any.
    fn scratch(&mut self, bytes: usize, name: &str) -> Option<usize> {
        let height = u16::try_from(bytes.div_ceil(SCRATCH_ROW)).ok()?;
        let shape = Shape { height, width: 1, channels: SCRATCH_ROW as u16 };
        let tensor = Tensor { name: format!("{name} scratch"), shape, port: false, output: false };
        (height > 0).then(|| {
            self.draft.tensors.push(tensor);
            self.draft.tensors.len() - 1
        })
    }

    fn source(&self, node: &Node, operand: usize) -> Result<Source, LowerError> {
        match node.inputs.get(operand).and_then(|id| self.sources.get(id)) {
            Some(source) => Ok(*source),
            None => unsupported(node, format!("operand {operand} is a constant where a tensor is expected")),
        }
    }

    /// An operand as it lies in memory.
    fn view(&self, node: &Node, operand: usize) -> Result<View, LowerError> {
        let source = self.source(node, operand)?;
        if source.flat {
            return unsupported(node, "only a fully connected layer can read a flattened picture");
        }
        Ok(source.view)
    }

    fn s8(&self, node: &Node, operand: usize) -> Result<&[i8], LowerError> {
        match node.inputs.get(operand).and_then(|&id| self.graph.constant(id)?.as_s8()) {
            Some(values) => Ok(values),
            None => unsupported(node, format!("operand {operand} must be an s8 constant")),
        }
    }

    fn i32(&self, node: &Node, operand: usize) -> Result<&[i32], LowerError> {
        match node.inputs.get(operand).and_then(|&id| self.graph.constant(id)?.as_i32()) {
            Some(values) => Ok(values),
            None => unsupported(node, format!("operand {operand} must be an i32 constant")),
        }
    }

    fn table(&mut self, node: &Node, operand: Option<usize>) -> Result<Option<Section>, LowerError> {
        let Some(operand) = operand else { return Ok(None) };
        let table = bytes(self.s8(node, operand)?);
        Ok(Some(self.draft.blob.put(format!("{} table", node.origin), table)))
    }

    fn node(&mut self, position: usize, node: &Node, text: String) -> Result<(), LowerError> {
        if self.moves(position, node)? {
            return Ok(());
        }
        for &id in &node.inputs {
            self.settle(node, id)?;
        }
        match &node.op {
            Op::QConv { .. } => self.conv(node, text),
            Op::QAdd { params, table } => {
                let reads = vec![self.view(node, 0)?, self.view(node, 1)?];
                let table = self.table(node, table.then_some(2))?;
                self.push(node, text, Work::Kernel(Kernel::Add { params: *params, table }), reads)
            }
            Op::QMap => {
                let reads = vec![self.view(node, 0)?];
                let table = self.table(node, Some(1))?;
                self.push(node, text, Work::Kernel(Kernel::Map { table }), reads)
            }
            Op::PixelUnshuffle { block } => self.shuffle(node, text, *block, ShuffleKind::PixelUnshuffle),
            Op::PixelShuffle { block } => self.shuffle(node, text, *block, ShuffleKind::PixelShuffle),
            Op::Concat { axis } => {
                let reads: Result<Vec<View>, LowerError> = (0..node.inputs.len()).map(|i| self.view(node, i)).collect();
                let along = match (axis, &self.graph.ty(node.output).dims[..]) {
                    (1, _) => Along::Channels,
                    (2, [_, _, _, _]) | (3, [_, _, 1, _]) => Along::Pixels,
                    (axis, dims) => {
                        return unsupported(node, format!("axis {axis} of {dims:?} does not lie in one run of memory"));
                    }
                };
                self.push(node, text, Work::Join(along), reads?)
            }
            Op::Slice { axis, start, end, step } => self.slice(node, *axis, *start..*end, *step),
            Op::Upsample { factor } => self.upsample(node, text, *factor),
            Op::QConvTranspose { .. } => self.conv_transpose(node, text),
            Op::QNorm { kind, groups, epsilon, gain_shift, table } => {
                let gain = self.words(node, 1)?;
                let offset = self.words(node, 2)?;
                let kernel = NormKernel {
                    kind: plan_kind(*kind, *groups).or_else(|e| unsupported(node, e.message))?,
                    input_zero_point: self.zero_point(node, 0),
                    epsilon: *epsilon,
                    gain,
                    gain_shift: *gain_shift,
                    offset,
                    table: self.table(node, table.then_some(3))?,
                };
                let reads = vec![self.view(node, 0)?];
                self.push(node, text, Work::Kernel(Kernel::Norm(kernel)), reads)
            }
            Op::QSoftmax => {
                let reads = vec![self.view(node, 0)?];
                let table = bytes(self.s8(node, 1)?);
                let table = self.draft.blob.put(format!("{} exponentials", node.origin), table);
                self.push(node, text, Work::Kernel(Kernel::Softmax { table }), reads)
            }
            Op::QHeadProduct { product, multiplier, left_shift, zero_point } => {
                let batch = u16::try_from(product.batch)
                    .or_else(|_| unsupported(node, "a product has at most 65535 matrices"))?;
                let kernel = MatMulKernel {
                    splits: [product.a, product.b, product.out].map(plan_split),
                    batch,
                    transposed: product.transposed,
                    a_zero_point: self.zero_point(node, 0),
                    multiplier: *multiplier,
                    left_shift: *left_shift,
                    zero_point: *zero_point,
                };
                let reads = vec![self.view(node, 0)?, self.view(node, 1)?];
                self.push(node, text, Work::Kernel(Kernel::MatMul(kernel)), reads)
            }
            Op::QAveragePool { window, multiplier, left_shift, zero_point } => {
                let kind = PoolKind::Average {
                    input_zero_point: self.zero_point(node, 0),
                    multiplier: *multiplier,
                    left_shift: *left_shift,
                    zero_point: *zero_point,
                };
                self.pool(node, text, window, kind)
            }
            Op::MaxPool(window) => self.pool(node, text, window, PoolKind::Max),
            Op::QMul { multiplier, left_shift, zero_point, table } => {
                let kernel = MulKernel {
                    zero_points: [self.zero_point(node, 0), self.zero_point(node, 1)],
                    multiplier: *multiplier,
                    left_shift: *left_shift,
                    zero_point: *zero_point,
                    table: self.table(node, table.then_some(2))?,
                };
                let reads = vec![self.view(node, 0)?, self.view(node, 1)?];
                self.push(node, text, Work::Kernel(Kernel::Mul(kernel)), reads)
            }
            _ => unsupported(node, "no kernel computes it; quantize the model again"),
        }
    }

    /// A part of a tensor is read where it is.
    fn slice(
        &mut self,
        node: &Node,
        axis: usize,
        range: std::ops::Range<usize>,
        step: usize,
    ) -> Result<(), LowerError> {
        let source = self.source(node, 0)?;
        let mut view = self.view(node, 0)?;
        let writer = self.draft.ops.iter().find(|op| op.write == view.tensor);
        if axis == 1 && writer.is_some_and(|op| matches!(op.work, Work::Join(Along::Pixels))) {
            // Its pixels have several writers, none of which covers a range of the channels.
            view = self.copied(node.inputs[0], view);
        }
        let dims = &self.graph.ty(node.inputs[0]).dims;
        let count = u16::try_from(range.len()).ok().filter(|_| step == 1 && matches!(dims.len(), 2 | 4));
        match count.and_then(|count| view.sliced(axis, range.start, count)) {
            Some(view) if source.upsample == 1 => {
                self.sources.insert(node.output, Source { view, ..source });
                Ok(())
            }
            _ => unsupported(
                node,
                format!("axis {axis} of {dims:?} in steps of {step} does not lie in one run of memory"),
            ),
        }
    }

    /// The view, copied if it is a part of a tensor: ports are whole.
    fn own_bytes(&mut self, id: ValueId, view: View) -> View {
        let whole = self.draft.tensors[view.tensor].shape;
        if view.offset == 0 && view.pitch == view.shape.channels && view.shape.elements() == whole.elements() {
            return view;
        }
        self.copied(id, view)
    }

    /// A tensor of its own with the elements of the view.
    fn copied(&mut self, id: ValueId, view: View) -> View {
        let name = self.graph.value(id).name.clone();
        let write = self.draft.tensors.len();
        self.draft.tensors.push(Tensor { name: name.clone(), shape: view.shape, port: false, output: false });
        self.draft.ops.push(DraftOp {
            work: Work::Kernel(Kernel::Map { table: None }),
            reads: vec![view],
            write,
            scratch: None,
            text: format!("copy of %{name}"),
            origin: name.clone(),
            name,
        });
        View::whole(write, view.shape)
    }

    fn shuffle(&mut self, node: &Node, text: String, block: usize, kind: ShuffleKind) -> Result<(), LowerError> {
        let reads = vec![self.view(node, 0)?];
        let block = narrow(node, "a block", block)?;
        self.push(node, text, Work::Kernel(Kernel::Shuffle { block, kind }), reads)
    }

    fn conv(&mut self, node: &Node, text: String) -> Result<(), LowerError> {
        let Op::QConv { geometry, left_shift, zero_point, indexed, residual, table } = &node.op else {
            return unsupported(node, "not a quantised convolution");
        };
        let source = self.source(node, 0)?;
        let filter = match (&self.graph.ty(node.inputs[1]).dims[..], source.flat) {
            (&[o, k], true) => {
                let Shape { height, width, channels } = source.view.shape;
                let filter = [o, channels.into(), height.into(), width.into()];
                if filter[1] * filter[2] * filter[3] != k {
                    return unsupported(node, "the weights do not fit the flattened picture");
                }
                filter
            }
            (&[o, k], false) => [o, k, 1, 1],
            (&[o, i, kh, kw], false) => [o, i, kh, kw],
            _ => return unsupported(node, "only a fully connected layer can read a flattened picture"),
        };
        let [outputs, inputs] = [filter[0], filter[1]];
        let layer = Layer {
            outputs,
            kernel: [narrow(node, "a kernel", filter[2])?, narrow(node, "a kernel", filter[3])?],
            inputs,
            groups: geometry.groups,
            pixels: self.graph.ty(node.output).dims.iter().skip(2).product(),
        };
        let packing = choose(self.target.isa, &layer);
        let weights = packed(packing, self.s8(node, 1)?, &layer);
        let multipliers = padded_words(packing, self.i32(node, 2)?, outputs);
        let bias = padded_words(packing, self.i32(node, 3)?, outputs);
        let mut next = 4;
        let mut operand = |present: bool| {
            next += usize::from(present);
            present.then(|| next - 1)
        };
        let row = match operand(*indexed) {
            Some(key) => self.row(node, key)?,
            None => RowKey::Fixed,
        };
        let mut reads = vec![source.view];
        if let Some(skip) = operand(residual.is_some()) {
            reads.push(self.view(node, skip)?);
        }
        let table_operand = operand(*table);
        let table = self.table(node, table_operand)?;
        if *left_shift > 30 {
            return unsupported(node, format!("a left shift of {left_shift} is larger than 30"));
        }
        let upsample = geometry.upsample.saturating_mul(source.upsample);
        if !(1..=2).contains(&upsample) {
            return unsupported(node, format!("a convolution reads its input upsampled by 1 or 2, not by {upsample}"));
        }
        let blob = &mut self.draft.blob;
        let kernel = ConvKernel {
            kernel: layer.kernel,
            stride: [narrow(node, "a stride", geometry.stride[0])?, narrow(node, "a stride", geometry.stride[1])?],
            dilation: [
                narrow(node, "a dilation", geometry.dilation[0])?,
                narrow(node, "a dilation", geometry.dilation[1])?,
            ],
            pad: [narrow(node, "a padding", geometry.pad[0])?, narrow(node, "a padding", geometry.pad[1])?],
            upsample: upsample as u8,
            groups: geometry.groups as u16,
            input_zero_point: self.graph.ty(node.inputs[0]).quant.map_or(0, |q| q.zero_point),
            weights: blob.put(format!("{} weights", node.origin), weights),
            packing,
            epilogue: EpilogueKernel {
                multipliers: blob.put(format!("{} multipliers", node.origin), multipliers),
                bias: blob.put(format!("{} bias", node.origin), bias),
                row,
                left_shift: *left_shift,
                zero_point: *zero_point,
                residual: *residual,
                table,
            },
        };
        self.push(node, text, Work::Kernel(Kernel::Conv(Box::new(kernel))), reads)
    }

    fn row(&self, node: &Node, operand: usize) -> Result<RowKey, LowerError> {
        let name = &self.graph.value(node.inputs[operand]).name;
        let number = self.draft.indices.iter().position(|(n, _)| n == name);
        match number.map(u8::try_from) {
            Some(Ok(number)) => Ok(RowKey::Index(number)),
            Some(Err(_)) | None => {
                unsupported(node, "its bias row must be selected by one of the first 256 index inputs")
            }
        }
    }

    fn zero_point(&self, node: &Node, operand: usize) -> i8 {
        self.graph.ty(node.inputs[operand]).quant.map_or(0, |q| q.zero_point)
    }

    fn words(&mut self, node: &Node, operand: usize) -> Result<Section, LowerError> {
        let words = self.i32(node, operand)?.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(self.draft.blob.put(format!("{} constants {operand}", node.origin), words))
    }

    fn pool(&mut self, node: &Node, text: String, window: &Window, kind: PoolKind) -> Result<(), LowerError> {
        let narrow = |v: [usize; 2]| match (u16::try_from(v[0]), u16::try_from(v[1])) {
            (Ok(a), Ok(b)) => Ok([a, b]),
            _ => unsupported(node, "a window is larger than 65535"),
        };
        let kernel = Kernel::Pool {
            kernel: narrow(window.kernel)?,
            stride: narrow(window.stride)?,
            pad: narrow([window.pad[0], window.pad[1]])?,
            kind,
        };
        let reads = vec![self.view(node, 0)?];
        self.push(node, text, Work::Kernel(kernel), reads)
    }

    fn conv_transpose(&mut self, node: &Node, text: String) -> Result<(), LowerError> {
        let Op::QConvTranspose { geometry, left_shift, zero_point, table } = &node.op else {
            return unsupported(node, "not a quantised transposed convolution");
        };
        let &[inputs, outputs, kh, kw] = &self.graph.ty(node.inputs[1]).dims[..] else {
            return unsupported(node, "its weights have no image axes");
        };
        let taps = kh * kw;
        let weights = self.s8(node, 1)?;
        let filters: Vec<i8> = (0..weights.len())
            .map(|j| weights[(j / taps % inputs * outputs + j / (inputs * taps)) * taps + j % taps])
            .collect();
        let layer = Layer {
            outputs,
            kernel: [narrow(node, "a kernel", kh)?, narrow(node, "a kernel", kw)?],
            inputs,
            groups: 1,
            pixels: self.graph.ty(node.output).dims.iter().skip(2).product(),
        };
        let stride = [narrow(node, "a stride", geometry.stride[0])?, narrow(node, "a stride", geometry.stride[1])?];
        let input_zero_point = self.zero_point(node, 0);
        // Each phase sums its own kernel places, so that each has its own correction for the zero point.
        let bias = self.i32(node, 3)?;
        let mut phases = Vec::new();
        for (r, c) in (0..geometry.stride[0]).flat_map(|r| (0..geometry.stride[1]).map(move |c| (r, c))) {
            let owned = |tap: usize| (tap / kw) % geometry.stride[0] == r && (tap % kw) % geometry.stride[1] == c;
            phases.extend((0..outputs).map(|o| {
                let own = &filters[o * inputs * taps..(o + 1) * inputs * taps];
                let sum: i32 =
                    own.iter().enumerate().filter(|(j, _)| owned(j % taps)).map(|(_, &w)| i32::from(w)).sum();
                bias[o].wrapping_sub(i32::from(input_zero_point).wrapping_mul(sum))
            }));
        }
        let packing = choose(self.target.isa, &layer);
        let multipliers = padded_words(packing, self.i32(node, 2)?, outputs);
        let table = self.table(node, table.then_some(4))?;
        let blob = &mut self.draft.blob;
        let kernel = ConvTransposeKernel {
            kernel: layer.kernel,
            stride,
            pad: [narrow(node, "a padding", geometry.pad[0])?, narrow(node, "a padding", geometry.pad[1])?],
            input_zero_point,
            weights: blob.put(format!("{} weights", node.origin), packed_phases(packing, &filters, &layer, stride)),
            packing,
            epilogue: EpilogueKernel {
                multipliers: blob.put(format!("{} multipliers", node.origin), multipliers),
                bias: blob.put(format!("{} bias", node.origin), padded_words(packing, &phases, outputs)),
                row: RowKey::Fixed,
                left_shift: *left_shift,
                zero_point: *zero_point,
                residual: None,
                table,
            },
        };
        let reads = vec![self.view(node, 0)?];
        self.push(node, text, Work::Kernel(Kernel::ConvTranspose(Box::new(kernel))), reads)
    }

    /// Reshapes and transpositions are followed, and done only where a kernel or a port reads the result.
    fn moves(&mut self, position: usize, node: &Node) -> Result<bool, LowerError> {
        let from = node.inputs.first().copied();
        match (&node.op, from) {
            (Op::Reshape { dims }, Some(from)) if self.sources.contains_key(&from) => {
                if self.reshape(node, dims)? {
                    return Ok(true);
                }
            }
            (Op::Reshape { .. } | Op::Transpose { .. }, Some(_)) => {}
            _ => return Ok(false),
        }
        let Some(from) = from else { return Ok(false) };
        let (root, mut chain) = self.moved.get(&from).cloned().unwrap_or((from, Vec::new()));
        chain.push(position);
        self.moved.insert(node.output, (root, chain));
        Ok(true)
    }

    /// Gives a followed value its place: where it is, if its bytes lie there in order, or behind a transposition.
    fn settle(&mut self, reader: &Node, id: ValueId) -> Result<(), LowerError> {
        if self.sources.contains_key(&id) {
            return Ok(());
        }
        let Some((root, chain)) = self.moved.get(&id).cloned() else { return Ok(()) };
        let (from, to) = (self.graph.ty(root).dims.clone(), self.graph.ty(id).dims.clone());
        let elements = from.iter().product::<usize>();
        let mut trace = Values::i64(&from, (0..elements as i64).collect());
        for position in chain {
            let node = &self.graph.nodes[position];
            trace = crate::interp::eval(&node.op, &[&trace]).or_else(|e| unsupported(node, e.message))?;
        }
        let places = trace.as_i64().unwrap_or(&[]);
        // For each byte of the result, the byte of the root.
        let mut wanted = vec![0usize; elements];
        for (l, &p) in places.iter().enumerate() {
            wanted[stored_at(&to, l)] = stored_at(&from, p as usize);
        }
        let shape = Shape::of(&to, &self.graph.value(id).name, "reshape")?;
        let source = *self.sources.get(&root).ok_or_else(|| LowerError::Unsupported {
            node: reader.origin.clone(),
            op: reader.op.name().to_owned(),
            reason: "a constant is moved where a tensor is expected".to_owned(),
        })?;
        if source.flat || source.upsample != 1 {
            return unsupported(reader, "a second reshape of a flattened or upsampled picture is not supported");
        }
        if wanted.iter().enumerate().all(|(i, &w)| i == w) {
            let Some(view) = source.view.reshaped(shape) else {
                return unsupported(reader, "a range of channels is read under another number of channels");
            };
            self.sources.insert(id, Source { view, ..source });
            return Ok(());
        }
        let (pixels, channels) = (source.view.shape.pixels(), usize::from(source.view.shape.channels));
        let turned = |i: usize| i % pixels * channels + i / pixels;
        if wanted.iter().enumerate().any(|(i, &w)| turned(i) != w) {
            return unsupported(
                reader,
                format!("{from:?} to {to:?} moves elements in memory, where channels are innermost"),
            );
        }
        // The transposition writes one row of pixels; the shape that is read may fold them.
        let write = self.tensor(id, "transpose")?;
        let name = self.graph.value(id).name.clone();
        self.draft.ops.push(DraftOp {
            work: Work::Kernel(Kernel::Transpose),
            reads: vec![source.view],
            write,
            scratch: None,
            text: format!("%{name} transposed for {}", reader.origin),
            name,
            origin: reader.origin.clone(),
        });
        Ok(())
    }

    /// Whether the reshape leaves every byte where it is, or only a fully connected layer can read the result.
    fn reshape(&mut self, node: &Node, dims: &[usize]) -> Result<bool, LowerError> {
        let mut source = self.source(node, 0)?;
        let from = source.view.shape;
        if source.flat || source.upsample != 1 {
            return unsupported(node, "a second reshape of a flattened or upsampled picture is not supported");
        }
        // In NHWC the elements stay in place when the channels stay, or where NHWC and NCHW are one order on both sides.
        let one_order = |s: Shape| s.channels == 1 || s.pixels() == 1;
        let image = dims.len() == 2 || dims.len() == 4;
        match Shape::of(dims, &node.origin, "reshape") {
            Ok(to) if image && (to.channels == from.channels || (one_order(from) && one_order(to))) => {
                let Some(view) = source.view.reshaped(to) else { return Ok(false) };
                source.view = view;
            }
            Ok(to) if dims.len() == 2 && to.pixels() == 1 && self.only_layers_read(node) => source.flat = true,
            Ok(_) | Err(_) => return Ok(false),
        }
        self.sources.insert(node.output, source);
        Ok(true)
    }

    fn only_layers_read(&self, node: &Node) -> bool {
        let mut readers = self.graph.nodes.iter().filter(|n| n.inputs.contains(&node.output));
        readers.all(|n| matches!(n.op, Op::QConv { .. })) && !self.graph.outputs.contains(&node.output)
    }

    /// Upsampling costs nothing where only convolutions read it; elsewhere it becomes a 1x1 convolution with the
    /// identity, which is exact.
    fn upsample(&mut self, node: &Node, text: String, factor: usize) -> Result<(), LowerError> {
        let source = self.source(node, 0)?;
        if factor == 1 {
            self.sources.insert(node.output, source);
            return Ok(());
        }
        if factor != 2 || source.upsample != 1 || source.flat {
            return unsupported(
                node,
                "upsampling is by 2; write a larger factor as two nodes with a convolution between",
            );
        }
        let id = node.output;
        let folds = |reader: &Node| {
            matches!(&reader.op, Op::QConv { geometry: ConvGeometry { upsample: 1, .. }, .. })
                && !reader.inputs[1..].contains(&id)
        };
        let mut readers = self.graph.nodes.iter().filter(|n| n.inputs.contains(&id));
        if readers.all(folds) && !self.graph.outputs.contains(&id) {
            self.sources.insert(id, Source { upsample: 2, ..source });
            return Ok(());
        }
        let channels = usize::from(source.view.shape.channels);
        if channels > MAX_IDENTITY {
            return unsupported(
                node,
                format!("upsampling {channels} channels for more than convolutions is too large"),
            );
        }
        let message = "upsampled by a 1x1 convolution with the identity, because not only convolutions read it";
        self.remark(node, message);
        let kernel = self.identity(node, channels);
        self.push(node, text, Work::Kernel(kernel), vec![source.view])
    }

    /// `q - zp` in a weight of 64 and a multiplier of 1/64: every value comes out as it went in.
    fn identity(&mut self, node: &Node, channels: usize) -> Kernel {
        const GAIN: i8 = 64;
        let zero_point = self.graph.ty(node.inputs[0]).quant.map_or(0, |q| q.zero_point);
        let mut weights = vec![0i8; channels * channels];
        weights.iter_mut().step_by(channels + 1).for_each(|w| *w = GAIN);
        // One doubling of 2^(31 - 6): 1/64 in the requantise law with a left shift of 1 is m = 2 * 2^(30 - 6).
        let multiplier = 2 * (1 << 24);
        let bias = -i32::from(GAIN) * i32::from(zero_point);
        let pixels = self.graph.ty(node.output).dims.iter().skip(2).product();
        let layer = Layer { outputs: channels, kernel: [1, 1], inputs: channels, groups: 1, pixels };
        let packing = choose(self.target.isa, &layer);
        let blob = &mut self.draft.blob;
        Kernel::Conv(Box::new(ConvKernel {
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pad: [0, 0],
            upsample: 2,
            groups: 1,
            input_zero_point: zero_point,
            weights: blob.put(format!("identity of {channels} channels"), packed(packing, &weights, &layer)),
            packing,
            epilogue: EpilogueKernel {
                multipliers: blob
                    .put("identity multipliers", padded_words(packing, &vec![multiplier; channels], channels)),
                bias: blob.put("identity bias", padded_words(packing, &vec![bias; channels], channels)),
                row: RowKey::Fixed,
                left_shift: 1,
                zero_point,
                residual: None,
                table: None,
            },
        }))
    }

    fn remark(&mut self, node: &Node, message: &str) {
        self.draft.remarks.push(Remark {
            pass: "select_kernels".to_owned(),
            node: node.origin.clone(),
            message: message.to_owned(),
        });
    }
}

/// Where element `index` of a tensor with these dimensions lies: images with channels innermost, others as they are.
fn stored_at(dims: &[usize], index: usize) -> usize {
    let &[_, c, h, w] = dims else { return index };
    let (n, channel, pixel) = (index / (c * h * w), index / (h * w) % c, index % (h * w));
    (n * h * w + pixel) * c + channel
}

fn port_error(name: &str, reason: &str) -> LowerError {
    LowerError::Unsupported { node: name.to_owned(), op: "port".to_owned(), reason: reason.to_owned() }
}
