//! The committed models on this host: what a board's pictures are compared with.

use std::time::Instant;

use flowlet::plan::CheckedPlan;
use flowlet::{Arena, Executor};
use flowlet_board_runner::Image;
use flowlet_compiler::flq;
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;

use crate::cargo;

/// Pictures drawn here, in the order that a board draws them.
#[derive(Debug, Default)]
pub struct Drawn {
    /// Every seed from 0, every label of each.
    pub images: Vec<Image>,
    /// SHA-256 over all bytes.
    pub digest: String,
    /// Milliseconds for one picture, the mean.
    pub ms: f64,
}

/// Memory for any committed model.
pub const ARENA_BYTES: usize = 128 * 1024;

/// Draws `seeds` pictures of each label with `models/<name>/<name>.flq`.
///
/// # Errors
/// When the file is missing or damaged, or the model is not one of noise and a label.
pub fn draw(name: &str, seeds: u64) -> Result<Drawn, String> {
    let path = cargo::root().join("models").join(name).join(name).with_extension("flq");
    let bytes = std::fs::read(&path).map_err(|why| format!("cannot read {}: {why}", path.display()))?;
    let graph = flq::read(&bytes).map_err(|why| format!("{}: {why}", path.display()))?;
    let lowered = lower(&graph, flq::hash(&bytes), &Target::native()).map_err(|why| why.to_string())?;
    lowered.with_plan(|plan| {
        let checked = plan.check().map_err(|why| why.to_string())?;
        run(checked, seeds).map_err(|why| why.to_string())
    })
}

fn run(plan: CheckedPlan<'_>, seeds: u64) -> Result<Drawn, flowlet::RunError> {
    let mut arena = Box::new(Arena::<ARENA_BYTES>::new());
    let mut executor = Executor::new(plan, arena.bytes())?;
    let labels = plan.plan().indices.first().map_or(1, |index| index.count);
    let mut drawn = Drawn::default();
    let mut digester = flowlet::Digester::new();
    let start = Instant::now();
    for seed in 0..seeds {
        for label in 0..labels {
            executor.set_index(0, label)?;
            executor.fill_noise(0, seed)?;
            executor.run(0)?;
            let output = executor.output(0)?;
            digester.add_bytes(output);
            let bytes = output.iter().map(|&q| q as u8).collect();
            drawn.images.push(Image { seed, label: label.into(), bytes, instructions: None });
        }
    }
    drawn.ms = start.elapsed().as_secs_f64() * 1000.0 / drawn.images.len().max(1) as f64;
    drawn.digest = digester.finish().to_string();
    Ok(drawn)
}
