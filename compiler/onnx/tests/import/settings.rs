//! Shapes that are given or left open, names, element types.

use crate::build::{Dim, Model, noise, value};
use flowlet_compiler::ir::{DType, InputKind, Tensor, Type};
use flowlet_onnx::{ImportError, ImportOptions, import};
use tract_onnx::pb::{TensorProto, tensor_proto::DataType};

fn open(dims: &[Dim]) -> Model {
    Model::new().input_of("x", DataType::Float, dims).output("y").node("Neg", &["x"], &["y"], vec![])
}

fn shaped(model: &Model, shapes: &[(&str, &[usize])]) -> Result<Vec<usize>, ImportError> {
    let shapes = shapes.iter().map(|(n, d)| ((*n).to_owned(), d.to_vec())).collect();
    let graph = import(&model.bytes(), &ImportOptions { shapes, ..ImportOptions::default() })?;
    Ok(graph.ty(graph.outputs[0]).dims.clone())
}

#[test]
fn an_open_leading_axis_becomes_one_with_a_remark() {
    let graph = open(&["batch".into(), 3.into()]).graph_or_panic();
    assert_eq!(graph.ty(graph.inputs[0]), &Type::f32(&[1, 3]));
    let [remark] = &graph.remarks[..] else { panic!("{:?}", graph.remarks) };
    assert_eq!((remark.pass.as_str(), remark.node.as_str()), ("import", "x"));
    assert!(remark.message.contains("'batch' becomes 1"), "{}", remark.message);
    let graph = open(&[Dim::Unnamed, 3.into()]).graph_or_panic();
    assert_eq!(graph.ty(graph.inputs[0]), &Type::f32(&[1, 3]));
}

#[test]
fn a_fixed_batch_stays() {
    assert_eq!(shaped(&open(&[4.into(), 3.into()]), &[]), Ok(vec![4, 3]));
}

#[test]
fn other_open_axes_name_the_flag() {
    let model = open(&["batch".into(), 3.into(), "H".into(), "W".into()]);
    let error = shaped(&model, &[]).unwrap_err();
    assert_eq!(error.to_string(), "input 'x' has the open dimension 'H' at axis 2: add --shape x=1x3x32x32");
    let error = shaped(&open(&[1.into(), Dim::Unnamed]), &[]).unwrap_err();
    assert!(error.to_string().contains("without a name at axis 1: add --shape x=1x32"), "{error}");
    assert_eq!(shaped(&model, &[("x", &[2, 3, 8, 4])]), Ok(vec![2, 3, 8, 4]));
}

#[test]
fn a_symbol_is_settled_everywhere() {
    let model = Model::new()
        .input_of("x", DataType::Float, &["n".into(), "k".into()])
        .input_of("z", DataType::Float, &["k".into(), "n".into()])
        .output("y")
        .node("MatMul", &["x", "z"], &["y"], vec![]);
    assert_eq!(shaped(&model, &[("x", &[3, 5])]), Ok(vec![3, 3]));
    let error = shaped(&model, &[("x", &[3, 5]), ("z", &[6, 3])]).unwrap_err();
    assert!(error.to_string().contains("'k'"), "{error}");
}

#[test]
fn shapes_that_contradict_the_model() {
    let model = open(&["batch".into(), 3.into()]);
    let error = |shapes: &[(&str, &[usize])]| shaped(&model, shapes).unwrap_err().to_string();
    assert!(error(&[("x", &[1, 4])]).contains("the model fixes 3"));
    assert!(error(&[("x", &[1])]).contains("gives 1 dimensions, the model has 2"));
    assert!(error(&[("z", &[1, 3])]).contains("no such input; it has 'x'"));
    assert!(error(&[("x", &[0, 3])]).contains("no size"));
}

#[test]
fn an_input_without_any_shape_needs_one() {
    let mut model = open(&[]);
    let ty = model.graph().input[0].r#type.as_mut().unwrap();
    let Some(tract_onnx::pb::type_proto::Value::TensorType(tensor)) = &mut ty.value else { panic!() };
    tensor.shape = None;
    assert!(shaped(&model, &[]).unwrap_err().to_string().contains("add --shape x="));
    assert_eq!(shaped(&model, &[("x", &[2, 3])]), Ok(vec![2, 3]));
}

#[test]
fn labels_of_any_width_are_i64_inputs() {
    for (dtype, dims) in
        [(DataType::Int64, vec![1.into()]), (DataType::Int32, vec![1.into()]), (DataType::Int64, vec![])]
    {
        let model = Model::new()
            .input_of("label", dtype, &dims)
            .constant("table", &[4, 3], &noise(12, 1))
            .output("y")
            .node("Gather", &["table", "label"], &["y"], vec![]);
        let graph = model.graph_or_panic();
        let input = graph.value(graph.inputs[0]);
        assert_eq!(input.ty, Type::new(DType::I64, &vec![1; dims.len()]));
        assert_eq!(input.def, flowlet_compiler::ir::Def::Input(InputKind::Tensor));
        assert_eq!(model.ops(), ["gather"]);
    }
}

#[test]
fn values_carry_the_names_of_the_model() {
    let model = Model::new()
        .input("x", &[1, 4])
        .constant("fc.weight", &[3, 4], &noise(12, 1))
        .output("velocity")
        .named("/net/fc/MatMul", "MatMul", &["x", "w"], &["h"], vec![])
        .named("", "Tanh", &["h"], &["velocity"], vec![])
        .node("Transpose", &["fc.weight"], &["w"], vec![]);
    let graph = model.graph_or_panic();
    let text = flowlet_compiler::ir::print(&graph, flowlet_compiler::ir::ConstStyle::Short);
    assert!(text.contains("-> (%velocity)"), "{text}");
    assert!(text.contains("%net.fc.MatMul = linear %x,"), "{text}");
    assert!(text.contains("from \"/net/fc/MatMul\""), "{text}");
    assert!(text.contains("from \"velocity\""), "{text}");
    let named = ImportOptions { name: Some("policy".to_owned()), ..ImportOptions::default() };
    assert_eq!(import(&model.bytes(), &named).unwrap().name, "policy");
}

#[test]
fn nodes_may_share_a_name_or_clash_with_a_tensor() {
    let model = Model::new()
        .input("x", &[1, 4])
        .constant("fc.bias", &[4], &noise(4, 2))
        .constant("w", &[4, 4], &noise(16, 1))
        .output("y")
        .named("fc", "Gemm", &["x", "w", "fc.bias"], &["a"], vec![])
        .named("fc", "Gemm", &["a", "w", "fc.bias"], &["b"], vec![])
        .named("x", "Neg", &["b"], &["y"], vec![]);
    assert_eq!(model.ops(), ["linear", "linear", "neg"]);
}

#[test]
fn the_text_form_reads_back() {
    let model = Model::new().input("x", &[1, 2]).output("y").node("Clip", &["x"], &["y"], vec![]);
    let graph = model.node("Relu", &["x"], &["z"], vec![]).output("z").graph_or_panic();
    let text = flowlet_compiler::ir::print(&graph, flowlet_compiler::ir::ConstStyle::Full);
    assert!(flowlet_compiler::ir::parse(&text, &[]).is_ok(), "{text}");
}

/// A constant node of the given element type, added to an input.
fn stored(tensor: TensorProto) -> Model {
    let model = Model::new().input("x", &[1, 2]).output("y");
    model
        .node("Constant", &[], &["c"], vec![value(tensor)])
        .node("Cast", &["c"], &["f"], vec![crate::build::int("to", 1)])
        .node("Add", &["x", "f"], &["y"], vec![])
}

#[test]
fn constants_of_other_widths_are_converted() {
    let zero = Tensor::f32(&[1, 2], vec![0.0; 2]);
    let of = |dtype: DataType, raw: &[u8]| TensorProto {
        dims: vec![1, 2],
        data_type: dtype as i32,
        raw_data: raw.to_vec(),
        ..TensorProto::default()
    };
    let half = [0x00, 0x3c, 0x00, 0xc0];
    stored(of(DataType::Float16, &half)).expect(std::slice::from_ref(&zero), &[1, 2], &[1.0, -2.0]);
    let double: Vec<u8> = [1.0f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    stored(of(DataType::Double, &double)).expect(std::slice::from_ref(&zero), &[1, 2], &[1.0, -2.0]);
    stored(of(DataType::Uint8, &[1, 200])).expect(std::slice::from_ref(&zero), &[1, 2], &[1.0, 200.0]);
    stored(of(DataType::Bool, &[1, 0])).expect(std::slice::from_ref(&zero), &[1, 2], &[1.0, 0.0]);
    let word: Vec<u8> = [1i32, -2].iter().flat_map(|v| v.to_le_bytes()).collect();
    stored(of(DataType::Int32, &word)).expect(&[zero], &[1, 2], &[1.0, -2.0]);
}
