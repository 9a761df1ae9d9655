//! `--budget`: the first settings that are inside an error budget.

use super::budget::{Budget, Kind};
use super::distance::Distance;
use super::errors::{self, db};
use super::plot;
use crate::calibrate::Calibrate;
use crate::model::calibrated;
use crate::options::write;
use crate::progress::Bar;
use crate::report::{Report, Table};
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::quantize::{LayerError, Measured, QuantizeError, Reference, Settings, Trial, search as try_all};
use serde_json::{Value, json};
use std::path::Path;

/// Searches; `original` is what errors are measured against, `float` what is quantised. None when the budget cannot be
/// met; the report then has the best that was reached.
///
/// # Errors
/// When the samples do not fit or the budget names no output.
pub(super) fn search(
    report: &mut Report,
    model: &Path,
    (original, float): (&Graph, &Graph),
    calibrate: Option<&Calibrate>,
    budget: &Budget,
    samples: &[Vec<Tensor>],
    picture: Option<&Path>,
) -> anyhow::Result<Option<Graph>> {
    let reference = Reference::new(original, samples, &mut |_, _| {})?;
    let distance = match budget.kind {
        Kind::Distance => Some(Distance::new(model, original)?),
        Kind::Snr | Kind::Linf(_) => {
            budget.used(&reference.error(original)?)?;
            None
        }
    };
    let everything = Settings { fit_weights: true, ..Settings::default() };
    let quantizer = calibrated(float, calibrate, &everything)?;
    // The tensors with the lowest ratio are looked at first.
    let plain = errors::measure(original, &quantizer.quantize(&Settings::default())?, samples)?;
    let mut suspects: Vec<&LayerError> = plain.layers.iter().collect();
    suspects.sort_by(|a, b| a.snr_db.total_cmp(&b.snr_db));
    let own = quantizer.tensors();
    let order: Vec<String> = suspects.iter().map(|l| l.tensor.clone()).filter(|t| own.contains(&t.as_str())).collect();
    let mut measured: Vec<(Measured, f64)> = Vec::new();
    let mut used = |trial: &Graph| {
        let error = reference.error(trial)?;
        let share = match &distance {
            Some(distance) => distance.ratio(trial).map(|ratio| ratio / budget.limit),
            None => budget.used(&error),
        };
        let share = share.map_err(|e| QuantizeError::Calibration(format!("{e:#}")))?;
        measured.push((error, share));
        Ok(share)
    };
    let bar = Bar::new("searching", 1);
    let (graph, trials) = try_all(&quantizer, &order, &mut used, &mut |done, all| bar.of(done, all))?;
    drop(bar);
    report.line(format!("{} attempts for {}", measured.len(), budget.text));
    table(report, &trials, &measured);
    if let Some(path) = picture {
        write(path, plot::svg(budget, &measured).as_bytes())?;
        report.line(format!("wrote {}", path.display()));
    }
    let best = trials.iter().min_by(|a, b| a.used.total_cmp(&b.used));
    let inside = best.is_some_and(|t| t.used <= 1.0);
    report.set("budget", json!({ "text": budget.text, "met": inside, "attempts": measured.len() }));
    if inside {
        return Ok(Some(graph));
    }
    report.failed = true;
    report.line(format!(
        "refused: no settings are inside {}; the best use {:.2} of it. Nothing was written. Allow a larger error, calibrate \
         with more samples (--calibrate N), or train with quantisation in the loop (--qat-scales FILE.json)",
        budget.text,
        best.map_or(f64::NAN, |t| t.used)
    ));
    Ok(None)
}

fn table(report: &mut Report, trials: &[Trial], measured: &[(Measured, f64)]) {
    let mut table =
        Table::titled(&["attempt", "SQNR dB", "worst sample dB", "largest error", "of the budget", "settings"]);
    let mut rows: Vec<Value> = Vec::new();
    for trial in trials {
        let Some((m, _)) = measured.get(trial.number) else { continue };
        let lowest = |f: fn(&flowlet_compiler::quantize::OutputError) -> f64| {
            m.outputs.iter().map(f).fold(f64::INFINITY, f64::min)
        };
        let linf = m.outputs.iter().map(|o| o.worst_linf).fold(0.0, f64::max);
        let (snr, worst) = (lowest(|o| o.snr_db), lowest(|o| o.worst_db));
        table.row([
            (trial.number + 1).to_string(),
            db(snr),
            db(worst),
            format!("{linf:.4}"),
            format!("{:.3}", trial.used),
            trial.settings.to_string(),
        ]);
        rows.push(json!({ "attempt": trial.number + 1, "snr_db": snr, "worst_snr_db": worst, "worst_linf": linf,
                          "used": trial.used, "settings": trial.settings.to_string() }));
    }
    report.table(&table);
    report.set("trials", rows);
}
