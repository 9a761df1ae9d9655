//! One layout: channels are axis 1 of `[1, C, H, W]`, tokens are pixels, matrices are heads of an image.
//!
//! Exporters transpose between images, tokens and heads; on the device all of these are the same bytes (pixels with
//! contiguous channels). Every value is therefore followed as strided axes over a value of the new graph: reshapes,
//! transpositions and slices are bookkeeping, a matrix product with constants is a 1x1 convolution, and a product of two
//! computed tensors reads its matrices where they lie. What cannot be said with strides is moved by explicit operations.

mod product;
mod view;

use super::{Options, PassError, fold_constants, lift};
use crate::ir::{ConvGeometry, Def, Graph, InferError, Node, NormKind, Op, Tensor, ValueId, Window};
use std::collections::HashMap;
use view::{View, reshape, strides_of};

const PASS: &str = "layout";

pub(super) fn run(graph: &mut Graph, _: &Options) -> Result<(), PassError> {
    let mut layout = Layout::new(graph);
    for node in &graph.nodes {
        layout.visit(node)?;
    }
    let mut out = layout.finish()?;
    out.sweep();
    fold_constants::drop_identities(&mut out);
    out.sweep();
    let (before, after) = (movements(graph), movements(&out));
    if after < before {
        out.remark(PASS, &out.name.clone(), format!("{before} operations that moved elements became {after}"));
    }
    lift::resampling(&mut out);
    lift::affines(&mut out);
    *graph = out;
    Ok(())
}

fn movements(graph: &Graph) -> usize {
    let moves = |op: &Op| {
        matches!(
            op,
            Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } | Op::Expand { .. } | Op::Concat { .. }
        )
    };
    graph.nodes.iter().filter(|n| moves(&n.op)).count()
}

struct Layout<'g> {
    old: &'g Graph,
    out: Graph,
    views: HashMap<ValueId, View>,
    constants: HashMap<ValueId, ValueId>,
}

/// The node that is being placed.
struct At<'n> {
    node: &'n Node,
    name: String,
}

impl<'g> Layout<'g> {
    fn new(old: &'g Graph) -> Self {
        let mut out = Graph::new(&old.name);
        out.meta.clone_from(&old.meta);
        out.remarks.clone_from(&old.remarks);
        let mut views = HashMap::new();
        for &id in &old.inputs {
            let value = old.value(id);
            if let Def::Input(kind) = value.def {
                let new = out.add_input(&value.name, value.ty.clone(), kind);
                views.insert(id, View::whole(new, &value.ty.dims));
            }
        }
        Layout { old, out, views, constants: HashMap::new() }
    }

    /// The new graph, whose outputs have the dimensions and names of the old ones.
    fn finish(mut self) -> Result<Graph, InferError> {
        for &id in &self.old.outputs {
            let old = self.old.value(id);
            let new = match self.views.get(&id) {
                Some(view) => view.clone().materialise(&mut self.out, &format!("{}.output", old.name), &old.name)?,
                None => self.constant(id),
            };
            if self.out.value(new).name != old.name && matches!(self.out.value(new).def, Def::Node) {
                match self.out.find(&old.name) {
                    Some(other) => self.out.swap_names(new, other),
                    None => self.out.value_mut(new).name.clone_from(&old.name),
                }
            }
            self.out.outputs.push(new);
        }
        Ok(self.out)
    }

    fn constant(&mut self, id: ValueId) -> ValueId {
        if let Some(&new) = self.constants.get(&id) {
            return new;
        }
        let tensor = self.old.constant(id).cloned().unwrap_or_else(|| Tensor::f32(&[0], Vec::new()));
        let new = self.out.add_const(&self.old.value(id).name, tensor);
        self.constants.insert(id, new);
        new
    }

    fn view(&self, id: ValueId) -> Option<View> {
        self.views.get(&id).cloned()
    }

    fn emit(&mut self, at: &At<'_>, op: Op, inputs: &[ValueId]) -> Result<ValueId, InferError> {
        self.out.add_node(&at.name, op, inputs, &at.node.origin)
    }

    /// The value as it was, by moving elements if necessary.
    fn value(&mut self, at: &At<'_>, id: ValueId) -> Result<ValueId, InferError> {
        match self.view(id) {
            Some(view) => view.materialise(&mut self.out, &format!("{}.moved", at.name), &at.node.origin),
            None => Ok(self.constant(id)),
        }
    }

    /// A view that covers all of its base.
    fn complete(&mut self, at: &At<'_>, view: View) -> Result<View, InferError> {
        let (name, origin) = (format!("{}.part", at.name), at.node.origin.clone());
        if let Some(view) = view.clone().compact(&mut self.out, &name, &origin)? {
            return Ok(view);
        }
        let dims = view.dims.clone();
        Ok(View::whole(view.materialise(&mut self.out, &name, &origin)?, &dims))
    }

    /// A view of a `[1, C, 1, P]` base whose channels are `axis` alone.
    fn channels_first(&mut self, at: &At<'_>, view: View, axis: usize) -> Result<View, InferError> {
        let mut order = vec![axis];
        order.extend((0..view.dims.len()).filter(|&a| a != axis));
        let dims = view.dims.clone();
        let (c, pixels) = (dims[axis], dims.iter().product::<usize>() / dims[axis].max(1));
        let name = format!("{}.channels", at.name);
        let moved = view.transposed(&order).materialise(&mut self.out, &name, &at.node.origin)?;
        let base = reshape(&mut self.out, moved, &[1, c, 1, pixels], &name, &at.node.origin)?;
        let steps = strides_of(&order.iter().map(|&a| dims[a]).collect::<Vec<_>>());
        let mut strides = vec![0; dims.len()];
        order.iter().zip(steps).for_each(|(&a, step)| strides[a] = step);
        Ok(View { base, dims, strides, offset: 0 })
    }

    /// Whether the channels of the view's base are exactly `axis`.
    fn has_channels(&self, view: &View, axis: usize) -> bool {
        let base = &self.out.ty(view.base).dims;
        match base[..] {
            [1, c] => view.dims[axis] == c,
            [1, c, _, _] if view.dims[axis] == 1 => c == 1,
            [1, c, _, _] => view.channel_axes(&self.out) == Some(vec![axis]) && view.dims[axis] == c,
            _ => false,
        }
    }

    /// The complete view with its channels at `axis`, moved there if they are elsewhere.
    fn with_channels(&mut self, at: &At<'_>, view: View, axis: usize) -> Result<View, InferError> {
        let view = self.complete(at, view)?;
        if self.has_channels(&view, axis) { Ok(view) } else { self.channels_first(at, view, axis) }
    }

    fn visit(&mut self, node: &Node) -> Result<(), InferError> {
        let at = At { node, name: self.old.value(node.output).name.clone() };
        let first = node.inputs.first().and_then(|&id| self.view(id));
        let view = match (&node.op, first) {
            (Op::Reshape { dims }, Some(x)) => Some(self.reshaped(&at, x, dims)?),
            (Op::Transpose { perm }, Some(x)) => Some(x.transposed(perm)),
            (Op::Slice { axis, start, step, .. }, Some(x)) => {
                let count = self.old.ty(node.output).dims[*axis];
                Some(x.sliced(*axis, *start, count, *step))
            }
            (Op::Expand { dims }, Some(x)) => Some(x.expanded(dims)),
            (Op::Unary(_) | Op::Clip { .. } | Op::FakeQuant { .. }, Some(x)) => {
                let x = self.complete(&at, x)?;
                let base = self.emit(&at, node.op.clone(), &[x.base])?;
                Some(View { base, ..x })
            }
            (Op::Affine, Some(x)) => self.affine(&at, x)?,
            (Op::Add { .. } | Op::Mul | Op::Div | Op::Max | Op::Min | Op::Pow, _) => self.binary(&at)?,
            (Op::Norm { kind, axis, groups, eps }, Some(x)) => Some(self.norm(&at, x, *kind, *axis, *groups, *eps)?),
            (Op::Softmax { axis }, Some(x)) => {
                let x = self.with_channels(&at, x, *axis)?;
                let base = self.emit(&at, Op::Softmax { axis: 1 }, &[x.base])?;
                Some(View { base, ..x })
            }
            (Op::Linear, Some(x)) => self.linear(&at, x)?,
            (Op::MatMul, Some(x)) => match self.view(node.inputs[1]) {
                Some(right) => self.product(&at, x, right)?,
                None => self.weights(&at, x)?,
            },
            (Op::Concat { axis }, _) => self.concat(&at, *axis)?,
            (Op::ReduceMean { axes }, Some(x)) => self.mean(&at, x, axes)?,
            _ => None,
        };
        let view = match view {
            Some(view) => view,
            None => {
                let inputs: Vec<ValueId> =
                    node.inputs.iter().map(|&id| self.value(&at, id)).collect::<Result<_, _>>()?;
                let new = self.emit(&at, node.op.clone(), &inputs)?;
                View::whole(new, &self.old.ty(node.output).dims)
            }
        };
        self.views.insert(node.output, view);
        Ok(())
    }

    fn reshaped(&mut self, at: &At<'_>, x: View, dims: &[usize]) -> Result<View, InferError> {
        if let Some(view) = x.reshaped(dims) {
            return Ok(view);
        }
        let moved = x.materialise(&mut self.out, &format!("{}.moved", at.name), &at.node.origin)?;
        Ok(View::whole(moved, dims))
    }

    fn affine(&mut self, at: &At<'_>, x: View) -> Result<Option<View>, InferError> {
        let row = |id: ValueId| self.old.constant(id).and_then(Tensor::as_f32).map(<[f32]>::to_vec);
        let (Some(scale), Some(shift)) = (row(at.node.inputs[1]), row(at.node.inputs[2])) else { return Ok(None) };
        let x = self.complete(at, x)?;
        let uniform = |v: &[f32]| v.iter().all(|a| a.to_bits() == v[0].to_bits());
        let (scale, shift) = if self.has_channels(&x, 1) {
            (scale, shift)
        } else {
            match self.out.ty(x.base).dims.get(1) {
                Some(&c) if uniform(&scale) && uniform(&shift) => (vec![scale[0]; c], vec![shift[0]; c]),
                _ => return Ok(None),
            }
        };
        let c = scale.len();
        let scale = self.out.add_const(&format!("{}.scale", at.name), Tensor::f32(&[c], scale));
        let shift = self.out.add_const(&format!("{}.shift", at.name), Tensor::f32(&[c], shift));
        let base = self.emit(at, Op::Affine, &[x.base, scale, shift])?;
        Ok(Some(View { base, ..x }))
    }

    fn binary(&mut self, at: &At<'_>) -> Result<Option<View>, InferError> {
        let out_dims = self.old.ty(at.node.output).dims.clone();
        let op = at.node.op.clone();
        let (a, b) = (self.view(at.node.inputs[0]), self.view(at.node.inputs[1]));
        let ordered = |x: ValueId, y: ValueId, swapped: bool| if swapped { [y, x] } else { [x, y] };
        let (x, y, swapped) = match (a, b) {
            (Some(x), None) | (None, Some(x)) => {
                let swapped = self.view(at.node.inputs[0]).is_none();
                let Some(constant) = self.old.constant(at.node.inputs[usize::from(!swapped)]) else { return Ok(None) };
                if x.dims != out_dims || constant.as_f32().is_none() {
                    return Ok(None);
                }
                let x = self.complete(at, x)?;
                let base_dims = self.out.ty(x.base).dims.clone();
                let Some(under) = x.under(&base_dims, constant) else { return Ok(None) };
                let under = self.out.add_const(&format!("{}.constant", at.name), under);
                let base = self.emit(at, op, &ordered(x.base, under, swapped))?;
                return Ok(Some(View { base, ..x }));
            }
            (Some(a), Some(b)) if a.dims == out_dims => (a, b, false),
            (Some(a), Some(b)) if b.dims == out_dims => (b, a, true),
            _ => return Ok(None),
        };
        let x = self.complete(at, x)?;
        if y.dims == out_dims {
            let y = self.complete(at, y)?;
            let same = (0..out_dims.len()).all(|i| out_dims[i] == 1 || x.strides[i] == y.strides[i]);
            if same {
                let dims = self.out.ty(x.base).dims.clone();
                let y = reshape(&mut self.out, y.base, &dims, &at.name, &at.node.origin)?;
                let base = self.emit(at, op, &ordered(x.base, y, swapped))?;
                return Ok(Some(View { base, ..x }));
            }
            // The second operand is moved to where the first lies.
            if let (&[1, c, h, w], Some(channels)) = (&self.out.ty(x.base).dims[..], x.channel_axes(&self.out)) {
                let mut order = channels.clone();
                let mut pixels: Vec<usize> = (0..out_dims.len()).filter(|a| !channels.contains(a)).collect();
                pixels.sort_by_key(|&a| std::cmp::Reverse((x.strides[a], out_dims[a])));
                order.extend(pixels);
                let name = format!("{}.moved", at.name);
                let y = y.transposed(&order).materialise(&mut self.out, &name, &at.node.origin)?;
                let y = reshape(&mut self.out, y, &[1, c, h, w], &name, &at.node.origin)?;
                let base = self.emit(at, op, &ordered(x.base, y, swapped))?;
                return Ok(Some(View { base, ..x }));
            }
            return Ok(None);
        }
        // One number for each channel.
        let lead = out_dims.len() - y.dims.len();
        let channel = (0..out_dims.len()).find(|&a| self.has_channels(&x, a));
        let Some(axis) = channel else { return Ok(None) };
        let rank = self.out.ty(x.base).dims.len();
        let per_channel = y.dims.iter().enumerate().all(|(i, &d)| d == 1 || (i + lead == axis && d == out_dims[axis]));
        if !per_channel || rank != 4 {
            return Ok(None);
        }
        let c = y.dims.iter().product::<usize>();
        let name = format!("{}.row", at.name);
        let row = match y.reshaped(&[1, c, 1, 1]) {
            Some(row) => row.materialise(&mut self.out, &name, &at.node.origin)?,
            None => return Ok(None),
        };
        let base = self.emit(at, op, &ordered(x.base, row, swapped))?;
        Ok(Some(View { base, ..x }))
    }

    fn norm(
        &mut self,
        at: &At<'_>,
        x: View,
        kind: NormKind,
        axis: usize,
        groups: usize,
        eps: f32,
    ) -> Result<View, InferError> {
        let x = self.complete(at, x)?;
        // Axes of channels outside of the norm's own, as heads, are more groups.
        let outer = match x.channel_axes(&self.out) {
            Some(axes) if kind != NormKind::Group && axes.last() == Some(&axis) => {
                axes[..axes.len() - 1].iter().map(|&a| x.dims[a]).product::<usize>()
            }
            _ => 1,
        };
        let fits = outer > 1 && outer * x.dims[axis] == self.out.ty(x.base).dims[1];
        let (x, outer) = if fits { (x, outer) } else { (self.with_channels(at, x, axis)?, 1) };
        let mut inputs = vec![x.base];
        for &id in &at.node.inputs[1..] {
            let Some(row) = self.old.constant(id).and_then(Tensor::as_f32) else {
                return Err(InferError {
                    node: at.node.origin.clone(),
                    message: "the factors of a norm are computed; fix the inputs that they depend on".to_owned(),
                });
            };
            let tiled = row.repeat(outer);
            inputs.push(self.out.add_const(&self.old.value(id).name, Tensor::f32(&[tiled.len()], tiled)));
        }
        let base = self.emit(at, Op::Norm { kind, axis: 1, groups: groups * outer, eps }, &inputs)?;
        Ok(View { base, ..x })
    }

    /// A linear layer: of one vector as it is, of tokens as a 1x1 convolution.
    fn linear(&mut self, at: &At<'_>, x: View) -> Result<Option<View>, InferError> {
        if x.dims[0] == 1 || at.node.inputs.len() > 3 {
            return Ok(None);
        }
        let Some(weight) = self.old.constant(at.node.inputs[1]).cloned() else { return Ok(None) };
        let bias = at.node.inputs.get(2).map(|&id| self.constant(id));
        self.pointwise(at, x, weight, bias).map(Some)
    }

    /// A product with a constant matrix on the right.
    fn weights(&mut self, at: &At<'_>, x: View) -> Result<Option<View>, InferError> {
        let Some(matrix) = self.old.constant(at.node.inputs[1]) else { return Ok(None) };
        let (&[k, o], Some(values)) = (&matrix.dims[..], matrix.as_f32()) else { return Ok(None) };
        let turned = (0..o * k).map(|i| values[i % k * o + i / k]).collect();
        self.pointwise(at, x, Tensor::f32(&[o, k], turned), None).map(Some)
    }

    fn pointwise(
        &mut self,
        at: &At<'_>,
        x: View,
        mut weight: Tensor,
        bias: Option<ValueId>,
    ) -> Result<View, InferError> {
        let last = x.dims.len() - 1;
        let (k, o) = (x.dims[last], weight.dims[0]);
        let mut dims = x.dims.clone();
        dims[last] = o;
        let name = format!("{}.weight", self.old.value(at.node.inputs[1]).name);
        if x.dims[..last].iter().all(|&d| d == 1) {
            let row = View { dims: vec![1, k], strides: vec![0, x.strides[last]], ..x };
            let row = row.materialise(&mut self.out, &format!("{}.row", at.name), &at.node.origin)?;
            let weight = self.out.add_const(&name, weight);
            let inputs: Vec<ValueId> = [row, weight].into_iter().chain(bias).collect();
            let base = self.emit(at, Op::Linear, &inputs)?;
            return Ok(View::whole(base, &dims));
        }
        let x = self.with_channels(at, x, last)?;
        weight.dims = vec![o, k, 1, 1];
        let weight = self.out.add_const(&name, weight);
        let inputs: Vec<ValueId> = [x.base, weight].into_iter().chain(bias).collect();
        let base = self.emit(at, Op::Conv(ConvGeometry::default()), &inputs)?;
        let mut strides = x.strides.clone();
        strides[last] = self.out.ty(base).dims[2..].iter().product();
        Ok(View { base, dims, strides, offset: 0 })
    }

    fn concat(&mut self, at: &At<'_>, axis: usize) -> Result<Option<View>, InferError> {
        let mut parts = Vec::new();
        for &id in &at.node.inputs {
            parts.push(match self.view(id) {
                Some(view) => Some(self.complete(at, view)?),
                None => None,
            });
        }
        let Some(like) = parts.iter().flatten().max_by_key(|v| v.dims[axis]).cloned() else { return Ok(None) };
        let &[1, _, h, w] = &self.out.ty(like.base).dims[..] else { return Ok(None) };
        let Some(channels) = like.channel_axes(&self.out) else { return Ok(None) };
        let out_dims = self.old.ty(at.node.output).dims.clone();
        let rank = out_dims.len();
        let pixel_axes: Vec<usize> = (0..rank).filter(|a| !channels.contains(a) && like.dims[*a] > 1).collect();
        let joins_channels = channels == [axis];
        let joins_pixels = !channels.contains(&axis) && (pixel_axes == [axis] || (pixel_axes.is_empty()));
        if !joins_channels && !joins_pixels {
            return Ok(None);
        }
        // Strides of a part with `n` places along the axis.
        let pixels = |n: usize| if joins_channels { h * w } else { n };
        let strides = |n: usize| -> Vec<usize> {
            let of = |a: usize| match (channels.contains(&a), joins_channels) {
                (true, _) => like.strides[a] / (h * w) * pixels(n),
                (false, true) => like.strides[a],
                (false, false) => usize::from(a == axis),
            };
            (0..rank).map(of).collect()
        };
        let mut bases = Vec::new();
        for (part, &id) in parts.iter().zip(&at.node.inputs) {
            let dims = self.old.ty(id).dims.clone();
            let n = dims[axis];
            let c = dims.iter().product::<usize>() / pixels(n);
            let base_dims = if joins_channels { vec![1, c, h, w] } else { vec![1, c, 1, n] };
            let wanted = View { base: like.base, strides: strides(n), dims: dims.clone(), offset: 0 };
            let base = match part {
                Some(view) => {
                    let same = (0..rank).all(|a| dims[a] == 1 || view.strides[a] == wanted.strides[a]);
                    let part = if same {
                        view.base
                    } else {
                        let mut order: Vec<usize> = (0..rank).collect();
                        order.sort_by_key(|&a| std::cmp::Reverse(wanted.strides[a]));
                        let name = format!("{}.moved", at.name);
                        view.clone().transposed(&order).materialise(&mut self.out, &name, &at.node.origin)?
                    };
                    reshape(&mut self.out, part, &base_dims, &format!("{}.part", at.name), &at.node.origin)?
                }
                None => {
                    let Some(constant) = self.old.constant(id) else { return Ok(None) };
                    let Some(mut tensor) = wanted.under(&base_dims, constant) else { return Ok(None) };
                    if tensor.dims != base_dims {
                        let full = crate::interp::eval(&Op::Expand { dims: base_dims.clone() }, &[&tensor]);
                        tensor = full.map_err(|e| e.at(&at.node.origin))?;
                    }
                    self.out.add_const(&format!("{}.layout", self.old.value(id).name), tensor)
                }
            };
            bases.push(base);
        }
        let base = self.emit(at, Op::Concat { axis: if joins_channels { 1 } else { 3 } }, &bases)?;
        Ok(Some(View { base, strides: strides(out_dims[axis]), dims: out_dims, offset: 0 }))
    }

    /// The mean over all pixels is a pooling operation.
    fn mean(&mut self, at: &At<'_>, x: View, axes: &[usize]) -> Result<Option<View>, InferError> {
        let x = self.complete(at, x)?;
        let &[1, _, h, w] = &self.out.ty(x.base).dims[..] else { return Ok(None) };
        let Some(channels) = x.channel_axes(&self.out) else { return Ok(None) };
        let reduced = |a: usize| axes.contains(&a) && x.dims[a] > 1;
        if (0..x.dims.len()).any(|a| x.dims[a] > 1 && reduced(a) == channels.contains(&a)) {
            return Ok(None);
        }
        let window = Window { kernel: [h, w], stride: [1, 1], pad: [0; 4] };
        let base = self.emit(at, Op::AveragePool { window, count_pad: false }, &[x.base])?;
        let dims: Vec<usize> = (0..x.dims.len()).map(|a| if axes.contains(&a) { 1 } else { x.dims[a] }).collect();
        let strides = x.strides.iter().map(|s| s / (h * w)).collect();
        Ok(Some(View { base, dims, strides, offset: 0 }))
    }
}
