//! The whole float pipeline in one call.

use crate::ir::{Graph, Stage, verify};
use crate::passes::{Options, PIPELINE, PassError, conditioning_ops, norm_ops, run_pass};

pub use crate::quantize::{Calibration, QuantizeError, quantize};

/// Runs every float pass: from an imported graph to a static f32 graph without time, norms or an open sampler.
///
/// # Errors
/// What a pass found wrong with the model or the options.
pub fn optimise(mut graph: Graph, options: &Options) -> Result<Graph, PassError> {
    verify(&graph, Stage::Float).map_err(|error| PassError::Bug { pass: "import", error })?;
    graph.set_meta("parameters_before", graph.parameters().to_string());
    for pass in PIPELINE {
        run_pass(pass, &mut graph, options)?;
    }
    graph.set_meta("norm_ops_after", norm_ops(&graph).to_string());
    graph.set_meta("time_ops_after", conditioning_ops(&graph).to_string());
    graph.set_meta("precision", "f32");
    Ok(graph)
}
