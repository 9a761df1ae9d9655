//! The scores accept the int8 models, and reject each planted fault.
//!
//! The rules are those that int8 must pass: Frechet distance at most 1.10 times that of f32 on the same seeds and
//! accuracy within 2 points; and PSNR above stated figures. Each planted fault breaks both. A zero point that is only
//! slightly off breaks the second: the first speaks of the set of pictures, which one dimmer layer hardly moves.
#![allow(clippy::unwrap_used)]

use flowlet_compiler::compile::optimise;
use flowlet_compiler::flq;
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::lower::lower;
use flowlet_compiler::passes::{Flow, Options};
use flowlet_compiler::target::Target;
use flowlet_onnx::{ImportOptions, import};
use flowlet_score::{Engine, Pictures, Reference, Scorer, Scores, all_threads, generate, label_count, scored_draws};
use flowlet_tests::faults;
use std::path::{Path, PathBuf};

const SAMPLES: usize = 1000;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

fn onnx(path: &str) -> Graph {
    import(&std::fs::read(models().join(path)).unwrap(), &ImportOptions::default()).unwrap()
}

fn scorer() -> Scorer {
    let networks = ["scoring/features.onnx", "scoring/accuracy.onnx"].map(|p| optimise(onnx(p), &Options::default()));
    let [features, accuracy] = networks.map(Result::unwrap);
    let reference = Reference::from_folder(&models().join("scoring")).unwrap();
    Scorer::new(features, reference).unwrap().with_accuracy(accuracy).unwrap()
}

fn float(name: &str) -> Graph {
    let flow = Flow { range: Some((-1.0, 1.0)), ..Flow::new("noise", true, "image") };
    let set = vec![("t".to_owned(), Tensor::f32(&[1], vec![0.0]))];
    optimise(onnx(&format!("{name}/{name}.onnx")), &Options { set, flow: Some(flow), ..Options::default() }).unwrap()
}

fn drawn(graph: &Graph) -> Pictures {
    let draws = scored_draws(label_count(graph), SAMPLES, 0);
    if !flq::is_quantized(graph) {
        return generate(&Engine::interpreter(graph), &draws, all_threads(), &|_| {}).unwrap();
    }
    let lowered = lower(graph, [0; 32], &Target::native()).unwrap();
    let plan = lowered.plan();
    let engine = Engine::plan(graph, plan.borrow().check().unwrap());
    generate(&engine, &draws, all_threads(), &|_| {}).unwrap()
}

/// Frechet distance and accuracy against those of f32.
fn same_distribution(float: &Scores, tested: &Scores) -> bool {
    let close = |a: f64, b: f64| (a - b).abs() <= 0.02;
    tested.fd <= 1.10 * float.fd && close(tested.accuracy.unwrap(), float.accuracy.unwrap())
}

/// PSNR against the pictures of f32, at least these.
fn same_pictures(tested: &Scores, median_db: f64, p5_db: f64) -> bool {
    tested.fidelity.is_some_and(|f| f.psnr_median_db >= median_db && f.psnr_p5_db >= p5_db)
}

fn check(name: &str, median_db: f64, p5_db: f64) {
    let scorer = scorer();
    let pictures = drawn(&float(name));
    let reference = scorer.score(&pictures, None, all_threads(), &|_| {}).unwrap();
    println!("{name} f32: FD {:.3}, accuracy {:.4}", reference.fd, reference.accuracy.unwrap());
    let int8 = flq::read(&std::fs::read(models().join(format!("{name}/{name}.flq"))).unwrap()).unwrap();
    let scores = |what: &str, graph: &Graph| {
        let scores = scorer.score(&drawn(graph), Some(&pictures), all_threads(), &|_| {}).unwrap();
        let psnr = scores.fidelity.unwrap();
        println!(
            "{name} {what}: FD {:.3}, accuracy {:.4}, PSNR {:.2} dB, 5 % below {:.2} dB",
            scores.fd,
            scores.accuracy.unwrap(),
            psnr.psnr_median_db,
            psnr.psnr_p5_db
        );
        scores
    };
    let good = scores("int8", &int8);
    assert!(same_distribution(&reference, &good) && same_pictures(&good, median_db, p5_db));

    let layers = faults::layers(&int8);
    let middle = &layers[layers.len() / 2];
    let off = scores("zero point off by 16", &faults::wrong_zero_point(&int8, middle, 16));
    assert!(!same_pictures(&off, median_db, p5_db));
    for (fault, graph) in [
        ("zero point forgotten", faults::forgotten_zero_point(&int8, middle)),
        ("4-bit activations", faults::four_bit_activations(&int8)),
        ("swapped labels", faults::swapped_labels(&int8)),
    ] {
        let scores = scores(fault, &graph);
        assert!(!same_pictures(&scores, median_db, p5_db), "PSNR did not see: {fault}");
        assert!(!same_distribution(&reference, &scores), "FD and accuracy did not see: {fault}");
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation")]
fn fashion_tiny() {
    check("fashion-tiny", 33.0, 26.0);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "minutes without optimisation")]
fn fashion() {
    check("fashion", 37.0, 35.0);
}
