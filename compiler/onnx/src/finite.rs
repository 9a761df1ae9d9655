//! Finds NaN and infinities among the constants of a model.

use crate::ImportError;
use crate::proto_check::stored_tensors;
use std::collections::HashSet;
use tract_onnx::pb::{GraphProto, TensorProto, tensor_proto::DataType};

/// Checks all stored tensors. One number that only bounds clamps may be infinite: it means that there is no bound.
pub(crate) fn check_finite(graph: &GraphProto) -> Result<(), ImportError> {
    let mut read: HashSet<&str> = HashSet::new();
    for node in &graph.node {
        match node.op_type.as_str() {
            "Min" | "Max" => {}
            "Clip" => read.extend(node.input.first().map(String::as_str)),
            _ => read.extend(node.input.iter().map(String::as_str)),
        }
    }
    let constant_output = |name: &str| {
        let node = graph.node.iter().find(|n| crate::proto_check::node_name(n) == name && n.op_type == "Constant");
        node.and_then(|n| n.output.first()).map_or(name.to_owned(), Clone::clone)
    };
    for (name, tensor) in stored_tensors(graph) {
        if let Some((index, value)) = first_non_finite(tensor) {
            let read_as = constant_output(name);
            let bound = tensor.dims.iter().product::<i64>() == 1 && !read.contains(read_as.as_str());
            if value.is_nan() || !bound {
                return Err(ImportError::NonFinite { tensor: name.to_owned(), index, value });
            }
        }
    }
    Ok(())
}

fn first_non_finite(tensor: &TensorProto) -> Option<(usize, f32)> {
    let raw = &tensor.raw_data;
    let first = |mut values: Box<dyn Iterator<Item = f32> + '_>| {
        let mut index = 0;
        values.find_map(|v| {
            index += 1;
            (!v.is_finite()).then_some((index - 1, v))
        })
    };
    if tensor.data_type == DataType::Float as i32 {
        let words = raw.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
        return first(Box::new(words.chain(tensor.float_data.iter().copied())));
    }
    if tensor.data_type == DataType::Double as i32 {
        let words = raw.chunks_exact(8).map(|c| f64::from_le_bytes([c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]]));
        return first(Box::new(words.chain(tensor.double_data.iter().copied()).map(|v| v as f32)));
    }
    if tensor.data_type == DataType::Float16 as i32 {
        let halves = raw.chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]]));
        let halves = halves.chain(tensor.int32_data.iter().map(|&v| v as u16));
        return first(Box::new(halves.map(half_if_special)));
    }
    None
}

/// The value of a half-precision number that is infinite or NaN; zero for all others.
fn half_if_special(bits: u16) -> f32 {
    match (bits & 0x7c00 == 0x7c00, bits & 0x03ff, bits & 0x8000) {
        (false, ..) => 0.0,
        (true, 0, 0) => f32::INFINITY,
        (true, 0, _) => f32::NEG_INFINITY,
        (true, ..) => f32::NAN,
    }
}
