//! What this program does inside the emulator, where a command of ours started it.

use std::process::ExitCode;

use flowlet::kernels::isa;
use flowlet::{Arena, Executor};
use flowlet_compiler::ir::parse;
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;

use crate::bench_a64::LAYERS;
use crate::host::{self, ARENA_BYTES, Drawn};

/// The first word of such a command; no user needs it.
pub const NAME: &str = "emulated";

/// Runs `draw MODEL SEEDS` or `layer NAME CALLS`.
pub fn command(words: &[&str]) -> ExitCode {
    let number = |word: &str| word.parse::<u64>().map_err(|why| format!("`{word}`: {why}"));
    let done = match words {
        ["draw", model, seeds] => number(seeds)
            .and_then(|seeds| host::draw(model, seeds))
            .map(|images| println!("{}", drawn(isa::best().name(), &images))),
        ["layer", name, calls] => number(calls).and_then(|calls| layer(name, calls)),
        other => Err(format!("no command `{}`", other.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// What `draw` says of pictures drawn with the kernels of an instruction set.
pub fn drawn(isa: &str, drawn: &Drawn) -> String {
    format!("{} images by {isa}, {}", drawn.images.len(), drawn.digest)
}

/// Runs a layer of the bench, lowered for the processor that it runs on.
fn layer(name: &str, calls: u64) -> Result<(), String> {
    let layer = LAYERS.iter().find(|layer| layer.name == name).ok_or(format!("no layer `{name}`"))?;
    let graph = parse(&layer.graph(), &[]).map_err(|why| why.to_string())?;
    let lowered = lower(&graph, [0; 32], &Target::native()).map_err(|why| why.to_string())?;
    lowered.with_plan(|plan| {
        let plan = plan.check().map_err(|why| why.to_string())?;
        let mut arena = Box::new(Arena::<ARENA_BYTES>::new());
        let mut executor = Executor::new(plan, arena.bytes()).map_err(|why| why.to_string())?;
        for _ in 0..calls {
            executor.input_mut(0).map_err(|why| why.to_string())?.fill(7);
            executor.run(0).map_err(|why| why.to_string())?;
        }
        Ok(())
    })
}
