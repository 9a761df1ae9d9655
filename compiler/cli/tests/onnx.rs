//! The command on ONNX files.
#![cfg(feature = "onnx")]
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/onnx.rs"]
mod onnx;

use common::{Call, flowlet, folder, wave, write_npy};
use onnx::{Dim, Node, model};
use std::path::{Path, PathBuf};

const WHOLE: &[Dim<'static>] = &[Dim::Known(1), Dim::Known(4)];

/// `y = relu(x * w)`.
fn chain() -> [Node<'static>; 2] {
    [
        Node { name: "/scale/Mul", op: "Mul", inputs: &["x", "w"], output: "h" },
        Node { name: "/act/Relu", op: "Relu", inputs: &["h"], output: "y" },
    ]
}

fn run(test: &str, bytes: &[u8], options: &str) -> Call {
    let f = folder(test);
    std::fs::write(f.join("m.onnx"), bytes).unwrap();
    write_npy(&f, "x", &[1, 4], wave(4));
    flowlet(&f, &format!("run {{}}/m.onnx --input x={{}}/x.npy {options}"))
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

#[test]
fn a_whole_model_runs() {
    let call = run("whole", &model(WHOLE, &[1.0, -1.0, 2.0, 3.0], &chain()), "").ok();
    assert!(call.stdout.contains("sample 0 y: 0.0000 0.0000 1.3486 2.6871"), "{}", call.stdout);
}

#[test]
fn not_onnx() {
    run("text", b"this is no model at all, and long enough", "").refused(&["cannot use", "ONNX", "export or copy"]);
    run("empty", b"", "").refused(&["ONNX"]);
    run("zip", b"PK\x03\x04 a zip file from torch.save", "").refused(&["ONNX"]);
}

#[test]
fn truncated() {
    let bytes = model(WHOLE, &[1.0; 4], &chain());
    run("truncated", &bytes[..bytes.len() - 30], "").refused(&["not a complete ONNX file", "at byte"]);
}

#[test]
fn unknown_operators_are_listed_at_once() {
    let nodes = [
        Node { name: "/a/Frobnicate", op: "Frobnicate", inputs: &["x"], output: "h" },
        Node { name: "/b/Relu", op: "Relu", inputs: &["h"], output: "i" },
        Node { name: "/c/Defenestrate", op: "Defenestrate", inputs: &["i", "w"], output: "y" },
    ];
    run("unknown", &model(WHOLE, &[1.0; 4], &nodes), "").refused(&[
        "2 nodes",
        "'/a/Frobnicate' (Frobnicate)",
        "'/c/Defenestrate' (Defenestrate)",
    ]);
}

#[test]
fn a_cycle_names_its_nodes() {
    let nodes = [
        Node { name: "/first/Add", op: "Add", inputs: &["x", "b"], output: "a" },
        Node { name: "/second/Mul", op: "Mul", inputs: &["a", "w"], output: "b" },
        Node { name: "/last/Relu", op: "Relu", inputs: &["b"], output: "y" },
    ];
    run("cycle", &model(WHOLE, &[1.0; 4], &nodes), "").refused(&["/first/Add", "/second/Mul", "circle"]);
}

#[test]
fn a_dangling_reader_is_named() {
    let nodes = [Node { name: "/lost/Add", op: "Add", inputs: &["x", "nowhere"], output: "y" }];
    run("dangling", &model(WHOLE, &[1.0; 4], &nodes), "").refused(&["'/lost/Add'", "'nowhere'"]);
}

#[test]
fn an_open_dimension_prints_the_flag_to_type() {
    let open = model(&[Dim::Known(1), Dim::Open("width")], &[1.0; 4], &chain());
    let call = run("open", &open, "").refused(&["input 'x'", "'width'", "axis 1", "--shape x=1x"]);
    let flag = call.stderr.split("add ").nth(1).unwrap().lines().next().unwrap().to_owned();
    assert!(flag.starts_with("--shape x="), "{flag}");
    run("open-given", &open, "--shape x=1x4").ok();
    run("open-wrong", &open, "--shape x=2x4x4").refused(&["x"]);
    run("open-unknown", &open, "--shape z=1x4").refused(&["z"]);
}

#[test]
fn an_open_batch_becomes_one_with_a_note() {
    let batch = model(&[Dim::Open("batch"), Dim::Known(4)], &[1.0; 4], &chain());
    let call = run("batch", &batch, "--json").ok();
    assert!(call.stderr.starts_with("note: "), "{}", call.stderr);
    assert!(call.stderr.contains('x') && call.stderr.contains('1'), "{}", call.stderr);
    assert_eq!(call.json()["samples"], 1);
}

#[test]
fn nan_and_infinite_weights() {
    for (test, value, shown) in [("nan", f32::NAN, "NaN"), ("inf", f32::INFINITY, "inf")] {
        let bytes = model(WHOLE, &[1.0, value, 1.0, 1.0], &chain());
        run(test, &bytes, "").refused(&["constant 'w'", shown, "element 1"]);
    }
}

#[test]
fn options_name_inputs_that_exist() {
    let bytes = model(WHOLE, &[1.0; 4], &chain());
    run("set-unknown", &bytes, "--set time=0").refused(&["no input 'time'", "its inputs are x"]);
    run("set-size", &bytes, "--set x=1,2").refused(&["'x'", "[2]", "[1, 4]"]);
    run("noise-unknown", &bytes, "--noise z --noise-at 0").refused(&["no input 'z'", "its inputs are x"]);
    run("noise-alone", &bytes, "--noise-at 0").refused(&["--noise-at", "add --noise NAME"]);
    run("range-alone", &bytes, "--range -1,1").refused(&["--range", "--noise"]);
}

/// The chain is `relu(x * w)`; what it makes of the noise depends on the convention alone.
#[test]
fn every_flow_convention_runs_from_the_command_line() {
    let bytes = model(WHOLE, &[1.0, -1.0, 2.0, 3.0], &chain());
    // The input is 0, 0.3616, 0.6743, 0.8957, and the third value is looked at.
    let third = |test: &str, options: &str| {
        let call = run(test, &bytes, options).ok();
        let values = call.stdout.split("sample 0 sample: ").nth(1).unwrap().split_whitespace();
        values.skip(2).map(|v| v.parse::<f32>().unwrap()).next().unwrap()
    };
    let (z, f) = (0.6743, 2.0 * 0.6743);
    let near = |a: f32, b: f32| assert!((a - b).abs() < 2e-3, "{a} is not {b}");
    near(third("flow-0", "--noise x --noise-at 0"), z + f);
    near(third("flow-1", "--noise x --noise-at 1 --sigma 0.5"), z - 0.5 * f);
    near(third("flow-x0", "--noise x --prediction x0 --noise-scale 3"), 3.0 * f);
    near(third("flow-eps", "--noise x --prediction eps --alpha 0.5 --sigma 0.25"), (z - 0.25 * f) / 0.5);
    let both = (4.0f32 + 0.25).sqrt();
    near(
        third("flow-edm", "--noise x --prediction edm --sigma 2"),
        0.25 / 4.25 * 2.0 * z + 2.0 * 0.5 / both * 2.0 * f / both,
    );
    run("flow-odd", &bytes, "--noise x --prediction v --alpha 1").refused(&["noise_at is missing"]);
    run("flow-none", &bytes, "--noise x --sigma 2").refused(&["--sigma", "--noise-at 0 or 1, or --prediction"]);
}

#[test]
fn a_bad_model_toml_says_where() {
    let f = folder("toml");
    std::fs::write(f.join("m.onnx"), model(WHOLE, &[1.0; 4], &chain())).unwrap();
    std::fs::write(f.join("model.toml"), "[flow]\nnoise = \"x\"\nnoise_at = 0\nprediction = \"eps\"\n").unwrap();
    flowlet(&f, "explain {}/m.onnx").refused(&["model.toml", "[flow]", "state alpha and sigma"]);
    std::fs::write(f.join("model.toml"), "[flow]\nnoise = \"x\"\nprediction = \"score\"\n").unwrap();
    flowlet(&f, "explain {}/m.onnx").refused(&["model.toml", "prediction", "v (velocity)"]);
    std::fs::write(f.join("model.toml"), "[flow\n").unwrap();
    flowlet(&f, "explain {}/m.onnx").refused(&["model.toml", "line 1"]);
}

/// What the command makes of the bundled model is the whole path: import, fold, calibrate, lower, execute.
#[test]
fn the_bundled_model_from_end_to_end() {
    let f = folder("bundled");
    let tiny = models().join("fashion-tiny");
    let onnx = tiny.join("fashion-tiny.onnx").display().to_string();
    let told = flowlet(&f, &format!("quantize {onnx} -o {{}}/a.flq --calibrate 4 --json")).ok().json();
    assert_eq!((&told["norm_ops_after"], &told["time_ops_after"]), (&0.into(), &0.into()));
    assert!(told["norm_ops_before"].as_u64() > Some(0) && told["time_ops_before"].as_u64() > Some(0), "{told}");
    flowlet(&f, &format!("quantize {onnx} -o {{}}/b.flq --calibrate 4")).ok();
    assert_eq!(std::fs::read(f.join("a.flq")).unwrap(), std::fs::read(f.join("b.flq")).unwrap());
    let golden = tiny.join("golden").display().to_string();
    let verified = flowlet(&f, &format!("verify {onnx} --golden {golden} --calibrate 4 --json")).ok().json();
    assert_eq!((&verified["passed"], &verified["mismatches"]), (&true.into(), &0.into()));
    let shoe = flowlet(&f, "run {}/a.flq --seed 1 --label sneaker --out {}/shoe.png --json").ok().json();
    assert_eq!(shoe["draws"]["labels"][0], 7);
}

/// The author's outputs against a network that was changed after they were written.
#[test]
fn verify_names_the_first_node_that_leaves_its_authors_numbers() {
    let f = folder("leaves");
    let names = ["x", "scale.Mul", "y"];
    let values = [vec![1.0, 2.0, 3.0, 4.0], vec![2.0, 4.0, 6.0, 8.0], vec![2.0, 4.0, 6.0, 8.0]];
    for (name, v) in names.iter().zip(values) {
        write_npy(&f, name, &[1, 4], v);
    }
    std::fs::write(f.join("m.onnx"), model(WHOLE, &[2.0; 4], &chain())).unwrap();
    flowlet(&f, "verify {}/m.onnx --golden {} --precision f32").ok();
    std::fs::write(f.join("m.onnx"), model(WHOLE, &[2.0, 2.0, 2.5, 2.0], &chain())).unwrap();
    let call = flowlet(&f, "verify {}/m.onnx --golden {} --precision f32");
    assert_eq!(call.code, 1, "{}{}", call.stdout, call.stderr);
    assert!(call.stdout.contains("sample 0, element 2"), "{}", call.stdout);
    assert!(call.stdout.contains("the first that differs is 'scale.Mul', node '/scale/Mul'"), "{}", call.stdout);
}
