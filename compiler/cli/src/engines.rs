//! A graph as something that runs: int8 in the executor, f32 in the fast engine or the interpreter.

use anyhow::{anyhow, bail};
use flowlet_compiler::flq;
use flowlet_compiler::ir::Graph;
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;
use flowlet_float::Weights;
use flowlet_score::Engine;

/// What runs an f32 graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// The interpreter, for what decides about a `.flq`: the same numbers on every machine.
    Exact,
    /// The fast engine.
    Fast(Weights),
}

/// Calls `f` with the engine of a graph.
///
/// # Errors
/// When an int8 graph cannot be lowered or an f16 one has no kernel, or what `f` fails with.
pub fn with_engine<R>(
    graph: &Graph,
    hash: [u8; 32],
    float: Float,
    f: impl FnOnce(&Engine<'_>) -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    if !flq::is_quantized(graph) {
        return match float {
            Float::Exact => f(&Engine::interpreter(graph)),
            Float::Fast(weights) => match (Engine::float(graph, weights), weights) {
                (Ok(engine), _) => f(&engine),
                (Err(why), Weights::F16) => bail!("no f16 weights for this model, {why}: use --precision f32"),
                (Err(why), Weights::F32) => {
                    eprintln!("note: slow, since there is no fast kernel for {why}");
                    f(&Engine::interpreter(graph))
                }
            },
        };
    }
    let lowered = lower(graph, hash, &Target::native())?;
    let plan = lowered.plan();
    let checked = plan.borrow().check().map_err(|e| anyhow!("defect in lowering: {e}; please report it"))?;
    f(&Engine::plan(graph, checked))
}
