//! `--freeze-norm`: norms that become fixed, and what that costs.

use super::budget::Budget;
use super::errors::db;
use crate::calibrate::{Calibrate, calibration};
use crate::progress::Bar;
use crate::report::{Report, Table};
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::quantize::{QuantizeError, Reference, freeze_norms};
use serde_json::{Value, json};

/// The graph with as many norms frozen as the budget allows.
///
/// # Errors
/// When the samples do not fit, the budget names no output, or the graph has no norm to freeze.
pub(super) fn freeze(
    report: &mut Report,
    graph: &Graph,
    calibrate: Option<&Calibrate>,
    budget: &Budget,
    samples: &[Vec<Tensor>],
) -> anyhow::Result<Graph> {
    let calibration = calibration(graph, calibrate.unwrap_or(&Calibrate::default()))?;
    let reference = Reference::new(graph, samples, &mut |_, _| {})?;
    // A wrong budget is found before the norms are tried.
    budget.used(&reference.error(graph)?)?;
    let mut used = |trial: &Graph| {
        let measured = reference.error(trial)?;
        budget.used(&measured).map_err(|e| QuantizeError::Calibration(e.to_string()))
    };
    let bar = Bar::new("freezing norms", 1);
    let (frozen, list) = freeze_norms(graph, &calibration, &mut used, &mut |done, all| bar.of(done, all))?;
    if list.is_empty() {
        anyhow::bail!("--freeze-norm: the folded graph has no norm with statistics of the sample");
    }
    let cost = reference.error(&frozen)?;
    let count = list.iter().filter(|f| f.frozen).count();
    report.line(format!("froze {count} of {} norms inside {}, best fit first", list.len(), budget.text));
    let mut table = Table::titled(&["norm", "fit dB", "share of the budget", ""]);
    for f in &list {
        let verdict = if f.frozen { "fixed" } else { "kept" };
        table.row([f.node.clone(), format!("{:.1}", f.fit_db), format!("{:.3}", f.used), verdict.to_owned()]);
    }
    report.table(&table);
    for o in &cost.outputs {
        report.line(format!(
            "{}: {} dB by fixed norms in f32, worst sample {} dB, largest error {:.4}",
            o.name,
            db(o.snr_db),
            db(o.worst_db),
            o.worst_linf
        ));
    }
    let rows: Vec<Value> = list
        .iter()
        .map(|f| json!({ "node": f.node, "fit_db": f.fit_db, "used": f.used, "frozen": f.frozen }))
        .collect();
    let outputs: Vec<Value> = cost
        .outputs
        .iter()
        .map(|o| json!({ "name": o.name, "snr_db": o.snr_db.min(1e3), "worst_snr_db": o.worst_db.min(1e3), "worst_linf": o.worst_linf }))
        .collect();
    report.set("freeze_norm", json!({ "budget": budget.text, "norms": rows, "outputs": outputs }));
    Ok(frozen)
}
