//! What the `flowlet` command says about the committed models, for the demo's report.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::cargo;
use crate::demo_report::Entry;

/// Samples of the demo's scores; the test suite recomputes them on 10,000.
const SAMPLES: &str = "1000";

/// Builds the command with import, and returns its path.
///
/// # Errors
/// When it does not build.
pub fn command() -> Result<PathBuf, String> {
    cargo::run(&mut cargo::call(&["build", "--release", "--package", "flowlet-cli"]))?;
    Ok(cargo::target().join("release").join(format!("flowlet{}", std::env::consts::EXE_SUFFIX)))
}

fn model(name: &str, extension: &str) -> PathBuf {
    cargo::root().join("models").join(name).join(name).with_extension(extension)
}

/// Quantises the ONNX file again, which must give the committed bytes.
///
/// # Errors
/// When it fails or gives other bytes.
pub fn reproduce(flowlet: &Path, name: &str) -> Result<(), String> {
    let fresh = cargo::target().join("demo").join(name).with_extension("flq");
    cargo::run(Command::new(flowlet).arg("quantize").arg(model(name, "onnx")).arg("-o").arg(&fresh))?;
    let read = |path: &Path| std::fs::read(path).map_err(|why| format!("cannot read {}: {why}", path.display()));
    let committed = model(name, "flq");
    if read(&fresh)? == read(&committed)? {
        return Ok(());
    }
    Err(format!("{} is not what quantising gives now: {}", committed.display(), fresh.display()))
}

/// The JSON object that a command prints.
///
/// # Errors
/// When it fails or prints something else.
pub fn json_of(command: &mut Command) -> Result<Value, String> {
    let output =
        command.stderr(std::process::Stdio::inherit()).output().map_err(|why| format!("{command:?}: {why}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|why| format!("{command:?} printed no JSON: {why}"))
}

/// Size, cost and what was folded away.
///
/// # Errors
/// When the command fails.
pub fn explain(flowlet: &Path, name: &str, entry: &mut Entry) -> Result<(), String> {
    let words = ["--target", "qemu-mps2-an386", "--json"];
    let found = json_of(Command::new(flowlet).arg("explain").arg(model(name, "flq")).args(words))?;
    for field in ["params", "macs", "arena_bytes"] {
        entry.set(field, found[field].clone());
    }
    for field in ["norm_ops_before", "norm_ops_after", "time_ops_before", "time_ops_after"] {
        let count = found["meta"][field].as_str().and_then(|text| text.parse::<u64>().ok());
        entry.set(field, count.ok_or(format!("{name}: the .flq does not state {field}"))?);
    }
    Ok(())
}

/// Frechet distance and class accuracy of the f32 graph and of the int8 plan on the same seeds, and the teacher's.
///
/// # Errors
/// When the command fails or the model card's figures are missing.
pub fn score(flowlet: &Path, name: &str, entry: &mut Entry) -> Result<(), String> {
    let mut command = Command::new(flowlet);
    command.arg("score").arg(model(name, "flq")).arg("--against").arg(model(name, "onnx"));
    let found = json_of(command.args(["--samples", SAMPLES, "--json"]))?;
    let path = cargo::root().join("models").join(name).join("scores.json");
    let card = std::fs::read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    let card: Value = serde_json::from_slice(&card).map_err(|why| format!("{}: {why}", path.display()))?;
    let mut scores = found["scores"].clone();
    let teacher = &card["teacher"];
    scores["teacher"] = json!({ "fd": teacher["fd"], "accuracy": teacher["accuracy"], "source": "card" });
    println!("{name}: {scores:#}");
    entry.set("scores_n", found["scores_n"].clone());
    entry.set("scores", scores);
    Ok(())
}
