//! `cargo xtask zoo`: every model under `models/` on one page, with its pictures, scores and costs.
//!
//! What it reads is committed, and what it computes is the compiler's own cost of each `.flq`, so it takes seconds and
//! needs nothing but Rust. `--score` draws the scores again.

mod page;
mod plot;
mod records;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use flowlet_compiler::flq;
use serde_json::{Map, Value, json};

use crate::{cargo, figures};

/// Pictures of a recorded draw, and draws.
const SAMPLES: usize = 2000;
const DRAWS: usize = 5;

/// Writes `target/zoo/index.html` and `report.json`; with `score`, `models/scoring/draws.json` first.
pub fn command(score: bool) -> ExitCode {
    let done = if score { record() } else { Ok(()) };
    match done.and_then(|()| write(&cargo::root().join("models"), &cargo::target().join("zoo"))) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// The page and the report of the models in `folder`.
fn write(folder: &Path, out: &Path) -> Result<String, String> {
    let models = records::models(folder)?;
    for model in models.iter().filter(|m| m.stale) {
        println!("{}: recorded draws are those of another file; run `cargo xtask zoo --score`", model.name);
    }
    let results = fs::read_to_string(folder.join("RESULTS.md")).unwrap_or_default();
    let rows: Vec<Value> = models.iter().flat_map(|m| m.scores.iter().map(|s| s.to_json(&m.name))).collect();
    let costs = models.iter().flat_map(|m| &m.networks).flat_map(|n| {
        n.costs.iter().map(|c| {
            json!({ "network": n.name, "macs": n.macs, "parameters": n.parameters, "target": c.target,
                    "weights_bytes": c.weights_bytes, "arena_bytes": c.arena_bytes, "fits": c.refused.is_none() })
        })
    });
    let report = json!({ "scores": rows, "costs": costs.collect::<Vec<_>>() });
    let (html, json) = (out.join("index.html"), out.join("report.json"));
    let save = |path: &Path, text: String| {
        fs::create_dir_all(out)
            .and_then(|()| fs::write(path, text))
            .map_err(|why| format!("cannot write {}: {why}", path.display()))
    };
    save(&html, page::html(&models, &results))?;
    save(&json, format!("{report:#}\n"))?;
    Ok(format!("{} models, {} scores: {}, {}", models.len(), rows.len(), html.display(), json.display()))
}

/// Draws the int8 scores of every picture model and of every program that draws from noise, where the file is not the one
/// on record, and records them in `models/scoring/draws.json`, one by one: what was drawn before a kill is kept.
fn record() -> Result<(), String> {
    let flowlet = figures::command()?;
    let folder = cargo::root().join("models");
    let path = folder.join("scoring").join("draws.json");
    let known = records::json(&path)?.filter(|r| r["samples"] == SAMPLES && r["draws"] == DRAWS).unwrap_or_default();
    let (mut models, mut programs) = (Map::new(), Map::new());
    for model in records::folders(&folder)? {
        for file in records::programs(&model)? {
            let bytes = fs::read(&file).map_err(|why| format!("cannot read {}: {why}", file.display()))?;
            let name = format!("{}/{}", records::stem(&model), records::stem(&file));
            let entry = known_or_drawn(&flowlet, &file, &bytes, &known["programs"][&name]);
            let Ok(entry) = entry.inspect_err(|why| println!("{name}: not scored, {why}")) else { continue };
            println!("{name}: {}", entry["scores"]["int8"]);
            programs.insert(name, entry);
            save(&path, &models, &programs)?;
        }
        let name = records::stem(&model);
        let file = model.join(&name).with_extension("flq");
        if !file.exists() {
            println!("{name}: not scored, there is no {name}.flq");
            continue;
        }
        let bytes = fs::read(&file).map_err(|why| format!("cannot read {}: {why}", file.display()))?;
        let graph = flq::read(&bytes).map_err(|why| format!("{}: {why}", file.display()))?;
        if graph.meta("noise").is_none() || graph.outputs.iter().any(|&id| graph.ty(id).dims.len() != 4) {
            println!("{name}: not scored, it draws no pictures from noise");
            continue;
        }
        let entry = known_or_drawn(&flowlet, &file, &bytes, &known["models"][&name]);
        let Ok(entry) = entry.inspect_err(|why| println!("{name}: not scored, {why}")) else { continue };
        println!("{name}: {}", entry["scores"]["int8"]);
        models.insert(name, entry);
        save(&path, &models, &programs)?;
    }
    Ok(())
}

fn save(path: &Path, models: &Map<String, Value>, programs: &Map<String, Value>) -> Result<(), String> {
    let record = json!({ "samples": SAMPLES, "draws": DRAWS, "models": models, "programs": programs });
    fs::write(path, format!("{record:#}\n")).map_err(|why| format!("cannot write {}: {why}", path.display()))
}

/// The entry of a file of these bytes: the one on record, or a new one.
fn known_or_drawn(flowlet: &Path, file: &Path, bytes: &[u8], known: &Value) -> Result<Value, String> {
    let hash = records::hex(&flq::hash(bytes));
    if known["sha256"] == hash { Ok(known.clone()) } else { draw(flowlet, file, hash) }
}

/// The scores of a `.flq` or `.flp` with this hash.
fn draw(flowlet: &Path, file: &Path, hash: String) -> Result<Value, String> {
    let mut call = Command::new(flowlet);
    call.arg("score").arg(file).args(["--precision", "int8", "--json"]);
    call.args(["--samples", &SAMPLES.to_string(), "--draws", &DRAWS.to_string()]);
    let mut found = figures::json_of(&mut call)?;
    for scores in found["scores"].as_object_mut().into_iter().flat_map(|s| s.values_mut()) {
        tidy(scores);
    }
    Ok(json!({ "sha256": hash, "passes": found["passes"], "features": found["features"], "scores": found["scores"] }))
}

/// Six decimals, no fields without a value, and no single draws: what is recorded changes only when a score does.
fn tidy(scores: &mut Value) {
    let Some(fields) = scores.as_object_mut() else { return };
    fields.remove("draws");
    fields.retain(|_, value| !value.is_null());
    for value in fields.values_mut() {
        if let Some(number) = value.as_f64().filter(|n| n.fract() != 0.0) {
            *value = json!((number * 1e6).round() / 1e6);
        }
        tidy(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed models make a page that refers to no other file.
    #[test]
    fn the_page_of_the_committed_models() {
        let out = cargo::target().join("zoo-test");
        write(&cargo::root().join("models"), &out).unwrap();
        let html = fs::read_to_string(out.join("index.html")).unwrap();
        assert!(html.contains("id=\"fashion-tiny\"") && html.contains("data:image/png;base64,"));
        for reference in ["src=\"http", "src=\"/", "<script", "<link", "url("] {
            assert!(!html.contains(reference), "the page has {reference}");
        }
        let report: Value = serde_json::from_slice(&fs::read(out.join("report.json")).unwrap()).unwrap();
        let rows = report["scores"].as_array().unwrap();
        for field in ["model", "variant", "steps", "fd", "accuracy", "success", "interval"] {
            assert!(rows.iter().all(|row| row.get(field).is_some()), "{field} is not in every row");
        }
        assert!(rows.iter().any(|row| row["model"] == "fashion" && row["variant"] == "int8"));
    }

    #[test]
    fn records_are_short_and_stable() {
        let mut scores = json!({ "fd": 1.234_567_89, "recall": null, "draws": [1], "manifold_n": 2000,
                                 "interval": { "fd": 0.012_345_678, "recall": null } });
        tidy(&mut scores);
        assert_eq!(scores, json!({ "fd": 1.234_568, "manifold_n": 2000, "interval": { "fd": 0.012_346 } }));
    }
}
