//! Softmax, attention and Einstein sums.

use crate::build::{Model, close, int, tensor, text};

/// Softmax of runs of `n`.
fn softmax(x: &[f32], n: usize) -> Vec<f32> {
    let run = |c: &[f32]| {
        let e: Vec<f32> = c.iter().map(|v| v.exp()).collect();
        let sum: f32 = e.iter().sum();
        e.into_iter().map(move |v| v / sum)
    };
    x.chunks(n).flat_map(run).collect()
}

#[test]
fn softmax_over_the_last_axis_and_another() {
    let x = tensor(&[2, 3, 4], 1);
    let model = |axis| {
        let model = Model::new().input("x", &[2, 3, 4]).output("y");
        model.node("Softmax", &["x"], &["y"], vec![int("axis", axis)])
    };
    assert_eq!(model(-1).ops(), ["softmax"]);
    model(-1).expect(std::slice::from_ref(&x), &[2, 3, 4], &softmax(x.as_f32().unwrap(), 4));
    let v = x.as_f32().unwrap();
    let turned: Vec<f32> = (0..24).map(|i| v[i / 12 * 12 + i % 3 * 4 + i / 3 % 4]).collect();
    let turned = softmax(&turned, 3);
    let y: Vec<f32> = (0..24).map(|i| turned[i / 12 * 12 + i % 4 * 3 + i / 4 % 3]).collect();
    model(1).expect(&[x], &[2, 3, 4], &y);
}

#[test]
fn attention_of_operator_set_23_in_both_ranks() {
    let (h, t, s, d) = (2, 3, 4, 5);
    let head = |x: &[f32], tokens: usize, n: usize| -> Vec<f32> {
        (0..tokens * d).map(|i| x[i / d * h * d + n * d + i % d]).collect()
    };
    let (q, k, v) = (tensor(&[1, t, h * d], 1), tensor(&[1, s, h * d], 2), tensor(&[1, s, h * d], 3));
    let mut wanted = vec![0.0f32; t * h * d];
    for n in 0..h {
        let (q, k) = (head(q.as_f32().unwrap(), t, n), head(k.as_f32().unwrap(), s, n));
        let v = head(v.as_f32().unwrap(), s, n);
        let dot = |i: usize| (0..d).map(|j| q[i / s * d + j] * k[i % s * d + j]).sum::<f32>() / (d as f32).sqrt();
        let p = softmax(&(0..t * s).map(dot).collect::<Vec<_>>(), s);
        for i in 0..t * d {
            wanted[i / d * h * d + n * d + i % d] = (0..s).map(|j| p[i / d * s + j] * v[j * d + i % d]).sum();
        }
    }
    let heads = || vec![int("q_num_heads", h as i64), int("kv_num_heads", h as i64)];
    let model = Model::new()
        .opset(23)
        .input("q", &[1, t, h * d])
        .input("k", &[1, s, h * d])
        .input("v", &[1, s, h * d])
        .output("y")
        .node("Attention", &["q", "k", "v"], &["y"], heads());
    close(model.run(&[q, k, v]).as_f32().unwrap(), &wanted, 2e-6);
    let masked = model.clone();
    let masked = masked.named("/masked", "Attention", &["q", "k", "v"], &["z"], vec![int("is_causal", 1)]).output("z");
    let error = masked.import().unwrap_err().to_string();
    assert!(error.contains("causal"), "{error}");
}

#[test]
fn an_einstein_sum_of_one_operand_moves_axes() {
    let model = Model::new().input("x", &[2, 3, 4]).output("y");
    let model = model.node("Einsum", &["x"], &["y"], vec![text("equation", "abc->cab")]);
    assert_eq!(model.ops(), ["transpose"]);
    let x = tensor(&[2, 3, 4], 1);
    let y: Vec<f32> = (0..24).map(|i| x.as_f32().unwrap()[i % 6 * 4 + i / 6]).collect();
    model.expect(&[x], &[4, 2, 3], &y);
}

#[test]
fn comparison_and_choice() {
    let model = Model::new()
        .input("a", &[2, 3])
        .input("b", &[3])
        .output("y")
        .node("Greater", &["a", "b"], &["c"], vec![])
        .node("Where", &["c", "a", "b"], &["y"], vec![]);
    let (a, b) = (tensor(&[2, 3], 1), tensor(&[3], 2));
    let y: Vec<f32> = (0..6).map(|i| a.as_f32().unwrap()[i].max(b.as_f32().unwrap()[i % 3])).collect();
    model.expect(&[a, b], &[2, 3], &y);
}

#[test]
fn rounding() {
    let x = flowlet_compiler::ir::Tensor::f32(&[6], vec![-1.5, -0.5, 0.5, 1.5, 2.4, 2.6]);
    for (op, y) in [
        ("Floor", [-2.0, -1.0, 0.0, 1.0, 2.0, 2.0]),
        ("Ceil", [-1.0, 0.0, 1.0, 2.0, 3.0, 3.0]),
        ("Round", [-2.0, 0.0, 0.0, 2.0, 2.0, 3.0]),
    ] {
        let model = Model::new().input("x", &[6]).output("y").node(op, &["x"], &["y"], vec![]);
        model.expect(std::slice::from_ref(&x), &[6], &y);
    }
}
