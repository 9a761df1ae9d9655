//! The sampler joins the graph: the step from noise to sample and the map from data range to intensity become one sum and one
//! clamp, or factors of the last layer; what scales the noise becomes a factor of the first layers.

use super::{Options, PassError, fold_norm};
use crate::flow::Step;
use crate::ir::{DType, Def, Graph, InputKind, Op, Tensor, ValueId};

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
    let [network] = graph.outputs[..] else {
        return Err(wrong(format!("a velocity network has one output, this model has {}", graph.outputs.len())));
    };
    if graph.ty(noise).dims != graph.ty(network).dims || graph.ty(noise).dtype != DType::F32 {
        let (z, v) = (&graph.ty(noise).dims, &graph.ty(network).dims);
        return Err(wrong(format!("noise of shape {z:?} and velocity of shape {v:?} cannot be added")));
    }
    let (scale, offset) = match flow.range {
        None => (1.0, 0.0),
        Some((lo, hi)) if hi > lo && (hi - lo).is_finite() => (1.0 / (hi - lo), -lo / (hi - lo)),
        Some((lo, hi)) => return Err(wrong(format!("[{lo}, {hi}] is not a range"))),
    };
    let step = flow.step().map_err(wrong)?;
    if step.input != 1.0 {
        scale_noise(graph, noise, step.input as f32)?;
    }
    let name = if flow.range.is_some() { format!("{}.sum", flow.output) } else { flow.output.clone() };
    let predicted = graph.outputs[0];
    let mut sample = if step.skip == 0.0 {
        scaled_output(graph, predicted, step.output as f32 * scale, offset, &name)?
    } else {
        let (alpha, beta) = (step.skip as f32 * scale, step.output as f32 * scale);
        graph.add_node(&name, Op::Add { alpha, beta, gamma: offset }, &[noise, predicted], "sampler")?
    };
    if flow.range.is_some() {
        sample = graph.add_node(&flow.output, Op::Clip { lo: 0.0, hi: 1.0 }, &[sample], "sampler")?;
        graph.set_meta(&format!("unit.{}", flow.output), "intensity 0..1");
    }
    graph.set_meta(&format!("unit.{}", flow.noise), "standard deviations");
    graph.set_meta("noise", flow.noise.clone());
    graph.outputs = vec![sample];
    if step.skip == 0.0 {
        fold_norm::fold_all(graph, options.keep_factors);
    }
    graph.remark(PASS, "sampler", described(step));
    Ok(())
}

fn described(step: Step) -> String {
    let Step { input, skip, output } = step;
    if (input, skip) == (1.0, 1.0) && output.abs() == 1.0 {
        return "the step from noise to sample and the map of its range are one sum in the graph".to_owned();
    }
    format!("the step {skip:.6} * z + {output:.6} * F({input:.6} * z) and the map of its range lie in the graph")
}

/// Makes every reader of the noise read `factor` times as much: in the weights of the layers that read it, or as an affine.
fn scale_noise(graph: &mut Graph, noise: ValueId, factor: f32) -> Result<(), PassError> {
    let origin = graph.value(noise).name.clone();
    if fold_norm::scale_readers(graph, noise, factor) {
        graph.remark(
            PASS,
            &origin,
            format!("the noise's factor {factor} is in the weights of the layers that read it"),
        );
        return Ok(());
    }
    let scaled = uniform(graph, noise, factor, 0.0, &format!("{origin}.scaled"))?;
    for node in graph.nodes.iter_mut().filter(|n| n.output != scaled) {
        node.inputs.iter_mut().filter(|id| **id == noise).for_each(|id| *id = scaled);
    }
    graph.outputs.iter_mut().filter(|id| **id == noise).for_each(|id| *id = scaled);
    let cycle = |node| PassError::Eval(crate::ir::InferError { node, message: "the graph has a cycle".to_owned() });
    graph.sort().map_err(cycle)?;
    graph.remark(PASS, &origin, format!("the noise's factor {factor} is kept: what reads it is not all layers"));
    Ok(())
}

/// `scale * x + offset` under this name; the value itself, renamed, if that is nothing.
fn scaled_output(graph: &mut Graph, x: ValueId, scale: f32, offset: f32, name: &str) -> Result<ValueId, PassError> {
    let free = graph.find(name).is_none_or(|taken| taken == x);
    if (scale, offset) == (1.0, 0.0) && graph.value(x).def == Def::Node && free {
        name.clone_into(&mut graph.value_mut(x).name);
        return Ok(x);
    }
    uniform(graph, x, scale, offset, name)
}

fn uniform(graph: &mut Graph, x: ValueId, scale: f32, offset: f32, name: &str) -> Result<ValueId, PassError> {
    let channels = graph.ty(x).dims.get(1).copied().unwrap_or(1);
    let scale = graph.add_const(&format!("{name}.factor"), Tensor::f32(&[channels], vec![scale; channels]));
    let shift = graph.add_const(&format!("{name}.shift"), Tensor::f32(&[channels], vec![offset; channels]));
    Ok(graph.add_node(name, Op::Affine, &[x, scale, shift], "sampler")?)
}
