//! Whatever `check` accepts must run without reading a byte that belongs to another tensor.
//!
//! Random plans (half of them broken by moving one slot) are run on a shadow arena that remembers for each byte which
//! tensor it holds; every read of an accepted plan must find its own tensor.

use flowlet_plan::*;
use std::vec::Vec;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(n)) as u32
    }
}

const ARENA: u32 = 96;

fn slot(tensor: u16, offset: u32, channels: u16, pitch: u16) -> Slot {
    Slot { offset, height: 1, width: 4, channels, pitch, dtype: DType::S8, tensor }
}

/// A chain with skips and one concatenation; offsets from a few coarse places, so that a part of all plans is right.
fn random_plan(random: &mut Random) -> (Vec<Slot>, Vec<Step<'static>>, Slot, Vec<Graph<'static>>) {
    let inputs = std::vec![slot(0, 0, 4, 4)];
    let mut tensors = inputs.clone();
    let mut steps = Vec::new();
    let count = 2 + random.below(6);
    while (steps.len() as u32) < count {
        let tensor = tensors.len() as u16;
        let offset = 16 * random.below(5);
        let mut pick = || tensors[tensors.len() - 1 - (random.below(2) as usize).min(tensors.len() - 1)];
        let (a, b) = (pick(), pick());
        let params = AddParams { ma: 1, mb: 1, c: 0, shift: 1 };
        if a.channels != 4 || b.channels != 4 || random.below(4) > 0 {
            let output = slot(tensor, offset, a.channels, a.channels);
            let matrices = |slot| Matrices { slot, split: Split::Channels };
            let scratch = Slot { width: 1, ..slot(u16::MAX, 16 * random.below(6), 8, 8) };
            steps.push(if (a.channels, b.channels) == (4, 4) && random.below(4) == 0 {
                Step::MatMul(MatMul {
                    a: matrices(a),
                    b: matrices(b),
                    output: matrices(output),
                    batch: 1,
                    transposed: false,
                    a_zero_point: 0,
                    multiplier: 2,
                    left_shift: 0,
                    zero_point: 0,
                    scratch: Some(scratch),
                })
            } else if a.channels == b.channels && random.below(2) > 0 {
                Step::Add(Add { a, b, output, params, table: None })
            } else {
                Step::Map(Map { input: a, output, table: None })
            });
            tensors.push(output);
        } else {
            let offset = offset.min(64);
            for (input, start) in [(a, 0), (b, 4)] {
                steps.push(Step::Map(Map { input, output: slot(tensor, offset + start, 4, 8), table: None }));
            }
            tensors.push(slot(tensor, offset, 8, 8));
        }
    }
    let len = steps.len() as u16;
    let graph = |first, len, iterations| Graph { name: "", first, len, iterations };
    let graphs = match random.below(4) {
        0 => std::vec![graph(0, len, 3)],
        1 => std::vec![graph(0, len / 2, 1), graph(len / 2, len - len / 2, 1)],
        2 => std::vec![graph(0, len / 2, 1), graph(len / 2, len - len / 2, 2)],
        _ => std::vec![graph(0, len, 1)],
    };
    (inputs, steps, tensors[tensors.len() - 1], graphs)
}

fn bytes(slot: &Slot) -> impl Iterator<Item = usize> + use<> {
    let slot = *slot;
    (0..slot.pixels()).flat_map(move |p| {
        let first = slot.offset as usize + p * usize::from(slot.pitch);
        first..first + usize::from(slot.channels)
    })
}

/// Runs the entry points in an order in which the later ones repeat; `false` if a read finds another tensor's byte.
fn runs_clean(plan: &Plan<'_>) -> bool {
    let mut owner = [u16::MAX; 2 * ARENA as usize];
    let last = plan.graphs.len() - 1;
    for g in (0..=last).chain([last, last, 0]).chain(0..=last) {
        let graph = &plan.graphs[g];
        let steps = &plan.steps[usize::from(graph.first)..usize::from(graph.first + graph.len)];
        for input in plan.inputs {
            if steps.iter().any(|s| s.inputs().into_iter().flatten().any(|t| t.tensor == input.slot.tensor)) {
                bytes(&input.slot).for_each(|i| owner[i] = input.slot.tensor);
            }
        }
        for step in core::iter::repeat_n(steps, usize::from(graph.iterations)).flatten() {
            if let Some(scratch) = step.scratch() {
                bytes(scratch).for_each(|i| owner[i] = u16::MAX);
            }
            for input in step.inputs().into_iter().flatten() {
                if bytes(input).any(|i| owner[i] != input.tensor) {
                    return false;
                }
            }
            bytes(step.output()).for_each(|i| owner[i] = step.output().tensor);
            // Scratch is written until the end of the step.
            if let Some(scratch) = step.scratch() {
                bytes(scratch).for_each(|i| owner[i] = u16::MAX);
            }
        }
    }
    plan.outputs.iter().all(|port| bytes(&port.slot).all(|i| owner[i] == port.slot.tensor))
}

#[test]
fn accepted_plans_read_their_own_tensors() {
    let mut random = Random(1);
    let (mut accepted, mut unclean) = (0, 0);
    let cases = if cfg!(miri) { 300 } else { 300_000 };
    for case in 0..cases {
        let (inputs, mut steps, output, graphs) = random_plan(&mut random);
        if random.below(2) > 0 {
            let victim = random.below(steps.len() as u32) as usize;
            let moved = 4 * random.below(20);
            match &mut steps[victim] {
                Step::Map(s) if random.below(2) > 0 => s.input.offset = moved,
                Step::Map(s) => s.output.offset = moved,
                Step::Add(s) if random.below(2) > 0 => s.b.offset = moved,
                Step::Add(s) => s.output.offset = moved,
                Step::MatMul(s) => s.scratch = s.scratch.map(|t| Slot { offset: 8 * random.below(12), ..t }),
                Step::Conv(_)
                | Step::ConvTranspose(_)
                | Step::Mul(_)
                | Step::Softmax(_)
                | Step::Norm(_)
                | Step::Pool(_)
                | Step::Shuffle(_)
                | Step::Transpose(_) => {}
            }
        }
        let port =
            |slot| Port { name: "", slot, quant: Quant { scale: 1.0, zero_point: 0 }, inverse_scale: 1.0, unit: "" };
        let inputs: Vec<_> = inputs.into_iter().map(port).collect();
        let plan = Plan {
            version: PLAN_VERSION,
            name: "",
            model_hash: [0; 32],
            arena_bytes: ARENA,
            state: None,
            inputs: &inputs,
            indices: &[],
            outputs: &[port(output)],
            graphs: &graphs,
            steps: &steps,
            exactness: Exactness::Exact,
        };
        let clean = runs_clean(&plan);
        unclean += u32::from(!clean);
        if plan.check().is_ok() {
            accepted += 1;
            assert!(clean, "case {case}: {plan:#?}");
        }
    }
    std::println!("{accepted} of {cases} accepted, {unclean} would have read a wrong byte");
    assert!(accepted > cases / 100 && unclean > cases / 100);
}
