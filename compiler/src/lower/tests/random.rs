//! Random graphs: every plan passes its check, gives the interpreter's bytes and respects the bounds.

use super::equal;
use crate::ir::{ConvGeometry, Graph, InputKind, Op, Quant, Tensor, Type, ValueId};
use flowlet_plan::AddParams;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    fn s8(&mut self, dims: &[usize]) -> Tensor {
        let n = dims.iter().product();
        Tensor::s8(dims, (0..n).map(|_| self.below(255) as i8).collect())
    }
}

const QUANT: Quant = Quant { scale: 0.5, zero_point: 3 };

/// A graph of pictures of 4x4 pixels and 1 to 6 channels, with skips, residuals, concatenations and parts of tensors.
fn graph(seed: u64) -> Graph {
    let mut r = Random(seed);
    let mut g = Graph::new("random");
    let ty = |c: usize| Type::s8(&[1, c, 4, 4], QUANT);
    let mut pool: Vec<ValueId> = Vec::new();
    for _ in 0..1 + r.below(2) {
        let channels = 1 + r.below(4);
        pool.push(g.add_input("in", ty(channels), InputKind::Tensor));
    }
    for step in 0..3 + r.below(12) {
        let name = format!("v{step}");
        let recent = |r: &mut Random, n: usize| n - 1 - r.below(n.min(4));
        let a = pool[recent(&mut r, pool.len())];
        let channels = g.ty(a).dims[1];
        let same: Vec<ValueId> = pool.iter().copied().filter(|&v| g.ty(v).dims[1] == channels).collect();
        let params = AddParams { ma: 400, mb: 300, c: -900, shift: 9 };
        let id = match r.below(7) {
            0 => {
                let table = r.s8(&[256]);
                let table = g.add_const("table", table);
                g.push_node(&name, Op::QMap, &[a, table], ty(channels), &name)
            }
            1 => {
                let b = same[r.below(same.len())];
                g.push_node(&name, Op::QAdd { params, table: false }, &[a, b], ty(channels), &name)
            }
            2 => {
                let mut parts = vec![a];
                for _ in 0..1 + r.below(2) {
                    parts.push(pool[recent(&mut r, pool.len())]);
                }
                let sum = parts.iter().map(|&p| g.ty(p).dims[1]).sum();
                if sum > 24 {
                    continue;
                }
                g.push_node(&name, Op::Concat { axis: 1 }, &parts, ty(sum), &name)
            }
            3 if channels > 1 => {
                let start = r.below(channels);
                let end = start + 1 + r.below(channels - start);
                let op = Op::Slice { axis: 1, start, end, step: 1 };
                g.push_node(&name, op, &[a], ty(end - start), &name)
            }
            4 => {
                let b = same[r.below(same.len())];
                let tall = Type::s8(&[1, channels, 8, 4], QUANT);
                let joined = g.push_node(&format!("{name}.rows"), Op::Concat { axis: 2 }, &[a, b], tall, &name);
                let start = r.below(5);
                let op = Op::Slice { axis: 2, start, end: start + 4, step: 1 };
                g.push_node(&name, op, &[joined], ty(channels), &name)
            }
            _ => {
                let out = if r.below(2) == 0 { channels.min(6) } else { 1 + r.below(6) };
                let residual = same.iter().copied().find(|_| out == channels).filter(|_| r.below(2) == 0);
                let weights = r.s8(&[out, channels, 3, 3]);
                let constants = [
                    g.add_const("w", weights),
                    g.add_const("m", Tensor { dims: vec![out], data: crate::ir::Data::I32(vec![60_000_000; out]) }),
                    g.add_const("b", Tensor { dims: vec![1, out], data: crate::ir::Data::I32(vec![321; out]) }),
                ];
                let op = Op::QConv {
                    geometry: ConvGeometry { pad: [1; 4], ..ConvGeometry::default() },
                    left_shift: 1,
                    zero_point: 3,
                    indexed: false,
                    residual: residual.map(|_| params),
                    table: false,
                };
                let inputs: Vec<ValueId> = [a].into_iter().chain(constants).chain(residual).collect();
                g.push_node(&name, op, &inputs, ty(out), &name)
            }
        };
        pool.push(id);
    }
    g.outputs.push(pool[pool.len() - 1]);
    if r.below(3) == 0 {
        g.outputs.push(pool[r.below(pool.len())]);
    }
    g.sweep();
    g
}

#[test]
fn random_graphs_give_the_interpreters_bytes_within_the_bounds() {
    let mut above = 0;
    for seed in 0..250 {
        let graph = graph(seed);
        let lowered = equal(&graph);
        let report = &lowered.memory;
        let sum: usize =
            report.tensors.iter().filter(|t| t.inside.is_none()).map(|t| t.bytes.next_multiple_of(16)).sum();
        assert!(report.lower_bound_bytes <= report.arena_bytes && report.arena_bytes <= sum, "seed {seed}");
        let live: usize = report.fullest().iter().map(|(_, bytes)| bytes).sum();
        assert!(report.lower_bound_bytes <= live && live <= report.arena_bytes, "seed {seed}");
        above += usize::from(live < report.arena_bytes);
        for (i, a) in report.tensors.iter().enumerate().filter(|(_, t)| t.inside.is_none()) {
            for b in report.tensors.iter().skip(i + 1).filter(|t| t.inside.is_none()) {
                let together = a.first <= b.last && b.first <= a.last;
                let apart = a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
                let replaces = |new: &super::TensorRange, old: &super::TensorRange| {
                    new.over.as_ref() == Some(&old.name) && new.first == old.last && new.offset == old.offset
                };
                assert!(!together || apart || replaces(a, b) || replaces(b, a), "seed {seed}: {a:?} {b:?}");
            }
        }
    }
    assert!(above < 10, "{above} of 250 layouts waste bytes at their fullest step");
}

#[test]
fn the_same_graph_gives_the_same_layout() {
    for seed in 0..20 {
        assert_eq!(equal(&graph(seed)).memory, equal(&graph(seed)).memory);
    }
}
