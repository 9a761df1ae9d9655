//! Whether samples look as if the flow convention were the one that the network was trained with.

use crate::calibrate::{Calibrate, held_out};
use crate::model::Model;
use crate::report::{Report, Table};
use flowlet_compiler::flow::{Candidate, check_direction};
use serde_json::{Value, json};

/// Numbers that a slope is measured on, where that takes a sensible number of samples.
const ELEMENTS: usize = 4096;
const MOST_SAMPLES: usize = 64;
const LEAST_SAMPLES: usize = 4;

/// Draws samples and states how they look under the stated convention and under others; a note warns when another fits much
/// better. Says nothing of a model that ends in no sampler.
///
/// # Errors
/// When the inputs cannot be drawn or do not fit.
pub fn check(report: &mut Report, model: &Model, calibrate: Option<&Calibrate>) -> anyhow::Result<()> {
    let Some(flow) = &model.options.flow else { return Ok(()) };
    let elements: usize = model.graph.outputs.iter().map(|&id| model.graph.ty(id).elements()).sum();
    let samples = (ELEMENTS / elements.max(1)).clamp(LEAST_SAMPLES, MOST_SAMPLES);
    let samples = held_out(&model.graph, calibrate, samples)?;
    let Some(found) = check_direction(&model.graph, flow, &samples)? else { return Ok(()) };
    report.line(format!("\nflow convention, {} samples", found.samples));
    let mut table = Table::titled(&["", "noise in a sample", "outside the range", "variation", ""]);
    for (candidate, what) in std::iter::once((&found.stated, "as stated")).chain(found.others.iter().map(|o| (o, ""))) {
        let outside = candidate.outside.map_or_else(String::new, |o| format!("{:.1} %", 100.0 * o));
        let variation = candidate.variation.map_or_else(String::new, |v| format!("{v:.2}"));
        let slope = format!("{:.2}", candidate.slope);
        table.row([candidate.convention.to_owned(), slope, outside, variation, what.to_owned()]);
    }
    report.table(&table);
    let warning = found.warning();
    report.set(
        "flow_check",
        json!({
            "samples": found.samples,
            "stated": listed(&found.stated),
            "others": found.others.iter().map(listed).collect::<Vec<_>>(),
            "suspect": warning.is_some(),
        }),
    );
    report.notes.extend(warning);
    Ok(())
}

fn listed(c: &Candidate) -> Value {
    json!({ "convention": c.convention, "slope": c.slope, "outside": c.outside, "variation": c.variation })
}
