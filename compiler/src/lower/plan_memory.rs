//! Gives every tensor an address.
//!
//! Three liberties make an arena small: a step may write over an operand that it reads for the last time, the operands
//! of a concatenation may be written where the concatenation will lie, and tensors that never live together may share
//! bytes. The first two are choices: writing over an operand ties two lifetimes together, and placing an operand of a
//! concatenation reserves the whole of it as soon as the first operand is written, where a copy at the end would not.
//! They work together: an operand that is overwritten by a tensor inside a concatenation lies there too, and what is
//! copied is copied as soon as the concatenation has a place, so that its own bytes are free.
//! The choices are improved one at a time, from both extremes, for the smallest arena and then for the fewest copied
//! bytes.

use super::allocate::{ALIGNMENT, Allocation, Block, allocate};
use super::draft::{Along, Draft, View, Work};

/// Arrangements tried before the best is kept.
const MAX_TRIES: usize = 400;
/// Comparisons spent on the final search for offsets.
const SEARCH_WORK: usize = 4_000_000;

/// One step of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    /// The kernel of this operation.
    Op(usize),
    /// Copies one operand of a concatenation to its place.
    Copy { op: usize, part: usize },
}

/// Where a tensor lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) offset: usize,
    /// Elements between pixels.
    pub(super) pitch: u16,
    /// The tensor that owns the bytes: itself, or the concatenation in which it lies.
    pub(super) root: usize,
    /// First step that writes the owner, or 0 for an input.
    pub(super) first: usize,
    /// Last step that reads the owner; the number of steps for an output.
    pub(super) last: usize,
    /// The tensor whose bytes it takes over while it is written.
    pub(super) over: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) steps: Vec<Placed>,
    pub(super) places: Vec<Place>,
    pub(super) arena_bytes: usize,
    pub(super) lower_bound_bytes: usize,
}

pub(super) fn plan_memory(draft: &Draft) -> Layout {
    let lower_bound_bytes = lower_bound(draft);
    let least = lower_bound_bytes.next_multiple_of(ALIGNMENT);
    let problem = Problem::new(draft);
    let mut tries = 0;
    let mut best: Option<(Choices, Cost)> = None;
    for place in [true, false] {
        let mut choices = problem.choices(place);
        let mut cost = problem.cost(&choices);
        let mut improved = true;
        while improved && cost.arena_bytes.next_multiple_of(ALIGNMENT) > least {
            improved = false;
            for (at, options) in problem.options().enumerate() {
                for option in 0..options {
                    if option == choices.0[at] || tries >= MAX_TRIES {
                        continue;
                    }
                    tries += 1;
                    let mut other = choices.clone();
                    other.0[at] = option;
                    let other_cost = problem.cost(&other);
                    if other_cost < cost {
                        (choices, cost, improved) = (other, other_cost, true);
                    }
                }
            }
        }
        if best.as_ref().is_none_or(|(_, c)| cost < *c) {
            best = Some((choices, cost));
        }
    }
    let choices = best.map_or_else(|| problem.choices(true), |(choices, _)| choices);
    let arrangement = problem.arrange(&choices);
    let blocks = &arrangement.blocks;
    let found = allocate(blocks, (SEARCH_WORK / (blocks.len() * blocks.len()).max(1)).min(4000));
    problem.layout(arrangement, &found, lower_bound_bytes)
}

/// Smaller is better: first the arena, then what is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Cost {
    arena_bytes: usize,
    copied_bytes: usize,
}

/// One number for each operand of a concatenation (1 places it, 0 copies it), then one for each step that may write
/// over operands (0 for a fresh place, `k` for candidate `k - 1`).
#[derive(Clone, Debug)]
struct Choices(Vec<usize>);

struct Problem<'d> {
    draft: &'d Draft,
    /// `(operation, operand)` for each operand of a concatenation.
    parts: Vec<(usize, usize)>,
    /// For each operation, the operands that it may write over if they die there.
    candidates: Vec<Vec<usize>>,
    /// Tensors that are read in parts or under another number of channels, which needs contiguous pixels.
    rigid: Vec<bool>,
    /// Tensors that concatenations write.
    joined: Vec<bool>,
    /// For each tensor, the operation that writes it (0 for an input) and the last that reads it.
    used: Vec<(usize, usize)>,
}

/// Lifetimes and blocks under some choices.
struct Arrangement {
    steps: Vec<Placed>,
    /// Owner and first element in it.
    roots: Vec<(usize, usize)>,
    first: Vec<usize>,
    last: Vec<usize>,
    over: Vec<Option<usize>>,
    /// Block of each owner.
    block: Vec<usize>,
    blocks: Vec<Block>,
    copied_bytes: usize,
}

impl<'d> Problem<'d> {
    fn new(draft: &'d Draft) -> Self {
        let mut rigid = vec![false; draft.tensors.len()];
        let ports = draft.inputs.iter().chain(&draft.outputs).map(|p| &p.view);
        for view in draft.ops.iter().flat_map(|op| &op.reads).chain(ports) {
            let channels = draft.tensors[view.tensor].shape.channels;
            rigid[view.tensor] |= view.shape.channels != channels || view.pitch != channels || view.offset > 0;
        }
        let mut joined = vec![false; draft.tensors.len()];
        for op in &draft.ops {
            joined[op.write] |= matches!(op.work, Work::Join(_));
            rigid[op.write] |= matches!(op.work, Work::Join(Along::Pixels));
        }
        let joins = draft.ops.iter().enumerate().filter(|(_, op)| matches!(op.work, Work::Join(_)));
        let parts = joins.flat_map(|(i, op)| (0..op.reads.len()).map(move |k| (i, k))).collect();
        let candidates = draft.ops.iter().map(|op| candidates(draft, op)).collect();
        let mut used = vec![(0, 0); draft.tensors.len()];
        for (i, op) in draft.ops.iter().enumerate() {
            used[op.write].0 = i;
            op.reads.iter().for_each(|view| used[view.tensor].1 = i);
        }
        Problem { draft, parts, candidates, rigid, joined, used }
    }

    fn options(&self) -> impl Iterator<Item = usize> {
        let parts = self.parts.iter().map(|_| 2);
        parts.chain(self.candidates.iter().map(|c| c.len() + 1).collect::<Vec<_>>())
    }

    fn choices(&self, place: bool) -> Choices {
        let parts = self.parts.iter().map(|_| usize::from(place));
        Choices(parts.chain(self.candidates.iter().map(|c| usize::from(!c.is_empty()))).collect())
    }

    fn cost(&self, choices: &Choices) -> Cost {
        let arrangement = self.arrange(choices);
        let arena_bytes = allocate(&arrangement.blocks, 0).bytes;
        Cost { arena_bytes, copied_bytes: arrangement.copied_bytes }
    }

    fn arrange(&self, choices: &Choices) -> Arrangement {
        let Draft { tensors, ops, .. } = self.draft;
        let mut parents = vec![None; tensors.len()];
        let mut copied_bytes = 0;
        let mut part_number = 0;
        let mut copies: Vec<(usize, usize)> = Vec::new();
        for (i, op) in ops.iter().enumerate() {
            let Work::Join(along) = op.work else { continue };
            let mut first = 0;
            for (part, view) in op.reads.iter().enumerate() {
                if choices.0[part_number] == 1 && self.may_place(view, along, &parents) {
                    parents[view.tensor] = Some((op.write, first));
                } else {
                    copied_bytes += view.shape.elements();
                    copies.push((i, part));
                }
                first += along.extent(view.shape);
                part_number += 1;
            }
        }
        // What is overwritten by a part of a concatenation lies where that part does. Backwards, so that chains follow.
        for i in (0..ops.len()).rev() {
            if let Some(from) = self.overwritten(choices, i)
                && let Some(place) = parents[ops[i].write]
                && self.may_lie_inside(from, &parents)
                && self.used[from].1 == i
                && self.keeps_shape(from, i)
            {
                parents[from] = Some(place);
            }
        }
        let roots: Vec<(usize, usize)> = (0..tensors.len()).map(|t| root(&parents, t)).collect();
        let steps = self.steps(&roots, &copies);
        let (first, last) = self.lifetimes(&steps, &roots);
        let mut over = vec![None; tensors.len()];
        let mut block: Vec<usize> = (0..tensors.len()).collect();
        for (at, step) in steps.iter().enumerate() {
            let Placed::Op(i) = *step else { continue };
            let Some(from) = self.overwritten(choices, i) else { continue };
            let to = ops[i].write;
            if parents[from].is_none() && parents[to].is_none() && last[from] == at && from != to {
                over[to] = Some(from);
                block[to] = block[from];
            }
        }
        let mut blocks: Vec<Block> = Vec::new();
        let mut number = vec![usize::MAX; tensors.len()];
        for t in (0..tensors.len()).filter(|&t| roots[t].0 == t) {
            let owner = block[t];
            if number[owner] == usize::MAX {
                number[owner] = blocks.len();
                blocks.push(Block { bytes: tensors[t].shape.elements(), first: first[t], last: last[t] });
            }
            let merged = &mut blocks[number[owner]];
            (merged.first, merged.last) = (merged.first.min(first[t]), merged.last.max(last[t]));
        }
        let block = block.iter().map(|&owner| number[owner]).collect();
        Arrangement { steps, roots, first, last, over, block, blocks, copied_bytes }
    }

    /// The tensor that operation `i` may write over under these choices.
    fn overwritten(&self, choices: &Choices, i: usize) -> Option<usize> {
        let operand = choices.0[self.parts.len() + i].checked_sub(1).and_then(|k| self.candidates[i].get(k))?;
        Some(self.draft.ops[i].reads[*operand].tensor)
    }

    /// The order of kernels, and of copies as early as their source and their place exist.
    fn steps(&self, roots: &[(usize, usize)], copies: &[(usize, usize)]) -> Vec<Placed> {
        let ops = &self.draft.ops;
        let mut begun = vec![usize::MAX; roots.len()];
        for (i, op) in ops.iter().enumerate().filter(|(_, op)| matches!(op.work, Work::Kernel(_))) {
            let owner = roots[op.write].0;
            begun[owner] = begun[owner].min(i);
        }
        let mut after: Vec<Vec<Placed>> = vec![Vec::new(); ops.len()];
        for &(op, part) in copies {
            let source = ops[op].reads[part].tensor;
            let ready = begun[roots[ops[op].write].0].max(self.used[source].0);
            after[ready.min(op)].push(Placed::Copy { op, part });
        }
        let kernel = |i: usize| matches!(ops[i].work, Work::Kernel(_)).then_some(Placed::Op(i));
        after.into_iter().enumerate().flat_map(|(i, copies)| kernel(i).into_iter().chain(copies)).collect()
    }

    /// Whether operation `i` reads and writes the tensor's own shape: ranges of one tensor must be the same or apart.
    fn keeps_shape(&self, from: usize, i: usize) -> bool {
        let (op, tensors) = (&self.draft.ops[i], &self.draft.tensors);
        let shape = tensors[op.write].shape;
        tensors[from].shape == shape && op.reads.iter().all(|view| view.tensor != from || view.shape == shape)
    }

    fn may_lie_inside(&self, tensor: usize, parents: &[Option<(usize, usize)>]) -> bool {
        let t = &self.draft.tensors[tensor];
        !t.port && !self.rigid[tensor] && !self.joined[tensor] && parents[tensor].is_none()
    }

    fn may_place(&self, view: &View, along: Along, parents: &[Option<(usize, usize)>]) -> bool {
        let tensor = &self.draft.tensors[view.tensor];
        let whole = match along {
            Along::Channels => view.shape == tensor.shape,
            // Channel ranges inside some of the pixels would not be seen to cover them.
            Along::Pixels => view.shape.elements() == tensor.shape.elements() && !self.joined[view.tensor],
        };
        !tensor.port && !self.rigid[view.tensor] && parents[view.tensor].is_none() && whole
    }

    /// First write and last read of every owner.
    fn lifetimes(&self, steps: &[Placed], roots: &[(usize, usize)]) -> (Vec<usize>, Vec<usize>) {
        let Draft { tensors, ops, inputs, .. } = self.draft;
        let (mut first, mut last) = (vec![usize::MAX; tensors.len()], vec![0; tensors.len()]);
        for input in inputs {
            first[input.view.tensor] = 0;
        }
        for (at, step) in steps.iter().enumerate() {
            let (reads, write) = match *step {
                Placed::Op(i) => (&ops[i].reads[..], ops[i].write),
                Placed::Copy { op, part } => (&ops[op].reads[part..=part], ops[op].write),
            };
            let write = roots[write].0;
            first[write] = first[write].min(at);
            last[write] = last[write].max(at);
            if let Placed::Op(i) = *step
                && let Some(scratch) = ops[i].scratch
            {
                (first[scratch], last[scratch]) = (at, at);
            }
            for view in reads {
                let read = roots[view.tensor].0;
                last[read] = last[read].max(at);
            }
        }
        for t in (0..tensors.len()).filter(|&t| tensors[t].output) {
            last[roots[t].0] = steps.len();
        }
        for t in 0..tensors.len() {
            first[t] = first[t].min(last[t]);
        }
        (first, last)
    }

    fn layout(&self, arrangement: Arrangement, found: &Allocation, lower_bound_bytes: usize) -> Layout {
        let Arrangement { steps, roots, first, last, over, block, .. } = arrangement;
        let place = |t: usize| {
            let (root, first_element) = roots[t];
            Place {
                offset: found.offsets[block[root]] + first_element,
                pitch: self.draft.tensors[root].shape.channels,
                root,
                first: first[root],
                last: last[root],
                over: over[t],
            }
        };
        Layout {
            places: (0..self.draft.tensors.len()).map(place).collect(),
            steps,
            arena_bytes: found.bytes.next_multiple_of(ALIGNMENT),
            lower_bound_bytes,
        }
    }
}

/// Follows placed operands to the concatenation that owns their bytes, and to their first element in it.
fn root(parents: &[Option<(usize, usize)>], tensor: usize) -> (usize, usize) {
    let (mut at, mut channel) = (tensor, 0);
    while let Some((parent, offset)) = parents[at] {
        (at, channel) = (parent, channel + offset);
    }
    (at, channel)
}

/// Operands of the same shape that the kernel allows to be overwritten and that it reads in no other way.
fn candidates(draft: &Draft, op: &super::draft::Op) -> Vec<usize> {
    let Work::Kernel(kernel) = &op.work else { return Vec::new() };
    let allowed = kernel.in_place();
    let fits = |&&k: &&usize| {
        let tensor = op.reads[k].tensor;
        let same = |(other, view): (usize, &View)| {
            let place = allowed.contains(&other) && view.shape == draft.tensors[op.write].shape && view.offset == 0;
            view.tensor != tensor || place
        };
        draft.tensors[tensor].shape.elements() == op.reads[k].shape.elements()
            && draft.tensors[tensor].shape.channels == op.reads[k].shape.channels
            && !draft.tensors[tensor].output
            && op.reads.iter().enumerate().all(same)
    };
    allowed.iter().filter(|k| **k < op.reads.len()).filter(fits).copied().collect()
}

/// Bytes that must exist at the fullest step in any layout of this order of steps: every tensor that is still needed,
/// itself or inside a concatenation, once; the step's scratch; and the step's output, unless it may take over an operand that dies.
pub(super) fn lower_bound(draft: &Draft) -> usize {
    let n = draft.tensors.len();
    let mut last: Vec<Option<usize>> = (0..n).map(|t| draft.tensors[t].output.then_some(draft.ops.len())).collect();
    for (i, op) in draft.ops.iter().enumerate().rev() {
        for view in &op.reads {
            let needed = match op.work {
                Work::Kernel(_) => Some(i),
                // Of a part of a tensor, a copy lives on.
                Work::Join(_) if view.shape.elements() < draft.tensors[view.tensor].shape.elements() => Some(i),
                Work::Join(_) => last[op.write],
            };
            last[view.tensor] = last[view.tensor].max(needed);
        }
    }
    let bytes = |t: usize| draft.tensors[t].shape.elements();
    let joined: Vec<usize> =
        draft.ops.iter().filter(|op| matches!(op.work, Work::Join(_))).map(|op| op.write).collect();
    let mut live: Vec<usize> = draft.inputs.iter().map(|p| p.view.tensor).collect();
    let mut bound: usize = live.iter().map(|&t| bytes(t)).sum();
    for (i, op) in draft.ops.iter().enumerate() {
        if matches!(op.work, Work::Join(_)) || joined.contains(&op.write) {
            continue;
        }
        live.retain(|&t| last[t].is_some_and(|l| l >= i));
        let dies = |&k: &usize| last[op.reads[k].tensor] == Some(i);
        let saved = if candidates(draft, op).iter().any(dies) { bytes(op.write) } else { 0 };
        live.push(op.write);
        let scratch = op.scratch.map_or(0, bytes);
        bound = bound.max(live.iter().map(|&t| bytes(t)).sum::<usize>() + scratch - saved);
    }
    bound
}
