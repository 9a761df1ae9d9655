//! Networks that are another network with some of its inner tensors as outputs and inputs.

use super::verify::error;
use super::{Program, ProgramError};
use crate::ir::Graph;
use crate::passes::{PassError, expose, inject, twin};

/// A graph for each network of a program, from those of the networks that are not derived, in order. A derived graph has
/// its base's constants, which [`super::lower()`] stores once.
///
/// # Errors
/// A graph that is missing or left over, or a further input or output that its base does not compute, by both names.
pub fn derived(program: &Program, own: Vec<Graph>) -> Result<Vec<Graph>, ProgramError> {
    let mut own = own.into_iter();
    let mut graphs: Vec<Graph> = Vec::with_capacity(program.nets.len());
    for net in &program.nets {
        let place = || format!("network '{}'", net.name);
        let Some(base) = &net.of else {
            graphs.push(own.next().ok_or_else(|| error(place(), "there is no graph for it"))?);
            continue;
        };
        let position = program.nets.iter().take(graphs.len()).position(|other| other.name == *base);
        let Some((base, graph)) = position.map(|i| (&program.nets[i], &graphs[i])) else {
            return Err(error(place(), format!("it is derived from '{base}', which is no network before it")));
        };
        let further = |own: &[(String, usize)], base: &[(String, usize)]| -> Vec<String> {
            own.iter().skip(base.len()).map(|(name, _)| name.clone()).collect()
        };
        let refused = |e: PassError| error(place(), e.to_string());
        let graph = inject(graph, &further(&net.inputs, &base.inputs)).map_err(refused)?;
        let (graph, known) = match net.twin {
            true => (twin(&graph).map_err(refused)?, 2 * base.outputs.len()),
            false => (graph, base.outputs.len()),
        };
        let inner: Vec<String> = net.outputs.iter().skip(known).map(|(name, _)| name.clone()).collect();
        let mut graph = expose(&graph, &inner).map_err(refused)?;
        graph.name.clone_from(&net.name);
        graphs.push(graph);
    }
    match own.next() {
        None => Ok(graphs),
        Some(graph) => {
            Err(error(format!("program '{}'", program.name), format!("it calls no network '{}'", graph.name)))
        }
    }
}
