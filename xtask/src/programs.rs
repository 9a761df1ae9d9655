//! `cargo xtask programs`: samplers, edits and schedules, on this host and on an emulated board, against known answers.
//!
//! Writes `target/programs.json` and pictures under `target/programs`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use crate::boards::{self, EDITS, Firmware, NETWORKS, SAMPLERS, TEACHER, TEACHER_INPAINT, TEACHER_TURBO};
use crate::cargo;
use crate::figures;
use crate::rows::{Outcome, Rows};
use crate::setup::{self, Need};

/// The committed programs: the model's folder, the program, and the firmware that runs it.
const PROGRAMS: [(&str, &str, Firmware); 21] = [
    ("digits", "euler_4", SAMPLERS),
    ("digits", "guided_4", SAMPLERS),
    ("digits", "heun_4", SAMPLERS),
    ("digits", "midpoint_4", SAMPLERS),
    ("digits", "reanchor_4", SAMPLERS),
    ("digits", "stochastic_4", SAMPLERS),
    ("digits", "stream_4", SAMPLERS),
    ("digits", "edit_4", EDITS),
    ("digits", "rfedit_4", NETWORKS),
    ("digits", "inpaint_8", EDITS),
    ("digits", "enlarge_8", EDITS),
    ("digits", "deblur_8", EDITS),
    ("digits", "chain_2", EDITS),
    ("digits", "critic_2", NETWORKS),
    ("digits-a", "cycle_8", NETWORKS),
    ("digits-unet", "turbo_4", NETWORKS),
    ("fashion-teacher", "euler_4", TEACHER_INPAINT),
    ("fashion-teacher", "heun_4", TEACHER),
    ("fashion-teacher", "bellman_4", TEACHER),
    ("fashion-teacher", "turbo_4", TEACHER_TURBO),
    ("fashion-teacher", "inpaint_8", TEACHER_INPAINT),
];

/// The firmware of all of them.
const ALL: [Firmware; 6] = [SAMPLERS, EDITS, NETWORKS, TEACHER, TEACHER_INPAINT, TEACHER_TURBO];

/// The board that runs them.
pub const BOARD: &str = SAMPLERS.board;

/// Digits that some programs start from.
const DATA: &str = "models/digits/held-out/images.npy";

/// Held-out pictures of a model's data, and their labels.
fn held_out(model: &str) -> [String; 2] {
    let folder = if model == "fashion-teacher" { model } else { "digits" };
    ["images", "label"].map(|name| format!("models/{folder}/held-out/{name}.npy"))
}

/// Runs everything; the exit code is 0, 1 when something failed, or 3 when only the board did not run.
pub fn command(install: bool) -> ExitCode {
    let mut found = Vec::new();
    let mut rows = Rows::default();
    rows.run("known answers", || harness(&mut found));
    let mut flowlet = None;
    rows.run("the flowlet command", || {
        flowlet = Some(figures::command()?);
        Ok::<String, String>(String::new())
    });
    if let Some(flowlet) = &flowlet {
        rows.run("programs on this host", || on_host(flowlet, &mut found));
        rows.run("pictures", || pictures(flowlet));
        rows.run("inpainting", || inpainting(flowlet, &mut found));
        rows.run("edits", || edits(flowlet, &mut found));
        rows.run("critic", || critic(flowlet, &mut found));
        rows.run("schedules", || schedules(flowlet, &mut found));
    }
    let missing = setup::ensure(Need::BOARD, install);
    for firmware in ALL {
        rows.run(&format!("board: {}", firmware.bin), || on_board(firmware, &missing, &mut found));
    }
    rows.run("report", || write(&found));
    println!("{}", table(&found));
    rows.print();
    let (failed, not_run) = rows.failed_and_not_run();
    match (failed, not_run, missing.is_empty()) {
        (0, 0, _) => ExitCode::SUCCESS,
        (0, _, false) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

/// The committed programs on a board, each compared with this host: a row of the tests. Needs no importer.
pub fn check() -> Result<String, String> {
    let build = ["build", "--release", "--package", "flowlet-cli", "--no-default-features"];
    cargo::run(&mut cargo::call(&build))?;
    let flowlet = cargo::target().join("release").join(format!("flowlet{}", std::env::consts::EXE_SUFFIX));
    let mut found = Vec::new();
    on_host(&flowlet, &mut found)?;
    let notes: Result<Vec<String>, String> = ALL.into_iter().map(|firmware| compared(firmware, &mut found)).collect();
    Ok(notes?.join("; "))
}

/// The rows that the tests on Gaussian data print.
fn harness(found: &mut Vec<Value>) -> Result<String, String> {
    let words = ["test", "--release", "--package", "flowlet-score", "--test", "programs", "--", "--nocapture"];
    let output = cargo::call(&words).output().map_err(|why| format!("cargo test: {why}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("the known answers are missed:\n{text}{}", String::from_utf8_lossy(&output.stderr)));
    }
    let before = found.len();
    for line in text.lines().filter_map(|line| line.split_once("row ").map(|(_, row)| row)) {
        let cells: Vec<&str> = line.split(" | ").collect();
        let [program, evaluations, measured, expected] = cells[..] else { continue };
        found.push(json!({
            "program": program, "model": "Gaussian", "evaluations": evaluations.parse::<u64>().ok(),
            "measured": measured.parse::<f64>().ok(), "expected": expected,
        }));
    }
    match found.len() - before {
        0 => Err("the tests printed no row".to_owned()),
        n => Ok(format!("{n} figures")),
    }
}

fn flp(model: &str, name: &str) -> PathBuf {
    cargo::root().join("models").join(model).join("programs").join(name).with_extension("flp")
}

fn json_of(command: &mut Command) -> Result<Value, String> {
    let output = command.current_dir(cargo::root()).output().map_err(|why| format!("{command:?}: {why}"))?;
    if !output.status.success() {
        return Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    serde_json::from_slice(&output.stdout).map_err(|why| format!("{command:?} printed no JSON: {why}"))
}

/// What a board runs, here: seeds 0 and 1, labels 3 and 7, or none where a program starts from data.
fn on_host(flowlet: &Path, found: &mut Vec<Value>) -> Result<String, String> {
    for (model, name, _) in PROGRAMS {
        let path = flp(model, name);
        let shown = json_of(
            Command::new(flowlet).args(["program", "show", "--target", "qemu-mps2-an386", "--json"]).arg(&path),
        )?;
        let text = shown["text"].as_str().unwrap_or("");
        let critic = text.contains("meta \"observe\" \"critic\"");
        let reads_data = (text.contains("lane data") || text.contains("lane observed")) && !critic;
        let guided = text.contains("labels 10\n");
        let labels = match (reads_data, guided) {
            (true, true) => "9,9",
            (true, false) => "10,10",
            (false, _) => "3,7",
        };
        // The board runs the larger network once.
        let (count, labels) =
            if model == "fashion-teacher" { ("1", labels.split(',').next().unwrap_or(labels)) } else { ("2", labels) };
        let [data, _] = held_out(model);
        let run = ["program", "run", "--seed", "0", "--count", count, "--label", labels, "--data", &data, "--json"];
        let ran = json_of(Command::new(flowlet).args(run).arg(&path))?;
        let evaluations: u64 =
            shown["evaluations"].as_object().map_or(0, |e| e.values().filter_map(Value::as_u64).sum());
        found.push(json!({
            "program": name, "model": model, "evaluations": evaluations, "digest_host": ran["digest"],
            "flash_per_step_bytes": shown["flash_per_step_bytes"], "ram_bytes": shown["ram_bytes"],
            "flash_bytes": shown["weights_bytes"].as_u64().unwrap_or(0) + shown["constants_bytes"].as_u64().unwrap_or(0),
        }));
    }
    Ok(format!("{} programs", PROGRAMS.len()))
}

fn pictures(flowlet: &Path) -> Result<String, String> {
    let folder = cargo::target().join("programs");
    for (model, name, _) in PROGRAMS {
        let out = folder.join(format!("{model}.{name}.png"));
        let mut command = Command::new(flowlet);
        command.args(["program", "run", "--count", "10", "--data", &held_out(model)[0], "--out"]).arg(out);
        json_of(command.arg(flp(model, name)).arg("--json"))?;
    }
    Ok(folder.display().to_string())
}

/// Held-out pictures that are inpainted, first and number, and the largest loss in dB that int8 may add. The strength of
/// `fashion-teacher` was chosen on the twenty before.
const INPAINTED: [(&str, &str, &str); 2] = [("digits", "0", "360"), ("fashion-teacher", "20", "44")];
const INT8_LOSS: f64 = 0.5;

/// PSNR on hidden values of held-out pictures, in int8 and f32.
fn inpainting(flowlet: &Path, found: &mut Vec<Value>) -> Result<String, String> {
    let mut notes = Vec::new();
    for (model, first, count) in INPAINTED {
        let float = cargo::target().join("programs").join(format!("{model}.inpaint_8.f32.flp"));
        let config = format!("models/{model}/model.toml");
        let build = ["program", "build", &config, "inpaint_8", "--precision", "f32", "--json", "-o"];
        json_of(Command::new(flowlet).args(build).arg(&float))?;
        let [data, labels] = held_out(model);
        let mut steered = Vec::new();
        for (precision, path) in [("f32", float), ("int8", flp(model, "inpaint_8"))] {
            let mut run = Command::new(flowlet);
            run.args(["program", "run", "--seed", first, "--count", count, "--json"]);
            run.args(["--data", &data, "--data-labels", &labels]).arg(&path);
            let psnr = json_of(&mut run)?["psnr_hidden_db"].clone();
            let number = |key: &str| psnr[key].as_f64().ok_or(format!("no PSNR in {psnr}"));
            let (ours, unsteered, filled) = (number("steered")?, number("unsteered")?, number("bilinear")?);
            found.push(json!({
                "program": format!("inpaint_8, {precision}, PSNR dB"), "model": model, "measured": ours,
                "expected": format!("above unsteered {unsteered:.2} and bilinear {filled:.2}"),
            }));
            if ours <= unsteered || ours <= filled {
                return Err(format!(
                    "{model}: inpainting in {precision} has {ours:.2} dB, unsteered {unsteered:.2}, bilinear {filled:.2}"
                ));
            }
            steered.push(ours);
        }
        let gap = steered[0] - steered[1];
        if gap.abs() > INT8_LOSS {
            return Err(format!("{model}: int8 is {gap:.2} dB below f32"));
        }
        notes.push(format!("{model}: {:.2} dB in int8, {gap:.2} below f32", steered[1]));
    }
    Ok(notes.join("; "))
}

/// Steps of the edit of [`edits`] that take the inversion's value tensors.
const CACHED: [usize; 4] = [0, 1, 2, 4];
/// Held-out digits, of which each class in turn is asked for a tenth.
const HELD_OUT: usize = 360;

/// Held-out digits edited to another class, with the value tensors of fewer and of more steps taken from the inversion: how
/// many a classifier gives to the class asked for, and how much of the source is left.
fn edits(flowlet: &Path, found: &mut Vec<Value>) -> Result<String, String> {
    let folder = cargo::target().join("programs");
    let model = cargo::root().join("models/digits");
    let config = model.join("model.toml");
    let text = std::fs::read_to_string(&config).map_err(|why| format!("cannot read {}: {why}", config.display()))?;
    let mut text = text
        .replacen("onnx = \"", &format!("onnx = \"{}/", model.display()), 1)
        .replace("\"held-out/", &format!("\"{}/held-out/", model.display()));
    let data = "data = \"DIR/held-out/images.npy\"\ndata_labels = \"DIR/held-out/label.npy\"\n"
        .replace("DIR", &model.display().to_string());
    for cached in CACHED {
        let how = match cached {
            0 => "sampler = \"invert\"\n".to_owned(),
            n => format!(
                "sampler = \"rf-edit\"\ninject = [\"blocks.0.attention.value.Add\", \"blocks.1.attention.value.Add\"]\ninject_steps = {n}\n"
            ),
        };
        text += &format!("\n[programs.cached_{cached}]\n{how}steps = 4\n{data}");
    }
    let toml = folder.join("edits.toml");
    std::fs::write(&toml, text).map_err(|why| format!("cannot write {}: {why}", toml.display()))?;
    let (mut rates, mut psnrs) = (Vec::new(), Vec::new());
    for cached in CACHED {
        let name = format!("cached_{cached}");
        let path = folder.join(&name).with_extension("flp");
        let mut build = Command::new(flowlet);
        build.args(["program", "build", "--json", "-o"]).arg(&path).arg(&toml).arg(&name);
        let built = json_of(&mut build)?;
        let (mut rate, mut square) = (0.0, 0.0);
        for class in 0..10 {
            let count = HELD_OUT / 10;
            let (first, count, class) = ((class * count).to_string(), count.to_string(), class.to_string());
            let run = ["program", "run", "--seed", &first, "--count", &count, "--to-label", &class, "--json"];
            let mut command = Command::new(flowlet);
            command.args(run).args(["--data", DATA, "--data-labels", "models/digits/held-out/label.npy"]);
            command.args(["--accuracy", "models/scoring/digits-accuracy.onnx"]).arg(&path);
            let ran = json_of(&mut command)?;
            let number = |key: &str| ran[key].as_f64().ok_or(format!("no {key} in {ran}"));
            rate += number("class_rate")? / 10.0;
            square += 10f64.powf(-number("psnr_data_db")? / 10.0) / 10.0;
        }
        let psnr = -10.0 * square.log10();
        for (what, measured, expected) in
            [("class rate", rate, "falls with more"), ("PSNR to the source, dB", psnr, "rises with more")]
        {
            found.push(json!({
                "program": format!("edit, values of {cached} steps held, {what}"), "model": "digits", "evaluations": 16,
                "measured": measured, "expected": expected,
                "flash_per_step_bytes": built["flash_per_step_bytes"], "ram_bytes": built["ram_bytes"],
            }));
        }
        rates.push(rate);
        psnrs.push(psnr);
    }
    let (falls, rises) = (rates.windows(2).all(|w| w[0] >= w[1]), psnrs.windows(2).all(|w| w[0] <= w[1]));
    if !falls || !rises {
        return Err(format!("class rates {rates:?} should fall and PSNR {psnrs:?} rise with the steps that are held"));
    }
    Ok(format!("class rate {:.3} to {:.3}, PSNR {:.2} to {:.2} dB", rates[0], rates[3], psnrs[0], psnrs[3]))
}

/// Digits of a class that only the energy of the chain names: the network is asked for none.
fn critic(flowlet: &Path, found: &mut Vec<Value>) -> Result<String, String> {
    let mut command = Command::new(flowlet);
    command.args(["program", "run", "--count", "50", "--label", "0,1,2,3,4,5,6,7,8,9", "--json"]);
    command.args(["--accuracy", "models/scoring/digits-accuracy.onnx"]).arg(flp("digits", "critic_2"));
    let ran = json_of(&mut command)?;
    let rate = ran["class_rate"].as_f64().ok_or(format!("no class rate in {ran}"))?;
    found.push(json!({
        "program": "critic_2, class rate by another classifier", "model": "digits", "measured": rate,
        "expected": "0.1 without the critic",
    }));
    if rate < 0.3 {
        Err(format!("class rate {rate}: the chain does not follow its critic"))
    } else {
        Ok(format!("{rate:.3}"))
    }
}

/// Steps of the schedules that are compared.
const STEPS: [usize; 5] = [2, 3, 4, 6, 8];
/// Samples of each label in a draw.
const SAMPLES: &str = "100";
/// First seeds of the draws, on each of which both schedules are scored.
const DRAWS: [&str; 3] = ["0", "1000", "3000"];
/// Guidance of the teacher's pairs.
const GUIDANCE: &str = "1.75";

/// Frechet distance of Bellman and equal steps on the teacher of the Fashion-MNIST models, in int8, on one noise.
fn schedules(flowlet: &Path, found: &mut Vec<Value>) -> Result<String, String> {
    let folder = cargo::target().join("programs");
    let teacher = cargo::root().join("models/fashion-teacher");
    let config = teacher.join("model.toml");
    let steps = STEPS.map(|k| k.to_string()).join(",");
    let mut command = Command::new(flowlet);
    command.arg("schedule").arg(&config).args(["--steps", &steps, "--guidance", GUIDANCE, "--precision", "int8"]);
    command.arg("--plot").arg(folder.join("schedules.svg")).arg("--json");
    let tables = json_of(&mut command)?["schedules"].clone();
    let text = std::fs::read_to_string(&config).map_err(|why| format!("cannot read {}: {why}", config.display()))?;
    let beside = format!("onnx = \"{}/", teacher.display());
    // Without the programs that it describes: some have these names.
    let model = text.split_once("\n[programs.").map_or(text.as_str(), |(model, _)| model);
    let mut text = model.replacen("onnx = \"", &beside, 1);
    for table in tables.as_array().ok_or("no schedules")? {
        let k = table["steps"].as_u64().ok_or("no steps")?;
        let common = format!("sampler = \"euler\"\nguidance = {GUIDANCE}\ncalibration = 32\n");
        text += &format!("\n[programs.bellman_{k}]\n{common}times = {}\n", table["times"]);
        text += &format!("\n[programs.equal_{k}]\n{common}steps = {k}\n");
    }
    let toml = folder.join("schedules.toml");
    std::fs::write(&toml, text).map_err(|why| format!("cannot write {}: {why}", toml.display()))?;
    let (mut lines, mut work) = (Vec::new(), Vec::new());
    for k in STEPS {
        let mut distances = |kind: &str| -> Result<Vec<f64>, String> {
            let name = format!("{kind}_{k}");
            let path = folder.join(&name).with_extension("flp");
            let mut build = Command::new(flowlet);
            build.args(["program", "build", "--json", "-o"]).arg(&path).arg(&toml).arg(&name);
            let built = json_of(&mut build)?;
            let all = distances_of(flowlet, &path, &folder.join(&name))?;
            if kind == "equal" {
                work.push((built["macs"].as_f64().ok_or("no work")?, mean(&all)));
            }
            found.push(json!({
                "program": format!("{name}, int8, FD"), "model": "fashion-teacher", "evaluations": 2 * k,
                "measured": mean(&all),
                "expected": if kind == "bellman" { "no worse than equal steps" } else { "" },
                "flash_per_step_bytes": built["flash_per_step_bytes"], "ram_bytes": built["ram_bytes"],
            }));
            Ok(all)
        };
        let (even, best) = (distances("equal")?, distances("bellman")?);
        // Both saw the same noise, so it is the differences that have a standard error.
        let gaps: Vec<f64> = best.iter().zip(&even).map(|(best, even)| best - even).collect();
        let (n, gap) = (gaps.len() as f64, mean(&gaps));
        let error = (gaps.iter().map(|one| (one - gap).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
        lines.push(format!("{k}: {gap:+.3} (standard error {error:.3})"));
        if k == 4 && gap > error {
            return Err(format!(
                "at 4 steps the Bellman schedule is worse than equal ones by {gap:.3}, standard error {error:.3}"
            ));
        }
    }
    lines.push(turbo(flowlet, &work, found)?);
    Ok(lines.join(", "))
}

/// FlowTurbo's HPRE beside Euler with as many multiply-accumulates; `work` holds those of equal steps and their distances.
fn turbo(flowlet: &Path, work: &[(f64, f64)], found: &mut Vec<Value>) -> Result<String, String> {
    let path = flp("fashion-teacher", "turbo_4");
    let shown = json_of(Command::new(flowlet).args(["program", "show", "--json"]).arg(&path))?;
    let macs = shown["macs"].as_f64().ok_or("no work")?;
    let around = work.windows(2).find(|w| (w[0].0..=w[1].0).contains(&macs));
    let [(less, below), (more, above)] = around.ok_or("no schedules of less and of more work")? else {
        return Err("defect: a window of two".to_owned());
    };
    let euler = below + (above - below) * (macs - less) / (more - less);
    let distance = mean(&distances_of(flowlet, &path, &cargo::target().join("programs/turbo_4"))?);
    found.push(json!({
        "program": "turbo_4 (HPRE), int8, FD", "model": "fashion-teacher", "evaluations": shown["evaluations"]["generate"],
        "measured": distance, "expected": format!("below Euler's {euler:.3} at as much work"),
        "flash_per_step_bytes": shown["flash_per_step_bytes"], "ram_bytes": shown["ram_bytes"],
    }));
    match distance < euler {
        true => Ok(format!("HPRE {distance:.3}, Euler {euler:.3} at {:.0} million multiply-accumulates", macs / 1e6)),
        false => Err(format!("HPRE has {distance:.3}, Euler at as much work {euler:.3}")),
    }
}

/// Frechet distances of the draws of a program.
fn distances_of(flowlet: &Path, path: &Path, out: &Path) -> Result<Vec<f64>, String> {
    let one = |seed: &str| {
        let run = ["program", "run", "--seed", seed, "--count", SAMPLES, "--label", "all", "--json", "--out"];
        json_of(Command::new(flowlet).args(run).arg(out).arg(path))?;
        let mut score = Command::new(flowlet);
        score.arg("score").arg("--samples").arg(out.join("sample.npy"));
        let scored = json_of(score.args(["--scoring", "models/scoring", "--json"]))?;
        find_number(&scored, "fd").ok_or(format!("no Frechet distance in {scored}"))
    };
    DRAWS.into_iter().map(one).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// The first number under this key, at any depth.
fn find_number(value: &Value, key: &str) -> Option<f64> {
    match value {
        Value::Object(map) => {
            map.get(key).and_then(Value::as_f64).or_else(|| map.values().find_map(|inner| find_number(inner, key)))
        }
        Value::Array(list) => list.iter().find_map(|inner| find_number(inner, key)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// Builds a firmware, runs it, and compares its digests with this host's.
fn on_board(firmware: Firmware, missing: &[Need], found: &mut [Value]) -> Outcome {
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
        return Outcome::NotRun(format!("not there: {}", names.join(", ")));
    }
    compared(firmware, found).into()
}

fn compared(firmware: Firmware, found: &mut [Value]) -> Result<String, String> {
    let built = firmware.build()?;
    built.check_panics()?;
    let report = built.run(true)?;
    boards::same_count(&report)?;
    for model in &report.models {
        let (folder, name) = model.model.split_once('/').unwrap_or(("", &model.model));
        let here =
            |row: &&mut Value| row["program"] == name && row["model"] == folder && row["digest_host"].is_string();
        let row = found.iter_mut().find(here).ok_or(format!("{} did not run on this host", model.model))?;
        row["digest_board"] = json!(model.digest);
        row["instructions"] = json!(model.instructions().map(|count| count.most));
        row["stack_bytes"] = json!(model.stack_bytes);
        if row["digest_host"] != row["digest_board"] {
            return Err(format!(
                "{}: the board's digest {} is not the host's {}",
                model.model, model.digest, row["digest_host"]
            ));
        }
    }
    Ok(format!("{} programs, the host's digests, no panic path, one instruction count each", report.models.len()))
}

fn write(found: &[Value]) -> Result<String, String> {
    let path = cargo::target().join("programs.json");
    let text = serde_json::to_string_pretty(found).map_err(|why| why.to_string())?;
    std::fs::write(&path, text).map_err(|why| format!("cannot write {}: {why}", path.display()))?;
    Ok(path.display().to_string())
}

fn table(found: &[Value]) -> String {
    let mut out = String::from(
        "\n| program | model | passes | measured | expected | digest, host = board | instructions | flash a step and label | RAM |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    let number = |value: &Value| value.as_u64().map_or_else(String::new, flowlet_compiler::codegen::grouped);
    for row in found {
        let measured = row["measured"]
            .as_f64()
            .map_or_else(String::new, |m| if m.abs() < 0.01 { format!("{m:.1e}") } else { format!("{m:.3}") });
        let digest = |key: &str| row[key].as_str().map(|d| d[..8.min(d.len())].to_owned());
        let digests = match (digest("digest_host"), digest("digest_board")) {
            (Some(host), Some(board)) => format!("{host} = {board}"),
            (Some(host), None) => format!("{host}, board not run"),
            (None, _) => String::new(),
        };
        let text = |key: &str| row[key].as_str().unwrap_or("").to_owned();
        out += &format!(
            "| {} | {} | {} | {measured} | {} | {digests} | {} | {} | {} |\n",
            text("program"),
            text("model"),
            number(&row["evaluations"]),
            text("expected"),
            number(&row["instructions"]),
            number(&row["flash_per_step_bytes"]),
            number(&row["ram_bytes"])
        );
    }
    out
}
