//! What became of each operator of a model's file.

use crate::ir::{Graph, Node};
use std::collections::{BTreeMap, HashMap};

/// A node of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its name, as nodes of a [`Graph`] carry it in their origin.
    pub node: String,
    /// Its operator.
    pub op: String,
}

/// One operator, and what its nodes became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// The operator.
    pub op: String,
    /// How many nodes of the file have it.
    pub nodes: usize,
    /// What they became and how many became that, the most first.
    pub became: Vec<(String, usize)>,
}

/// What became of every operator in the folded graph, and in its int8 form if there is one; by name of the operator.
///
/// A node is followed by its name: to operations that carry it, through the step whose epilogue took it in, to the remark
/// of the pass that folded it. What none of these mention was constant or belongs to an operation that another node names.
pub fn coverage(operators: &[Operator], folded: &Graph, int8: Option<&Graph>) -> Vec<Coverage> {
    let by_origin = |graph: &Graph| -> HashMap<String, Vec<Node>> {
        let mut found: HashMap<String, Vec<Node>> = HashMap::new();
        for node in &graph.nodes {
            found.entry(node.origin.clone()).or_default().push(node.clone());
        }
        found
    };
    let float_nodes = by_origin(folded);
    let steps = int8.map(by_origin).unwrap_or_default();
    let hosts: HashMap<&str, &Node> = int8
        .into_iter()
        .flat_map(|graph| graph.nodes.iter().map(|n| (graph.value(n.output).name.as_str(), n)))
        .collect();
    let fate = |operator: &Operator| -> String {
        let named = |nodes: &[Node]| {
            let mut names: Vec<&str> = nodes.iter().map(|n| n.op.name()).collect();
            names.dedup();
            names.join(", ")
        };
        if let Some(nodes) = steps.get(&operator.node) {
            return named(nodes);
        }
        if let Some(nodes) = float_nodes.get(&operator.node) {
            let what = named(nodes);
            let host = nodes.iter().find_map(|n| hosts.get(folded.value(n.output).name.as_str()));
            return match (int8, host) {
                (None, _) => what,
                (Some(_), Some(host)) => format!("{what}, done by {}", host.op.name()),
                (Some(_), None) => format!("{what}, inside a step"),
            };
        }
        match folded.remarks.iter().rev().find(|r| r.node == operator.node) {
            Some(remark) => format!("{}: {}", remark.pass, remark.message),
            None => "constant, or part of another operation".to_owned(),
        }
    };
    let mut rows: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
    for operator in operators {
        *rows.entry(&operator.op).or_default().entry(fate(operator)).or_default() += 1;
    }
    let row = |(op, fates): (&str, BTreeMap<String, usize>)| {
        let nodes = fates.values().sum();
        let mut became: Vec<(String, usize)> = fates.into_iter().collect();
        became.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        Coverage { op: op.to_owned(), nodes, became }
    };
    rows.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{optimise, quantize};
    use crate::ir::parse;
    use crate::passes::Options;
    use crate::quantize::Calibration;

    #[test]
    fn every_node_is_accounted_for_once() {
        let text = "graph \"g\" (%z: f32[1,2,4,4]) -> (%y) {
  meta \"noise\" = \"z\"
  const @w: f32[3,2,1,1] = random 4
  const @s: f32[1,3,1,1] = [0.5, 1.0, 2.0]
  %c = conv %z, @w : f32[1,3,4,4] from \"Conv\"
  %m = mul %c, @s : f32[1,3,4,4] from \"norm/Mul\"
  %g = sigmoid %m : f32[1,3,4,4] from \"act/Sigmoid\"
  %y = mul %m, %g : f32[1,3,4,4] from \"act/Mul\"
}
";
        let folded = optimise(parse(text, &[]).unwrap(), &Options::default()).unwrap();
        let calibration = Calibration::from_noise(&folded, 4).unwrap();
        let int8 = quantize(&folded, &calibration, &mut |_, _| {}).unwrap();
        let file =
            [("Conv", "Conv"), ("norm/Mul", "Mul"), ("act/Sigmoid", "Sigmoid"), ("act/Mul", "Mul"), ("s", "Constant")];
        let file = file.map(|(node, op)| Operator { node: node.to_owned(), op: op.to_owned() });
        let rows = coverage(&file, &folded, Some(&int8));
        let found: Vec<(&str, usize, Vec<&str>)> =
            rows.iter().map(|r| (r.op.as_str(), r.nodes, r.became.iter().map(|(b, _)| b.as_str()).collect())).collect();
        let norm = "fold_norm: the norm became weights and biases of the layer before it";
        let other = "constant, or part of another operation";
        assert_eq!(
            found,
            [
                ("Constant", 1, vec![other]),
                ("Conv", 1, vec!["qconv"]),
                ("Mul", 2, vec![norm, "silu, done by qconv"]),
                ("Sigmoid", 1, vec![other]),
            ]
        );
    }
}
