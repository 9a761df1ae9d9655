//! The f32 engine of hosts against the interpreter, on the networks of `tests/networks` and the bundled models.
#![allow(clippy::unwrap_used)]

use flowlet_compiler::compile::optimise;
use flowlet_compiler::interp;
use flowlet_compiler::ir::{Def, Graph, InputKind, Op, Tensor, ValueId};
use flowlet_compiler::passes::Options;
use flowlet_compiler::quantize::noise_tensor;
use flowlet_float::{ERROR_BOUND, Network, Weights};
use flowlet_onnx::{ImportOptions, import};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every ONNX file of the networks and of the models, after the passes. A time `t` becomes 0.3.
fn graphs() -> Vec<(String, Graph)> {
    let mut files: Vec<PathBuf> = Vec::new();
    let models =
        ["fashion", "fashion-tiny", "fashion-gn", "fashion-dit", "digits"].map(|m| root().join("models").join(m));
    for folder in std::iter::once(root().join("tests/networks/onnx")).chain(models) {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            files.push(entry.unwrap().path());
        }
    }
    files.retain(|f| f.extension().is_some_and(|e| e == "onnx"));
    files.sort();
    let graph = |file: &PathBuf| {
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        let graph =
            import(&std::fs::read(file).unwrap(), &ImportOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut options = Options::default();
        if graph.inputs.iter().any(|&id| graph.value(id).name == "t") {
            options.set.push(("t".to_owned(), Tensor::f32(&[1], vec![0.3])));
        }
        let optimised = optimise(graph, &options).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, optimised)
    };
    files.iter().map(graph).collect()
}

fn inputs(graph: &Graph) -> Vec<Tensor> {
    let one = |(i, &id): (usize, &ValueId)| match graph.value(id).def {
        Def::Input(InputKind::Index { count }) => Tensor::i64(&graph.ty(id).dims, vec![count as i64 - 1]),
        Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => noise_tensor(graph.ty(id), 5, i as u32),
    };
    graph.inputs.iter().enumerate().map(one).collect()
}

/// The largest difference of an output as a share of its range.
fn difference(network: &Network, inputs: &[Tensor], want: &[Tensor]) -> f32 {
    let mut memory = network.memory(1);
    for (i, tensor) in inputs.iter().enumerate() {
        match (tensor.as_f32(), tensor.as_i64()) {
            (Some(values), _) => network.write(&mut memory, i, values).unwrap(),
            (None, indices) => network.set_index(&mut memory, i, indices.unwrap()[0] as usize).unwrap(),
        }
    }
    network.run(&mut memory);
    let mut worst = 0f32;
    for (i, want) in want.iter().enumerate() {
        let want = want.as_f32().unwrap();
        let mut got = vec![f32::NAN; want.len()];
        network.read(&memory, i, &mut got);
        let (lo, hi) = want.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        for (got, want) in got.iter().zip(want) {
            let share = (got - want).abs() / (hi - lo);
            assert!(share.is_finite(), "{got} instead of {want}");
            worst = worst.max(share);
        }
    }
    worst
}

#[test]
fn networks_and_models_run_within_the_stated_error() {
    let graphs = graphs();
    assert!(graphs.len() >= 40, "only {} graphs", graphs.len());
    for (name, graph) in &graphs {
        let inputs = inputs(graph);
        let want = interp::run(graph, &inputs).unwrap();
        let network = Network::new(graph, Weights::F32).unwrap_or_else(|e| panic!("{name}: {e}"));
        let whole = difference(&network, &inputs, &want);
        println!("{name}: {whole:e} of the range");
        assert!(whole <= ERROR_BOUND, "{name}: {whole:e} of the range");
        // Numbers that are rounded to a grid on the way jump by whole steps.
        if !graph.nodes.iter().any(|node| matches!(node.op, Op::FakeQuant { .. })) {
            let half = difference(&Network::new(graph, Weights::F16).unwrap(), &inputs, &want);
            println!("{name}: {half:e} of the range with weights in f16");
            assert!(half <= 0.005, "{name}: {half:e} of the range with weights in f16");
        }
    }
}
