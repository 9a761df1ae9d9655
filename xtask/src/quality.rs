//! `cargo xtask quality`: what int8 costs, ours beside other toolchains', on the bundled trained models.
//!
//! Every method quantises the same ONNX file at the same constant time with the same 64 samples of the deployed noise, then
//! draws the same held-out noise. One scorer, ours, judges the pictures of all. Writes `target/quality.json`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use flowlet_compiler::flq;
use flowlet_compiler::ir::{DType, Data, Def, Graph, InputKind, Type};
use flowlet_compiler::quantize::{Calibration, noise_tensor};
use serde_json::{Value, json};

use crate::figures;
use crate::{cargo, peers};

/// A bundled model, and the inputs that are constants where it is deployed.
struct Model {
    name: &'static str,
    set: &'static [&'static str],
}

const MODELS: &[Model] = &[Model { name: "fashion-tiny", set: &["t=0"] }, Model { name: "fashion", set: &["t=0"] }];

/// Other toolchains' methods, as `benches/peers/quality.py` names them. The first is what the others are compared with.
const METHODS: &[&str] = &["f32", "ort-minmax", "ort-entropy", "nncf"];

/// What `flowlet quantize` calibrates on when it is not told.
const CALIBRATION: usize = 64;
const HELD_OUT: usize = 10_000;
/// How much larger than the f32 distance that of int8 may be.
const LARGEST_RATIO: f64 = 1.05;

/// Runs the command. Words are names of models, `--samples N` and `--json`.
pub fn command(install: bool, words: &[&str]) -> ExitCode {
    let request = match Request::parse(words) {
        Ok(request) => request,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(2);
        }
    };
    if let Err(why) = peers::environment_ready(install) {
        eprintln!("error: {why}");
        return ExitCode::from(3);
    }
    match request.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

struct Request {
    models: Vec<&'static Model>,
    samples: usize,
    json: bool,
}

impl Request {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut request = Request { models: Vec::new(), samples: HELD_OUT, json: false };
        let mut left = words.iter();
        while let Some(&word) = left.next() {
            match word {
                "--json" => request.json = true,
                "--samples" => {
                    let count = left.next().and_then(|n| n.parse().ok()).filter(|&n: &usize| n > 0);
                    request.samples = count.ok_or("--samples takes a number of pictures, as --samples 1000")?;
                }
                name => {
                    let names: Vec<&str> = MODELS.iter().map(|m| m.name).collect();
                    let known = MODELS.iter().find(|m| m.name == name);
                    request.models.push(known.ok_or(format!("no model `{name}`; there are {}", names.join(", ")))?);
                }
            }
        }
        if request.models.is_empty() {
            request.models = MODELS.iter().collect();
        }
        Ok(request)
    }

    fn run(&self) -> Result<(), String> {
        let flowlet = figures::command()?;
        let mut rows = Vec::new();
        for model in &self.models {
            rows.extend(self.measure(&flowlet, model)?);
        }
        let all = json!({ "samples": self.samples, "calibration": CALIBRATION, "rows": rows });
        let path = cargo::target().join("quality.json");
        std::fs::write(&path, format!("{all:#}\n")).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
        if self.json {
            println!("{all}");
            return Ok(());
        }
        println!("\n{} held-out samples, {CALIBRATION} for calibration\n", self.samples);
        print!("{}", table(&rows));
        for model in &self.models {
            println!("{}", verdict(model.name, &rows));
        }
        println!("wrote {}", path.display());
        Ok(())
    }

    /// The rows of one model, ours first.
    fn measure(&self, flowlet: &Path, model: &Model) -> Result<Vec<Value>, String> {
        let folder = cargo::target().join("quality").join(model.name);
        std::fs::create_dir_all(&folder).map_err(|why| format!("cannot make {}: {why}", folder.display()))?;
        let compiled = file(model.name, "flq");
        let bytes = std::fs::read(&compiled).map_err(|why| format!("cannot read {}: {why}", compiled.display()))?;
        let graph = flq::read(&bytes).map_err(|why| format!("{}: {why}", compiled.display()))?;
        let deployed = Deployed::of(&graph)?;
        deployed.write_noise(&folder.join("calibration.f32"), CALIBRATION, Calibration::STREAM)?;
        deployed.write_noise(&folder.join("heldout.f32"), self.samples, 0)?;
        let mut rows = self.ours(flowlet, model, bytes.len())?;
        for method in METHODS {
            println!("{}: {method}", model.name);
            let drawn = deployed.draw(model, method, &folder)?;
            if *method == "f32" {
                continue;
            }
            let scores = score(flowlet, &folder, method)?;
            rows.push(json!({
                "model": model.name, "method": method, "version": drawn["version"], "snr_db": scores["snr_db"],
                "fd": scores["fd"], "accuracy": scores["accuracy"], "bytes": drawn["bytes"], "arena": null,
            }));
        }
        Ok(rows)
    }

    /// f32 and our int8, by the command that users have.
    fn ours(&self, flowlet: &Path, model: &Model, bytes: usize) -> Result<Vec<Value>, String> {
        let (flq, onnx) = (file(model.name, "flq"), file(model.name, "onnx"));
        println!("{}: flowlet", model.name);
        let mut explain = Command::new(flowlet);
        explain.arg("explain").arg(&flq).args(["--target", "qemu-mps2-an386", "--json"]);
        let memory = figures::json_of(&mut explain)?;
        let mut score = Command::new(flowlet);
        score.arg("score").arg(&flq).arg("--against").arg(&onnx).args([
            "--samples",
            &self.samples.to_string(),
            "--json",
        ]);
        let scores = &figures::json_of(&mut score)?["scores"];
        let size = std::fs::metadata(&onnx).map_err(|why| format!("{}: {why}", onnx.display()))?.len();
        let version = format!("flowlet {}", env!("CARGO_PKG_VERSION"));
        let row = |method: &str, scores: &Value, bytes: u64, arena: &Value| {
            json!({ "model": model.name, "method": method, "version": version, "snr_db": scores["snr_db"],
                    "fd": scores["fd"], "accuracy": scores["accuracy"], "bytes": bytes, "arena": arena })
        };
        Ok(vec![
            row("f32", &scores["f32"], size, &Value::Null),
            row("ours-int8", &scores["int8"], bytes as u64, &memory["arena_bytes"]),
        ])
    }
}

/// The scores of pictures that another method drew, against those of its f32.
fn score(flowlet: &Path, folder: &Path, method: &str) -> Result<Value, String> {
    let pictures = |method: &str| folder.join(method).with_extension("npy");
    let mut score = Command::new(flowlet);
    score.arg("score").arg("--samples").arg(pictures(method)).arg("--against").arg(pictures("f32")).arg("--json");
    score.arg("--scoring").arg(cargo::root().join("models/scoring"));
    Ok(figures::json_of(&mut score)?["scores"]["pictures"].take())
}

fn file(model: &str, extension: &str) -> PathBuf {
    cargo::root().join("models").join(model).join(model).with_extension(extension)
}

/// What a compiled model says about its inputs and its flow.
struct Deployed {
    noise: String,
    dims: Vec<usize>,
    label: Option<String>,
    labels: usize,
    noise_at: String,
    range: String,
}

impl Deployed {
    fn of(graph: &Graph) -> Result<Self, String> {
        let fact = |key: &str| graph.meta(key).map(str::to_owned).ok_or(format!("{} does not say {key}", graph.name));
        let noise = fact("noise")?;
        let id = graph.find(&noise).ok_or(format!("{} has no input '{noise}'", graph.name))?;
        let index = graph.inputs.iter().find_map(|&id| match graph.value(id).def {
            Def::Input(InputKind::Index { count }) => Some((graph.value(id).name.clone(), count)),
            Def::Input(InputKind::Tensor) | Def::Const(_) | Def::Node => None,
        });
        let (label, labels) = index.map_or((None, 1), |(name, count)| (Some(name), count));
        let dims = graph.ty(id).dims.clone();
        Ok(Deployed { noise, dims, label, labels, noise_at: fact("flow.noise_at")?, range: fact("flow.range")? })
    }

    /// Noise of the seeds from 0 on, in the order of the ONNX input.
    fn write_noise(&self, path: &Path, count: usize, stream: u32) -> Result<(), String> {
        let ty = Type::new(DType::F32, &self.dims);
        let mut bytes = Vec::with_capacity(count * ty.elements() * 4);
        for seed in 0..count as u64 {
            if let Data::F32(values) = noise_tensor(&ty, seed, stream).data {
                bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
            }
        }
        std::fs::write(path, bytes).map_err(|why| format!("cannot write {}: {why}", path.display()))
    }

    /// Pictures by another toolchain; what it says about them.
    fn draw(&self, model: &Model, method: &str, folder: &Path) -> Result<Value, String> {
        let mut command = Command::new(peers::python());
        command.arg(cargo::root().join("benches/peers/quality.py")).arg(method);
        command.arg(file(model.name, "onnx")).arg(folder).args(["--noise", &self.noise]);
        command.args(["--noise-at", &self.noise_at]).arg(format!("--range={}", self.range));
        if let Some(label) = &self.label {
            command.args(["--label", label, "--labels", &self.labels.to_string()]);
        }
        for constant in model.set {
            command.args(["--set", constant]);
        }
        figures::json_of(command.env("ORT_DISABLE_TELEMETRY", "1"))
    }
}

/// The table as Markdown.
fn table(rows: &[Value]) -> String {
    let mut out = "| model | method | SNR dB | Frechet distance | accuracy | bytes | arena | version |\n".to_owned();
    out += "|---|---|---|---|---|---|---|---|\n";
    let number = |v: &Value, digits: usize| v.as_f64().map_or("-".to_owned(), |v| format!("{v:.digits$}"));
    let text = |v: &Value| v.as_str().unwrap_or("-").to_owned();
    for row in rows {
        out += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            text(&row["model"]),
            text(&row["method"]),
            number(&row["snr_db"], 2),
            number(&row["fd"], 3),
            number(&row["accuracy"], 4),
            number(&row["bytes"], 0),
            number(&row["arena"], 0),
            text(&row["version"]),
        );
    }
    out
}

/// Whether our int8 is as close to f32 as is promised, and what of the comparison does not hold.
fn verdict(model: &str, rows: &[Value]) -> String {
    let row = |method: &str| rows.iter().find(|r| r["model"] == model && r["method"] == method);
    let field = |method: &str, key: &str| row(method).and_then(|r| r[key].as_f64()).unwrap_or(f64::NAN);
    let mut open = Vec::new();
    for method in METHODS.iter().skip(1) {
        for (key, larger_is_better) in [("snr_db", true), ("fd", false), ("accuracy", true)] {
            let (ours, theirs) = (field("ours-int8", key), field(method, key));
            let holds = if larger_is_better { ours >= theirs } else { ours <= theirs };
            if !holds {
                open.push(format!("{key} of {method} is better ({theirs:.4} against {ours:.4})"));
            }
        }
    }
    let ratio = field("ours-int8", "fd") / field("f32", "fd");
    if ratio.is_nan() || ratio > LARGEST_RATIO {
        open.push(format!("the Frechet distance is {ratio:.3} times that of f32, more than {LARGEST_RATIO}"));
    }
    match open.is_empty() {
        true => format!("{model}: no method is better in any column; Frechet distance {ratio:.3} times that of f32"),
        false => format!("{model}: {}", open.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(method: &str, snr: Option<f64>, fd: f64, accuracy: f64) -> Value {
        json!({ "model": "m", "method": method, "snr_db": snr, "fd": fd, "accuracy": accuracy })
    }

    #[test]
    fn what_another_method_does_better_is_named() {
        let peers = ["ort-minmax", "ort-entropy", "nncf"].map(|m| row(m, Some(20.0), 2.0, 0.9));
        let mut rows = vec![row("f32", None, 2.0, 0.95), row("ours-int8", Some(25.0), 1.9, 0.94)];
        rows.extend(peers);
        assert!(verdict("m", &rows).starts_with("m: no method is better"), "{}", verdict("m", &rows));
        rows[4]["snr_db"] = json!(26.0);
        assert!(verdict("m", &rows).contains("snr_db of nncf is better"), "{}", verdict("m", &rows));
        rows[1]["fd"] = json!(2.2);
        assert!(verdict("m", &rows).contains("1.100 times"), "{}", verdict("m", &rows));
    }

    #[test]
    fn unknown_models_are_refused() {
        assert!(
            Request::parse(&["fashion", "--samples", "100"]).is_ok_and(|r| r.samples == 100 && r.models.len() == 1)
        );
        assert!(Request::parse(&["cats"]).is_err());
        assert!(Request::parse(&["--samples", "0"]).is_err());
    }
}
