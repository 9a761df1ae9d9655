//! `flowlet schedule`: the flow times that lose least, by dynamic programming over recorded runs.

use crate::options::{Precision, write};
use crate::program::{ProgramToml, make_trajectory, with_program};
use crate::progress::Bar;
use crate::report::{Report, Table};
use flowlet_compiler::flq;
use flowlet_compiler::program::bellman::Costs;
use flowlet_compiler::program::file;
use flowlet_compiler::program::samplers::uniform;
use serde_json::json;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Arguments of `flowlet schedule`.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Costs are those of BOSS (arXiv 2312.16414): of many small Euler steps, the table keeps the K whose
jumps leave the recorded path least. Computed on the int8 network it absorbs what quantisation does.

  flowlet schedule models/digits/model.toml --steps 4 --guidance 2 --plot schedule.svg"
)]
pub struct Args {
    /// The model.toml of a flow of many steps
    pub config: PathBuf,
    /// Steps of the schedule; several give several tables
    #[arg(long, required = true, value_delimiter = ',')]
    pub steps: Vec<NonZeroUsize>,
    /// Small steps to choose from
    #[arg(long, default_value = "50")]
    pub anchors: NonZeroUsize,
    /// Recorded runs
    #[arg(long, default_value = "64")]
    pub samples: NonZeroUsize,
    /// Weight of classifier-free guidance; the last label stands for none
    #[arg(long)]
    pub guidance: Option<f64>,
    /// Arithmetic of the network; both are shown without it
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,
    /// Draw the schedules
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// Runs `flowlet schedule`.
///
/// # Errors
/// What is wrong with the model or the arguments.
pub fn run(args: &Args) -> anyhow::Result<Report> {
    let times = uniform(args.anchors.get());
    let described = ProgramToml { sampler: "euler".to_owned(), guidance: args.guidance, ..ProgramToml::default() };
    let mut report = Report::new();
    let mut table = Table::titled(&["network", "steps", "cost", "equal steps", "ratio", "flow times"]);
    let mut rows = Vec::new();
    let mut drawn = Vec::new();
    let all = [Precision::F32, Precision::Int8];
    for precision in all.into_iter().filter(|p| args.precision.is_none_or(|wanted| wanted == *p)) {
        let costs = record(args, &described, &times, precision)?;
        for steps in &args.steps {
            let steps = steps.get();
            let Some(best) = costs.schedule(steps) else {
                anyhow::bail!("--steps {steps}: there are {} anchors; give more --anchors", args.anchors);
            };
            let anchor = |i: usize| (i as f64 * args.anchors.get() as f64 / steps as f64).round() as usize;
            let even: Vec<usize> = (0..=steps).map(anchor).collect();
            let chosen: Vec<f64> = best.iter().map(|&i| times[i]).collect();
            let (cost, equal) = (costs.sum(&best), costs.sum(&even));
            let shown: Vec<String> = chosen.iter().map(|t| format!("{t:.3}")).collect();
            table.row([
                precision.name().to_owned(),
                steps.to_string(),
                format!("{cost:.4}"),
                format!("{equal:.4}"),
                format!("{:.3}", cost / equal),
                format!("[{}]", shown.join(", ")),
            ]);
            rows.push(json!({
                "precision": precision.name(), "steps": steps, "cost": cost, "cost_equal_steps": equal, "times": chosen,
            }));
            drawn.push((format!("{} {steps}", precision.name()), chosen));
        }
    }
    report.table(&table);
    report.line("put the line into a program: times = [...]");
    if let Some(path) = &args.plot {
        write(path, plot(&drawn).as_bytes())?;
        report.line(format!("wrote {}", path.display()));
    }
    report.set("schedules", rows);
    Ok(report)
}

fn record(args: &Args, described: &ProgramToml, times: &[f64], precision: Precision) -> anyhow::Result<Costs> {
    let made = make_trajectory(&args.config, described, times, precision)?;
    let hash = flq::hash(&file::write(&made.program, &made.graphs));
    let bar = Bar::new("recording", args.samples.get());
    with_program(&made.program, &made.graphs, hash, |engine| {
        let mut costs = Costs::new(times.len());
        let labels = made.program.labels.max(1) as u64;
        for seed in 0..args.samples.get() as u64 {
            let (states, velocities) = engine.with(|runner, nets| {
                if made.program.labels > 0 {
                    runner.set_label((seed % labels) as u16)?;
                }
                runner.fill_noise("noise", SEED + seed, 0)?;
                runner.run(nets, "generate", 0)?;
                Ok((runner.read("states")?.to_vec(), runner.read("velocities")?.to_vec()))
            })?;
            costs.add(times, &states, &velocities);
            bar.at(seed as usize + 1);
        }
        Ok(costs)
    })
}

/// First seed of recorded runs: far from those that people draw.
const SEED: u64 = 2 << 32;

/// One row of points a schedule.
fn plot(schedules: &[(String, Vec<f64>)]) -> String {
    let (width, row, left) = (640.0, 28.0, 90.0);
    let height = row * (schedules.len() as f64 + 1.0);
    let mut out = String::new();
    let size = format!("viewBox='0 0 {} {height}' font-family='sans-serif' font-size='13'", width + left + 20.0);
    let _ = writeln!(out, "<svg xmlns='http://www.w3.org/2000/svg' {size}>");
    let _ = writeln!(out, "<rect width='100%' height='100%' fill='white'/>");
    for (i, (name, times)) in schedules.iter().enumerate() {
        let y = row * (i as f64 + 0.7);
        let _ = writeln!(out, "<text x='8' y='{}'>{name}</text>", y + 4.0);
        let _ = writeln!(out, "<line x1='{left}' y1='{y}' x2='{}' y2='{y}' stroke='#ccc'/>", left + width);
        for t in times {
            let _ = writeln!(out, "<circle cx='{:.1}' cy='{y}' r='4' fill='#1f77b4'/>", left + width * t);
        }
    }
    let (bottom, right) = (height - 6.0, left + width);
    let _ = writeln!(out, "<text x='{left}' y='{bottom}'>0: noise</text>");
    let _ = writeln!(out, "<text x='{right}' y='{bottom}' text-anchor='end'>1: data</text>");
    let _ = writeln!(out, "</svg>");
    out
}
