//! Models that were quantised before: QDQ and integer operators.

use crate::build::{Model, int, tensor};
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Def, Graph, InputKind, Op, Quant, Stage, Tensor, verify};
use flowlet_compiler::quantize::{Calibration, needs_calibration, noise_tensor, quantize};
use flowlet_compiler::{compile::optimise, passes::Options};
use flowlet_kernels::port;
use flowlet_onnx::{ImportError, ImportOptions, import};
use std::collections::HashMap;
use std::path::PathBuf;
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

fn codes(name: &str, kind: DataType, dims: &[usize], values: &[i32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: kind as i32,
        int32_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// Constants `<name>.s` and `<name>.z`.
fn grid(model: Model, name: &str, kind: DataType, scale: f32, zero_point: i32) -> Model {
    let zero = codes(&format!("{name}.z"), kind, &[], &[zero_point]);
    model.constant(&format!("{name}.s"), &[], &[scale]).stored(zero)
}

/// `x -> Q -> DQ -> y`.
fn rounded(kind: DataType, zero_point: i32) -> Model {
    grid(Model::new().input("x", &[1, 5]).output("y"), "x", kind, 0.25, zero_point)
        .node("QuantizeLinear", &["x", "x.s", "x.z"], &["q"], vec![])
        .node("DequantizeLinear", &["q", "x.s", "x.z"], &["y"], vec![])
}

#[test]
fn unsigned_bytes_become_signed_ones_with_the_same_numbers() {
    let x = Tensor::f32(&[1, 5], vec![0.1, 0.125, 0.375, -100.0, 100.0]);
    for (kind, zero_point) in [(DataType::Uint8, 138), (DataType::Int8, 10)] {
        let model = rounded(kind, zero_point);
        // Ties go to even, ends are 0 and 255 steps from the least number.
        model.expect(std::slice::from_ref(&x), &[1, 5], &[0.0, 0.0, 0.5, -34.5, 29.25]);
        let graph = model.graph_or_panic();
        let ops: Vec<&Op> = graph.nodes.iter().map(|n| &n.op).collect();
        assert_eq!(ops, [&Op::FakeQuant { scale: 0.25, zero_point: 10 }]);
    }
}

/// `QLinearConv` of 2 channels to 2 with a scale for each filter.
fn convolution(weights: &[i32], weight_zero: i32) -> Model {
    let model = Model::new().input("x", &[1, 2, 1, 1]).output("y");
    let model = grid(grid(model, "x", DataType::Uint8, 0.5, 128), "y", DataType::Uint8, 0.125, 0);
    model
        .stored(codes("w", DataType::Int8, &[2, 2, 1, 1], weights))
        .constant("w.s", &[2], &[0.5, 0.25])
        .stored(codes("w.z", DataType::Int8, &[2], &[weight_zero; 2]))
        .stored(codes("b", DataType::Int32, &[2], &[4, -8]))
        .node("QuantizeLinear", &["x", "x.s", "x.z"], &["xq"], vec![])
        .node("QLinearConv", &["xq", "x.s", "x.z", "w", "w.s", "w.z", "y.s", "y.z", "b"], &["yq"], vec![])
        .node("DequantizeLinear", &["yq", "y.s", "y.z"], &["y"], vec![])
}

#[test]
fn an_integer_convolution_is_a_float_one_that_is_rounded() {
    let x = Tensor::f32(&[1, 2, 1, 1], vec![1.0, -2.5]);
    // 0.5 * (3 * 1 - 1 * -2.5) + 4 * 0.5 * 0.5 and 0.25 * (1 * 1 + 2 * -2.5) - 8 * 0.5 * 0.25, which is negative.
    convolution(&[3, -1, 1, 2], 0).expect(&[x], &[1, 2, 1, 1], &[3.75, 0.0]);
}

#[test]
fn weights_that_s8_cannot_hold_leave_a_remark() {
    let told = |model: &Model| {
        model.graph_or_panic().remarks.iter().any(|r| r.node == "/qlinearconv/yq" && r.message.contains("127 steps"))
    };
    assert!(!told(&convolution(&[127, -127, 1, 2], 0)));
    assert!(told(&convolution(&[-128, 5, 1, 2], 0)));
    assert!(told(&convolution(&[100, 5, 1, 2], -100)));
}

#[track_caller]
fn refusal(model: &Model) -> String {
    match model.import() {
        Err(error @ (ImportError::Unsupported { .. } | ImportError::Malformed { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_has_no_form_here_is_refused_by_name() {
    let mut other = rounded(DataType::Uint8, 138);
    other.graph().initializer.push(codes("z2", DataType::Uint8, &[], &[139]));
    other.graph().node[1].input[2] = "z2".to_owned();
    let text = refusal(&other);
    assert!(text.contains("/dequantizelinear/y") && text.contains("zero point 10 and is read with"), "{text}");

    let mut channels = rounded(DataType::Uint8, 138);
    channels.graph().initializer.remove(0);
    let text = refusal(&channels.constant("x.s", &[5], &[0.1; 5]));
    assert!(text.contains("/quantizelinear/q") && text.contains("per tensor"), "{text}");

    let text = refusal(&rounded(DataType::Uint16, 138));
    assert!(text.contains("Uint16"), "{text}");

    let dynamic = Model::new()
        .input("x", &[1, 4])
        .output("y")
        .node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"], vec![])
        .node("DequantizeLinear", &["q", "s", "z"], &["y"], vec![]);
    let text = refusal(&dynamic);
    assert!(text.contains("/dynamicquantizelinear/q") && text.contains("quantise statically"), "{text}");

    let negative = grid(Model::new().input("x", &[1, 5]).output("y"), "x", DataType::Int8, -1.0, 0);
    let text = refusal(&negative.node("QuantizeLinear", &["x", "x.s", "x.z"], &["y"], vec![]));
    assert!(text.contains("not positive"), "{text}");

    let mut cut = convolution(&[3, -1, 1, 2], 0);
    cut.graph().initializer.iter_mut().find(|t| t.name == "w").unwrap().int32_data.pop();
    let text = refusal(&cut);
    assert!(text.contains("'w' of [2, 2, 1, 1] holds 3"), "{text}");
}

#[test]
fn weights_are_read_along_the_axis_of_their_scales() {
    let model = Model::new()
        .input("x", &[1, 2])
        .output("y")
        .stored(codes("w", DataType::Int8, &[2, 3], &[1, 2, 3, 4, 5, 6]))
        .constant("w.s", &[3], &[1.0, 0.5, 0.25])
        .stored(codes("w.z", DataType::Int8, &[3], &[0, 0, 1]))
        .node("DequantizeLinear", &["w", "w.s", "w.z"], &["wf"], vec![int("axis", -1)])
        .node("MatMul", &["x", "wf"], &["y"], vec![]);
    model.expect(&[Tensor::f32(&[1, 2], vec![1.0, 10.0])], &[1, 3], &[41.0, 26.0, 13.0]);
}

/// The network of this stem, imported and folded.
fn network(stem: &str) -> Graph {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/networks/onnx");
    let graph = import(&std::fs::read(folder.join(format!("{stem}.onnx"))).unwrap(), &ImportOptions::default());
    let mut options = Options::default();
    let graph = graph.unwrap();
    if let Some(t) = graph.find("t") {
        options.set.push(("t".to_owned(), Tensor::f32(&graph.ty(t).dims, vec![0.5])));
    }
    optimise(graph, &options).unwrap()
}

fn sample(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let inputs = graph.inputs.iter().enumerate();
    let one = |(i, &id)| match graph.value(id).def {
        Def::Input(InputKind::Index { count }) => Tensor::i64(&graph.ty(id).dims, vec![(seed % count as u64) as i64]),
        _ => noise_tensor(graph.ty(id), seed * 16 + i as u64, 1),
    };
    inputs.map(one).collect()
}

/// Largest difference in s8 steps between what each int8 operation and the rounded f32 graph make of the same operands.
/// The f32 graph is bit for bit what onnxruntime computes (`networks.rs`).
fn steps_apart(stem: &str) -> (i32, usize) {
    let graph = network(stem);
    let samples: Vec<Vec<Tensor>> = (0..8).map(|s| sample(&graph, s)).collect();
    let int8 = quantize(&graph, &Calibration::from_samples(samples, "test"), &mut |_, _| {}).unwrap();
    verify(&int8, Stage::Quantized).unwrap();
    let real = sample(&graph, 100);
    let mut seen: HashMap<String, Tensor> = HashMap::new();
    Interpreter::new(&graph)
        .run_with(&real, &mut |id, tensor| {
            seen.insert(graph.value(id).name.clone(), tensor.clone());
        })
        .unwrap();
    let code = |id| -> Option<Tensor> {
        let value = int8.value(id);
        let quant = value.ty.quant?;
        let known = seen.get(&value.name)?.as_f32()?;
        let round = |x: &f32| port::quantise_finite(*x, 1.0 / quant.scale, quant.zero_point);
        Some(Tensor::s8(&value.ty.dims, known.iter().map(round).collect()))
    };
    let (mut worst, mut compared) = (0, 0);
    for node in &int8.nodes {
        let mut alone = int8.clone();
        let mut feeds = Vec::new();
        alone.nodes = vec![node.clone()];
        alone.outputs = vec![node.output];
        alone.inputs.clear();
        for &id in node.inputs.iter().filter(|&&id| int8.constant(id).is_none()) {
            let feed = match int8.value(id).def {
                Def::Input(InputKind::Index { .. }) => Some(
                    real[graph.inputs.iter().position(|&g| graph.value(g).name == int8.value(id).name).unwrap()]
                        .clone(),
                ),
                _ => code(id),
            };
            if alone.inputs.contains(&id) {
                continue;
            }
            if !matches!(int8.value(id).def, Def::Input(_)) {
                alone.value_mut(id).def = Def::Input(InputKind::Tensor);
            }
            alone.inputs.push(id);
            feeds.push(feed);
        }
        let (Some(feeds), Some(want)) = (feeds.into_iter().collect::<Option<Vec<_>>>(), code(node.output)) else {
            continue;
        };
        let got = Interpreter::new(&alone).run(&feeds).unwrap().remove(0);
        let pairs = got.as_s8().unwrap().iter().zip(want.as_s8().unwrap());
        worst = pairs.fold(worst, |m, (a, b)| m.max((i32::from(*a) - i32::from(*b)).abs()));
        compared += 1;
    }
    (worst, compared)
}

#[test]
fn every_operation_is_within_a_step_of_onnxruntime() {
    for (stem, least) in [("mlp.qdq", 15), ("mlp.qoperator", 15), ("resnet.qoperator", 70)] {
        assert!(!needs_calibration(&network(stem)), "{stem}");
        let (worst, compared) = steps_apart(stem);
        println!("{stem}: {compared} operations, at most {worst} steps apart");
        assert!(compared >= least, "{stem}: only {compared} operations were compared");
        assert!(worst <= 1, "{stem}: {worst} steps");
    }
}

#[test]
fn float_islands_are_calibrated() {
    let graph = network("slim.qdq_islands");
    assert!(needs_calibration(&graph));
    let samples = (0..8).map(|s| sample(&graph, s)).collect();
    let int8 = quantize(&graph, &Calibration::from_samples(samples, "test"), &mut |_, _| {}).unwrap();
    let mut kept = 0;
    for node in &graph.nodes {
        let Op::FakeQuant { scale, zero_point } = node.op else { continue };
        if let Some(id) = int8.find(&graph.value(node.inputs[0]).name) {
            assert_eq!(int8.ty(id).quant, Some(Quant { scale, zero_point }), "{}", node.origin);
            kept += 1;
        }
    }
    assert!(kept > 20, "{kept} tensors keep the file's scale");
}

#[test]
fn a_float_model_is_left_as_it_is() {
    let model = Model::new().input("x", &[1, 4]).output("y").node("Neg", &["x"], &["y"], vec![]);
    assert!(model.graph_or_panic().remarks.is_empty());
    assert!(needs_calibration(&model.graph_or_panic()));
    model.expect(
        &[tensor(&[1, 4], 1)],
        &[1, 4],
        &tensor(&[1, 4], 1).as_f32().unwrap().iter().map(|v| -v).collect::<Vec<_>>(),
    );
}
