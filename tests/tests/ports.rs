//! Values go in and come out in ONNX order, whatever the rank of a port.
#![allow(clippy::unwrap_used)]

use flowlet_compiler::compile::optimise;
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::lower::lower;
use flowlet_compiler::passes::Options;
use flowlet_compiler::quantize::{Calibration, noise_tensor, quantize};
use flowlet_compiler::target::Target;
use flowlet_onnx::{ImportOptions, import};
use flowlet_score::{Engine, Feed};
use std::path::Path;

/// A policy of `tests/networks` in int8: noise `[N, T, A]`, a vector of observations, velocity `[N, T, A]`.
fn policy(stem: &str) -> Graph {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("networks/onnx/{stem}.onnx"));
    let graph = import(&std::fs::read(file).unwrap(), &ImportOptions::default()).unwrap();
    let set = vec![("t".to_owned(), Tensor::f32(&[1], vec![0.0]))];
    let graph = optimise(graph, &Options { set, ..Options::default() }).unwrap();
    let samples = (0..8).map(|seed| drawn(&graph, seed)).collect();
    quantize(&graph, &Calibration::from_samples(samples, "standard normal"), &mut |_, _| {}).unwrap()
}

/// Noise for every input, as the executor draws it.
fn drawn(graph: &Graph, seed: u64) -> Vec<Tensor> {
    graph.inputs.iter().zip(0..).map(|(&id, stream)| noise_tensor(graph.ty(id), seed, stream)).collect()
}

#[test]
fn actions_are_the_same_in_the_interpreter_and_in_the_executor() {
    for stem in ["mlp.legacy17", "unet1d.legacy17"] {
        let graph = policy(stem);
        assert!(graph.inputs.iter().any(|&id| matches!(graph.ty(id).dims[..], [1, t, a] if t > 1 && a > 1)));
        let lowered = lower(&graph, [0; 32], &Target::native()).unwrap();
        let plan = lowered.plan();
        let (interpreter, executor) =
            (Engine::interpreter(&graph), Engine::plan(&graph, plan.borrow().check().unwrap()));
        for seed in 0..4 {
            let values = drawn(&graph, seed);
            let arrays: Vec<Feed<'_>> = values.iter().map(|t| Feed::Values(t.as_f32().unwrap())).collect();
            let seeds: Vec<Feed<'_>> = values.iter().map(|_| Feed::Noise(seed)).collect();
            for feeds in [arrays, seeds] {
                let want = interpreter.worker().run(&feeds).unwrap();
                let got = executor.worker().run(&feeds).unwrap();
                assert_eq!(got, want, "{stem}, seed {seed}, {:?}", feeds[0]);
            }
        }
    }
}
