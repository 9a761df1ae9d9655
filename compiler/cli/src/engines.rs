//! A graph as something that runs: int8 in the executor, f32 in the interpreter.

use anyhow::anyhow;
use flowlet_compiler::flq;
use flowlet_compiler::ir::Graph;
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;
use flowlet_score::Engine;

/// Calls `f` with the engine of a graph.
///
/// # Errors
/// When an int8 graph cannot be lowered, or what `f` fails with.
pub fn with_engine<R>(
    graph: &Graph,
    hash: [u8; 32],
    f: impl FnOnce(&Engine<'_>) -> anyhow::Result<R>,
) -> anyhow::Result<R> {
    if !flq::is_quantized(graph) {
        return f(&Engine::interpreter(graph));
    }
    let lowered = lower(graph, hash, &Target::native())?;
    let plan = lowered.plan();
    let checked = plan.borrow().check().map_err(|e| anyhow!("defect in lowering: {e}; please report it"))?;
    f(&Engine::plan(graph, checked))
}
