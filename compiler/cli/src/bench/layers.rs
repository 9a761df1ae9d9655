//! Time of every layer, inside whole runs.

use super::Args;
use crate::progress::Bar;
use crate::report::{Report, Table};
use anyhow::anyhow;
use flowlet::{ARENA_ALIGNMENT, Threads};
use flowlet_compiler::ir::Graph;
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;
use flowlet_float::{Network, Weights};
use serde_json::json;
use std::time::Instant;

/// Adds the table of layers of an int8 graph. Each is timed where it stands in a run, so that caches are as they are there.
///
/// # Errors
/// When the graph cannot be lowered.
pub fn time(graph: &Graph, hash: [u8; 32], args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let lowered = lower(graph, hash, &Target::native())?;
    let plan = lowered.plan();
    let plan = *plan.borrow().check().map_err(|e| anyhow!("defect in lowering: {e}; please report it"))?.plan();
    let mut memory = vec![0i8; plan.arena_bytes as usize + ARENA_ALIGNMENT];
    let skip = memory.as_ptr().align_offset(ARENA_ALIGNMENT).min(ARENA_ALIGNMENT);
    let arena = &mut memory[skip..][..plan.arena_bytes as usize];
    let threads = Threads::new(args.threads.get());
    let mut times = vec![Vec::with_capacity(args.runs.get()); plan.steps.len()];
    let warm = args.runs.get().div_ceil(10);
    let bar = Bar::new("timing layers", args.runs.get() + warm);
    for run in 0..args.runs.get() + warm {
        let mut pass = threads.pass(plan.steps, 1);
        for (step, times) in plan.steps.iter().zip(&mut times) {
            let start = Instant::now();
            pass.run(arena, step, 0);
            let us = start.elapsed().as_secs_f64() * 1e6;
            if run >= warm {
                times.push(us);
            }
        }
        bar.at(run + 1);
    }
    let medians: Vec<f64> = times.into_iter().map(median).collect();
    let total: f64 = medians.iter().sum();
    let mut table = Table::titled(&["layer", "op", "output", "MACs", "parts", "us", "share", "GMAC/s"]);
    let mut rows = Vec::new();
    for ((layer, step), &us) in lowered.steps.iter().zip(plan.steps).zip(&medians) {
        let (output, macs) = (layer.output, step.macs());
        let shape = format!("{}x{}x{}", output.height, output.width, output.channels);
        let parts = step.parts(args.threads.get());
        let rate = if macs > 0 { format!("{:.1}", macs as f64 / us / 1e3) } else { String::new() };
        table.row([
            layer.name.clone(),
            layer.kernel.name().to_owned(),
            shape.clone(),
            macs.to_string(),
            parts.to_string(),
            format!("{us:.1}"),
            format!("{:.1} %", 100.0 * us / total),
            rate,
        ]);
        rows.push(json!({ "name": layer.name, "node": layer.origin, "op": layer.kernel.name(), "output": shape,
            "macs": macs, "parts": parts, "us": us }));
    }
    report.table(&table);
    report.set("layers", rows);
    Ok(())
}

/// The same for an f32 graph, with the elementwise operations that end each layer.
///
/// # Errors
/// The first node without a fast kernel.
pub fn time_float(graph: &Graph, weights: Weights, args: &Args, report: &mut Report) -> anyhow::Result<()> {
    let network = Network::new(graph, weights)?;
    let layers = network.profile(&mut network.memory(1), args.runs.get());
    let total: f64 = layers.iter().map(|(_, us)| us).sum();
    let mut table = Table::titled(&["layer", "op", "elements", "MACs", "ended by", "us", "share", "GMAC/s"]);
    let mut rows = Vec::new();
    for (step, us) in &layers {
        let rate = if step.macs > 0 { format!("{:.1}", step.macs as f64 / us / 1e3) } else { String::new() };
        table.row([
            step.origin.clone(),
            step.kernel.to_owned(),
            step.elements.to_string(),
            step.macs.to_string(),
            step.finished_by.to_string(),
            format!("{us:.1}"),
            format!("{:.1} %", 100.0 * us / total),
            rate,
        ]);
        rows.push(
            json!({ "node": step.origin, "op": step.kernel, "elements": step.elements, "macs": step.macs, "us": us }),
        );
    }
    report.table(&table);
    report.set("layers", rows);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
