//! Keeps track of ONNX names while the import library rewrites the graph.
//!
//! The library derives the names of the operations it makes from a node's name and refuses duplicates. Nodes are
//! therefore numbered while it works, with a prefix that the model does not use, and get their names back here.

use crate::proto_check::node_name;
use tract_onnx::pb::GraphProto;

/// The names of a model's nodes.
pub(crate) struct Names {
    prefix: String,
    nodes: Vec<OriginNode>,
}

/// A node as its author knows it.
pub(crate) struct OriginNode {
    /// Its name, or its first output if it has none.
    pub name: String,
    /// Its operator.
    pub op: String,
}

impl Names {
    /// Numbers the nodes of a graph and remembers their names.
    pub(crate) fn rename(graph: &mut GraphProto) -> Self {
        let mut prefix = "@".to_owned();
        let taken = |p: &str| {
            let tensors = graph.initializer.iter().map(|t| &t.name);
            tensors.chain(graph.input.iter().map(|i| &i.name)).any(|n| n.starts_with(p))
        };
        while taken(&prefix) {
            prefix.push('@');
        }
        let mut nodes = Vec::with_capacity(graph.node.len());
        for (i, node) in graph.node.iter_mut().enumerate() {
            nodes.push(OriginNode { name: node_name(node).to_owned(), op: node.op_type.clone() });
            node.name = format!("{prefix}{i}");
        }
        Names { prefix, nodes }
    }

    /// The ONNX node behind a name that the library made, and what the library added to it.
    pub(crate) fn origin<'a>(&self, made: &'a str) -> Option<(&OriginNode, &'a str)> {
        let rest = made.strip_prefix(&self.prefix)?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let node = self.nodes.get(rest[..end].parse::<usize>().ok()?)?;
        Some((node, &rest[end..]))
    }

    /// The same text with numbers replaced by names, and the first node that it mentions.
    pub(crate) fn restore(&self, text: &str) -> (String, Option<String>) {
        let mut out = String::new();
        let mut first = None;
        let mut rest = text;
        while let Some(at) = rest.find(&self.prefix) {
            out.push_str(&rest[..at]);
            match self.origin(&rest[at..]) {
                Some((node, after)) => {
                    out.push_str(&node.name);
                    first.get_or_insert_with(|| node.name.clone());
                    rest = after;
                }
                None => {
                    out.push_str(&self.prefix);
                    rest = &rest[at + self.prefix.len()..];
                }
            }
        }
        out.push_str(rest);
        (out, first)
    }

    /// A readable name for a value that the library made.
    pub(crate) fn value(&self, made: &str) -> String {
        match self.origin(made) {
            Some((node, _)) if node.op == "Constant" => readable(&node.name),
            Some((node, suffix)) if suffix.starts_with(".fix-rank") => readable(&format!("{}.constant", node.name)),
            Some((node, suffix)) => readable(&format!("{}{suffix}", node.name)),
            None => readable(made.strip_suffix(".0").unwrap_or(made)),
        }
    }
}

/// An ONNX name as a value's name: path separators become dots.
pub(crate) fn readable(name: &str) -> String {
    name.trim_start_matches('/').replace("::", ".").replace(['/', ':'], ".")
}
