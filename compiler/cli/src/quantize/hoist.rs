//! `--slow`: a program that computes ahead what slow inputs alone decide.

use crate::report::{Report, Table, bytes};
use anyhow::{anyhow, bail};
use flowlet_compiler::flq;
use flowlet_compiler::hoist::{ACT, ENCODE, hoist};
use flowlet_compiler::ir::Graph;
use flowlet_compiler::program::{LaneKind, file, lower};
use flowlet_compiler::target::Target;
use serde_json::json;

/// The bytes of the `.flp`.
///
/// # Errors
/// When no input is slow, or nothing can be computed ahead.
pub(super) fn hoisted(report: &mut Report, graph: &Graph, slow: &[String]) -> anyhow::Result<Vec<u8>> {
    if slow.is_empty() {
        bail!("a .flp has the entry points '{ENCODE}' and '{ACT}': say which input is slow with --slow NAME");
    }
    let (program, graphs) = hoist(graph, slow)?;
    let written = file::write(&program, &graphs);
    let held: Vec<String> = program
        .lanes
        .iter()
        .filter(|l| matches!(l.kind, LaneKind::Held | LaneKind::Kept))
        .map(|l| format!("{} ({})", l.name, bytes(l.len * if l.kind == LaneKind::Held { 1 } else { 4 })))
        .collect();
    report.line(format!("'{ENCODE}' holds {} for '{ACT}'", held.join(", ")));
    report.set("held", held);
    if flq::is_quantized(graph) {
        let lowered = lower(&program, flq::hash(&written), &graphs, &Target::host()).map_err(|e| anyhow!("{e}"))?;
        let mut table = Table::titled(&["entry", "multiply-accumulates", "arena"]);
        for net in &lowered.nets {
            table.row([net.name.clone(), net.macs().to_string(), bytes(net.arena_bytes)]);
        }
        report.table(&table);
        let listed = lowered
            .nets
            .iter()
            .map(|net| json!({ "name": net.name, "macs": net.macs(), "arena_bytes": net.arena_bytes }));
        report.set("entries", listed.collect::<Vec<_>>());
        report.set("ram_bytes", lowered.ram_bytes());
    }
    Ok(written)
}
