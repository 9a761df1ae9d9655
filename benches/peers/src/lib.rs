//! The line protocol of `peers.py`, for engines in Rust.
//!
//! A server prints `ready VERSION` or `refused REASON`, then answers `run N` with the milliseconds of each call and
//! `output FILE` with the outputs as little-endian f32 in ONNX order. Feeding the inputs and reading the outputs is part
//! of a call, as it is for the engines in Python.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, bail};
use flowlet_score::npy::Array;

/// What a server is asked to load.
pub struct Job {
    /// The model's file.
    pub model: PathBuf,
    /// The folder with `sample/<input>.npy`.
    pub samples: PathBuf,
    /// Number of threads.
    pub threads: usize,
    /// How the engine is to compute, if it has a choice.
    pub precision: Option<String>,
}

impl Job {
    /// From `MODEL SAMPLES [--precision P] --threads N`.
    pub fn from_args() -> anyhow::Result<Self> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let (model, samples, precision, threads) = match &words[..] {
            [model, samples, flag, threads] if flag == "--threads" => (model, samples, None, threads),
            [model, samples, first, precision, flag, threads] if first == "--precision" && flag == "--threads" => {
                (model, samples, Some(precision.clone()), threads)
            }
            _ => bail!("usage: MODEL SAMPLES [--precision P] --threads N"),
        };
        Ok(Job { model: model.into(), samples: samples.into(), threads: threads.parse()?, precision })
    }

    /// The timed sample of an input: shape without the number of samples, and values.
    pub fn sample(&self, input: &str) -> anyhow::Result<Array> {
        let path = self.samples.join("sample").join(format!("{input}.npy"));
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut array = Array::read(&bytes).with_context(|| format!("cannot use {}", path.display()))?;
        array.shape.remove(0);
        Ok(array)
    }
}

/// One call of a loaded model: its outputs.
pub type Call = Box<dyn FnMut() -> anyhow::Result<Vec<f32>>>;

/// Answers on standard output until the input ends. `load` gives the version and the call.
pub fn serve(load: impl FnOnce() -> anyhow::Result<(String, Call)>) -> anyhow::Result<()> {
    let mut answers = std::io::stdout().lock();
    let (version, mut call) = match load().and_then(|(version, mut call)| call().map(|_| (version, call))) {
        Ok(loaded) => loaded,
        Err(why) => {
            writeln!(answers, "refused {}", format!("{why:#}").split_whitespace().collect::<Vec<_>>().join(" "))?;
            return Ok(());
        }
    };
    writeln!(answers, "ready {version}")?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("run", count)) => {
                let mut times = String::from("times");
                for _ in 0..count.parse::<usize>()? {
                    let start = Instant::now();
                    std::hint::black_box(call()?);
                    times.push_str(&format!(" {:.6}", start.elapsed().as_secs_f64() * 1e3));
                }
                writeln!(answers, "{times}")?;
            }
            Some(("output", path)) => {
                let bytes: Vec<u8> = call()?.iter().flat_map(|v| v.to_le_bytes()).collect();
                std::fs::write(Path::new(path), bytes)?;
                writeln!(answers, "done")?;
            }
            _ => writeln!(answers, "refused no command {line}")?,
        }
        answers.flush()?;
    }
    Ok(())
}
