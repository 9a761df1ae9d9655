//! The executor against the interpreter, byte for byte and step for step.

use crate::feeds::Samples;
use anyhow::anyhow;
use flowlet::plan::Slot;
use flowlet::{ARENA_ALIGNMENT, Executor, Progress};
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Graph, Tensor, ValueId};
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;
use flowlet_score::Feed;
use flowlet_score::engine::input_tensors;
use flowlet_score::layout::channels_last;
use std::collections::HashMap;

/// The first step whose bytes differ, in words, over these samples.
pub(super) fn first_difference(
    graph: &Graph,
    hash: [u8; 32],
    samples: &Samples,
    which: &[usize],
) -> anyhow::Result<Option<String>> {
    let lowered = lower(graph, hash, &Target::native())?;
    let plan = lowered.plan();
    let checked = plan.borrow().check().map_err(|e| anyhow!("defect in lowering: {e}; please report it"))?;
    let mut arena = vec![0; lowered.arena_bytes + ARENA_ALIGNMENT];
    let skip = arena.as_ptr().align_offset(ARENA_ALIGNMENT).min(ARENA_ALIGNMENT);
    let interpreter = Interpreter::new(graph);
    for &i in which {
        let feeds = samples.feeds(i);
        let mut values: HashMap<String, Vec<i8>> = HashMap::new();
        let mut observe = |id: ValueId, tensor: &Tensor| {
            if let Some(q) = tensor.as_s8() {
                values.insert(graph.value(id).name.clone(), channels_last(&tensor.dims, q));
            }
        };
        interpreter.run_with(&input_tensors(graph, &feeds)?, &mut observe)?;
        let mut model = Executor::new(checked, &mut arena[skip..])?;
        for (&id, feed) in graph.inputs.iter().zip(&feeds) {
            let value = graph.value(id);
            match feed {
                Feed::Noise(seed) => model.fill_noise(value.name.as_str(), *seed)?,
                Feed::Index(k) => model.set_index(value.name.as_str(), *k as u16)?,
                Feed::Values(v) => model.write_f32(value.name.as_str(), &channels_last(&value.ty.dims, v))?,
            }
        }
        model.begin(0)?;
        for (number, step) in lowered.steps.iter().enumerate() {
            let progress = model.step();
            let Some(expected) = values.get(&step.name) else { continue };
            let found = read(model.arena(), &step.output);
            if let Some(at) = (0..expected.len().max(found.len())).find(|&k| expected.get(k) != found.get(k)) {
                return Ok(Some(format!(
                    "step {number} '{}' (node '{}'), sample {i}, element {at}: {:?} and {:?}",
                    step.name,
                    step.origin,
                    expected.get(at),
                    found.get(at)
                )));
            }
            if progress == Progress::Done {
                break;
            }
        }
    }
    Ok(None)
}

/// The elements of an s8 slot in NHWC order.
fn read(arena: &[i8], slot: &Slot) -> Vec<i8> {
    let pixel = |p: usize| {
        let first = slot.offset as usize + p * usize::from(slot.pitch);
        arena.get(first..first + usize::from(slot.channels)).unwrap_or(&[])
    };
    (0..slot.pixels()).flat_map(pixel).copied().collect()
}
