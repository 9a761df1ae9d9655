//! What int8 costs, for people and programs: per layer, and at the output.

use crate::progress::Bar;
use crate::report::{Report, Table};
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::quantize::{self, LayerError, Measured};
use serde_json::{Value, json};

/// Layers of the summary.
const SHOWN: usize = 5;

/// The error of `int8` against `float`.
///
/// # Errors
/// When the samples do not fit.
pub(crate) fn measure(float: &Graph, int8: &Graph, samples: &[Vec<Tensor>]) -> anyhow::Result<Measured> {
    let bar = Bar::new("measuring", samples.len());
    Ok(quantize::measure(float, int8, samples, &mut |done, _| bar.at(done))?)
}

/// Decibels for people.
pub(crate) fn db(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { "exact".to_owned() }
}

fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { Value::Null }
}

/// The outputs, and the layers with the lowest ratio.
pub(crate) fn summary(report: &mut Report, measured: &Measured) {
    report.line(format!("\nsignal-to-quantisation-noise ratio on {} samples", measured.samples));
    let mut table = Table::titled(&["output", "SQNR dB", "worst sample dB", "largest error", "of the worst sample"]);
    for o in &measured.outputs {
        table.row([
            o.name.clone(),
            db(o.snr_db),
            db(o.worst_db),
            format!("{:.4}", o.linf),
            format!("{:.4}", o.worst_linf),
        ]);
    }
    report.table(&table);
    let mut lowest: Vec<&LayerError> = measured.layers.iter().filter(|l| l.snr_db.is_finite()).collect();
    lowest.sort_by(|a, b| a.snr_db.total_cmp(&b.snr_db));
    let mut table = Table::titled(&["lowest inside", "SQNR dB", "worst sample dB", "ONNX node"]);
    for l in lowest.iter().take(SHOWN) {
        table.row([l.tensor.clone(), db(l.snr_db), db(l.worst_db), l.node.clone()]);
    }
    report.table(&table);
    set(report, measured);
}

/// The fields for programs.
fn set(report: &mut Report, measured: &Measured) {
    let outputs: Vec<Value> = measured
        .outputs
        .iter()
        .map(|o| {
            json!({ "name": o.name, "snr_db": number(o.snr_db), "worst_snr_db": number(o.worst_db),
                    "worst_sample": o.worst_sample, "linf": o.linf, "worst_linf": o.worst_linf })
        })
        .collect();
    let layers: Vec<Value> = measured
        .layers
        .iter()
        .map(|l| {
            json!({ "name": l.tensor, "node": l.node, "snr_db": number(l.snr_db), "worst_snr_db": number(l.worst_db),
                    "worst_sample": l.worst_sample })
        })
        .collect();
    report.set("error", json!({ "samples": measured.samples, "outputs": outputs, "layers": layers }));
}
