//! Closes the open dimensions of a model's inputs.

use crate::{ImportError, ImportOptions};
use flowlet_compiler::ir::Remark;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{GraphProto, tensor_shape_proto::Dimension, tensor_shape_proto::dimension::Value, type_proto};

/// Stands for an open dimension in the example of an error message.
const EXAMPLE: usize = 32;

/// Writes fixed dimensions into the inputs: those given in the options, and 1 for an open leading axis (the batch),
/// which leaves a remark. A symbol that is settled on one input is settled on all.
///
/// Tells a dimension that stays open, and shapes in the options that the model contradicts.
pub(crate) fn close_shapes(graph: &mut GraphProto, options: &ImportOptions) -> Result<Vec<Remark>, ImportError> {
    let constants: HashSet<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
    let names: Vec<String> =
        graph.input.iter().filter(|i| !constants.contains(&i.name)).map(|i| i.name.clone()).collect();
    if let Some(unknown) = options.shapes.keys().find(|k| !names.contains(k)) {
        let message = format!("the model has no such input; it has '{}'", names.join("', '"));
        return Err(ImportError::Shape { input: unknown.clone(), message });
    }
    let mut remarks = Vec::new();
    let mut settled: HashMap<String, usize> = HashMap::new();
    for input in graph.input.iter_mut().filter(|i| !constants.contains(&i.name)) {
        let given = options.shapes.get(&input.name);
        let name = input.name.clone();
        let Some(dims) = dims_of(input, given.map(Vec::len))? else { continue };
        if let Some(given) = given {
            apply(dims, given, &name, &mut settled)?;
        } else if let Some(first) = dims.first_mut().filter(|d| fixed(d).is_none()) {
            let symbol = symbol(first);
            let size = symbol.as_ref().and_then(|s| settled.get(s)).copied().unwrap_or(1);
            first.value = Some(Value::DimValue(size as i64));
            let called = symbol.as_ref().map_or(String::new(), |s| format!(" '{s}'"));
            remarks.push(Remark {
                pass: "import".to_owned(),
                node: name,
                message: format!("the open leading axis{called} becomes {size}: one sample at a time"),
            });
            if let Some(symbol) = symbol {
                settled.insert(symbol, size);
            }
        }
    }
    for input in graph.input.iter_mut().filter(|i| !constants.contains(&i.name)) {
        let name = input.name.clone();
        let Some(dims) = dims_of(input, None)? else { continue };
        for dim in dims.iter_mut() {
            if let Some(&size) = symbol(dim).and_then(|s| settled.get(&s)) {
                dim.value = Some(Value::DimValue(size as i64));
            }
        }
        if let Some(axis) = dims.iter().position(|d| fixed(d).is_none()) {
            let example: Vec<String> = dims.iter().map(|d| fixed(d).unwrap_or(EXAMPLE).to_string()).collect();
            let symbol = symbol(&dims[axis]);
            return Err(ImportError::OpenDimension { input: name, axis, symbol, example: example.join("x") });
        }
    }
    Ok(remarks)
}

/// The dimensions of an input; of rank `rank` if the file says nothing at all about them.
fn dims_of(
    input: &mut tract_onnx::pb::ValueInfoProto,
    rank: Option<usize>,
) -> Result<Option<&mut Vec<Dimension>>, ImportError> {
    let name = &input.name;
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        return Err(ImportError::Malformed { name: name.clone(), message: "the input has no tensor type".to_owned() });
    };
    if tensor.shape.is_none() {
        let Some(rank) = rank else {
            let message = format!("the file does not say its shape: add --shape {name}=1x3x{EXAMPLE}x{EXAMPLE}");
            return Err(ImportError::Shape { input: name.clone(), message });
        };
        tensor.shape = Some(tract_onnx::pb::TensorShapeProto { dim: vec![Dimension::default(); rank] });
    }
    Ok(tensor.shape.as_mut().map(|s| &mut s.dim))
}

fn fixed(dim: &Dimension) -> Option<usize> {
    match dim.value {
        Some(Value::DimValue(v)) => usize::try_from(v).ok().filter(|&v| v > 0),
        Some(Value::DimParam(_)) | None => None,
    }
}

fn symbol(dim: &Dimension) -> Option<String> {
    match &dim.value {
        Some(Value::DimParam(name)) if !name.is_empty() => Some(name.clone()),
        Some(Value::DimParam(_) | Value::DimValue(_)) | None => None,
    }
}

fn apply(
    dims: &mut [Dimension],
    given: &[usize],
    input: &str,
    settled: &mut HashMap<String, usize>,
) -> Result<(), ImportError> {
    let contradiction = |message: String| Err(ImportError::Shape { input: input.to_owned(), message });
    if dims.len() != given.len() {
        return contradiction(format!("--shape gives {} dimensions, the model has {}", given.len(), dims.len()));
    }
    for (axis, (dim, &size)) in dims.iter_mut().zip(given).enumerate() {
        match fixed(dim) {
            _ if size == 0 || size > 1 << 24 => return contradiction(format!("{size} is no size for axis {axis}")),
            Some(fixed) if fixed != size => {
                return contradiction(format!("--shape gives {size} at axis {axis}, the model fixes {fixed}"));
            }
            Some(_) => {}
            None => {
                if let Some(name) = symbol(dim)
                    && settled.insert(name.clone(), size).is_some_and(|before| before != size)
                {
                    return contradiction(format!("'{name}' at axis {axis} is {size} here and another size elsewhere"));
                }
                dim.value = Some(Value::DimValue(size as i64));
            }
        }
    }
    Ok(())
}
