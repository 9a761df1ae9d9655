//! A value of the old graph as strided axes over a value of the new one.

use crate::ir::{DType, Graph, InferError, Op, Tensor, ValueId};

/// `dims[i]` steps of `strides[i]` elements from `offset`, over the row-major elements of `base`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub base: ValueId,
    pub dims: Vec<usize>,
    pub strides: Vec<usize>,
    pub offset: usize,
}

/// Row-major strides.
pub(super) fn strides_of(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

impl View {
    /// The whole of `base` under dimensions with as many elements.
    pub(super) fn whole(base: ValueId, dims: &[usize]) -> Self {
        View { base, dims: dims.to_vec(), strides: strides_of(dims), offset: 0 }
    }

    /// Axes that hold more than one element, outermost stride first.
    fn digits(&self) -> Vec<usize> {
        let mut axes: Vec<usize> = (0..self.dims.len()).filter(|&a| self.dims[a] > 1).collect();
        axes.sort_by_key(|&a| std::cmp::Reverse(self.strides[a]));
        axes
    }

    /// Whether every element of the base occurs exactly once.
    pub(super) fn is_complete(&self, graph: &Graph) -> bool {
        let mut step = 1;
        for &axis in self.digits().iter().rev() {
            if self.strides[axis] != step {
                return false;
            }
            step *= self.dims[axis];
        }
        self.offset == 0 && step == graph.ty(self.base).elements()
    }

    /// Whether the elements are those of the base in the base's order.
    pub(super) fn is_plain(&self, graph: &Graph) -> bool {
        let row_major = strides_of(&self.dims);
        let same = (0..self.dims.len()).all(|a| self.dims[a] == 1 || self.strides[a] == row_major[a]);
        same && self.is_complete(graph)
    }

    /// The same elements under other dimensions, if strides can say that.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<View> {
        if dims.iter().product::<usize>() != self.dims.iter().product::<usize>() {
            return None;
        }
        // Old axes that follow each other seamlessly are one run.
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (&d, &s) in self.dims.iter().zip(&self.strides).filter(|(d, _)| **d != 1) {
            match runs.last_mut() {
                Some((size, stride)) if *stride == s * d => (*size, *stride) = (*size * d, s),
                _ => runs.push((d, s)),
            }
        }
        let mut strides = vec![0; dims.len()];
        let mut run = runs.len();
        let mut left = 1;
        let mut step = 0;
        for a in (0..dims.len()).rev() {
            if dims[a] == 1 {
                continue;
            }
            if left == 1 {
                run = run.checked_sub(1)?;
                (left, step) = runs[run];
            }
            if left % dims[a] != 0 {
                return None;
            }
            strides[a] = step;
            step *= dims[a];
            left /= dims[a];
        }
        Some(View { base: self.base, dims: dims.to_vec(), strides, offset: self.offset })
    }

    pub(super) fn transposed(&self, perm: &[usize]) -> View {
        View {
            dims: perm.iter().map(|&p| self.dims[p]).collect(),
            strides: perm.iter().map(|&p| self.strides[p]).collect(),
            ..self.clone()
        }
    }

    pub(super) fn sliced(&self, axis: usize, start: usize, count: usize, step: usize) -> View {
        let mut view = self.clone();
        view.offset += start * self.strides[axis];
        view.dims[axis] = count;
        view.strides[axis] *= step;
        view
    }

    pub(super) fn expanded(&self, dims: &[usize]) -> View {
        let lead = dims.len() - self.dims.len();
        let stride = |a: usize| if a < lead || self.dims[a - lead] != dims[a] { 0 } else { self.strides[a - lead] };
        View { dims: dims.to_vec(), strides: (0..dims.len()).map(stride).collect(), ..self.clone() }
    }

    /// The axes among `self.dims` that together count the channels (axis 1) of a `[1, C, H, W]` base, outermost first,
    /// if no axis mixes channels and pixels.
    pub(super) fn channel_axes(&self, graph: &Graph) -> Option<Vec<usize>> {
        let &[1, _, h, w] = &graph.ty(self.base).dims[..] else { return None };
        let mut axes = Vec::new();
        for a in self.digits() {
            if self.strides[a].is_multiple_of(h * w) {
                axes.push(a);
            } else if self.strides[a] * self.dims[a] > h * w {
                return None;
            }
        }
        Some(axes)
    }

    /// Restricts the base to the elements that the view names, by slices along its axes.
    pub(super) fn compact(self, graph: &mut Graph, name: &str, origin: &str) -> Result<Option<View>, InferError> {
        if self.is_complete(graph) || self.strides.iter().zip(&self.dims).any(|(s, d)| *s == 0 && *d > 1) {
            return Ok(self.is_complete(graph).then_some(self));
        }
        let dims = graph.ty(self.base).dims.clone();
        if let Some(ranges) = self.ranges(&dims) {
            return self.cut(graph, &dims, &ranges, name, origin).map(Some);
        }
        // Pixels may be counted across image rows.
        let &[n, c, h, w] = &dims[..] else { return Ok(None) };
        let flat = [n, c, 1, h * w];
        let Some(ranges) = self.ranges(&flat) else { return Ok(None) };
        let base = reshape(graph, self.base, &flat, name, origin)?;
        View { base, ..self }.cut(graph, &flat, &ranges, name, origin).map(Some)
    }

    /// For each axis of a base of these dimensions: first element, distance and number of the elements that the view names.
    fn ranges(&self, dims: &[usize]) -> Option<Vec<(usize, usize, usize)>> {
        let steps = strides_of(dims);
        let mut ranges = Vec::new();
        for (&step, &size) in steps.iter().zip(dims) {
            let mut inside = self.digits();
            inside.retain(|&a| self.strides[a].is_multiple_of(step) && self.strides[a] < step * size && size > 1);
            inside.reverse();
            let start = self.offset / step % size;
            let distance = inside.first().map_or(1, |&a| self.strides[a] / step);
            let mut next = distance;
            for &a in &inside {
                if self.strides[a] / step != next {
                    return None;
                }
                next *= self.dims[a];
            }
            let count = next / distance;
            if start + (count - 1) * distance >= size {
                return None;
            }
            ranges.push((start, distance, count));
        }
        let all = ranges.iter().map(|r| r.2).product::<usize>() == self.dims.iter().product::<usize>();
        all.then_some(ranges)
    }

    /// The view over slices of its base.
    fn cut(
        self,
        graph: &mut Graph,
        dims: &[usize],
        ranges: &[(usize, usize, usize)],
        name: &str,
        origin: &str,
    ) -> Result<View, InferError> {
        let steps = strides_of(dims);
        let kept: Vec<usize> = ranges.iter().map(|r| r.2).collect();
        let mut base = self.base;
        for (j, &(start, step, count)) in ranges.iter().enumerate() {
            if (start, step, count) != (0, 1, dims[j]) {
                let end = start + (count - 1) * step + 1;
                base = graph.add_node(name, Op::Slice { axis: j, start, end, step }, &[base], origin)?;
            }
        }
        let new_steps = strides_of(&kept);
        let strides = self.strides.iter().zip(&self.dims).map(|(&s, &d)| {
            let j = (0..steps.len()).find(|&j| s % steps[j] == 0 && s < steps[j] * dims[j]).unwrap_or(0);
            if d == 1 { 0 } else { s / steps[j] / ranges[j].1 * new_steps[j] }
        });
        Ok(View { base, strides: strides.collect(), dims: self.dims, offset: 0 })
    }

    /// A value with these very dimensions.
    pub(super) fn materialise(self, graph: &mut Graph, name: &str, origin: &str) -> Result<ValueId, InferError> {
        if self.is_plain(graph) {
            return reshape(graph, self.base, &self.dims, name, origin);
        }
        let repeated = |a: usize| self.strides[a] == 0 && self.dims[a] > 1;
        if (0..self.dims.len()).any(repeated) {
            let dims: Vec<usize> = (0..self.dims.len()).map(|a| if repeated(a) { 1 } else { self.dims[a] }).collect();
            let full = self.dims.clone();
            let x = View { dims, ..self }.materialise(graph, name, origin)?;
            return graph.add_node(name, Op::Expand { dims: full }, &[x], origin);
        }
        let dims = self.dims.clone();
        let Some(view) = self.compact(graph, name, origin)? else {
            return Err(InferError {
                node: origin.to_owned(),
                message: "the elements that it reads do not lie along the axes of one tensor".to_owned(),
            });
        };
        let digits = view.digits();
        let sizes: Vec<usize> = digits.iter().map(|&a| view.dims[a]).collect();
        let x = reshape(graph, view.base, &sizes, name, origin)?;
        let mut order = digits.clone();
        order.sort_unstable();
        let perm: Vec<usize> = order.iter().filter_map(|a| digits.iter().position(|d| d == a)).collect();
        let x = if perm.is_sorted() { x } else { graph.add_node(name, Op::Transpose { perm }, &[x], origin)? };
        reshape(graph, x, &dims, name, origin)
    }

    /// The constant that lies under a base of these dimensions like `constant`, broadcast, lies under the view; with axes
    /// of 1 where it does not change.
    pub(super) fn under(&self, base: &[usize], constant: &Tensor) -> Option<Tensor> {
        let values = constant.as_f32()?;
        let lead = self.dims.len().checked_sub(constant.dims.len())?;
        let own = strides_of(&constant.dims);
        let mut full = vec![0.0f32; base.iter().product()];
        for i in 0..full.len() {
            // Element `i` of the view's row-major order.
            let (mut rest, mut at, mut from) = (i, self.offset, 0);
            for a in (0..self.dims.len()).rev() {
                let k = rest % self.dims[a];
                rest /= self.dims[a];
                at += k * self.strides[a];
                if a >= lead && constant.dims[a - lead] > 1 {
                    from += k * own[a - lead];
                }
            }
            full[at] = values[from];
        }
        Some(squeezed(&full, base))
    }
}

/// The same tensor with axes of 1 where its elements repeat.
fn squeezed(full: &[f32], dims: &[usize]) -> Tensor {
    let mut data = full.to_vec();
    let mut dims = dims.to_vec();
    for a in 0..dims.len() {
        let inner: usize = dims[a + 1..].iter().product();
        let n = dims[a];
        let first = |i: usize| i / (n * inner) * n * inner + i % inner;
        if n > 1 && data.iter().enumerate().all(|(i, v)| v.to_bits() == data[first(i)].to_bits()) {
            data = data.chunks(n * inner).flat_map(|c| c[..inner].to_vec()).collect();
            dims[a] = 1;
        }
    }
    Tensor::f32(&dims, data)
}

/// `x` under other dimensions; reshapes that follow each other are one.
pub(super) fn reshape(
    graph: &mut Graph,
    x: ValueId,
    dims: &[usize],
    name: &str,
    origin: &str,
) -> Result<ValueId, InferError> {
    if graph.ty(x).dims == dims {
        return Ok(x);
    }
    debug_assert_ne!(graph.ty(x).dtype, DType::I32);
    let before = graph.nodes.iter().rev().find(|n| n.output == x);
    let source = match before {
        Some(node) if matches!(node.op, Op::Reshape { .. }) => node.inputs[0],
        _ => x,
    };
    if graph.ty(source).dims == dims {
        return Ok(source);
    }
    graph.add_node(name, Op::Reshape { dims: dims.to_vec() }, &[source], origin)
}
