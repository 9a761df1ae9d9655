//! Files that are damaged, contradict themselves or ask for what we cannot do.

use crate::build::{Model, f32_tensor, noise, text, value};
use flowlet_onnx::{ImportError, ImportOptions, import};
use tract_onnx::pb::{SparseTensorProto, StringStringEntryProto, TensorProto, tensor_proto::DataType};

fn refused(bytes: &[u8]) -> ImportError {
    match import(bytes, &ImportOptions::default()) {
        Ok(_) => panic!("the file was accepted"),
        Err(e) => e,
    }
}

fn plain() -> Model {
    Model::new()
        .input("x", &[1, 4])
        .constant("w", &[4, 4], &noise(16, 1))
        .output("y")
        .named("/fc/MatMul", "MatMul", &["x", "w"], &["h"], vec![])
        .named("/act/Tanh", "Tanh", &["h"], &["y"], vec![])
}

#[test]
fn files_of_another_kind() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let cases: [&[u8]; 5] = [b"", png, b"{\"model\": 1}", b"PK\x03\x04 a PyTorch archive", &[0u8; 64]];
    for bytes in cases {
        let error = refused(bytes);
        assert!(matches!(error, ImportError::NotOnnx { .. }), "{error}");
        assert!(error.to_string().contains("ONNX file"), "{error}");
    }
}

#[test]
fn a_truncated_file_says_where() {
    let bytes = plain().bytes();
    for cut in 1..bytes.len() {
        match refused(&bytes[..cut]) {
            ImportError::NotOnnx { offset, .. } => assert!(offset.is_none_or(|at| at < cut)),
            // Cut between two fields, the file is well framed and incomplete.
            ImportError::Dangling { .. } | ImportError::Malformed { .. } => {}
            other => panic!("cut at {cut}: {other}"),
        }
    }
    let error = refused(&bytes[..bytes.len() / 2]);
    assert!(matches!(error, ImportError::NotOnnx { offset: Some(_), .. }), "{error}");
    assert!(error.to_string().contains("at byte"), "{error}");
}

#[test]
fn all_unknown_operators_are_listed_at_once() {
    let model = Model::new()
        .input("x", &[1, 4])
        .output("y")
        .named("first", "FancyNorm", &["x"], &["a"], vec![])
        .named("", "Wavelet", &["a"], &["b"], vec![])
        .named("third", "FancyNorm", &["b"], &["y"], vec![]);
    let ImportError::Unsupported { nodes } = refused(&model.bytes()) else { panic!() };
    let found: Vec<(&str, &str)> = nodes.iter().map(|n| (n.name.as_str(), n.op.as_str())).collect();
    assert_eq!(found, [("first", "FancyNorm"), ("b", "Wavelet"), ("third", "FancyNorm")]);
    let text = refused(&model.bytes()).to_string();
    assert!(text.contains("3 nodes have no translation") && text.contains("'third' (FancyNorm)"), "{text}");
}

#[test]
fn known_operators_without_a_translation_are_listed_at_once() {
    let model = Model::new()
        .input("x", &[1, 4])
        .output("y")
        .named("scores", "Acos", &["x"], &["a"], vec![])
        .named("fine", "Neg", &["a"], &["b"], vec![])
        .named("angle", "Tan", &["b"], &["y"], vec![]);
    let ImportError::Unsupported { nodes } = refused(&model.bytes()) else { panic!() };
    let found: Vec<(&str, &str)> = nodes.iter().map(|n| (n.name.as_str(), n.op.as_str())).collect();
    assert_eq!(found, [("scores", "Acos"), ("angle", "Tan")]);
}

#[test]
fn a_transposed_convolution_with_automatic_padding_is_refused_by_name() {
    let model = Model::new().input("x", &[1, 2, 4, 4]).constant("w", &[2, 2, 2, 2], &noise(16, 1)).output("y").named(
        "/up/ConvTranspose",
        "ConvTranspose",
        &["x", "w"],
        &["y"],
        vec![text("auto_pad", "SAME_UPPER")],
    );
    let error = refused(&model.bytes()).to_string();
    assert!(error.contains("/up/ConvTranspose") && error.contains("automatic padding"), "{error}");
}

#[test]
fn padding_elsewhere_is_refused_by_name() {
    let model = Model::new()
        .input("x", &[1, 2, 4, 4])
        .integers("p", &[8], &[0, 0, 1, 1, 0, 0, 1, 1])
        .output("y")
        .named("/pad", "Pad", &["x", "p"], &["a"], vec![])
        .named("/neg", "Neg", &["a"], &["y"], vec![]);
    let error = refused(&model.bytes()).to_string();
    assert!(error.contains("zero padding"), "{error}");
}

#[test]
fn a_dangling_reader_is_named_with_its_tensor() {
    let mut model = plain();
    model.graph().initializer.clear();
    assert_eq!(
        refused(&model.bytes()),
        ImportError::Dangling { node: "/fc/MatMul".to_owned(), tensor: "w".to_owned() }
    );
    let mut model = plain();
    model.graph().output[0].name = "lost".to_owned();
    assert_eq!(
        refused(&model.bytes()),
        ImportError::Dangling { node: "graph output".to_owned(), tensor: "lost".to_owned() }
    );
}

#[test]
fn a_cycle_names_its_nodes() {
    let model = Model::new()
        .input("x", &[1])
        .output("c")
        .named("one", "Add", &["x", "c"], &["a"], vec![])
        .named("two", "Neg", &["a"], &["b"], vec![])
        .named("three", "Abs", &["b"], &["c"], vec![]);
    let ImportError::Cycle { nodes } = refused(&model.bytes()) else { panic!() };
    assert_eq!(nodes.len(), 3);
    let at = nodes.iter().position(|n| n == "one").unwrap();
    assert_eq!([&nodes[at], &nodes[(at + 1) % 3], &nodes[(at + 2) % 3]], ["one", "two", "three"]);
}

#[test]
fn nodes_out_of_order_are_fine() {
    let mut model = plain();
    model.graph().node.reverse();
    assert_eq!(model.ops(), ["linear", "tanh"]);
}

#[test]
fn a_long_chain_does_not_exhaust_the_stack() {
    let mut model = Model::new().input("v0", &[1]).output("v3000");
    for i in 0..3000 {
        model = model.named("", "Neg", &[&format!("v{i}")], &[&format!("v{}", i + 1)], vec![]);
    }
    assert_eq!(model.ops().len(), 3000);
}

#[test]
fn contradictions_are_named() {
    let malformed = |model: Model, name: &str| match refused(&model.bytes()) {
        ImportError::Malformed { name: found, message } => {
            assert_eq!(found, name, "{message}");
            message
        }
        other => panic!("{other}"),
    };
    let twice = plain().named("again", "Neg", &["x"], &["h"], vec![]);
    assert!(malformed(twice, "again").contains("'h' is already defined"));
    let weights = plain().constant("w", &[1], &[0.0]);
    assert!(malformed(weights, "w").contains("two initializers"));
    let inputs = plain().input("x", &[1]);
    assert!(malformed(inputs, "x").contains("two inputs"));
    let mut none = plain();
    none.graph().output.clear();
    assert!(malformed(none, "test").contains("no output"));
    let huge = TensorProto { dims: vec![1 << 40, 1 << 40], ..f32_tensor("huge", &[], &[]) };
    assert!(malformed(plain().stored(huge), "huge").contains("too large"));
    let mut sparse = plain();
    let values = Some(f32_tensor("sparse", &[1], &[1.0]));
    sparse.graph().sparse_initializer.push(SparseTensorProto { values, ..SparseTensorProto::default() });
    assert!(malformed(sparse, "sparse").contains("sparse"));
    let mut external = f32_tensor("beside", &[1], &[]);
    external.external_data.push(StringStringEntryProto { key: "location".to_owned(), value: "w.bin".to_owned() });
    assert!(malformed(plain().stored(external), "beside").contains("save_as_external_data=False"));
}

#[test]
fn too_few_elements_are_refused() {
    let mut model = plain();
    model.graph().initializer[0].raw_data.pop();
    let error = refused(&model.bytes()).to_string();
    assert!(error.contains('w'), "{error}");
}

#[test]
fn nan_and_infinite_weights_are_found() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut data = noise(16, 1);
        data[7] = bad;
        let mut model = plain();
        model.graph().initializer[0] = f32_tensor("w", &[4, 4], &data);
        let ImportError::NonFinite { tensor, index, .. } = refused(&model.bytes()) else { panic!() };
        assert_eq!((tensor.as_str(), index), ("w", 7));
    }
    let error = refused(&{
        let mut model = plain();
        model.graph().initializer[0] = f32_tensor("w", &[4, 4], &[f32::NAN; 16]);
        model.bytes()
    });
    assert!(error.to_string().contains("'w' holds NaN at element 0"), "{error}");
}

#[test]
fn half_and_double_precision_nan_and_constant_nodes() {
    let half = TensorProto {
        dims: vec![2],
        data_type: DataType::Float16 as i32,
        raw_data: vec![0, 0, 0, 0x7e],
        ..TensorProto::default()
    };
    let model = plain().named("/broken", "Constant", &[], &["unused"], vec![value(half)]);
    let ImportError::NonFinite { tensor, index, value } = refused(&model.bytes()) else { panic!() };
    assert_eq!((tensor.as_str(), index, value.is_nan()), ("/broken", 1, true));
    let double = TensorProto {
        name: "d".to_owned(),
        dims: vec![1],
        data_type: DataType::Double as i32,
        double_data: vec![1e300],
        ..TensorProto::default()
    };
    // Finite as f64, and not as the f32 that the compiler computes with.
    let error = refused(&plain().stored(double).named("sum", "Add", &["d", "d"], &["dd"], vec![]).bytes());
    assert!(matches!(error, ImportError::NonFinite { .. }), "{error}");
}

#[test]
fn arithmetic_on_constants_that_ends_in_infinity_is_found() {
    let model = Model::new()
        .input("x", &[1, 2])
        .constant("a", &[1, 2], &[1.0, 1.0])
        .constant("b", &[1, 2], &[1.0, 0.0])
        .output("y")
        .node("Div", &["a", "b"], &["c"], vec![])
        .node("Mul", &["x", "c"], &["y"], vec![]);
    let error = refused(&model.bytes());
    assert!(matches!(error, ImportError::NonFinite { index: 1, .. }), "{error}");
}

#[test]
fn shapes_that_do_not_fit_name_the_node() {
    let model = Model::new().input("x", &[1, 5]).constant("w", &[4, 3], &noise(12, 1)).output("y").named(
        "/head/MatMul",
        "MatMul",
        &["x", "w"],
        &["y"],
        vec![],
    );
    let ImportError::Library { node, message } = refused(&model.bytes()) else { panic!() };
    assert_eq!(node.as_deref(), Some("/head/MatMul"), "{message}");
    assert!(!message.contains('@'), "{message}");
}

#[test]
fn a_tensor_that_no_memory_holds_is_refused_before_it_is_made() {
    for op in ["Expand", "Tile", "ConstantOfShape"] {
        let mut model = Model::new().input("x", &[1]).integers("n", &[3], &[1 << 20; 3]).output("y");
        model = match op {
            "Expand" => model.node(op, &["x", "n"], &["y"], vec![]),
            "Tile" => model.integers("c", &[1, 1, 1], &[1]).node(op, &["c", "n"], &["y"], vec![]),
            _ => model.node(op, &["n"], &["y"], vec![]),
        };
        let error = refused(&model.bytes());
        assert!(error.to_string().contains("too large"), "{op}: {error}");
    }
}
