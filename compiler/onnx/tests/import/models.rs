//! The models that ship with the project, against the outputs that their author computed.

use crate::npy;
use flowlet_compiler::interp;
use flowlet_compiler::ir::{Graph, Op, Type};
use flowlet_onnx::{ImportOptions, import};
use std::path::PathBuf;

pub fn path(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models").join(relative)
}

fn load(relative: &str) -> Graph {
    let bytes = std::fs::read(path(relative)).unwrap();
    import(&bytes, &ImportOptions::default()).unwrap_or_else(|e| panic!("{relative}: {e}"))
}

/// Runs the golden inputs and compares with the author's velocities, relative to their range.
fn golden(name: &str) {
    let graph = load(&format!("{name}/{name}.onnx"));
    let names: Vec<&str> = graph.inputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
    assert_eq!(names, ["noise", "t", "label"]);
    let array = |file: &str| npy::read(&path(&format!("{name}/golden/{file}.npy")));
    let arrays = [array("noise"), array("t"), array("label")];
    let expected = array("velocity");
    let expected_values = expected.as_f32().unwrap();
    let (lo, hi) = expected_values.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let mut worst = 0f32;
    for i in 0..expected.dims[0] {
        let inputs: Vec<_> = arrays.iter().map(|a| npy::sample(a, i)).collect();
        let result = interp::run(&graph, &inputs).unwrap().remove(0);
        let wanted = npy::sample(&expected, i);
        assert_eq!(result.dims, wanted.dims);
        for (a, b) in result.as_f32().unwrap().iter().zip(wanted.as_f32().unwrap()) {
            worst = worst.max((a - b).abs() / (hi - lo));
        }
    }
    println!("{name}: largest difference {worst:e} of the range");
    assert!(worst <= 1e-4, "{name}: the largest difference is {worst:e} of the range");
}

#[test]
fn fashion_tiny_computes_what_its_author_computed() {
    golden("fashion-tiny");
}

#[test]
fn fashion_computes_what_its_author_computed() {
    golden("fashion");
}

#[test]
fn every_node_of_fashion_tiny_keeps_its_onnx_name() {
    let graph = load("fashion-tiny/fashion-tiny.onnx");
    assert!(graph.nodes.iter().all(|n| n.origin.starts_with('/')));
    assert!(graph.values.iter().all(|v| !v.name.contains('@')));
    assert!(graph.remarks.is_empty());
    let ops: Vec<&str> = graph.nodes.iter().map(|n| n.op.name()).collect();
    let count = |name: &str| ops.iter().filter(|o| **o == name).count();
    assert_eq!((count("conv"), count("upsample"), count("gather"), count("matmul")), (13, 1, 1, 0));
    assert!(!graph.nodes.iter().any(|n| matches!(n.op, Op::Cast { .. } | Op::Expand { .. })));
}

#[test]
fn the_scoring_networks_import() {
    for (name, output, size) in [("features", "features", 64), ("accuracy", "logits", 10)] {
        let graph = load(&format!("scoring/{name}.onnx"));
        assert_eq!(graph.ty(graph.inputs[0]), &Type::f32(&[1, 1, 28, 28]));
        assert_eq!(graph.value(graph.outputs[0]).name, output);
        assert_eq!(graph.ty(graph.outputs[0]), &Type::f32(&[1, size]));
    }
}

#[test]
fn importing_twice_gives_the_same_text() {
    let text = || {
        let graph = load("fashion-tiny/fashion-tiny.onnx");
        flowlet_compiler::ir::print(&graph, flowlet_compiler::ir::ConstStyle::Short)
    };
    assert_eq!(text(), text());
}
