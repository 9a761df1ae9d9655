//! The networks of `tests/networks`, against the outputs that onnxruntime computed.

use crate::npy;
use flowlet_compiler::compile::optimise;
use flowlet_compiler::interp;
use flowlet_compiler::ir::{Def, Graph, InputKind, Tensor, ValueId};
use flowlet_compiler::lower::lower;
use flowlet_compiler::passes::Options;
use flowlet_compiler::quantize::{Calibration, noise_tensor, quantize};
use flowlet_compiler::target::Target;
use flowlet_onnx::{ImportOptions, import};
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/networks/onnx")
}

/// The largest difference from the first golden sample, relative to the range of each output.
fn difference(graph: &Graph, golden: &Path) -> f32 {
    let array = |name: &str| npy::sample(&npy::read(&golden.join(format!("{name}.npy"))), 0);
    let inputs: Vec<Tensor> = graph.inputs.iter().map(|&id| array(&graph.value(id).name)).collect();
    let results = interp::run(graph, &inputs).unwrap();
    let mut worst = 0f32;
    for (result, &id) in results.iter().zip(&graph.outputs) {
        let wanted = array(&graph.value(id).name);
        assert_eq!(result.elements(), wanted.elements());
        let wanted = wanted.as_f32().unwrap();
        let (lo, hi) = wanted.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
        let largest = result.as_f32().unwrap().iter().zip(wanted).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        worst = worst.max(largest / (hi - lo));
    }
    worst
}

/// Names of the networks in the folder.
fn stems() -> Vec<String> {
    let mut stems: Vec<String> = std::fs::read_dir(folder().join("golden"))
        .unwrap()
        .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    stems.sort();
    assert!(stems.len() >= 30, "only {} networks", stems.len());
    stems
}

/// The graph as imported, and the options that fix its time.
fn imported(stem: &str) -> (Graph, Options) {
    let bytes = std::fs::read(folder().join(format!("{stem}.onnx"))).unwrap();
    let graph = import(&bytes, &ImportOptions::default()).unwrap_or_else(|e| panic!("{stem}: {e}"));
    let mut options = Options::default();
    let time = folder().join("golden").join(stem).join("t.npy");
    if time.exists() {
        options.set.push(("t".to_owned(), npy::sample(&npy::read(&time), 0)));
    }
    (graph, options)
}

#[test]
fn every_network_of_every_exporter_has_an_int8_plan() {
    for stem in stems() {
        let (graph, options) = imported(&stem);
        let graph = optimise(graph, &options).unwrap();
        let sample = |seed: usize| {
            let one = |(i, &id): (usize, &ValueId)| match graph.value(id).def {
                Def::Input(InputKind::Index { count }) => Tensor::i64(&graph.ty(id).dims, vec![(seed % count) as i64]),
                _ => noise_tensor(graph.ty(id), (seed * 16 + i) as u64, 1),
            };
            graph.inputs.iter().enumerate().map(one).collect()
        };
        let calibration = Calibration::from_samples((0..2).map(sample).collect(), "test");
        let int8 = quantize(&graph, &calibration, &mut |_, _| {}).unwrap_or_else(|e| panic!("{stem}: {e}"));
        let lowered = lower(&int8, [0; 32], &Target::host()).unwrap_or_else(|e| panic!("{stem}: {e}"));
        assert!(!lowered.steps.is_empty(), "{stem}");
    }
}

#[test]
fn every_network_of_every_exporter_computes_what_onnxruntime_computes() {
    for stem in stems() {
        let golden = folder().join("golden").join(&stem);
        let (graph, options) = imported(&stem);
        let imported = difference(&graph, &golden);
        let optimised = optimise(graph, &options).unwrap_or_else(|e| panic!("{stem}: {e}"));
        let optimised = difference(&optimised, &golden);
        println!("{stem}: {imported:e} of the range as imported, {optimised:e} after the passes");
        assert!(imported <= 1e-4 && optimised <= 1e-4, "{stem}: {imported:e} and {optimised:e} of the range");
    }
}
