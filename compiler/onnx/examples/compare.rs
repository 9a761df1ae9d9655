//! Compares models with the outputs that onnxruntime computed:
//! `cargo run --release -p flowlet-onnx --example compare -- FOLDER [NAME ...]`.
//!
//! The folder holds `<stem>.onnx` and `golden/<stem>/<tensor>.npy` (see `tests/networks/README.md`). Each model is
//! evaluated as imported and after the float passes, with the time of the first sample fixed. The difference is the largest
//! over all outputs, relative to the range of the output.

// A tool for people at a terminal; the reader of arrays is shared with the tests.
#![allow(clippy::unwrap_used)]

use flowlet_compiler::compile::optimise;
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::passes::Options;
use flowlet_onnx::{ImportOptions, import};
use std::path::Path;
use std::time::Instant;

#[path = "../tests/import/npy.rs"]
mod npy;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: compare FOLDER [NAME ...]")?;
    let wanted: Vec<String> = arguments.collect();
    let mut stems: Vec<String> = std::fs::read_dir(Path::new(&folder).join("golden"))?
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    stems.sort();
    for stem in stems.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|w| s.contains(w.as_str()))) {
        match row(Path::new(&folder), stem) {
            Ok(row) => println!("{stem:28} {row}"),
            Err(e) => println!("{stem:28} {}", e.to_string().lines().take(4).collect::<Vec<_>>().join("; ")),
        }
    }
    Ok(())
}

fn row(folder: &Path, stem: &str) -> Result<String, Failure> {
    let start = Instant::now();
    let graph = import(&std::fs::read(folder.join(format!("{stem}.onnx")))?, &ImportOptions::default())?;
    let imported = start.elapsed();
    let golden = folder.join("golden").join(stem);
    let time = golden.join("t.npy");
    let mut options = Options::default();
    if time.exists() {
        options.set.push(("t".to_owned(), npy::sample(&npy::read(&time), 0)));
    }
    let float = difference(&graph, &golden, None)?;
    let start = Instant::now();
    let optimised = optimise(graph.clone(), &options)?;
    let passes = start.elapsed();
    let after = difference(&optimised, &golden, Some(0))?;
    Ok(format!(
        "import {imported:6.2?} {float:9.2e}   passes {passes:6.2?} {after:9.2e}   ops {:4} -> {:4}, norms {} -> {}, time {} -> {}, parameters {} -> {}",
        graph.nodes.len(),
        optimised.nodes.len(),
        optimised.meta("norm_ops_before").unwrap_or("?"),
        optimised.meta("norm_ops_after").unwrap_or("?"),
        optimised.meta("time_ops_before").unwrap_or("?"),
        optimised.meta("time_ops_after").unwrap_or("?"),
        graph.parameters(),
        optimised.parameters(),
    ))
}

/// The largest difference from the golden outputs, relative to their range; of sample `only` if it is given.
fn difference(graph: &Graph, golden: &Path, only: Option<usize>) -> Result<f32, Failure> {
    let array = |name: &str| npy::read(&golden.join(format!("{name}.npy")));
    let interpreter = Interpreter::new(graph);
    let wanted: Vec<Tensor> = graph.outputs.iter().map(|&id| array(&graph.value(id).name)).collect();
    let inputs: Vec<Tensor> = graph.inputs.iter().map(|&id| array(&graph.value(id).name)).collect();
    let samples = wanted[0].dims[0];
    let mut worst = 0f32;
    for i in only.map_or(0..samples, |i| i..i + 1) {
        let feeds: Vec<Tensor> = inputs.iter().map(|a| npy::sample(a, i)).collect();
        let results = interpreter.run(&feeds)?;
        for (result, wanted) in results.iter().zip(&wanted) {
            let wanted = npy::sample(wanted, i);
            let (got, want) = (result.as_f32().ok_or("not f32")?, wanted.as_f32().ok_or("not f32")?);
            if got.len() != want.len() {
                return Err(format!("{:?} elements where {:?} are expected", result.dims, wanted.dims).into());
            }
            let (lo, hi) = want.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
            let error = got.iter().zip(want).fold(0f32, |m, (g, w)| m.max((g - w).abs()));
            worst = worst.max(error / (hi - lo).max(1e-6));
        }
    }
    Ok(worst)
}
