//! Compares models with the outputs that onnxruntime computed:
//! `cargo run --release -p flowlet-onnx --example compare -- FOLDER [--int8 SAMPLES] [NAME ...]`.
//!
//! The folder holds `<stem>.onnx` and `golden/<stem>/<tensor>.npy` (see `tests/networks/README.md`). Each model is
//! evaluated as imported and after the float passes, with the time of the first sample fixed. The difference is the largest
//! over all outputs, relative to the range of the output. With `--int8` each is also calibrated on that many samples of
//! standard normal inputs, quantised, and compared with its f32 form on eight others.

// A tool for people at a terminal; the reader of arrays is shared with the tests.
#![allow(clippy::unwrap_used)]

use flowlet_compiler::compile::optimise;
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Def, Graph, InputKind, Tensor, ValueId};
use flowlet_compiler::passes::Options;
use flowlet_compiler::quantize::{Calibration, noise_tensor, quantize};
use flowlet_onnx::{ImportOptions, import};
use std::path::Path;
use std::time::Instant;

#[path = "../tests/import/npy.rs"]
mod npy;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: compare FOLDER [--int8 SAMPLES] [NAME ...]")?;
    let mut wanted: Vec<String> = arguments.collect();
    let mut calibration = 0;
    if let Some(at) = wanted.iter().position(|w| w == "--int8") {
        calibration = wanted.get(at + 1).ok_or("--int8 needs a number of samples")?.parse()?;
        wanted.drain(at..at + 2);
    }
    let mut stems: Vec<String> = std::fs::read_dir(Path::new(&folder).join("golden"))?
        .map(|entry| entry.map(|e| e.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    stems.sort();
    for stem in stems.iter().filter(|s| wanted.is_empty() || wanted.iter().any(|w| s.contains(w.as_str()))) {
        match row(Path::new(&folder), stem, calibration) {
            Ok(row) => println!("{stem:28} {row}"),
            Err(e) => println!("{stem:28} {}", e.to_string().lines().take(4).collect::<Vec<_>>().join("; ")),
        }
    }
    Ok(())
}

fn row(folder: &Path, stem: &str, calibration: usize) -> Result<String, Failure> {
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
    let int8 = if calibration > 0 { quantised(&optimised, calibration) } else { String::new() };
    Ok(format!(
        "{int8}import {imported:6.2?} {float:9.2e}   passes {passes:6.2?} {after:9.2e}   ops {:4} -> {:4}, norms {} -> {}, time {} -> {}, parameters {} -> {}",
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

/// Standard normal inputs and labels in turn.
fn sample(graph: &Graph, seed: usize, stream: u32) -> Vec<Tensor> {
    let one = |(i, &id): (usize, &ValueId)| match graph.value(id).def {
        Def::Input(InputKind::Index { count }) => Tensor::i64(&graph.ty(id).dims, vec![(seed % count) as i64]),
        _ => noise_tensor(graph.ty(id), (seed * 16 + i) as u64, stream),
    };
    graph.inputs.iter().enumerate().map(one).collect()
}

/// Time to quantise and signal-to-noise ratio of the outputs, or why there is no int8 form.
fn quantised(graph: &Graph, samples: usize) -> String {
    let start = Instant::now();
    let samples = (0..samples).map(|seed| sample(graph, seed, 1)).collect();
    let result = quantize(graph, &Calibration::from_samples(samples, "standard normal"), &mut |_, _| {});
    let int8 = match result {
        Ok(int8) => int8,
        Err(e) => return format!("int8: {}   ", e.to_string().lines().take(4).collect::<Vec<_>>().join("; ")),
    };
    let took = start.elapsed();
    let (float, integer) = (Interpreter::new(graph), Interpreter::new(&int8));
    let (mut signal, mut noise) = (0f64, 0f64);
    for seed in 0..8 {
        let real = sample(graph, seed, 0);
        let codes = int8.inputs.iter().zip(&real).map(|(&id, t)| match (int8.ty(id).quant, t.as_f32()) {
            (Some(q), Some(v)) => {
                let code = |x: &f32| flowlet_kernels::port::quantise_finite(*x, 1.0 / q.scale, q.zero_point);
                Tensor::s8(&t.dims, v.iter().map(code).collect())
            }
            _ => t.clone(),
        });
        let want = float.run(&real).unwrap();
        let got = integer.run(&codes.collect::<Vec<_>>()).unwrap();
        for ((want, got), &id) in want.iter().zip(&got).zip(&int8.outputs) {
            let q = int8.ty(id).quant.unwrap();
            for (w, g) in want.as_f32().unwrap().iter().zip(got.as_s8().unwrap()) {
                let y = f64::from(flowlet_kernels::port::dequantise(*g, q.scale, q.zero_point));
                signal += f64::from(*w).powi(2);
                noise += (f64::from(*w) - y).powi(2);
            }
        }
    }
    let lowered = match flowlet_compiler::lower::lower(&int8, [0; 32], &flowlet_compiler::target::Target::host()) {
        Ok(lowered) => format!("arena {} B, {} steps", lowered.arena_bytes, lowered.steps.len()),
        Err(e) => format!("not lowered: {}", e.to_string().lines().take(2).collect::<Vec<_>>().join("; ")),
    };
    format!("int8 {:5.1} dB in {took:.1?} ({})   ", 10.0 * (signal / noise).log10(), lowered)
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
