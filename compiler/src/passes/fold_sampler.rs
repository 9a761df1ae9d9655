//! The sampler joins the graph: `x = z + v` and the map from data range to intensity become one sum and one clamp.

use super::{Options, PassError};
use crate::ir::{DType, Def, Graph, InputKind, Op};

const PASS: &str = "fold_sampler";

pub(super) fn run(graph: &mut Graph, options: &Options) -> Result<(), PassError> {
    let Some(flow) = &options.flow else { return Ok(()) };
    let known = || graph.inputs.iter().map(|&id| graph.value(id).name.clone()).collect();
    let noise = graph
        .inputs
        .iter()
        .copied()
        .find(|&id| graph.value(id).name == flow.noise && graph.value(id).def == Def::Input(InputKind::Tensor))
        .ok_or_else(|| PassError::UnknownInput { name: flow.noise.clone(), known: known() })?;
    let wrong = |message: String| PassError::BadValue { name: flow.noise.clone(), message };
    let [velocity] = graph.outputs[..] else {
        return Err(wrong(format!("a velocity network has one output, this model has {}", graph.outputs.len())));
    };
    if graph.ty(noise).dims != graph.ty(velocity).dims || graph.ty(noise).dtype != DType::F32 {
        let (z, v) = (&graph.ty(noise).dims, &graph.ty(velocity).dims);
        return Err(wrong(format!("noise of shape {z:?} and velocity of shape {v:?} cannot be added")));
    }
    let (scale, offset) = match flow.range {
        None => (1.0, 0.0),
        Some((lo, hi)) if hi > lo && (hi - lo).is_finite() => (1.0 / (hi - lo), -lo / (hi - lo)),
        Some((lo, hi)) => return Err(wrong(format!("[{lo}, {hi}] is not a range"))),
    };
    let sign = if flow.noise_at_zero { 1.0 } else { -1.0 };
    let sum = Op::Add { alpha: scale, beta: sign * scale, gamma: offset };
    let name = if flow.range.is_some() { format!("{}.sum", flow.output) } else { flow.output.clone() };
    let mut sample = graph.add_node(&name, sum, &[noise, velocity], "sampler")?;
    if flow.range.is_some() {
        sample = graph.add_node(&flow.output, Op::Clip { lo: 0.0, hi: 1.0 }, &[sample], "sampler")?;
        graph.set_meta(&format!("unit.{}", flow.output), "intensity 0..1");
    }
    graph.set_meta(&format!("unit.{}", flow.noise), "standard deviations");
    graph.set_meta("noise", flow.noise.clone());
    graph.outputs = vec![sample];
    graph.remark(PASS, "sampler", "the step from noise to sample and the map of its range are one sum in the graph");
    Ok(())
}
