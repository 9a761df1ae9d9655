//! Nearest-neighbour upsampling.

use crate::build::{Model, tensor, text};
use flowlet_onnx::ImportError;

fn resize(transform: &str, nearest: &str, mode: &str) -> Model {
    Model::new().input("x", &[1, 2, 3, 4]).constant("scales", &[4], &[1.0, 1.0, 2.0, 2.0]).output("y").node(
        "Resize",
        &["x", "", "scales"],
        &["y"],
        vec![text("coordinate_transformation_mode", transform), text("nearest_mode", nearest), text("mode", mode)],
    )
}

#[track_caller]
fn doubles(model: &Model) {
    assert_eq!(model.ops(), ["upsample"]);
    let x = tensor(&[1, 2, 3, 4], 1);
    let v = x.as_f32().unwrap();
    let y: Vec<f32> = (0..2 * 6 * 8).map(|i| v[(i / 48 * 3 + i / 8 % 6 / 2) * 4 + i % 8 / 2]).collect();
    model.expect(&[x], &[1, 2, 6, 8], &y);
}

#[test]
fn modes_that_repeat_pixels() {
    doubles(&resize("asymmetric", "floor", "nearest"));
    doubles(&resize("half_pixel", "round_prefer_floor", "nearest"));
    doubles(&resize("half_pixel", "round_prefer_ceil", "nearest"));
    doubles(&resize("pytorch_half_pixel", "round_prefer_floor", "nearest"));
}

#[test]
fn a_size_in_place_of_factors() {
    let model = Model::new().input("x", &[1, 2, 3, 4]).integers("sizes", &[4], &[1, 2, 6, 8]).output("y");
    let attributes = vec![text("coordinate_transformation_mode", "asymmetric"), text("nearest_mode", "floor")];
    doubles(&model.node("Resize", &["x", "", "", "sizes"], &["y"], attributes));
}

#[test]
fn sequences_and_unequal_factors() {
    let resized = |from: &[usize], scales: &[f32]| {
        let model = Model::new().input("x", from).constant("scales", &[scales.len()], scales).output("y");
        let attributes = vec![text("coordinate_transformation_mode", "asymmetric"), text("nearest_mode", "floor")];
        model.node("Resize", &["x", "", "scales"], &["y"], attributes)
    };
    let model = resized(&[1, 2, 5], &[1.0, 1.0, 3.0]);
    assert_eq!(model.ops(), ["reshape", "expand", "reshape"]);
    let x = tensor(&[1, 2, 5], 1);
    let y: Vec<f32> = (0..30).map(|i| x.as_f32().unwrap()[i / 3]).collect();
    model.expect(&[x], &[1, 2, 15], &y);
    let x = tensor(&[1, 1, 2, 3], 1);
    let y: Vec<f32> = (0..12).map(|i| x.as_f32().unwrap()[i / 6 * 3 + i % 3]).collect();
    resized(&[1, 1, 2, 3], &[1.0, 1.0, 2.0, 1.0]).expect(&[x], &[1, 1, 4, 3], &y);
}

#[test]
fn the_slim_flow_spelling_of_doubling() {
    let model = Model::new()
        .input("x", &[1, 2, 3, 4])
        .integers("split", &[6], &[-1, 2, 3, 1, 4, 1])
        .integers("times", &[6], &[1, 1, 1, 2, 1, 2])
        .integers("join", &[4], &[-1, 2, 6, 8])
        .output("y")
        .node("Reshape", &["x", "split"], &["a"], vec![])
        .node("Tile", &["a", "times"], &["b"], vec![])
        .node("Reshape", &["b", "join"], &["y"], vec![]);
    assert_eq!(model.ops(), ["reshape", "expand", "reshape"]);
    let x = tensor(&[1, 2, 3, 4], 1);
    let v = x.as_f32().unwrap();
    let y: Vec<f32> = (0..2 * 6 * 8).map(|i| v[(i / 48 * 3 + i / 8 % 6 / 2) * 4 + i % 8 / 2]).collect();
    model.expect(&[x], &[1, 2, 6, 8], &y);
}

#[test]
fn modes_that_do_not_are_refused_with_the_way_out() {
    let reason = |model: Model| match model.import() {
        Err(ImportError::Unsupported { nodes }) => nodes[0].reason.clone(),
        other => panic!("{other:?}"),
    };
    assert!(reason(resize("half_pixel", "floor", "linear")).contains("linear interpolation"));
    assert!(reason(resize("asymmetric", "ceil", "nearest")).contains("'asymmetric' and 'floor'"));
    assert!(reason(resize("align_corners", "floor", "nearest")).contains("does not repeat elements"));
}
