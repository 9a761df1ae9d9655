//! Quantised graphs with a planted fault: what a metric must notice.

use flowlet_compiler::ir::{Def, Graph, Op, Tensor, ValueId};

/// The origins of the layers, in order.
pub fn layers(graph: &Graph) -> Vec<String> {
    let layer = |op: &Op| matches!(op, Op::QConv { .. });
    graph.nodes.iter().filter(|n| layer(&n.op)).map(|n| n.origin.clone()).collect()
}

/// The same graph with the zero point of one layer's result off by `by` steps.
///
/// # Panics
/// When there is no such layer.
pub fn wrong_zero_point(graph: &Graph, origin: &str, by: i8) -> Graph {
    let mut faulty = graph.clone();
    let node = faulty.nodes.iter_mut().find(|n| n.origin == origin && matches!(n.op, Op::QConv { .. }));
    let op = node.map(|n| &mut n.op);
    let Some(Op::QConv { zero_point, .. }) = op else { panic!("there is no layer '{origin}'") };
    *zero_point = zero_point.saturating_add(by);
    faulty
}

/// The same graph with one layer that takes the zero point of its input for 0: the term `-zero_point * sum(w)` is gone
/// from its bias.
///
/// # Panics
/// When there is no such layer, or its input has the zero point 0.
pub fn forgotten_zero_point(graph: &Graph, origin: &str) -> Graph {
    let mut faulty = graph.clone();
    let node = graph.nodes.iter().find(|n| n.origin == origin && matches!(n.op, Op::QConv { .. }));
    let operands = node.and_then(|n| Some((n.inputs[0], graph.constant(n.inputs[1])?, n.inputs[3])));
    let Some((input, weight, bias)) = operands else { panic!("there is no layer '{origin}'") };
    let zero = graph.ty(input).quant.map_or(0, |q| i32::from(q.zero_point));
    assert_ne!(zero, 0, "the input of '{origin}' has the zero point 0: nothing to forget");
    let channels = weight.dims[0];
    let taps = weight.elements() / channels;
    let sums: Vec<i32> =
        weight.as_s8().unwrap_or(&[]).chunks(taps).map(|w| w.iter().map(|&w| i32::from(w)).sum()).collect();
    if let Some(tensor) = graph.constant(bias) {
        let values = tensor.as_i32().unwrap_or(&[]);
        let wrong = values.iter().enumerate().map(|(i, b)| b + zero * sums[i % channels]).collect();
        faulty.value_mut(bias).def = Def::Const(Tensor::i32(&tensor.dims, wrong));
    }
    faulty
}

/// The same graph with every activation inside it reduced to 4 bits; the outputs keep 8.
pub fn four_bit_activations(graph: &Graph) -> Graph {
    let mut faulty = graph.clone();
    for i in 0..faulty.nodes.len() {
        let output = faulty.nodes[i].output;
        let Some(quant) = faulty.ty(output).quant else { continue };
        if faulty.outputs.contains(&output) {
            continue;
        }
        let coarse = |q: i8| {
            let zero = i32::from(quant.zero_point);
            let steps = (i32::from(q) - zero + 8).div_euclid(16);
            (zero + 16 * steps).clamp(-128, 127) as i8
        };
        let has_table = match &mut faulty.nodes[i].op {
            Op::QConv { table, .. } | Op::QAdd { table, .. } => Some(std::mem::replace(table, true)),
            Op::QMap => Some(true),
            _ => None,
        };
        match has_table {
            Some(true) => {
                let operand = faulty.nodes[i].inputs.last().copied();
                let entries = operand.and_then(|id| faulty.constant(id)).and_then(Tensor::as_s8).map(<[i8]>::to_vec);
                let entries = entries.unwrap_or_default().into_iter().map(coarse).collect();
                let table = faulty.add_const("coarse", Tensor::s8(&[256], entries));
                if let Some(last) = faulty.nodes[i].inputs.last_mut() {
                    *last = table;
                }
            }
            Some(false) => {
                let table = faulty.add_const("coarse", Tensor::s8(&[256], (-128..=127).map(coarse).collect()));
                faulty.nodes[i].inputs.push(table);
            }
            None => {}
        }
    }
    faulty
}

/// The same graph with the bias rows of labels 0 and 1, 2 and 3, ... exchanged: every label draws its neighbour.
pub fn swapped_labels(graph: &Graph) -> Graph {
    let mut faulty = graph.clone();
    let mut banks: Vec<ValueId> = Vec::new();
    for node in &graph.nodes {
        if let (Op::QConv { indexed: true, .. }, Some(&bank)) = (&node.op, node.inputs.get(3))
            && !banks.contains(&bank)
        {
            banks.push(bank);
        }
    }
    for bank in banks {
        let Some(tensor) = graph.constant(bank) else { continue };
        let (Some(values), [rows, channels]) = (tensor.as_i32(), &tensor.dims[..]) else { continue };
        let neighbour = |row: usize| if row ^ 1 < *rows { row ^ 1 } else { row };
        let swapped = (0..*rows).flat_map(|r| values[neighbour(r) * channels..][..*channels].to_vec()).collect();
        faulty.value_mut(bank).def = Def::Const(Tensor::i32(&tensor.dims, swapped));
    }
    faulty
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowlet_compiler::interp;
    use flowlet_compiler::ir::{Stage, parse, verify};
    use flowlet_compiler::quantize::{Calibration, quantize};

    fn graph() -> Graph {
        let text = "graph \"t\" (%z: f32[1,1,4,4], %label: i64[1] index(4)) -> (%y) {\n  meta \"noise\" = \"z\"\n  const \
                    @w: f32[4,1,3,3] = random 1\n  const @b: f32[4,4] = random 2\n  const @v: f32[1,4,3,3] = random 3\n  \
                    %c = conv %z, @w, @b, %label {pad=[1,1,1,1]} : f32[1,4,4,4] from \"stem\"\n  %a = silu %c : \
                    f32[1,4,4,4] from \"act\"\n  %y = conv %a, @v {pad=[1,1,1,1]} : f32[1,1,4,4] from \"head\"\n}\n";
        let float = parse(text, &[]).unwrap();
        let samples = Calibration::from_noise(&float, 8).unwrap();
        quantize(&float, &samples, &mut |_, _| {}).unwrap()
    }

    fn draw(graph: &Graph, label: i64) -> Tensor {
        let z = Tensor::s8(&[1, 1, 4, 4], (0..16).map(|i| (i * 13 % 120 - 60) as i8).collect());
        interp::run(graph, &[z, Tensor::i64(&[1], vec![label])]).unwrap().remove(0)
    }

    #[test]
    fn every_fault_is_a_valid_graph_that_computes_something_else() {
        let good = graph();
        for faulty in [
            wrong_zero_point(&good, "stem", 20),
            forgotten_zero_point(&good, "head"),
            four_bit_activations(&good),
            swapped_labels(&good),
        ] {
            verify(&faulty, Stage::Quantized).unwrap();
            assert_ne!(draw(&faulty, 1), draw(&good, 1));
        }
    }

    #[test]
    fn swapped_labels_draw_each_other() {
        let (good, faulty) = (graph(), swapped_labels(&graph()));
        for label in 0..4 {
            assert_eq!(draw(&faulty, label), draw(&good, label ^ 1));
        }
    }

    #[test]
    fn layers_are_listed_in_order() {
        assert_eq!(layers(&graph()), ["stem", "head"]);
    }
}
