//! `--pack`: a program of networks that differ in their norms alone.

use super::{Args, errors};
use crate::calibrate::held_out;
use crate::model::{Model, calibrated};
use crate::model_toml::ModelToml;
use crate::options::ModelArgs;
use crate::report::{Report, Table, bytes};
use anyhow::{Context, anyhow, bail};
use flowlet_compiler::flq;
use flowlet_compiler::ir::Graph;
use flowlet_compiler::lower::lower_all;
use flowlet_compiler::pack::packs;
use flowlet_compiler::passes::Options;
use flowlet_compiler::program::file;
use flowlet_compiler::target::Target;
use serde_json::json;
use std::path::PathBuf;

/// Name of the first network.
const BASE: &str = "base";

/// Leaves norm factors out of the weights.
pub(super) fn keep(options: &mut Options) {
    options.keep_factors = true;
}

/// The bytes of the `.flp`: `first` and every pack, each calibrated on its own, over the weights of `first`.
///
/// # Errors
/// When a network differs from the first in more than norms.
pub(super) fn packed(report: &mut Report, args: &Args, first: &Graph) -> anyhow::Result<Vec<u8>> {
    if !flq::is_quantized(first) {
        bail!("--pack keeps int8 weights: leave --precision f32 out");
    }
    let mut networks = vec![(BASE.to_owned(), first.clone())];
    for (name, path) in &args.pack {
        let quantised = || -> anyhow::Result<(Graph, Option<f64>)> {
            let others = ModelArgs { model: path.clone(), config: own_config(args)?, ..args.model.clone() };
            let model = Model::load_with(&others, &keep)?;
            let settings = args.settings();
            let mut quantizer = calibrated(model.float()?, args.calibrate.as_ref(), &settings)?;
            quantizer.take_weights_of(first);
            let graph = quantizer.quantize(&settings)?;
            let snr = match args.measure {
                0 => None,
                n => {
                    let samples = held_out(&model.graph, args.calibrate.as_ref(), n)?;
                    let found = errors::measure(&model.graph, &graph, &samples)?;
                    found.outputs.iter().map(|o| o.snr_db).reduce(f64::min)
                }
            };
            Ok((graph, snr))
        };
        let (graph, snr) = quantised().with_context(|| format!("--pack {name}={}", path.display()))?;
        if let Some(snr) = snr {
            report.line(format!("pack '{name}': SQNR {snr:.2} dB at the output"));
        }
        networks.push((name.clone(), graph));
    }
    let (program, graphs) = packs(&networks)?;
    let lowered = lower_all(&graphs, [0; 32], &Target::host()).map_err(|(_, e)| anyhow!("{e}"))?;
    let mut table = Table::titled(&["entry", "constants", "of its own"]);
    let mut rows = Vec::new();
    let mut before = 0;
    for (i, graph) in graphs.iter().enumerate() {
        let together = lower_all(&graphs[..=i], [0; 32], &Target::host()).map_err(|(_, e)| anyhow!("{e}"))?;
        let all = together.last().map_or(0, |l| l.weights.len());
        let alone =
            lower_all(std::slice::from_ref(graph), [0; 32], &Target::host()).map_err(|(_, e)| anyhow!("{e}"))?;
        let alone = alone.first().map_or(0, |l| l.weights.len());
        table.row([graph.name.clone(), bytes(alone), bytes(all - before)]);
        rows.push(json!({ "name": graph.name, "constant_bytes": alone, "own_bytes": all - before }));
        before = all;
    }
    report.table(&table);
    report.set("packs", rows);
    report.set("weights_bytes", lowered.first().map_or(0, |l| l.weights.len()));
    Ok(file::write(&program, &graphs))
}

/// What describes the first network describes its packs.
fn own_config(args: &Args) -> anyhow::Result<Option<PathBuf>> {
    let model = &args.model.model;
    Ok(match &args.model.config {
        Some(given) => Some(given.clone()),
        None => ModelToml::find(model, None)?.map(|_| model.with_file_name("model.toml")),
    })
}
