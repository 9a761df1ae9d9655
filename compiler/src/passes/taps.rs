//! Tensors inside a graph as further outputs and inputs: what one pass computes, another can read in its place.
//!
//! Neither changes an operation or a scale, so a tensor that comes out of one graph goes into the other as the bytes that
//! it is, and a graph that is given what it would compute itself gives the same result bit for bit.

use super::PassError;
use crate::ir::{Def, Graph, InputKind, ValueId};

/// The graph with these tensors as further outputs, in this order.
///
/// # Errors
/// A name that no node of the graph defines, or one that is an output already.
pub fn expose(graph: &Graph, names: &[String]) -> Result<Graph, PassError> {
    let mut out = graph.clone();
    for name in names {
        let id = computed(&out, name)?;
        if out.outputs.contains(&id) {
            return Err(refused(graph, name, "is an output already"));
        }
        out.outputs.push(id);
    }
    Ok(out)
}

/// The graph with these tensors as further inputs of the same type, in this order. What only they needed is gone.
///
/// # Errors
/// A name that no node of the graph defines, or one that is an output.
pub fn inject(graph: &Graph, names: &[String]) -> Result<Graph, PassError> {
    let mut out = graph.clone();
    for name in names {
        let id = computed(&out, name)?;
        if out.outputs.contains(&id) {
            return Err(refused(graph, name, "is an output, which nothing can take the place of"));
        }
        let ty = out.ty(id).clone();
        let input = out.add_input(name, ty, InputKind::Tensor);
        out.swap_names(id, input);
        out.replace_uses(id, input);
    }
    out.sweep();
    Ok(out)
}

fn computed(graph: &Graph, name: &str) -> Result<ValueId, PassError> {
    match graph.find(name).map(|id| (id, &graph.value(id).def)) {
        Some((id, Def::Node)) => Ok(id),
        Some((_, Def::Input(_))) => Err(refused(graph, name, "is an input")),
        Some((_, Def::Const(_))) => Err(refused(graph, name, "is a constant")),
        None => {
            let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
            let computed = graph.nodes.iter().map(|node| graph.value(node.output).name.as_str());
            let alike: Vec<&str> = computed.filter(|other| last(other) == last(name)).take(8).collect();
            let message = match alike[..] {
                [] => "is not there; 'flowlet explain MODEL --text' lists all".to_owned(),
                _ => format!("is not there; of that ending there are {}", alike.join(", ")),
            };
            Err(refused(graph, name, &message))
        }
    }
}

fn refused(graph: &Graph, name: &str, message: &str) -> PassError {
    PassError::Tensor { graph: graph.name.clone(), name: name.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interp::Interpreter;
    use crate::ir::{Stage, Tensor, parse, verify};

    const GRAPH: &str = r#"graph "g" (%x: f32[1,2]) -> (%y) {
  const @k: f32[1,2] = [1.0, 2.0]
  %a = mul %x, @k : f32[1,2] from "a"
  %layer.b = silu %a : f32[1,2] from "b"
  %y = add %a, %layer.b : f32[1,2] from "y"
}
"#;

    fn run(graph: &Graph, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
        verify(graph, Stage::Float).unwrap();
        let inputs: Vec<Tensor> = inputs.iter().map(|v| Tensor::f32(&[1, 2], v.clone())).collect();
        let outputs = Interpreter::new(graph).run(&inputs).unwrap();
        outputs.iter().map(|t| t.as_f32().unwrap().to_vec()).collect()
    }

    #[test]
    fn what_comes_out_goes_in() {
        let graph = parse(GRAPH, &[]).unwrap();
        let x = vec![0.5, -1.5];
        let plain = run(&graph, std::slice::from_ref(&x));
        let out = run(&expose(&graph, &["layer.b".to_owned()]).unwrap(), std::slice::from_ref(&x));
        assert_eq!(plain[0], out[0]);
        let injected = inject(&graph, &["layer.b".to_owned()]).unwrap();
        assert_eq!(injected.nodes.len(), 2);
        assert_eq!(run(&injected, &[x.clone(), out[1].clone()]), plain);
        assert_ne!(run(&injected, &[x, vec![9.0, 9.0]]), plain);
    }

    #[test]
    fn what_is_not_computed_is_refused() {
        let graph = parse(GRAPH, &[]).unwrap();
        let message = |name: &str| inject(&graph, &[name.to_owned()]).unwrap_err().to_string();
        assert!(message("other.b").contains("'other.b' of 'g' is not there; of that ending there are layer.b"));
        assert!(message("x").contains("'x' of 'g' is an input"));
        assert!(message("k").contains("'k' of 'g' is a constant"));
        assert!(message("y").contains("'y' of 'g' is an output"));
        assert!(expose(&graph, &["y".to_owned()]).is_err());
        assert!(expose(&graph, &["a".to_owned(), "a".to_owned()]).is_err());
    }
}
