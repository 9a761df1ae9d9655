//! Elementwise functions, in whatever spelling.
//!
//! The operations between a value and a product that depends on it alone are one function of one number. It is evaluated on
//! a grid and compared with the functions that have a name, so that no exporter's spelling has to be listed.

use super::{Context, Rewrite};
use crate::interp;
use crate::ir::{Graph, Op, Tensor, Unary, ValueId};
use std::collections::HashMap;

/// Functions that exporters spell out.
const NAMED: [Unary; 4] = [Unary::Silu, Unary::Mish, Unary::Gelu, Unary::GeluTanh];

/// Most operations of one spelling.
const LONGEST: usize = 12;

/// A product or quotient that is a named function of one value.
pub(super) fn function(graph: &mut Graph, cx: &Context, i: usize) -> Rewrite {
    let node = &graph.nodes[i];
    if !matches!(node.op, Op::Mul | Op::Div) {
        return None;
    }
    let cone = ancestors(graph, cx, i);
    for &x in &cone {
        if graph.ty(x).dims != graph.ty(node.output).dims {
            continue;
        }
        let Some(path) = between(graph, cx, x, i) else { continue };
        let Some(values) = evaluate(graph, &path, x, node.output) else { continue };
        if let Some(unary) = NAMED.into_iter().find(|u| same(*u, &values)) {
            let spelling = match path.len() {
                2 if unary == Unary::Silu => "sigmoid and mul".to_owned(),
                n => format!("{n} operations"),
            };
            return Some((Op::Unary(unary), vec![x], format!("{spelling} became {}", unary.name())));
        }
    }
    None
}

fn elementwise(op: &Op) -> bool {
    matches!(op, Op::Unary(_) | Op::Mul | Op::Div | Op::Add { .. } | Op::Pow | Op::Clip { .. })
}

/// Values above node `i` that elementwise operations lead to, nearest first.
fn ancestors(graph: &Graph, cx: &Context, i: usize) -> Vec<ValueId> {
    let mut found: Vec<ValueId> = Vec::new();
    let mut open = vec![i];
    let mut visited = 0;
    while let Some(n) = open.pop() {
        visited += 1;
        if visited > LONGEST {
            break;
        }
        for &id in &graph.nodes[n].inputs {
            if graph.constant(id).is_some() || found.contains(&id) {
                continue;
            }
            found.push(id);
            if let Some(&p) = cx.producers.get(&id)
                && elementwise(&graph.nodes[p].op)
            {
                open.insert(0, p);
            }
        }
    }
    found
}

/// The nodes between `x` and node `i`, in order, if `i` depends on `x` and single numbers only and nothing else reads
/// what lies between.
fn between(graph: &Graph, cx: &Context, x: ValueId, i: usize) -> Option<Vec<usize>> {
    let mut path = vec![i];
    let mut next = 0;
    while next < path.len() {
        for &id in &graph.nodes[path[next]].inputs {
            if id == x || graph.constant(id).is_some_and(|t| t.elements() == 1) {
                continue;
            }
            let p = *cx.producers.get(&id)?;
            if !elementwise(&graph.nodes[p].op) || path.len() > LONGEST {
                return None;
            }
            if !path.contains(&p) {
                path.push(p);
            }
        }
        next += 1;
    }
    path.sort_unstable();
    let reads = |id: ValueId| path.iter().flat_map(|&n| &graph.nodes[n].inputs).filter(|&&r| r == id).count();
    let private = path.iter().filter(|&&n| n != i).all(|&n| {
        let id = graph.nodes[n].output;
        reads(id) == cx.uses[id.0 as usize]
    });
    private.then_some(path)
}

fn grid() -> Vec<f32> {
    (-200..=200).map(|k| k as f32 / 20.0).collect()
}

fn evaluate(graph: &Graph, path: &[usize], x: ValueId, result: ValueId) -> Option<Vec<f32>> {
    let grid = grid();
    let mut values: HashMap<ValueId, Tensor> = HashMap::new();
    values.insert(x, Tensor::f32(&[grid.len()], grid));
    for &n in path {
        let node = &graph.nodes[n];
        let number = |id: ValueId| graph.constant(id).map(|t| Tensor { dims: vec![1], data: t.data.clone() });
        let operands: Vec<Tensor> =
            node.inputs.iter().map(|&id| values.get(&id).cloned().or_else(|| number(id))).collect::<Option<_>>()?;
        let y = interp::eval(&node.op, &operands.iter().collect::<Vec<_>>()).ok()?;
        values.insert(node.output, y);
    }
    values.remove(&result)?.as_f32().map(<[f32]>::to_vec)
}

/// Whether these are the function's values on the grid, within the rounding of a few operations.
fn same(unary: Unary, values: &[f32]) -> bool {
    grid().iter().zip(values).all(|(&x, &y)| (unary.eval(x) - y).abs() <= 2e-6 * x.abs().max(1.0))
}
