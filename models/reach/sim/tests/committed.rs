//! The committed policies: their bytes, their size, the author's numbers, and success in closed loop.
#![allow(clippy::unwrap_used)]

use flowlet_cli::calibrate::Calibrate;
use flowlet_cli::model::Model;
use flowlet_cli::options::{ModelArgs, Precision};
use flowlet_compiler::flq;
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;
use flowlet_reach::policy::Policy;
use flowlet_reach::score::{Trial, attempts, difference, summary};
use flowlet_score::{Engine, all_threads};
use serde_json::Value;
use std::path::{Path, PathBuf};

const NAMES: [&str; 3] = ["reach", "reach-small", "reach-camera"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

fn load(name: &str, extension: &str) -> Model {
    let mut args = ModelArgs::of(folder(name).join(name).with_extension(extension));
    args.flow.noise = (extension == "onnx").then(|| "noise".to_owned());
    Model::load(&args).unwrap()
}

#[test]
fn quantising_again_gives_the_committed_bytes() {
    for name in NAMES {
        let calibrate = Calibrate::Folder(folder(name).join("calibration"));
        let model = load(name, "onnx");
        let fresh = flq::write(&model.prepare(Some(Precision::Int8), Some(&calibrate)).unwrap().graph);
        let committed = std::fs::read(folder(name).join(name).with_extension("flq")).unwrap();
        assert!(fresh == committed, "{name}.flq is stale: quantise {name}.onnx again, as README.md says");
    }
}

/// What a policy may take of an STM32H7 without external memory, and 6 million multiply-accumulates.
#[test]
fn the_small_size_and_the_camera_fit_a_microcontroller() {
    let description = std::fs::read_to_string(folder("reach-small").join("stm32h7.toml")).unwrap();
    let target = Target::parse(&description).unwrap();
    for name in ["reach-small", "reach-camera"] {
        let model = load(name, "flq");
        let lowered = lower(&model.graph, model.file_hash, &target).unwrap();
        assert!(lowered.macs() <= 6_000_000, "{name}");
    }
    let tight = Target::parse(&description.replace("1_200_000", "100_000")).unwrap();
    let model = load("reach-small", "flq");
    assert!(lower(&model.graph, model.file_hash, &tight).is_err(), "flash of 100 kB holds 195 kB of weights");
}

#[test]
fn the_int8_policies_succeed_on_both_sides_and_stay_close_to_f32() {
    for name in NAMES {
        let (int8, float) = (load(name, "flq"), load(name, "onnx"));
        let lowered = lower(&int8.graph, int8.file_hash, &Target::native()).unwrap();
        let plan = lowered.plan();
        let policy = Policy::new(Engine::plan(&int8.graph, plan.borrow().check().unwrap())).unwrap();
        let reference = Policy::new(Engine::interpreter(&float.graph)).unwrap();
        let trial = Trial { first: 0, scenes: 60, seeds: 6, threads: all_threads() };
        let score = summary(&attempts(&policy, trial, &|_| {}).unwrap(), trial.seeds);
        assert!(score.success.share > 0.9, "{name}: {score:?}");
        assert!(score.both_ways.share > 0.7, "{name}: {score:?}");
        let apart = difference(&policy, &reference, Trial { seeds: 1, ..trial }, &|_| {}).unwrap();
        assert!(apart.median < 0.003, "{name}: {apart:?}");
    }
}

/// The model card says what `score --json` printed, and that meets what the models were made for.
#[test]
fn the_card_states_the_recorded_scores() {
    let scores: Value = serde_json::from_slice(&std::fs::read(folder("reach").join("scores.json")).unwrap()).unwrap();
    let card = std::fs::read_to_string(folder("reach").join("README.md")).unwrap();
    let row = |name: &str| {
        let rows = scores["rows"].as_array().unwrap();
        rows.iter().find(|r| r["policy"] == name).unwrap_or_else(|| panic!("{name} was not scored"))
    };
    let share = |name: &str, end: &str| row(name)["success"][end].as_f64().unwrap();
    for r in scores["rows"].as_array().unwrap() {
        let figure = format!("{:.1}", 100.0 * r["success"]["share"].as_f64().unwrap());
        let line = card.lines().find(|l| l.starts_with(&format!("| {} |", r["policy"].as_str().unwrap())));
        assert!(line.is_some_and(|l| l.contains(&figure)), "README.md does not state {figure} for {}", r["policy"]);
    }
    let (clone, teacher) = ("behaviour cloning, f32", "teacher, 50 steps, f32");
    for int8 in NAMES.map(|name| format!("{name}, one step, int8")) {
        let int8 = int8.as_str();
        assert!(share(int8, "share") >= 0.95 * share(teacher, "share"), "{int8}");
        assert!(share(int8, "low") > share(clone, "high"), "{int8}");
    }
}
