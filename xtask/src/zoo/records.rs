//! What the folders under `models/` say about each model, and what it costs.

use std::fs;
use std::path::{Path, PathBuf};

use flowlet_compiler::flq;
use flowlet_compiler::lower::{LowerError, lower};
use flowlet_compiler::target::{TARGETS, Target};
use serde_json::{Map, Value};

/// The target whose figures stand in the plots, whether or not a model fits the part.
pub const PLOTTED: &str = "qemu-mps2-an386";

/// One folder.
#[derive(Debug)]
pub struct Model {
    /// Its name.
    pub name: String,
    /// The first paragraph of its card.
    pub summary: String,
    /// Licence of the weights.
    pub licence: Option<String>,
    /// Its card, in Markdown.
    pub card: String,
    /// Its pictures: file name and PNG.
    pub pictures: Vec<(String, Vec<u8>)>,
    /// Its compiled networks.
    pub networks: Vec<Network>,
    /// Every score that is on record.
    pub scores: Vec<Score>,
    /// Whether recorded draws are those of another `.flq` or `.flp`.
    pub stale: bool,
}

/// A `.flq`.
#[derive(Debug)]
pub struct Network {
    /// Its file, without the ending.
    pub name: String,
    /// Multiply-accumulates of a call.
    pub macs: u64,
    /// Weights and other numbers that the file holds.
    pub parameters: usize,
    /// What it costs on each target.
    pub costs: Vec<Cost>,
}

/// A network on a target.
#[derive(Debug)]
pub struct Cost {
    /// The target.
    pub target: String,
    /// Bytes of weights in flash, without the program.
    pub weights_bytes: usize,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Why it does not fit the part, if it does not.
    pub refused: Option<String>,
}

/// A score on record.
#[derive(Debug, Clone)]
pub struct Score {
    /// What was scored: an arithmetic, a teacher.
    pub variant: String,
    /// Network calls of a sample.
    pub steps: Option<u64>,
    /// Samples of a draw, or scenes.
    pub samples: Option<u64>,
    /// Draws that the scores are the mean of.
    pub draws: u64,
    /// Frechet distance.
    pub fd: Option<f64>,
    /// Class accuracy.
    pub accuracy: Option<f64>,
    /// Success rate.
    pub success: Option<f64>,
    /// Precision on features.
    pub precision: Option<f64>,
    /// Recall on features.
    pub recall: Option<f64>,
    /// Half of the width of the 95 % confidence intervals, or their ends, by score.
    pub interval: Option<Map<String, Value>>,
    /// The feature network, if it is on record.
    pub features: Option<String>,
    /// The file that says so.
    pub source: String,
}

/// Every model with a `model.toml`, by name.
///
/// # Errors
/// When a file is damaged; its name is in the message.
pub fn models(folder: &Path) -> Result<Vec<Model>, String> {
    let draws = json(&folder.join("scoring").join("draws.json"))?.unwrap_or_default();
    folders(folder)?.iter().map(|path| model(path, &draws)).collect()
}

/// The folders with a `model.toml`, by name.
///
/// # Errors
/// When `folder` cannot be read.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|why| format!("cannot read {}: {why}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.join("model.toml").exists()).collect();
    paths.sort();
    Ok(paths)
}

fn model(folder: &Path, draws: &Value) -> Result<Model, String> {
    let config: toml::Table =
        text(&folder.join("model.toml"))?.parse().map_err(|why| format!("{}/model.toml: {why}", folder.display()))?;
    let named = |key: &str| config.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let fallback = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = named("name").unwrap_or(fallback);
    let card = text(&folder.join("README.md")).unwrap_or_default();
    let mut pictures = Vec::new();
    for path in with_ending(folder, "png")? {
        let bytes = fs::read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
        pictures.push((stem(&path), bytes));
    }
    let mut scores = card_scores(&json(&folder.join("scores.json"))?.unwrap_or_default(), "scores.json");
    scores.extend(student_scores(&json(&folder.join("student.json"))?.unwrap_or_default()));
    let (mut networks, mut stale) = (Vec::new(), false);
    for path in with_ending(folder, "flq")? {
        let bytes = fs::read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
        networks.push(network(&path, &bytes)?);
        let record = &draws["models"][stem(&path)];
        let drawn = drawn_scores(draws, record, None, &flq::hash(&bytes));
        stale |= drawn.is_empty() && !record.is_null();
        scores.extend(drawn);
    }
    for path in programs(folder)? {
        let bytes = fs::read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
        let record = &draws["programs"][format!("{}/{}", stem(folder), stem(&path))];
        let drawn = drawn_scores(draws, record, Some(&stem(&path)), &flq::hash(&bytes));
        stale |= drawn.is_empty() && !record.is_null();
        scores.extend(drawn);
    }
    let summary = card.split("\n\n").map(str::trim).find(|p| !p.is_empty() && !p.starts_with(['#', '!', '|']));
    Ok(Model {
        summary: summary.unwrap_or_default().to_owned(),
        licence: named("licence"),
        name,
        card,
        pictures,
        networks,
        scores,
        stale,
    })
}

fn network(path: &Path, bytes: &[u8]) -> Result<Network, String> {
    let graph = flq::read(bytes).map_err(|why| format!("{}: {why}", path.display()))?;
    let hash = flq::hash(bytes);
    let mut found = Network { name: stem(path), macs: 0, parameters: 0, costs: Vec::new() };
    for target in TARGETS {
        // Without limits first: a model that is too large for a part still has a size.
        let unlimited = Target { flash_bytes: None, ram_bytes: None, ..target.clone() };
        let lowered = lower(&graph, hash, &unlimited).map_err(|why| format!("{}: {why}", path.display()))?;
        (found.macs, found.parameters) = (lowered.macs(), lowered.parameters);
        let refused = match lower(&graph, hash, target) {
            Ok(_) => None,
            Err(why @ LowerError::Budget { .. }) => Some(why.to_string()),
            Err(why) => return Err(format!("{}: {why}", path.display())),
        };
        found.costs.push(Cost {
            target: target.name.to_string(),
            weights_bytes: lowered.weights.len(),
            arena_bytes: lowered.arena_bytes,
            refused,
        });
    }
    Ok(found)
}

impl Network {
    /// What it costs on the target of the plots.
    pub fn plotted(&self) -> Option<&Cost> {
        self.costs.iter().find(|c| c.target == PLOTTED)
    }
}

impl Score {
    fn of(variant: &str, fields: &Value, source: &str) -> Self {
        let number = |key: &str| fields[key].as_f64();
        Score {
            variant: variant.replace('_', " "),
            steps: fields["steps"].as_u64(),
            samples: ["samples", "scenes"].iter().find_map(|k| fields[*k].as_u64()),
            draws: 1,
            fd: number("fd"),
            accuracy: number("accuracy"),
            success: number("success"),
            precision: number("precision"),
            recall: number("recall"),
            interval: fields["interval"].as_object().cloned(),
            features: None,
            source: source.to_owned(),
        }
    }

    /// The interval of a score for people: `0.012` for a half width, `0.90 to 0.95` for its ends.
    pub fn interval_of(&self, field: &str, digits: usize) -> Option<String> {
        match self.interval.as_ref()?.get(field)? {
            Value::Array(ends) => match (ends.first()?.as_f64(), ends.get(1)?.as_f64()) {
                (Some(low), Some(high)) => Some(format!("{low:.digits$} to {high:.digits$}")),
                _ => None,
            },
            value => Some(format!("\u{b1} {:.digits$}", value.as_f64()?)),
        }
    }

    /// The row in `report.json`.
    pub fn to_json(&self, model: &str) -> Value {
        serde_json::json!({
            "model": model, "variant": self.variant, "steps": self.steps, "fd": self.fd, "accuracy": self.accuracy,
            "success": self.success, "precision": self.precision, "recall": self.recall, "interval": self.interval, "samples": self.samples, "draws": self.draws,
            "features": self.features, "source": self.source,
        })
    }
}

/// The entries of `scores.json` that have a score: either one for each variant, or the rows of a policy's success rates.
fn card_scores(entries: &Value, source: &str) -> Vec<Score> {
    if let Some(rows) = entries["rows"].as_array() {
        return rows.iter().map(|row| policy_score(row, &entries["scenes"], source)).collect();
    }
    let scores = entries.as_object().into_iter().flatten().map(|(variant, fields)| Score::of(variant, fields, source));
    scores.filter(|s| s.fd.or(s.accuracy).or(s.success).is_some()).collect()
}

/// A row of a policy: its success rate with the ends of the interval, over so many scenes.
fn policy_score(row: &Value, scenes: &Value, source: &str) -> Score {
    let success = &row["success"];
    let mut score = Score::of(row["policy"].as_str().unwrap_or("policy"), row, source);
    score.samples = scenes.as_u64();
    score.success = success["share"].as_f64();
    score.interval =
        Some(Map::from_iter([("success".to_owned(), serde_json::json!([success["low"], success["high"]]))]));
    score
}

/// What `flowlet score --json` printed for the model card.
fn student_scores(card: &Value) -> Vec<Score> {
    let mut scores = card_scores(&card["scores"], "student.json");
    for score in &mut scores {
        score.steps = Some(score.steps.unwrap_or(1));
        score.samples = card["scores_n"].as_u64();
    }
    scores
}

/// The recorded draws of a `.flq`, or of a program of this name; none when they are those of other bytes.
fn drawn_scores(draws: &Value, record: &Value, program: Option<&str>, hash: &[u8; 32]) -> Vec<Score> {
    if record["sha256"] != hex(hash) {
        return Vec::new();
    }
    let mut scores = card_scores(&record["scores"], "draws.json");
    for score in &mut scores {
        if let Some(program) = program {
            score.variant = format!("{program}, {}", score.variant);
        }
        score.steps = record["passes"].as_u64();
        score.samples = draws["samples"].as_u64();
        score.draws = draws["draws"].as_u64().unwrap_or(1);
        score.features = record["features"].as_str().map(str::to_owned);
    }
    scores
}

/// The programs of a model, by name.
///
/// # Errors
/// When the folder cannot be read.
pub fn programs(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let programs = folder.join("programs");
    if programs.is_dir() { with_ending(&programs, "flp") } else { Ok(Vec::new()) }
}

/// The files of a folder with this ending, by name.
fn with_ending(folder: &Path, ending: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|why| format!("cannot read {}: {why}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    paths.sort();
    Ok(paths)
}

/// A file's name without the ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn text(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|why| format!("cannot read {}: {why}", path.display()))
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A JSON file; `None` when it is not there.
///
/// # Errors
/// When it cannot be read or holds something else.
pub fn json(path: &Path) -> Result<Option<Value>, String> {
    if !path.exists() {
        return Ok(None);
    }
    serde_json::from_str(&text(path)?).map(Some).map_err(|why| format!("{}: {why}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_entries_with_a_score_count() {
        let entries = json!({ "teacher_many": { "fd": 0.2, "steps": 50, "samples": 1000 }, "note": "none", "x": {} });
        let found = card_scores(&entries, "scores.json");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].variant.as_str(), found[0].steps, found[0].fd), ("teacher many", Some(50), Some(0.2)));
    }

    #[test]
    fn policies_state_success_with_the_ends_of_its_interval() {
        let entries = json!({ "scenes": 500, "rows": [
            { "policy": "int8", "success": { "share": 0.96, "low": 0.94, "high": 0.975 }, "actions": 20.0 } ] });
        let found = card_scores(&entries, "scores.json");
        assert_eq!((found[0].variant.as_str(), found[0].samples, found[0].success), ("int8", Some(500), Some(0.96)));
        assert_eq!(found[0].interval_of("success", 3), Some("0.940 to 0.975".to_owned()));
    }

    #[test]
    fn draws_of_another_file_do_not_count() {
        let hash = [7; 32];
        let own: String = "07".repeat(32);
        let draws = json!({ "samples": 2000, "draws": 5 });
        let record = |sha: &str| {
            json!({ "sha256": sha, "features": "f", "passes": 8,
                    "scores": { "int8": { "fd": 1.0, "interval": { "fd": 0.1 } } } })
        };
        let found = drawn_scores(&draws, &record(&own), None, &hash);
        assert_eq!((found[0].samples, found[0].draws, found[0].steps), (Some(2000), 5, Some(8)));
        assert_eq!(found[0].variant, "int8");
        assert_eq!(found[0].interval_of("fd", 2), Some("\u{b1} 0.10".to_owned()));
        assert_eq!(drawn_scores(&draws, &record(&own), Some("euler_4"), &hash)[0].variant, "euler_4, int8");
        assert!(drawn_scores(&draws, &record("00"), None, &hash).is_empty());
        assert!(drawn_scores(&draws, &Value::Null, None, &hash).is_empty());
    }

    #[test]
    fn intervals_may_state_their_ends() {
        let score = Score::of("int8", &json!({ "success": 0.9, "interval": { "success": [0.875, 0.925] } }), "s");
        assert_eq!(score.interval_of("success", 3), Some("0.875 to 0.925".to_owned()));
        assert_eq!(score.interval_of("fd", 3), None);
    }
}
