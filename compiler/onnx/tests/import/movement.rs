//! Operations that move elements.

use crate::build::{Model, int, ints, tensor, text};
use flowlet_compiler::ir::Tensor;
use tract_onnx::pb::{AttributeProto, tensor_proto::DataType};

/// 0, 1, 2, ... so that every element says where it came from.
fn counted(dims: &[usize]) -> Tensor {
    Tensor::f32(dims, (0..dims.iter().product()).map(|i: usize| i as f32).collect())
}

fn one(op: &str, dims: &[usize], attributes: Vec<AttributeProto>) -> Model {
    Model::new().input("x", dims).output("y").node(op, &["x"], &["y"], attributes)
}

fn with_integers(op: &str, dims: &[usize], lists: &[&[i64]]) -> Model {
    let mut model = Model::new().input("x", dims).output("y");
    let names: Vec<String> = (0..lists.len()).map(|i| format!("list{i}")).collect();
    for (name, list) in names.iter().zip(lists) {
        model = model.integers(name, &[list.len()], list);
    }
    let inputs: Vec<&str> = std::iter::once("x").chain(names.iter().map(String::as_str)).collect();
    model.node(op, &inputs, &["y"], vec![])
}

#[track_caller]
fn moved(model: &Model, from: &[usize], to: &[usize], source: impl Fn(usize) -> usize) {
    let y: Vec<f32> = (0..to.iter().product()).map(|i| source(i) as f32).collect();
    model.expect(&[counted(from)], to, &y);
}

#[test]
fn reshapes() {
    moved(&with_integers("Reshape", &[2, 6], &[&[3, 4]]), &[2, 6], &[3, 4], |i| i);
    moved(&with_integers("Reshape", &[2, 6], &[&[0, -1, 2]]), &[2, 6], &[2, 3, 2], |i| i);
    moved(&with_integers("Squeeze", &[2, 1, 3, 1], &[&[1, 3]]), &[2, 1, 3, 1], &[2, 3], |i| i);
    moved(&with_integers("Unsqueeze", &[2, 3], &[&[0, 3]]), &[2, 3], &[1, 2, 3, 1], |i| i);
    moved(&one("Flatten", &[2, 3, 4], vec![int("axis", 2)]), &[2, 3, 4], &[6, 4], |i| i);
    assert_eq!(with_integers("Unsqueeze", &[2, 3], &[&[0, 3]]).ops(), ["reshape"]);
}

#[test]
fn a_shape_that_the_graph_computes() {
    let model = Model::new()
        .input("x", &[2, 3, 4])
        .integers("first", &[1], &[0])
        .integers("rest", &[1], &[-1])
        .output("y")
        .node("Shape", &["x"], &["shape"], vec![])
        .node("Gather", &["shape", "first"], &["batch"], vec![int("axis", 0)])
        .node("Concat", &["batch", "rest"], &["target"], vec![int("axis", 0)])
        .node("Reshape", &["x", "target"], &["y"], vec![]);
    assert_eq!(model.ops(), ["reshape"]);
    moved(&model, &[2, 3, 4], &[2, 12], |i| i);
}

#[test]
fn transpositions() {
    moved(&one("Transpose", &[2, 3], vec![]), &[2, 3], &[3, 2], |i| i % 2 * 3 + i / 2);
    let model = one("Transpose", &[2, 3, 4], vec![ints("perm", &[2, 0, 1])]);
    moved(&model, &[2, 3, 4], &[4, 2, 3], |i| i % 6 * 4 + i / 6);
    let model = one("Transpose", &[2, 3, 4, 5], vec![ints("perm", &[0, 2, 3, 1])]);
    assert_eq!(model.ops(), ["transpose"]);
}

#[test]
fn slices() {
    let model = with_integers("Slice", &[4, 6], &[&[1, 1], &[3, i64::MAX], &[0, 1]]);
    moved(&model, &[4, 6], &[2, 5], |i| (i / 5 + 1) * 6 + i % 5 + 1);
    let model = with_integers("Slice", &[4, 6], &[&[-3], &[-1], &[1]]);
    moved(&model, &[4, 6], &[4, 2], |i| i / 2 * 6 + i % 2 + 3);
    let model = with_integers("Slice", &[4, 6], &[&[1], &[6], &[1], &[2]]);
    moved(&model, &[4, 6], &[4, 3], |i| i / 3 * 6 + i % 3 * 2 + 1);
}

#[test]
fn splits_and_joins() {
    let model = Model::new()
        .input("x", &[2, 6])
        .integers("sizes", &[2], &[4, 2])
        .output("y")
        .node("Split", &["x", "sizes"], &["a", "b"], vec![int("axis", 1)])
        .node("Concat", &["b", "a"], &["y"], vec![int("axis", -1)]);
    moved(&model, &[2, 6], &[2, 6], |i| i / 6 * 6 + (i % 6 + 4) % 6);
}

#[test]
fn lookups() {
    let table = counted(&[4, 3]);
    let model = Model::new()
        .input_of("label", DataType::Int64, &[1.into()])
        .constant("table", &[4, 3], table.as_f32().unwrap())
        .output("y")
        .node("Gather", &["table", "label"], &["y"], vec![]);
    assert_eq!(model.ops(), ["gather"]);
    model.expect(&[Tensor::i64(&[1], vec![2])], &[1, 3], &[6.0, 7.0, 8.0]);

    let rows = |indices: &[i64], dims: &[usize]| {
        let model = Model::new().input("x", &[4, 3]).integers("rows", dims, indices).output("y");
        model.node("Gather", &["x", "rows"], &["y"], vec![int("axis", 0)])
    };
    moved(&rows(&[-1, 0], &[2]), &[4, 3], &[2, 3], |i| if i < 3 { 9 + i } else { i - 3 });
    moved(&rows(&[1], &[]), &[4, 3], &[3], |i| 3 + i);
    moved(&rows(&[1], &[1]), &[4, 3], &[1, 3], |i| 3 + i);
    assert_eq!(rows(&[1], &[]).ops(), ["slice", "reshape"]);
}

#[test]
fn repetition() {
    moved(&with_integers("Expand", &[2, 1], &[&[2, 3]]), &[2, 1], &[2, 3], |i| i / 3);
    moved(&with_integers("Expand", &[2], &[&[3, 2]]), &[2], &[3, 2], |i| i % 2);
    moved(&with_integers("Tile", &[1, 2], &[&[3, 1]]), &[1, 2], &[3, 2], |i| i % 2);
    moved(&with_integers("Tile", &[2, 2], &[&[1, 2]]), &[2, 2], &[2, 4], |i| i / 4 * 2 + i % 2);
}

#[test]
fn nodes_that_do_nothing_leave_nothing() {
    for op in ["Identity", "Dropout"] {
        let model = Model::new().input("x", &[2, 3]).output("y").node(op, &["x"], &["same"], vec![]).node(
            "Neg",
            &["same"],
            &["y"],
            vec![],
        );
        assert_eq!(model.ops(), ["neg"], "{op}");
    }
}

/// Channel, row and column of each element of `[1, c, h, w]`.
fn cells(dims: &[usize; 4]) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
    let [_, c, h, w] = *dims;
    (0..c * h * w).map(move |i| (i / (h * w), i / w % h, i % w))
}

#[test]
fn pixels_into_channels_as_pytorch_writes_it() {
    let model = Model::new()
        .input("x", &[1, 2, 4, 6])
        .integers("split", &[6], &[-1, 2, 2, 2, 3, 2])
        .integers("join", &[4], &[-1, 8, 2, 3])
        .output("y")
        .node("Reshape", &["x", "split"], &["a"], vec![])
        .node("Transpose", &["a"], &["b"], vec![ints("perm", &[0, 1, 3, 5, 2, 4])])
        .node("Reshape", &["b", "join"], &["y"], vec![]);
    assert_eq!(model.ops(), ["reshape", "transpose", "reshape"]);
    let y: Vec<usize> =
        cells(&[1, 8, 2, 3]).map(|(k, y, x)| (k / 4 * 4 + y * 2 + k / 2 % 2) * 6 + x * 2 + k % 2).collect();
    moved(&model, &[1, 2, 4, 6], &[1, 8, 2, 3], |i| y[i]);
}

#[test]
fn channels_into_pixels_in_both_orders() {
    let at = |k: usize, y: usize, x: usize| (k * 2 + y) * 3 + x;
    let model = one("DepthToSpace", &[1, 8, 2, 3], vec![int("blocksize", 2), text("mode", "CRD")]);
    assert_eq!(model.ops(), ["reshape", "transpose", "reshape"]);
    let y: Vec<usize> = cells(&[1, 2, 4, 6]).map(|(c, y, x)| at(c * 4 + y % 2 * 2 + x % 2, y / 2, x / 2)).collect();
    moved(&model, &[1, 8, 2, 3], &[1, 2, 4, 6], |i| y[i]);

    let model = one("DepthToSpace", &[1, 8, 2, 3], vec![int("blocksize", 2)]);
    let y: Vec<usize> = cells(&[1, 2, 4, 6]).map(|(c, y, x)| at((y % 2 * 2 + x % 2) * 2 + c, y / 2, x / 2)).collect();
    moved(&model, &[1, 8, 2, 3], &[1, 2, 4, 6], |i| y[i]);
}

#[test]
fn space_to_depth() {
    let model = one("SpaceToDepth", &[1, 2, 4, 6], vec![int("blocksize", 2)]);
    // ONNX orders the new channels as (block row, block column, channel).
    let y: Vec<usize> =
        cells(&[1, 8, 2, 3]).map(|(k, y, x)| (k % 2 * 4 + y * 2 + k / 4) * 6 + x * 2 + k / 2 % 2).collect();
    moved(&model, &[1, 2, 4, 6], &[1, 8, 2, 3], |i| y[i]);
}

#[test]
fn an_output_that_is_an_input_keeps_its_value() {
    let model = Model::new().input("x", &[3]).output("y").node("Identity", &["x"], &["y"], vec![]);
    let x = tensor(&[3], 1);
    model.expect(std::slice::from_ref(&x), &[3], x.as_f32().unwrap());
}
