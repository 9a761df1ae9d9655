//! The `flowlet` command as a library: each subcommand is a function from its arguments to a [`Report`], so that other
//! programs run the same code.
//!
//! | exit code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | a check failed |
//! | 2 | bad usage or bad input |
#![forbid(unsafe_code)]

pub mod bench;
pub mod build;
pub mod calibrate;
mod direction;
mod engines;
pub mod explain;
mod feeds;
pub mod import;
pub mod model;
pub mod model_toml;
pub mod options;
pub mod program;
mod progress;
pub mod quantize;
mod report;
pub mod run;
pub mod schedule;
pub mod score;
pub mod sheet;
pub mod verify;

pub use report::{Report, Table};

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Compiles one-step flow models to int8 static graphs, and runs them with the same bits on hosts and
/// microcontrollers.
#[derive(Debug, Parser)]
#[command(name = "flowlet", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Start here:
  flowlet quantize model.onnx -o model.flq       calibrate once, where the data is
  flowlet run model.flq --seed 1 --out sheet.png look at what it draws
  flowlet explain model.flq                      what it costs, and what every pass did
  flowlet build model.flq --target qemu-mps2-an386 -o src/model";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fold and quantise a model into a .flq, the file that is committed and deployed
    Quantize(quantize::Args),
    /// Write the Rust code and weights of a .flq for a target
    Build(build::Args),
    /// Draw samples, or run a model on arrays
    Run(run::Args),
    /// Compare a model with its author's own outputs
    Verify(verify::Args),
    /// Say what every pass did and why, and what each layer costs
    Explain(explain::Args),
    /// Measure time and memory on this host
    Bench(bench::Args),
    /// Score generated pictures: Frechet distance, class accuracy, PSNR
    Score(score::Args),
    /// Make, run and show programs: samplers, inversion, steering and edits
    Program(program::Args),
    /// Choose the flow times of a schedule of few steps
    Schedule(schedule::Args),
}

/// Runs a command.
///
/// # Errors
/// Bad usage or bad input: what, where, why, and what to do.
pub fn run_command(command: &Command) -> anyhow::Result<Report> {
    match command {
        Command::Quantize(args) => quantize::run(args),
        Command::Build(args) => build::run(args),
        Command::Run(args) => run::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Score(args) => score::run(args),
        Command::Program(args) => program::run(args),
        Command::Schedule(args) => schedule::run(args),
    }
}

/// Parses the command line, runs it, prints the report to stdout or the error to stderr.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run_command(&cli.command) {
        Ok(report) => report.print(cli.command.json()),
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  {}", cause.to_string().replace('\n', "\n  "));
            }
            ExitCode::from(2)
        }
    }
}

impl Command {
    fn json(&self) -> bool {
        match self {
            Command::Quantize(args) => args.json,
            Command::Build(args) => args.json,
            Command::Run(args) => args.json,
            Command::Verify(args) => args.json,
            Command::Explain(args) => args.json,
            Command::Bench(args) => args.json,
            Command::Score(args) => args.json,
            Command::Program(args) => args.json,
            Command::Schedule(args) => args.json,
        }
    }
}
