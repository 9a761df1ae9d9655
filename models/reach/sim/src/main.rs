//! `reach`: demonstrations, scores and pictures. See models/reach/README.md.
#![forbid(unsafe_code)]

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use flowlet_cli::model::Model;
use flowlet_cli::options::{ModelArgs, Precision};
use flowlet_cli::{Report, Table};
use flowlet_compiler::{lower::lower, target::Target};
use flowlet_reach::demos::{Sample, demonstration};
use flowlet_reach::episode::{CHUNK, Outcome, attempt, expert_attempt};
use flowlet_reach::expert::Side;
use flowlet_reach::picture;
use flowlet_reach::policy::{Calls, Policy};
use flowlet_reach::scene::{Scene, Split};
use flowlet_reach::score::{Difference, Score, Share, Trial, attempts, difference, summary};
use flowlet_score::npy::Array;
use flowlet_score::{Engine, all_threads, map_samples};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A planar arm around a post: demonstrations and closed-loop scores of one-step flow policies.
#[derive(Debug, Parser)]
#[command(
    name = "reach",
    after_help = "Examples:
  reach demos --count 4000 -o demos/           expert demonstrations as .npy
  reach score                                  all policies of models/reach, reach-small and reach-camera
  reach score --only int8 --scenes 100 --json  some of them, for programs
  reach draw ../reach.flq -o ways.png          the ways that a policy takes"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write demonstrations: joints.npy, scene.npy, actions.npy, samples first
    Demos(Demos),
    /// Success on held-out scenes in closed loop, with 95 % intervals
    Score(ScoreArgs),
    /// Draw the ways that a policy takes through scenes
    Draw(Draw),
}

#[derive(Debug, clap::Args)]
struct Demos {
    /// Number of demonstrations
    #[arg(long, default_value_t = 4000)]
    count: usize,
    /// Number of the first one
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Threads [default: all]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Folder for the arrays
    #[arg(short, long)]
    output: PathBuf,
}

#[derive(Debug, clap::Args)]
struct ScoreArgs {
    /// Folder that holds reach/, reach-small/ and reach-camera/ [default: that of this program's source]
    #[arg(long)]
    models: Option<PathBuf>,
    /// Rows whose name contains this; may be repeated
    #[arg(long)]
    only: Vec<String>,
    /// Number of held-out scenes
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(499))]
    scenes: NonZeroUsize,
    /// Number of the first one; scenes from 100000 on are for choices made in training
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Attempts at each scene, with noise of their own
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(7))]
    seeds: NonZeroUsize,
    /// The same for policies of many steps, which take fifty times as long
    #[arg(long, default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    teacher_seeds: NonZeroUsize,
    /// Threads [default: all]
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Draw {
    /// A .flq or .onnx; without one the expert is drawn
    policy: Option<PathBuf>,
    /// Number of scenes
    #[arg(long, default_value_t = 8)]
    scenes: usize,
    /// Number of the first scene
    #[arg(long, default_value_t = 0)]
    first: usize,
    /// Attempts at each scene
    #[arg(long, default_value_t = 12)]
    seeds: usize,
    /// The picture to write
    #[arg(short, long)]
    output: PathBuf,
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok((report, json)) => report.print(json),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &Command) -> anyhow::Result<(Report, bool)> {
    match command {
        Command::Demos(args) => Ok((demos(args)?, false)),
        Command::Score(args) => Ok((score(args)?, args.json)),
        Command::Draw(args) => Ok((draw(args)?, false)),
    }
}

fn bar(what: &str, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_message(what.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg:28} {bar:32} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}

fn demos(args: &Demos) -> anyhow::Result<Report> {
    let progress = bar("demonstrations", args.count);
    let samples = map_samples(
        args.count,
        args.threads.unwrap_or_else(all_threads),
        &|done| progress.set_position(done as u64),
        || (),
        |(), i| Ok::<_, std::convert::Infallible>(demonstration((args.first + i) as u64)),
    );
    progress.finish_and_clear();
    let samples: Vec<Sample> = samples.unwrap_or_else(|never| match never {}).concat();
    std::fs::create_dir_all(&args.output).with_context(|| format!("cannot make {}", args.output.display()))?;
    let arrays = [
        ("joints", vec![3], samples.iter().flat_map(|s| s.seen.joints).collect::<Vec<f32>>()),
        ("scene", vec![5], samples.iter().flat_map(|s| s.seen.scene).collect()),
        ("actions", vec![CHUNK, 2], samples.iter().flat_map(|s| s.actions).flatten().collect()),
    ];
    for (name, shape, values) in arrays {
        let path = args.output.join(name).with_extension("npy");
        let array = Array::f32(&[&[samples.len()], &shape[..]].concat(), values);
        std::fs::write(&path, array.write()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut report = Report::new();
    report.line(format!("{} samples of {} demonstrations in {}", samples.len(), args.count, args.output.display()));
    Ok(report)
}

/// Loads a network and hands it over as a policy.
fn with_policy<R>(path: &Path, then: impl FnOnce(&Policy<'_>) -> anyhow::Result<R>) -> anyhow::Result<R> {
    let model = Model::load(&ModelArgs::of(path))?;
    if model.precision() == Precision::F32 {
        return then(&Policy::new(Engine::interpreter(&model.graph))?);
    }
    let lowered = lower(&model.graph, model.file_hash, &Target::native())?;
    lowered.with_plan(|plan| {
        let checked = plan.check().map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))?;
        then(&Policy::new(Engine::plan(&model.graph, checked))?)
    })
}

/// One row of the table.
struct Row {
    name: &'static str,
    file: &'static str,
    /// The same network in f32, for the difference of actions.
    float: Option<&'static str>,
}

const ROWS: &[Row] = &[
    Row { name: "behaviour cloning, f32", file: "reach/bc.onnx", float: None },
    Row { name: "teacher, 50 steps, f32", file: "reach/teacher.onnx", float: None },
    Row { name: "reach, one step, f32", file: "reach/reach.onnx", float: None },
    Row { name: "reach, one step, int8", file: "reach/reach.flq", float: Some("reach/reach.onnx") },
    Row { name: "reach-small, one step, f32", file: "reach-small/reach-small.onnx", float: None },
    Row {
        name: "reach-small, one step, int8",
        file: "reach-small/reach-small.flq",
        float: Some("reach-small/reach-small.onnx"),
    },
    Row { name: "reach-camera, one step, f32", file: "reach-camera/reach-camera.onnx", float: None },
    Row {
        name: "reach-camera, one step, int8",
        file: "reach-camera/reach-camera.flq",
        float: Some("reach-camera/reach-camera.onnx"),
    },
];
const EXPERT: &str = "expert";

fn score(args: &ScoreArgs) -> anyhow::Result<Report> {
    let models = args.models.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let threads = args.threads.unwrap_or_else(all_threads);
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part.as_str()));
    let mut found = Vec::new();
    if wanted(EXPERT) {
        found.push((EXPERT, expert_score(args.first, args.scenes.get()), None));
    }
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        let path = models.join(row.file);
        let (score, apart) = with_policy(&path, |policy| {
            let seeds = match policy.calls() {
                Calls::OneAnswer => 1,
                Calls::One => args.seeds.get(),
                Calls::Many => args.teacher_seeds.get(),
            };
            let trial = Trial { first: args.first, scenes: args.scenes.get(), seeds, threads };
            let progress = bar(row.name, trial.scenes * seeds);
            let outcomes = attempts(policy, trial, &|done| progress.set_position(done as u64))?;
            progress.finish_and_clear();
            let apart = row.float.map(|file| {
                let trial = Trial { seeds: 1, ..trial };
                let progress = bar("  against f32", trial.scenes);
                with_policy(&models.join(file), |float| {
                    difference(policy, float, trial, &|done| progress.set_position(done as u64))
                })
            });
            Ok((summary(&outcomes, seeds), apart.transpose()?))
        })
        .with_context(|| format!("cannot score {}", path.display()))?;
        found.push((row.name, score, apart));
    }
    if found.is_empty() {
        let names: Vec<&str> = std::iter::once(EXPERT).chain(ROWS.iter().map(|r| r.name)).collect();
        bail!("--only {} names no row; they are: {}", args.only.join(" "), names.join("; "));
    }
    Ok(report(args, &found))
}

/// The expert on both sides of every scene.
fn expert_score(first: usize, scenes: usize) -> Score {
    let both = |scene: u64| {
        let scene = Scene::draw(Split::Held, scene);
        [Side::Left, Side::Right].map(|side| expert_attempt(&scene, side))
    };
    summary(&(first as u64..(first + scenes) as u64).flat_map(both).collect::<Vec<Outcome>>(), 2)
}

fn percent(share: Share) -> String {
    format!("{:.1} ({:.1} to {:.1})", 100.0 * share.share, 100.0 * share.low, 100.0 * share.high)
}

fn report(args: &ScoreArgs, found: &[(&str, Score, Option<Difference>)]) -> Report {
    let mut report = Report::new();
    let mut table = Table::titled(&["policy", "success, %", "both ways, %", "touched, %", "actions", "tries"]);
    let mut rows = Vec::new();
    for (name, score, apart) in found {
        table.row([
            (*name).to_owned(),
            percent(score.success),
            percent(score.both_ways),
            percent(score.touched),
            format!("{:.1}", score.actions),
            score.seeds.to_string(),
        ]);
        let share = |s: Share| json!({ "share": s.share, "low": s.low, "high": s.high });
        let apart = apart.map(|d| {
            json!({
                "worst_action_rad": d.worst, "p99_action_rad": d.p99, "median_action_rad": d.median,
                "worst_angle_rad": d.worst_angle, "p99_angle_rad": d.p99_angle, "chunks": d.chunks,
            })
        });
        rows.push(json!({
            "policy": name, "success": share(score.success), "both_ways": share(score.both_ways),
            "touched": share(score.touched), "actions": score.actions, "tries": score.seeds, "against_f32": apart,
        }));
    }
    report.table(&table);
    report.line(format!("{} held-out scenes from {}; 95 % intervals of Wilson over scenes", args.scenes, args.first));
    for (name, _, apart) in found {
        if let Some(d) = apart {
            report.line(format!(
                "{name}, against f32 on the same noise, {} chunks: one action {:.4} rad at worst, {:.4} in 99 of 100, {:.4} \
                 in the middle; joint angle after a chunk {:.4} rad at worst, {:.4} in 99 of 100",
                d.chunks, d.worst, d.p99, d.median, d.worst_angle, d.p99_angle
            ));
        }
    }
    report.set("first", args.first);
    report.set("scenes", args.scenes.get());
    report.set("rows", Value::Array(rows));
    report
}

fn draw(args: &Draw) -> anyhow::Result<Report> {
    let scenes = (args.first..args.first + args.scenes).map(|i| Scene::draw(Split::Held, i as u64));
    let drawn: Vec<(Scene, Vec<Outcome>)> = match &args.policy {
        None => scenes.map(|s| (s, [Side::Left, Side::Right].map(|side| expert_attempt(&s, side)).to_vec())).collect(),
        Some(path) => with_policy(path, |policy| {
            let mut planner = policy.planner();
            let mut tries = |(i, scene): (usize, Scene)| {
                let one =
                    |seed| attempt(&scene, |seen, call| planner.plan(seen, ((i << 24) | (seed << 8) | call) as u64));
                Ok((scene, (0..args.seeds).map(one).collect::<anyhow::Result<_>>()?))
            };
            scenes.enumerate().map(&mut tries).collect()
        })?,
    };
    let columns = (drawn.len() as u32).clamp(1, 4);
    let picture = picture::sheet(&drawn, columns);
    picture.save(&args.output).with_context(|| format!("cannot write {}", args.output.display()))?;
    let mut report = Report::new();
    report.line(format!("wrote {}", args.output.display()));
    Ok(report)
}
