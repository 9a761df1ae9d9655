//! Lowers a quantised graph for a target: `select` chooses kernels and packs constants, `plan_memory` gives every
//! tensor an address, and the result is a plan that its own check has accepted.
//!
//! No step here may change a rounding: the same graph gives the same bytes on every target.

mod allocate;
mod draft;
mod error;
mod kernel;
mod lowered;
mod pack;
mod place;
mod plan_memory;
mod report;
mod select;
#[cfg(test)]
mod tests;
mod weights;

pub use error::{LowerError, Region};
pub use kernel::{ConvKernel, ConvTransposeKernel, EpilogueKernel, Kernel, MatMulKernel, MulKernel, NormKernel};
pub use lowered::{Lowered, LoweredPort, LoweredStep, OwnedPlan};
pub use place::WeightsPart;
pub use report::{MemoryReport, TensorRange, svg};
pub use weights::Section;

use crate::ir::{Graph, Remark, Stage, verify};
use crate::target::Target;
use draft::{Draft, DraftPort, View, Work};
use flowlet_plan::{DType, Slot};
use plan_memory::{Layout, Placed, plan_memory};

/// Lowers a quantised graph. `model_hash` is the SHA-256 of the `.flq` that holds it.
///
/// # Errors
/// A node that no kernel computes, a model that does not fit the target, or a graph that is not quantised.
pub fn lower(graph: &Graph, model_hash: [u8; 32], target: &Target) -> Result<Lowered, LowerError> {
    let draft = select_checked(graph, target, weights::Blob::default())?;
    match place::outside(&draft, target) {
        None => finish(graph, model_hash, target, draft, None),
        Some(outside) => {
            let border = outside.border;
            let blob = weights::Blob::split(outside.numbers, border);
            finish(graph, model_hash, target, select_checked(graph, target, blob)?, Some(border))
        }
    }
}

/// Lowers the graphs of a program for one target. All hold the same weights, in which equal constants are stored once.
///
/// # Errors
/// As [`lower`], with the number of the graph.
pub fn lower_all(graphs: &[Graph], hash: [u8; 32], target: &Target) -> Result<Vec<Lowered>, (usize, LowerError)> {
    let mut lowered: Vec<Lowered> = Vec::with_capacity(graphs.len());
    for (number, graph) in graphs.iter().enumerate() {
        let blob = lowered.last().map_or_else(weights::Blob::default, weights::Blob::of);
        lowered.push(lower_with(graph, hash, target, blob).map_err(|e| (number, e))?);
    }
    let whole = lowered.last().map_or_else(Vec::new, |last| last.weights.clone());
    lowered.iter_mut().for_each(|one| one.weights.clone_from(&whole));
    // One arena, as large as the largest, and one set of weights.
    let arena_bytes = lowered.iter().map(|one| one.arena_bytes).max().unwrap_or(0);
    for (number, one) in lowered.iter_mut().enumerate() {
        place::place(one, arena_bytes, None).map_err(|e| (number, e))?;
    }
    Ok(lowered)
}

fn lower_with(
    graph: &Graph,
    model_hash: [u8; 32],
    target: &Target,
    blob: weights::Blob,
) -> Result<Lowered, LowerError> {
    finish(graph, model_hash, target, select_checked(graph, target, blob)?, None)
}

fn select_checked(graph: &Graph, target: &Target, blob: weights::Blob) -> Result<Draft, LowerError> {
    verify(graph, Stage::Quantized)?;
    let mut draft = select::select(graph, target, blob)?;
    draft.blob.join();
    Ok(draft)
}

/// Plans memory; constants from `border` on lie in another memory.
fn finish(
    graph: &Graph,
    model_hash: [u8; 32],
    target: &Target,
    draft: Draft,
    border: Option<usize>,
) -> Result<Lowered, LowerError> {
    let layout = plan_memory(&draft);
    let mut lowered = assemble(graph, model_hash, target, draft, &layout)?;
    check_budget(&lowered)?;
    let arena_bytes = lowered.arena_bytes;
    place::place(&mut lowered, arena_bytes, border)?;
    lowered.with_plan(|plan| plan.check().map(|_| ()))?;
    Ok(lowered)
}

fn assemble(
    graph: &Graph,
    model_hash: [u8; 32],
    target: &Target,
    draft: Draft,
    layout: &Layout,
) -> Result<Lowered, LowerError> {
    let limit = |what: &str| LowerError::Unsupported {
        node: graph.name.clone(),
        op: "graph".to_owned(),
        reason: format!("it has more {what} than a plan can count"),
    };
    if layout.steps.len() > usize::from(u16::MAX) {
        return Err(limit("steps"));
    }
    if draft.tensors.len() > usize::from(u16::MAX) {
        return Err(limit("tensors"));
    }
    if layout.arena_bytes > i32::MAX as usize {
        return Err(limit("bytes of tensors"));
    }
    let slot = |view: &View, tensor: usize, channel: usize| {
        let place = layout.places[tensor];
        Slot {
            offset: (place.offset + channel) as u32,
            height: view.shape.height,
            width: view.shape.width,
            channels: view.shape.channels,
            pitch: if place.root == tensor { view.pitch } else { place.pitch },
            dtype: DType::S8,
            tensor: place.root as u16,
        }
    };
    let own = |tensor: usize| View::whole(tensor, draft.tensors[tensor].shape);
    let read = |view: &View| slot(view, view.tensor, view.offset);
    let mut remarks = draft.remarks.clone();
    let mut steps = Vec::with_capacity(layout.steps.len());
    for placed in &layout.steps {
        steps.push(match *placed {
            Placed::Op(i) => {
                let op = &draft.ops[i];
                let Work::Kernel(kernel) = &op.work else { continue };
                LoweredStep {
                    kernel: kernel.clone(),
                    inputs: op.reads.iter().map(read).collect(),
                    output: slot(&own(op.write), op.write, 0),
                    scratch: op.scratch.map(|t| slot(&own(t), t, 0)),
                    name: op.name.clone(),
                    origin: op.origin.clone(),
                    text: op.text.clone(),
                }
            }
            Placed::Copy { op, part } => {
                let op = &draft.ops[op];
                let view = &op.reads[part];
                let Work::Join(along) = op.work else { continue };
                let first: usize = op.reads[..part].iter().map(|v| along.extent(v.shape)).sum();
                // A range of the concatenation: its pitch, whatever owns it.
                let output = Slot { pitch: layout.places[op.write].pitch, ..slot(view, op.write, first) };
                let name = &draft.tensors[view.tensor].name;
                remarks.push(Remark {
                    pass: "plan_memory".to_owned(),
                    node: op.origin.clone(),
                    message: format!("'{name}' is copied into the concatenation ({} bytes)", view.shape.elements()),
                });
                LoweredStep {
                    kernel: Kernel::Map { table: None },
                    inputs: vec![read(view)],
                    output,
                    scratch: None,
                    name: name.clone(),
                    origin: op.origin.clone(),
                    text: format!("copy of %{name} for {}", op.text),
                }
            }
        });
    }
    let port =
        |p: &DraftPort| LoweredPort { name: p.name.clone(), slot: read(&p.view), quant: p.quant, unit: p.unit.clone() };
    Ok(Lowered {
        name: graph.name.clone(),
        model_hash,
        target: target.clone(),
        parameters: graph.parameters(),
        inputs: draft.inputs.iter().map(port).collect(),
        indices: draft.indices.clone(),
        outputs: draft.outputs.iter().map(port).collect(),
        steps,
        memory: report::build(&draft, layout),
        arena_memory: None,
        weights_parts: Vec::new(),
        arena_bytes: layout.arena_bytes,
        meta: graph.meta.clone(),
        remarks,
        constants: draft.blob.names,
        weights: draft.blob.bytes,
    })
}

/// Longest list of names in a message.
const LARGEST: usize = 5;

fn constants_of(lowered: &Lowered) -> Vec<(String, usize)> {
    lowered.constants.iter().map(|(name, section)| (name.clone(), section.len)).collect()
}

fn check_budget(lowered: &Lowered) -> Result<(), LowerError> {
    let exceeded = |region, need_bytes, limit: Option<usize>, mut all: Vec<(String, usize)>| match limit {
        Some(have_bytes) if need_bytes > have_bytes => {
            all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            all.truncate(LARGEST);
            let target = lowered.target.name.to_string();
            Err(LowerError::Budget { region, target, need_bytes, have_bytes, largest: all })
        }
        Some(_) | None => Ok(()),
    };
    exceeded(Region::Flash, lowered.weights.len(), lowered.target.flash_bytes, constants_of(lowered))?;
    exceeded(Region::Ram, lowered.arena_bytes, lowered.target.ram_bytes, lowered.memory.fullest())
}
