//! Which float nodes become one int8 step.

use super::QuantizeError;
use super::given::Given;
use crate::hoist;
use crate::ir::{Graph, NormKind, Op, ValueId};
use crate::passes::depends_only_on;

/// Positions of the nodes of one step: a layer, a residual sum, a function, each optional but one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    pub conv: Option<usize>,
    /// A node of another kind that computes: a norm, a product, a pool.
    pub other: Option<usize>,
    pub add: Option<usize>,
    pub table: Option<usize>,
    /// A clamp that saturation performs.
    pub clip: Option<usize>,
}

impl Group {
    fn members(&self) -> impl Iterator<Item = usize> {
        [self.conv, self.other, self.add, self.table, self.clip].into_iter().flatten()
    }

    pub(super) fn contains(&self, position: usize) -> bool {
        self.members().any(|p| p == position)
    }

    pub(super) fn last(&self) -> usize {
        self.members().last().unwrap_or(usize::MAX)
    }

    /// The function applied to `id` inside this group, if `id` is what its table reads.
    pub(super) fn function_of(&self, graph: &Graph, id: ValueId) -> Option<Box<dyn Fn(f32) -> f32>> {
        let node = &graph.nodes[self.table?];
        if node.inputs[0] != id {
            return None;
        }
        function(&node.op)
    }
}

/// The function of one value that a node computes.
pub(super) fn function(op: &Op) -> Option<Box<dyn Fn(f32) -> f32>> {
    match op {
        Op::Unary(u) => {
            let u = *u;
            Some(Box::new(move |x| u.eval(x)))
        }
        Op::Clip { lo, hi } => {
            let (lo, hi) = (*lo, *hi);
            Some(Box::new(move |x| {
                if x < lo {
                    lo
                } else if x > hi {
                    hi
                } else {
                    x
                }
            }))
        }
        // Its grid is that of the tensor behind it.
        Op::FakeQuant { .. } => Some(Box::new(|x| x)),
        _ => None,
    }
}

/// Groups every node that computes; nodes that only move elements stay alone.
pub(super) fn groups(graph: &Graph, given: &Given) -> Result<Vec<Group>, QuantizeError> {
    let uses = graph.use_counts();
    // What slow inputs alone decide is computed ahead, so that no step reaches across that border.
    let slow: Vec<ValueId> = hoist::slow_inputs(graph);
    let early = depends_only_on(graph, &slow);
    let sole_reader = |id: ValueId| -> Option<usize> {
        if uses[id.0 as usize] != 1 || graph.outputs.contains(&id) {
            return None;
        }
        let reader = graph.nodes.iter().position(|n| n.inputs.contains(&id))?;
        (early[id.0 as usize] == early[graph.nodes[reader].output.0 as usize]).then_some(reader)
    };
    let mut groups: Vec<Group> = Vec::new();
    let mut taken = vec![false; graph.nodes.len()];
    let mut unsupported = Vec::new();
    // Later layers first: of two layers that meet in a sum, the later one hosts it.
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if taken[i] {
            continue;
        }
        let mut group = Group::default();
        let mut end = i;
        match &node.op {
            op if is_layer(op) => group.conv = Some(i),
            _ if is_other(graph, i) => group.other = Some(i),
            Op::Add { .. } if is_full_sum(graph, i) => {
                // The layer before it may still claim this sum.
                if hosts(graph, i, &sole_reader) {
                    continue;
                }
                group.add = Some(i);
            }
            Op::Unary(_) | Op::Clip { .. } | Op::FakeQuant { .. } => {
                if claimed_by_producer(graph, i, &sole_reader) {
                    continue;
                }
                group.table = Some(i);
            }
            op if moves(op) && lies_in_one_run(graph, i) => continue,
            op => {
                unsupported.push((node.origin.clone(), op.name(), reason(op)));
                continue;
            }
        }
        if group.conv.is_some()
            && let Some(r) = sole_reader(graph.nodes[end].output)
            && matches!(graph.nodes[r].op, Op::Add { .. })
            && is_full_sum(graph, r)
            && !taken[r]
        {
            group.add = Some(r);
            taken[r] = true;
            end = r;
        }
        let takes_function = group.other.is_none_or(|p| has_epilogue(&graph.nodes[p].op));
        if group.table.is_none()
            && takes_function
            && let Some(r) = sole_reader(graph.nodes[end].output)
        {
            match graph.nodes[r].op {
                Op::Clip { lo, hi } if saturates(lo, hi) && !given.contains_key(&graph.nodes[r].output) => {
                    group.clip = Some(r);
                }
                Op::Unary(_) | Op::Clip { .. } | Op::FakeQuant { .. } => group.table = Some(r),
                _ => {}
            }
        }
        for p in group.members() {
            taken[p] = true;
        }
        groups.push(group);
    }
    if unsupported.is_empty() {
        Ok(groups)
    } else {
        unsupported.reverse();
        Err(QuantizeError::Unsupported { nodes: unsupported })
    }
}

fn is_full_sum(graph: &Graph, i: usize) -> bool {
    let node = &graph.nodes[i];
    node.inputs.iter().all(|&id| graph.constant(id).is_none() && graph.ty(id).dims == graph.ty(node.output).dims)
        && node.inputs[0] != node.inputs[1]
}

/// Whether some layer that nothing else reads ends in this sum.
fn hosts(graph: &Graph, i: usize, sole_reader: &dyn Fn(ValueId) -> Option<usize>) -> bool {
    graph.nodes[..i].iter().any(|n| is_layer(&n.op) && sole_reader(n.output) == Some(i))
}

/// Whether the node before a function takes it into its epilogue.
fn claimed_by_producer(graph: &Graph, i: usize, sole_reader: &dyn Fn(ValueId) -> Option<usize>) -> bool {
    let input = graph.nodes[i].inputs[0];
    let Some(producer) = graph.nodes.iter().position(|n| n.output == input) else { return false };
    let claims = match &graph.nodes[producer].op {
        op if is_layer(op) => true,
        Op::Add { .. } => is_full_sum(graph, producer),
        op => has_epilogue(op) && is_other(graph, producer),
    };
    claims && sole_reader(input) == Some(i)
}

/// A clamp from zero is where s8 saturates when the scale is chosen for it.
fn saturates(lo: f32, hi: f32) -> bool {
    lo == 0.0 && hi > 0.0
}

/// Layers with weights of their own; an affine is a depthwise convolution of one pixel.
fn is_layer(op: &Op) -> bool {
    matches!(op, Op::Conv(_) | Op::Linear | Op::Affine)
}

/// Whether node `i` has a kernel of its own.
fn is_other(graph: &Graph, i: usize) -> bool {
    let node = &graph.nodes[i];
    match &node.op {
        Op::Norm { kind, axis: 1, groups, .. } => *kind == NormKind::Group || *groups == 1,
        Op::ConvTranspose(g) => g.groups == 1 && g.dilation == [1, 1] && graph.constant(node.inputs[1]).is_some(),
        Op::Softmax { axis: 1 } | Op::HeadProduct(_) => true,
        Op::AveragePool { window, count_pad } => *count_pad || window.pad == [0; 4],
        Op::Mul => factors(graph, i).is_some(),
        _ => false,
    }
}

/// The factors of a product, the larger first; the other has its shape or one pixel.
pub(super) fn factors(graph: &Graph, i: usize) -> Option<[ValueId; 2]> {
    let node = &graph.nodes[i];
    let dims = &graph.ty(node.output).dims;
    let [a, b] = node.inputs[..] else { return None };
    let whole = |id: ValueId| graph.constant(id).is_none() && graph.ty(id).dims == *dims;
    let pixel = |id: ValueId| {
        let d = &graph.ty(id).dims;
        d.len() == dims.len() && d.len() >= 2 && d[..2] == dims[..2] && d[2..].iter().all(|&x| x == 1)
    };
    let fits = |id: ValueId| graph.constant(id).is_none() && (whole(id) || pixel(id));
    match (whole(a), whole(b)) {
        (true, _) if fits(b) => Some([a, b]),
        (_, true) if fits(a) => Some([b, a]),
        _ => None,
    }
}

/// Kernels that end in a table.
fn has_epilogue(op: &Op) -> bool {
    matches!(op, Op::Norm { .. } | Op::ConvTranspose(_) | Op::Mul)
}

/// Right operands of products, which are symmetric.
pub(super) fn symmetric(graph: &Graph) -> Vec<ValueId> {
    graph.nodes.iter().filter(|n| matches!(n.op, Op::HeadProduct(_))).map(|n| n.inputs[1]).collect()
}

fn reason(op: &Op) -> String {
    match op {
        Op::Norm { .. } => "only norms over axis 1 have an int8 kernel".to_owned(),
        Op::ConvTranspose(_) => "groups and dilation are not supported yet".to_owned(),
        Op::Mul => "only a product of two computed tensors, one of which may be one pixel, is supported".to_owned(),
        Op::Slice { .. } => "only channels, rows, or the pixels of a single row can be cut, without gaps".to_owned(),
        Op::Add { .. } => "only a sum of two computed tensors of one shape is supported".to_owned(),
        Op::Concat { .. } => "only channels, rows, or the pixels of a single row can be joined".to_owned(),
        _ => "there is no int8 kernel for it".to_owned(),
    }
}

/// The range of a clamp that ends the group which computes `id`, when saturation performs it.
pub(super) fn clip_range(graph: &Graph, groups: &[Group], id: ValueId) -> Option<(f32, f32)> {
    groups.iter().find_map(|g| {
        let node = &graph.nodes[g.clip?];
        match node.op {
            Op::Clip { lo, hi } if node.output == id || node.inputs[0] == id => Some((lo, hi)),
            _ => None,
        }
    })
}

/// Operations that only move elements, so that their operands and result have one scale.
pub(super) fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Concat { .. }
            | Op::PixelShuffle { .. }
            | Op::PixelUnshuffle { .. }
            | Op::Upsample { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::MaxPool(_)
    )
}

/// Whether what node `i` joins or cuts are runs of channels, of rows, or of the pixels of a single row.
fn lies_in_one_run(graph: &Graph, i: usize) -> bool {
    let node = &graph.nodes[i];
    let axis = match node.op {
        Op::Concat { axis } | Op::Slice { axis, step: 1, .. } => axis,
        Op::Slice { .. } => return false,
        _ => return true,
    };
    match (axis, &graph.ty(node.output).dims[..]) {
        (1, dims) => matches!(dims.len(), 2 | 4),
        (2, dims) => dims.len() == 4,
        (3, [_, _, h, _]) => *h == 1,
        _ => false,
    }
}

/// For each value, the representative of the tensors that must share its scale because an operation only moves elements.
pub(super) fn shared_scales(graph: &Graph) -> Vec<ValueId> {
    let mut parent: Vec<usize> = (0..graph.values.len()).collect();
    fn root(parent: &[usize], mut i: usize) -> usize {
        while parent[i] != i {
            i = parent[i];
        }
        i
    }
    for node in &graph.nodes {
        if moves(&node.op) {
            for id in &node.inputs {
                let (a, b) = (root(&parent, id.0 as usize), root(&parent, node.output.0 as usize));
                parent[a.max(b)] = a.min(b);
            }
        }
    }
    (0..parent.len()).map(|i| ValueId(root(&parent, i) as u32)).collect()
}
