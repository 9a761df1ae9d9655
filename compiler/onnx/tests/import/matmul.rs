//! Fully connected layers and matrix products.

use crate::build::{Model, float, int, noise, tensor, text};
use flowlet_compiler::ir::Tensor;

/// `a[n, k] * b[k, m]`.
fn product(a: &[f32], b: &[f32], n: usize, k: usize, m: usize) -> Vec<f32> {
    let cell = |i: usize, j: usize| (0..k).map(|x| a[i * k + x] * b[x * m + j]).sum();
    (0..n * m).map(|at| cell(at / m, at % m)).collect()
}

fn turned(a: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|i| a[i % rows * columns + i / rows]).collect()
}

#[test]
fn gemm_as_pytorch_writes_it() {
    for features in [5, 40] {
        let (w, b) = (noise(features * 7, 1), noise(features, 2));
        let model = Model::new()
            .input("x", &[2, 7])
            .constant("w", &[features, 7], &w)
            .constant("b", &[features], &b)
            .output("y")
            .node("Gemm", &["x", "w", "b"], &["y"], vec![float("alpha", 1.0), float("beta", 1.0), int("transB", 1)]);
        assert_eq!(model.ops(), ["linear"]);
        let x = tensor(&[2, 7], 3);
        let y = product(x.as_f32().unwrap(), &turned(&w, features, 7), 2, 7, features);
        let y: Vec<f32> = y.iter().enumerate().map(|(i, v)| v + b[i % features]).collect();
        model.expect(&[x], &[2, features], &y);
    }
}

#[test]
fn gemm_with_factors_and_turned_operands() {
    let (w, b) = (noise(7 * 5, 1), noise(5, 2));
    let attributes = vec![float("alpha", 0.5), float("beta", 2.0), int("transA", 1)];
    let model = Model::new().input("x", &[7, 2]).constant("w", &[7, 5], &w).constant("b", &[5], &b).output("y").node(
        "Gemm",
        &["x", "w", "b"],
        &["y"],
        attributes,
    );
    let x = tensor(&[7, 2], 3);
    let y = product(&turned(x.as_f32().unwrap(), 7, 2), &w, 2, 7, 5);
    let y: Vec<f32> = y.iter().enumerate().map(|(i, v)| 0.5 * v + 2.0 * b[i % 5]).collect();
    model.expect(&[x], &[2, 5], &y);
}

#[test]
fn matmul_with_a_constant_is_a_linear_layer() {
    let w = noise(7 * 5, 1);
    let model = Model::new().input("x", &[2, 7]).constant("w", &[7, 5], &w).output("y");
    let model = model.node("MatMul", &["x", "w"], &["y"], vec![]);
    assert_eq!(model.ops(), ["linear"]);
    let x = tensor(&[2, 7], 3);
    let y = product(x.as_f32().unwrap(), &w, 2, 7, 5);
    model.expect(&[x], &[2, 5], &y);
}

#[test]
fn matmul_over_tokens() {
    let w = noise(7 * 5, 1);
    let model = Model::new().input("x", &[1, 3, 7]).constant("w", &[7, 5], &w).output("y");
    let model = model.node("MatMul", &["x", "w"], &["y"], vec![]);
    let x = tensor(&[1, 3, 7], 3);
    let y = product(x.as_f32().unwrap(), &w, 3, 7, 5);
    model.expect(&[x], &[1, 3, 5], &y);
}

#[test]
fn matmul_of_two_inputs_in_batches() {
    let model = Model::new().input("a", &[2, 3, 7]).input("b", &[2, 7, 5]).output("y");
    let model = model.node("MatMul", &["a", "b"], &["y"], vec![]);
    assert_eq!(model.ops(), ["matmul"]);
    let (a, b) = (tensor(&[2, 3, 7], 3), tensor(&[2, 7, 5], 4));
    let (av, bv) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    let y = [product(&av[..21], &bv[..35], 3, 7, 5), product(&av[21..], &bv[35..], 3, 7, 5)].concat();
    model.expect(&[a, b], &[2, 3, 5], &y);
}

#[test]
fn matmul_broadcasts_its_batch() {
    let model = Model::new().input("a", &[2, 3, 7]).input("b", &[1, 7, 5]).output("y");
    let model = model.node("MatMul", &["a", "b"], &["y"], vec![]);
    let (a, b) = (tensor(&[2, 3, 7], 3), tensor(&[1, 7, 5], 4));
    let y = product(a.as_f32().unwrap(), b.as_f32().unwrap(), 6, 7, 5);
    model.expect(&[a, b], &[2, 3, 5], &y);
}

#[test]
fn attention_scores_as_an_einstein_sum() {
    let model = Model::new().input("q", &[1, 2, 3, 4]).input("k", &[1, 2, 5, 4]).output("y");
    let model = model.node("Einsum", &["q", "k"], &["y"], vec![text("equation", "bhid,bhjd->bhij")]);
    let (q, k) = (tensor(&[1, 2, 3, 4], 3), tensor(&[1, 2, 5, 4], 4));
    let head = |h: usize| {
        let q = &q.as_f32().unwrap()[h * 12..(h + 1) * 12];
        product(q, &turned(&k.as_f32().unwrap()[h * 20..(h + 1) * 20], 5, 4), 3, 4, 5)
    };
    let y = [head(0), head(1)].concat();
    model.expect(&[q.clone(), k.clone()], &[1, 2, 3, 5], &y);
}

#[test]
fn einstein_sums_with_moved_axes() {
    let model = Model::new().input("a", &[7, 2]).input("b", &[5, 7]).output("y");
    let model = model.node("Einsum", &["a", "b"], &["y"], vec![text("equation", "kn,mk->mn")]);
    let (a, b) = (tensor(&[7, 2], 3), tensor(&[5, 7], 4));
    let y = product(b.as_f32().unwrap(), a.as_f32().unwrap(), 5, 7, 2);
    model.expect(&[a, b], &[5, 2], &y);
}

#[test]
fn a_product_of_constants_is_left_to_the_compiler() {
    let model = Model::new()
        .input("x", &[1, 5])
        .constant("a", &[1, 2], &[1.0, 2.0])
        .constant("b", &[2, 5], &noise(10, 1))
        .output("y")
        .node("MatMul", &["a", "b"], &["c"], vec![])
        .node("Add", &["x", "c"], &["y"], vec![]);
    assert_eq!(model.ops(), ["linear", "add"]);
    let b = noise(10, 1);
    let y: Vec<f32> = (0..5).map(|i| b[i] + 2.0 * b[5 + i]).collect();
    model.expect(&[Tensor::f32(&[1, 5], vec![0.0; 5])], &[1, 5], &y);
}
