//! A network for two rows of its tables in one pass: classifier-free guidance needs the velocity of a label and that of none
//! for the same state.
//!
//! Only what depends on the row is computed twice, layer by layer, so that the two copies of a layer read their weights one
//! after the other; all before the first use of the row is computed once. Constants and scales are shared, so both results
//! are those of two passes, bit for bit.

use super::PassError;
use crate::ir::{Def, Graph, InputKind, ValueId};
use std::collections::HashMap;

/// The graph with a second index input, `NAME.twin`, and after its outputs the same ones for that row, `NAME.twin` each.
///
/// # Errors
/// A graph that has not one index input, or an output that does not depend on it.
pub fn twin(graph: &Graph) -> Result<Graph, PassError> {
    let is_index = |id: &ValueId| matches!(graph.value(*id).def, Def::Input(InputKind::Index { .. }));
    let indices: Vec<ValueId> = graph.inputs.iter().copied().filter(is_index).collect();
    let [row] = indices[..] else {
        let message = format!("has {} index inputs, and a twin needs one", indices.len());
        return Err(PassError::Graph { name: graph.name.clone(), message });
    };
    let mut out = graph.clone();
    let copy = |name: &str| format!("{name}.twin");
    let (ty, Def::Input(kind)) = (graph.ty(row).clone(), graph.value(row).def.clone()) else { return Ok(out) };
    let mut twins = HashMap::from([(row, out.add_input(&copy(&graph.value(row).name), ty, kind))]);
    for node in std::mem::take(&mut out.nodes) {
        let reads: Vec<ValueId> = node.inputs.iter().map(|id| twins.get(id).copied().unwrap_or(*id)).collect();
        let depends = reads != node.inputs;
        out.nodes.push(node.clone());
        if depends {
            let value = graph.value(node.output);
            let twin = out.push_node(&copy(&value.name), node.op, &reads, value.ty.clone(), &node.origin);
            twins.insert(node.output, twin);
        }
    }
    for id in &graph.outputs {
        let Some(&twin) = twins.get(id) else {
            let message = format!("has the output '{}', which does not depend on the row", graph.value(*id).name);
            return Err(PassError::Graph { name: graph.name.clone(), message });
        };
        out.outputs.push(twin);
    }
    out.sweep();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::Interpreter;
    use crate::ir::{Stage, Tensor, parse, verify};

    const GRAPH: &str = r#"graph "g" (%x: f32[1,2], %row: i64[1] index(3)) -> (%y) {
  const @table: f32[3,2] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
  %shared = silu %x : f32[1,2] from "shared"
  %bias = select @table, %row : f32[1,2] from "bias"
  %y = add %shared, %bias : f32[1,2] from "y"
}
"#;

    #[test]
    fn both_rows_of_one_pass_are_those_of_two() {
        let graph = parse(GRAPH, &[]).unwrap();
        let both = twin(&graph).unwrap();
        verify(&both, Stage::Static).unwrap();
        assert_eq!(both.nodes.len(), 5, "what does not depend on the row is computed once");
        let x = Tensor::f32(&[1, 2], vec![0.3, -0.7]);
        let one = |row: i64| Interpreter::new(&graph).run(&[x.clone(), Tensor::i64(&[1], vec![row])]).unwrap();
        let rows = [2, 0].map(|row| Tensor::i64(&[1], vec![row]));
        let found = Interpreter::new(&both).run(&[vec![x.clone()], rows.to_vec()].concat()).unwrap();
        assert_eq!(found, [one(2), one(0)].concat());
    }

    #[test]
    fn graphs_without_a_row_are_refused() {
        let text = GRAPH.replace("-> (%y)", "-> (%y, %shared)");
        let message = twin(&parse(&text, &[]).unwrap()).unwrap_err().to_string();
        assert!(message.contains("'g' has the output 'shared'"), "{message}");
        let message = twin(&twin(&parse(GRAPH, &[]).unwrap()).unwrap()).unwrap_err().to_string();
        assert!(message.contains("'g' has 2 index inputs"), "{message}");
    }
}
