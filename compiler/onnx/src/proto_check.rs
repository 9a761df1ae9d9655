//! What a model must satisfy before the import library sees it.
//!
//! The library resolves names with maps that it expects to be complete and walks the graph expecting it to end, so
//! that a broken file would end in one of its panics, or in a message without a name.

use crate::ImportError;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, tensor_proto::DataLocation};
use tract_onnx::prelude::Framework;

/// Decodes a model.
pub(crate) fn decode(bytes: &[u8]) -> Result<ModelProto, ImportError> {
    if bytes.is_empty() {
        return Err(ImportError::NotOnnx { offset: None, message: "the file is empty".to_owned() });
    }
    if let Some((offset, message)) = crate::wire::first_fault(bytes) {
        // A model begins with its format version; any other first byte belongs to another kind of file.
        let offset = (bytes[0] == 0x08).then_some(offset);
        let message = if offset.is_some() { message } else { "the bytes are not a protobuf message".to_owned() };
        return Err(ImportError::NotOnnx { offset, message });
    }
    let mut reader = bytes;
    let proto = tract_onnx::onnx()
        .proto_model_for_read(&mut reader)
        .map_err(|e| ImportError::NotOnnx { offset: None, message: format!("{e:#}") })?;
    if !proto.opset_import.iter().any(|o| (o.domain.is_empty() || o.domain == "ai.onnx") && o.version > 0) {
        // The last field that exporters write.
        let message = "the file does not say its operator set; it is incomplete".to_owned();
        return Err(ImportError::NotOnnx { offset: None, message });
    }
    match &proto.graph {
        Some(graph) if !graph.node.is_empty() || !graph.output.is_empty() => Ok(proto),
        Some(_) | None => Err(ImportError::NotOnnx { offset: None, message: "the file holds no graph".to_owned() }),
    }
}

/// The name by which an author knows a node.
pub(crate) fn node_name(node: &NodeProto) -> &str {
    let output = || node.output.iter().find(|o| !o.is_empty());
    if node.name.is_empty() { output().map_or("", String::as_str) } else { &node.name }
}

/// Checks that every tensor is defined once, that every reader finds its tensor and that nothing goes in circles.
pub(crate) fn check_graph(graph: &GraphProto) -> Result<(), ImportError> {
    let malformed =
        |name: &str, message: &str| Err(ImportError::Malformed { name: name.to_owned(), message: message.to_owned() });
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |v| &v.name);
        return malformed(name, "sparse initializers are not read; store the tensor densely before the export");
    }
    let mut outside: HashSet<&str> = HashSet::new();
    for tensor in &graph.initializer {
        if tensor.name.is_empty() {
            return malformed(&graph.name, "an initializer has no name");
        }
        if !outside.insert(&tensor.name) {
            return malformed(&tensor.name, "two initializers have this name");
        }
    }
    let mut inputs = HashSet::new();
    for input in &graph.input {
        if input.name.is_empty() || !inputs.insert(input.name.as_str()) {
            return malformed(&input.name, "two inputs have this name, or one has none");
        }
    }
    outside.extend(inputs);
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            if outside.contains(output.as_str()) || producers.insert(output, i).is_some() {
                return malformed(node_name(node), &format!("the tensor '{output}' is already defined elsewhere"));
            }
        }
    }
    let dangling =
        |node: &str, tensor: &str| Err(ImportError::Dangling { node: node.to_owned(), tensor: tensor.to_owned() });
    for node in &graph.node {
        let lost = node
            .input
            .iter()
            .find(|i| !i.is_empty() && !outside.contains(i.as_str()) && !producers.contains_key(i.as_str()));
        if let Some(tensor) = lost {
            return dangling(node_name(node), tensor);
        }
    }
    if graph.output.is_empty() {
        return malformed(&graph.name, "the graph has no output");
    }
    let mut outputs = HashSet::new();
    for output in &graph.output {
        if !outside.contains(output.name.as_str()) && !producers.contains_key(output.name.as_str()) {
            return dangling("graph output", &output.name);
        }
        if !outputs.insert(&output.name) {
            return malformed(&output.name, "two outputs have this name");
        }
    }
    match find_cycle(graph, &producers) {
        Some(nodes) => Err(ImportError::Cycle { nodes }),
        None => Ok(()),
    }
}

/// The nodes of one cycle, if there is any. Iterative, as a chain may be longer than the stack is deep.
fn find_cycle(graph: &GraphProto, producers: &HashMap<&str, usize>) -> Option<Vec<String>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        Open,
        Done,
    }
    let mut marks = vec![Mark::New; graph.node.len()];
    for root in 0..graph.node.len() {
        let mut path: Vec<(usize, usize)> = Vec::new();
        if marks[root] == Mark::New {
            marks[root] = Mark::Open;
            path.push((root, 0));
        }
        while let Some((node, next)) = path.last_mut() {
            let Some(input) = graph.node[*node].input.get(*next) else {
                marks[*node] = Mark::Done;
                path.pop();
                continue;
            };
            *next += 1;
            let Some(&producer) = producers.get(input.as_str()) else { continue };
            match marks[producer] {
                Mark::Done => {}
                Mark::New => {
                    marks[producer] = Mark::Open;
                    path.push((producer, 0));
                }
                Mark::Open => {
                    let from = path.iter().position(|(n, _)| *n == producer).unwrap_or(0);
                    let names = path[from..].iter().rev().map(|(n, _)| node_name(&graph.node[*n]).to_owned());
                    return Some(names.collect());
                }
            }
        }
    }
    None
}

/// Tensors that the file stores: initializers by name, then the values of constant nodes by the node's name.
pub(crate) fn stored_tensors(graph: &GraphProto) -> impl Iterator<Item = (&str, &TensorProto)> {
    let constants = graph.node.iter().filter(|n| n.op_type == "Constant");
    let values = constants.flat_map(|n| n.attribute.iter().filter_map(move |a| Some((node_name(n), a.t.as_ref()?))));
    graph.initializer.iter().map(|t| (t.name.as_str(), t)).chain(values)
}

/// Constants by the names of their tensors.
pub(crate) fn constants(graph: &GraphProto) -> HashMap<String, TensorProto> {
    let stored = graph.initializer.iter().map(|t| (t.name.clone(), t.clone()));
    let nodes = graph.node.iter().filter(|n| n.op_type == "Constant");
    let values = nodes.filter_map(|n| Some((n.output.first()?.clone(), n.attribute.iter().find_map(|a| a.t.clone())?)));
    stored.chain(values).collect()
}

/// Checks that the file holds the elements of all its tensors, as many as their dimensions say.
pub(crate) fn check_storage(graph: &GraphProto) -> Result<(), ImportError> {
    for (name, tensor) in stored_tensors(graph) {
        let malformed = |message: String| Err(ImportError::Malformed { name: name.to_owned(), message });
        if tensor.data_location == Some(DataLocation::External as i32) || !tensor.external_data.is_empty() {
            return malformed(
                "the elements are in a file beside the model; save the model as one file (in Python: \
                 onnx.save(onnx.load(PATH), PATH, save_as_external_data=False))"
                    .to_owned(),
            );
        }
        let elements =
            tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?)).filter(|&n| n <= MAX);
        if elements.is_none() {
            return malformed(format!("the dimensions {:?} are negative or too large", tensor.dims));
        }
    }
    Ok(())
}

/// Largest number of elements of a stored tensor.
const MAX: usize = 1 << 31;
