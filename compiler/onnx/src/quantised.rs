//! Models that were quantised before, in both of ONNX's forms: float operators between `QuantizeLinear` and
//! `DequantizeLinear`, and integer operators (`QLinearConv`, `QLinearMatMul` and those that onnxruntime's static quantiser
//! writes around them).
//!
//! Both become float operators whose results pass through a `FakeQuant`: rounded to the grid that the file states,
//! and still real numbers. The compiler keeps these grids as scales and zero points. Weights and biases become the
//! real numbers that they stand for. An unsigned byte `q` with zero point `z` is the signed byte `q - 128` with zero
//! point `z - 128`, exactly.

use crate::proto_check::node_name;
use crate::{ImportError, UnsupportedNode};
use flowlet_compiler::ir::Remark;
use std::collections::{HashMap, HashSet};
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, attribute_proto::AttributeType, tensor_proto::DataType,
    type_proto,
};

/// The operator that rounds to a grid; it exists between this file and `kept.rs` only.
pub(crate) const FAKE_QUANT: &str = "FakeQuant";

/// Operators that only move elements, so that they do the same to codes and to the numbers that codes stand for.
const MOVING: &[&str] = &[
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "MaxPool",
    "Reshape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The real number of signed byte `q` is `scale * (q - zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    scale: f32,
    zero_point: i8,
}

/// A stored tensor of integers.
struct Codes {
    dims: Vec<usize>,
    values: Vec<i32>,
    kind: DataType,
}

/// Where an integer operator has its operands; each is followed by its scale and its zero point.
struct Form {
    float: &'static str,
    operands: Vec<usize>,
    bias: Option<usize>,
    /// Position of the result's scale; its zero point follows.
    result: usize,
    /// Attributes that the float operator knows.
    attributes: &'static [&'static str],
}

fn form(node: &NodeProto) -> Option<Form> {
    let window: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
    let pool: &[&str] = &["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"];
    let new = |float, operands: &[usize], bias, result, attributes| {
        Some(Form { float, operands: operands.to_vec(), bias, result, attributes })
    };
    match node.op_type.as_str() {
        "QLinearConv" => new("Conv", &[0, 3], Some(8), 6, window),
        "QLinearMatMul" => new("MatMul", &[0, 3], None, 6, &[]),
        "QGemm" => new("Gemm", &[0, 3], Some(6), 7, &["alpha", "transA", "transB"]),
        "QLinearAdd" => new("Add", &[0, 3], None, 6, &[]),
        "QLinearMul" => new("Mul", &[0, 3], None, 6, &[]),
        "QLinearSigmoid" => new("Sigmoid", &[0], None, 3, &[]),
        "QLinearLeakyRelu" => new("LeakyRelu", &[0], None, 3, &["alpha"]),
        "QLinearSoftmax" => new("Softmax", &[0], None, 3, &["axis"]),
        "QLinearAveragePool" => new("AveragePool", &[0], None, 3, pool),
        "QLinearGlobalAveragePool" => new("GlobalAveragePool", &[0], None, 3, &[]),
        "QLinearConcat" => {
            let operands: Vec<usize> = (2..node.input.len()).step_by(3).collect();
            new("Concat", &operands, None, 0, &["axis"])
        }
        _ => None,
    }
}

fn is_quantised(node: &NodeProto) -> bool {
    form(node).is_some() || matches!(node.op_type.as_str(), "QuantizeLinear" | "DequantizeLinear")
}

/// Operators of quantised models that compute scales from each sample.
pub(crate) fn refusal(op: &str) -> Option<&'static str> {
    match op {
        "DynamicQuantizeLinear" | "ConvInteger" | "MatMulInteger" | "DynamicQuantizeMatMul" => Some(
            "its scales are computed from each sample, and int8 plans have fixed ones; quantise statically, or give \
             the float model",
        ),
        _ => None,
    }
}

/// Rewrites a quantised model in place; others are left as they are.
///
/// # Errors
/// Nodes whose quantisation has no form here, all of them, or the first tensor that contradicts itself.
pub(crate) fn to_float(graph: &mut GraphProto) -> Result<Vec<Remark>, ImportError> {
    if !graph.node.iter().any(is_quantised) {
        return Ok(Vec::new());
    }
    let stored = crate::proto_check::constants(graph);
    let nodes = std::mem::take(&mut graph.node);
    let taken = graph.initializer.iter().map(|t| t.name.clone()).chain(nodes.iter().flat_map(|n| n.output.clone()));
    let mut rewriter = Rewriter {
        stored,
        taken: taken.collect(),
        grids: HashMap::new(),
        inputs: HashSet::new(),
        made: Vec::new(),
        nodes: Vec::new(),
        remarks: Vec::new(),
    };
    for input in &graph.input {
        if !rewriter.stored.contains_key(&input.name) && element_type(input) != Some(DataType::Float) {
            rewriter.inputs.insert(input.name.clone());
        }
    }
    let mut refused = Vec::new();
    for node in nodes {
        match rewriter.node(&node) {
            Ok(()) => {}
            Err(Fault::Refused(reason)) => {
                refused.push(UnsupportedNode { name: node_name(&node).to_owned(), op: node.op_type.clone(), reason })
            }
            Err(Fault::Broken(message)) => {
                return Err(ImportError::Malformed { name: node_name(&node).to_owned(), message });
            }
        }
    }
    if !refused.is_empty() {
        return Err(ImportError::Unsupported { nodes: refused });
    }
    rewriter.finish(graph);
    Ok(rewriter.remarks)
}

/// The element type that the file states for an input or output.
fn element_type(info: &tract_onnx::pb::ValueInfoProto) -> Option<DataType> {
    match info.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => DataType::try_from(tensor.elem_type).ok(),
    }
}

/// Why a node cannot be rewritten.
enum Fault {
    /// It is well formed, and there is no form for it here.
    Refused(String),
    /// It contradicts itself.
    Broken(String),
}

struct Rewriter {
    /// Constants by tensor name.
    stored: HashMap<String, TensorProto>,
    /// Names of tensors that exist.
    taken: HashSet<String>,
    /// Tensors of codes, which now hold the numbers that the codes stand for.
    grids: HashMap<String, Grid>,
    /// Graph inputs that are not f32.
    inputs: HashSet<String>,
    /// Constants in real numbers.
    made: Vec<TensorProto>,
    nodes: Vec<NodeProto>,
    remarks: Vec<Remark>,
}

impl Rewriter {
    fn node(&mut self, node: &NodeProto) -> Result<(), Fault> {
        if let Some(reason) = refusal(&node.op_type) {
            return Err(Fault::Refused(reason.to_owned()));
        }
        match node.op_type.as_str() {
            "QuantizeLinear" => return self.quantize(node),
            "DequantizeLinear" => return self.dequantize(node),
            _ => {}
        }
        if let Some(form) = form(node) {
            return self.integer_operator(node, &form);
        }
        if node.op_type == "Identity"
            && let Some(tensor) = node.input.first().and_then(|i| self.stored.get(i)).cloned()
        {
            self.stored.insert(name(&node.output, 0)?.to_owned(), tensor);
        }
        if let Some(grid) = node.input.first().and_then(|i| self.grids.get(i)).copied() {
            if !MOVING.contains(&node.op_type.as_str()) {
                return Err(Fault::Refused(format!("'{}' of quantised integers is not supported", node.op_type)));
            }
            self.grids.extend(node.output.iter().filter(|o| !o.is_empty()).map(|o| (o.clone(), grid)));
        }
        self.nodes.push(node.clone());
        Ok(())
    }

    fn quantize(&mut self, node: &NodeProto) -> Result<(), Fault> {
        let (x, y) = (name(&node.input, 0)?, name(&node.output, 0)?);
        if integer(node, "block_size").unwrap_or(0) != 0 {
            return Err(Fault::Refused("scales of blocks have no int8 kernel; quantise per tensor".to_owned()));
        }
        if let Some(tensor) = self.stored.get(x) {
            let (values, dims) = (floats(tensor)?, dims(tensor)?);
            let (scales, zero_points, kind) = self.row(node, 1)?;
            let index = channels(&dims, scales.len(), axis(node, dims.len())?)?;
            let (lo, hi) = limits(kind)?;
            let round = |(i, v): (usize, &f32)| {
                let (scale, zero) = (scales[index(i)], zero_points[index(i)]);
                let code = ((v / scale).round_ties_even() as i32).saturating_add(zero).clamp(lo, hi);
                (code - zero) as f32 * scale
            };
            let real = values.iter().enumerate().map(round).collect();
            let y = y.to_owned();
            self.store(&y, &dims, real);
            return Ok(());
        }
        let grid = self.grid(node, 1)?;
        self.rounded(node, x.to_owned(), y.to_owned(), grid);
        Ok(())
    }

    fn dequantize(&mut self, node: &NodeProto) -> Result<(), Fault> {
        let (x, y) = (name(&node.input, 0)?.to_owned(), name(&node.output, 0)?.to_owned());
        if integer(node, "block_size").unwrap_or(0) != 0 {
            return Err(Fault::Refused("scales of blocks have no int8 kernel; quantise per channel".to_owned()));
        }
        match self.stored.get(&x) {
            Some(tensor) if tensor.data_type == DataType::Float as i32 => {
                // Rounded by the QuantizeLinear before it.
                let (values, dims) = (floats(tensor)?, dims(tensor)?);
                self.store(&y, &dims, values);
                return Ok(());
            }
            Some(tensor) => {
                let codes = codes(tensor)?;
                let (scales, zero_points, _) = self.row(node, 1)?;
                let at = axis(node, codes.dims.len())?;
                let real = self.reals(node, &codes, &scales, &zero_points, at)?;
                self.store(&y, &codes.dims, real);
                return Ok(());
            }
            None => {}
        }
        let grid = self.grid(node, 1)?;
        let x = self.on_grid(node, &x, grid)?;
        self.nodes.push(NodeProto {
            input: vec![x],
            output: vec![y],
            op_type: "Identity".to_owned(),
            domain: String::new(),
            attribute: Vec::new(),
            ..node.clone()
        });
        Ok(())
    }

    /// `QLinear...` becomes the float operator and a rounding.
    fn integer_operator(&mut self, node: &NodeProto, form: &Form) -> Result<(), Fault> {
        if integer(node, "channels_last").unwrap_or(0) != 0 {
            return Err(Fault::Refused("channels on the last axis are not supported".to_owned()));
        }
        let mut inputs = Vec::new();
        let mut steps: Vec<f32> = vec![1.0];
        for (slot, &position) in form.operands.iter().enumerate() {
            let own = name(&node.input, position)?.to_owned();
            let (scales, zero_points, _) = self.row(node, position + 1)?;
            if steps.len() == 1 {
                steps = scales.iter().map(|s| s * steps[0]).collect();
            } else {
                steps.iter_mut().for_each(|s| *s *= scales[0]);
            }
            inputs.push(match self.stored.get(&own) {
                Some(tensor) => {
                    let codes = codes(tensor)?;
                    let at = match form.float {
                        "Conv" => 0,
                        "Gemm" if slot == 1 && integer(node, "transB").unwrap_or(0) != 0 => 0,
                        _ => codes.dims.len().saturating_sub(1),
                    };
                    let real = self.reals(node, &codes, &scales, &zero_points, at)?;
                    let dims = codes.dims;
                    self.constant(&own, &dims, real)
                }
                None => {
                    let grid = self.grid(node, position + 1)?;
                    self.on_grid(node, &own, grid)?
                }
            });
        }
        if let Some(bias) = form.bias.and_then(|p| node.input.get(p)).filter(|b| !b.is_empty()).cloned() {
            let tensor = self.stored.get(&bias);
            let tensor = tensor.ok_or_else(|| Fault::Refused("a bias that is computed is not supported".to_owned()))?;
            let codes = codes(tensor)?;
            let n = codes.values.len();
            let index = channels(&codes.dims, steps.len(), codes.dims.len().saturating_sub(1))?;
            let real = (0..n).map(|i| codes.values[i] as f32 * steps[index(i)]).collect();
            let dims = codes.dims;
            inputs.push(self.constant(&bias, &dims, real));
        }
        let y = name(&node.output, 0)?.to_owned();
        let attribute = node.attribute.iter().filter(|a| form.attributes.contains(&a.name.as_str())).cloned().collect();
        let rounds = node.input.get(form.result).is_some_and(|i| !i.is_empty());
        let result = if rounds { self.unique(&format!("{y}.real")) } else { y.clone() };
        self.nodes.push(NodeProto {
            input: inputs,
            output: vec![result.clone()],
            op_type: form.float.to_owned(),
            domain: String::new(),
            attribute,
            ..node.clone()
        });
        if rounds {
            let grid = self.grid(node, form.result)?;
            self.rounded(node, result, y, grid);
        }
        Ok(())
    }

    fn rounded(&mut self, node: &NodeProto, x: String, y: String, grid: Grid) {
        let attribute = |name: &str, kind| AttributeProto {
            name: name.to_owned(),
            r#type: kind as i32,
            ..AttributeProto::default()
        };
        let scale = AttributeProto { f: grid.scale, ..attribute("scale", AttributeType::Float) };
        let zero = AttributeProto { i: grid.zero_point.into(), ..attribute("zero_point", AttributeType::Int) };
        self.grids.insert(y.clone(), grid);
        self.nodes.push(NodeProto {
            input: vec![x],
            output: vec![y],
            op_type: FAKE_QUANT.to_owned(),
            domain: String::new(),
            attribute: vec![scale, zero],
            ..node.clone()
        });
    }

    /// The tensor that holds the numbers which codes in `x` stand for, if it has this grid.
    fn on_grid(&mut self, node: &NodeProto, x: &str, grid: Grid) -> Result<String, Fault> {
        match self.grids.get(x) {
            Some(own) if *own == grid => Ok(x.to_owned()),
            Some(own) => Err(Fault::Refused(format!(
                "'{x}' was quantised with scale {:e} and zero point {} and is read with {:e} and {}",
                own.scale, own.zero_point, grid.scale, grid.zero_point
            ))),
            None if self.inputs.contains(x) => {
                let real = self.unique(&format!("{x}.rounded"));
                self.rounded(node, x.to_owned(), real.clone(), grid);
                self.grids.insert(x.to_owned(), grid);
                self.remark(x, "this input of integers takes the real numbers that they stand for".to_owned());
                Ok(real)
            }
            None => Err(Fault::Refused(format!("it reads integers, and nothing quantises '{x}'"))),
        }
    }

    /// Real numbers of a constant, scales and zero points along `axis` if there are several.
    fn reals(
        &mut self,
        node: &NodeProto,
        codes: &Codes,
        scales: &[f32],
        zero_points: &[i32],
        axis: usize,
    ) -> Result<Vec<f32>, Fault> {
        let index = channels(&codes.dims, scales.len(), axis)?;
        if codes.kind != DataType::Int32 && codes.values.len() > 1 {
            let outside = |(i, q): (usize, &i32)| (q - zero_points[index(i)]).abs() > 127;
            if codes.values.iter().enumerate().any(outside) {
                let message = "some weights are more than 127 steps from their zero point, so that the layer's \
                               weights are rounded again";
                self.remark(node_name(node), message.to_owned());
            }
        }
        let real = |(i, q): (usize, &i32)| q.saturating_sub(zero_points[index(i)]) as f32 * scales[index(i)];
        Ok(codes.values.iter().enumerate().map(real).collect())
    }

    /// Scale and zero point of an activation, both of one number.
    fn grid(&self, node: &NodeProto, position: usize) -> Result<Grid, Fault> {
        let (scales, zero_points, kind) = self.row(node, position)?;
        let [scale] = scales[..] else {
            return Err(Fault::Refused(
                "activations with a scale for each channel have no int8 kernel; quantise them per tensor".to_owned(),
            ));
        };
        let (lo, _) = limits(kind)?;
        let zero_point = i8::try_from(zero_points[0] - lo - 128);
        let zero_point = zero_point.map_err(|_| Fault::Broken("its zero point is out of range".to_owned()))?;
        Ok(Grid { scale, zero_point })
    }

    /// Scales from operand `position`, zero points from the one behind it, as many, and the type of the codes.
    fn row(&self, node: &NodeProto, position: usize) -> Result<(Vec<f32>, Vec<i32>, DataType), Fault> {
        let scale = name(&node.input, position)?;
        let computed = |what: &str| Fault::Refused(format!("{what} that are computed are not supported"));
        let scales = floats(self.stored.get(scale).ok_or_else(|| computed("scales"))?)?;
        if scales.is_empty() || scales.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return Err(Fault::Broken(format!("a scale of '{scale}' is not positive")));
        }
        let (zero_points, kind) = match node.input.get(position + 1).filter(|z| !z.is_empty()) {
            Some(zero) => {
                let zero = codes(self.stored.get(zero).ok_or_else(|| computed("zero points"))?)?;
                (zero.values, zero.kind)
            }
            None => {
                let kind = integer(node, "output_dtype").filter(|&k| k != 0).unwrap_or(DataType::Uint8 as i64);
                let kind = i32::try_from(kind).ok().and_then(|k| DataType::try_from(k).ok());
                (vec![0], kind.unwrap_or(DataType::Undefined))
            }
        };
        let zero_points = match zero_points[..] {
            [one] => vec![one; scales.len()],
            _ => zero_points,
        };
        if zero_points.len() != scales.len() {
            let message = format!("{} zero points for {} scales", zero_points.len(), scales.len());
            return Err(Fault::Broken(message));
        }
        Ok((scales, zero_points, kind))
    }

    /// A constant in real numbers under the name that its readers use.
    fn store(&mut self, name: &str, dims: &[usize], values: Vec<f32>) {
        let tensor = TensorProto {
            name: name.to_owned(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        };
        self.stored.insert(name.to_owned(), tensor.clone());
        self.made.push(tensor);
    }

    fn constant(&mut self, like: &str, dims: &[usize], values: Vec<f32>) -> String {
        let name = self.unique(&format!("{like}.real"));
        self.store(&name, dims, values);
        name
    }

    fn unique(&mut self, name: &str) -> String {
        let mut name = name.to_owned();
        while !self.taken.insert(name.clone()) {
            name.push('_');
        }
        name
    }

    fn remark(&mut self, node: &str, message: String) {
        self.remarks.push(Remark { pass: "import".to_owned(), node: node.to_owned(), message });
    }

    fn finish(&mut self, graph: &mut GraphProto) {
        graph.node = std::mem::take(&mut self.nodes);
        graph.initializer.append(&mut self.made);
        let read: HashSet<&str> = graph.node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
        let outputs: HashSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
        let used = |t: &TensorProto| read.contains(t.name.as_str()) || outputs.contains(t.name.as_str());
        graph.initializer.retain(used);
        let mut rounded = 0;
        for node in graph.node.iter().filter(|n| n.op_type == FAKE_QUANT) {
            rounded += usize::from(!node.output.is_empty());
        }
        for info in graph.input.iter_mut().chain(&mut graph.output) {
            if self.grids.contains_key(&info.name)
                && let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_mut().and_then(|t| t.value.as_mut())
            {
                tensor.elem_type = DataType::Float as i32;
            }
        }
        let name = graph.name.clone();
        self.remark(&name, format!("the file is quantised; {rounded} tensors keep its scales and zero points"));
    }
}

fn name(names: &[String], position: usize) -> Result<&str, Fault> {
    let found = names.get(position).filter(|n| !n.is_empty());
    found.map(String::as_str).ok_or_else(|| Fault::Broken(format!("operand {position} is missing")))
}

fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    node.attribute.iter().find(|a| a.name == name).map(|a| a.i)
}

/// The axis of scales, of a tensor of this rank.
fn axis(node: &NodeProto, rank: usize) -> Result<usize, Fault> {
    let axis = integer(node, "axis").unwrap_or(1);
    let axis = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(axis).map_err(|_| Fault::Broken(format!("axis {axis} of {rank} axes")))
}

/// Where the number for each element is in a row of `count`, which lies along `axis`.
fn channels(dims: &[usize], count: usize, axis: usize) -> Result<impl Fn(usize) -> usize + use<>, Fault> {
    if count != 1 && dims.get(axis) != Some(&count) {
        return Err(Fault::Broken(format!("{count} scales do not fit axis {axis} of {dims:?}")));
    }
    let inner: usize = dims.iter().skip(axis + 1).product::<usize>().max(1);
    Ok(move |i: usize| if count == 1 { 0 } else { i / inner % count })
}

/// Least and greatest code.
fn limits(kind: DataType) -> Result<(i32, i32), Fault> {
    match kind {
        DataType::Uint8 => Ok((0, 255)),
        DataType::Int8 => Ok((-128, 127)),
        other => Err(Fault::Refused(format!("codes of {other:?} are not supported, 8-bit ones are"))),
    }
}

fn dims(tensor: &TensorProto) -> Result<Vec<usize>, Fault> {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    dims.ok_or_else(|| Fault::Broken(format!("the tensor '{}' has negative dimensions", tensor.name)))
}

fn complete<T>(tensor: &TensorProto, values: Vec<T>) -> Result<Vec<T>, Fault> {
    if dims(tensor)?.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) == Some(values.len()) {
        return Ok(values);
    }
    let message = format!("the tensor '{}' of {:?} holds {} elements", tensor.name, tensor.dims, values.len());
    Err(Fault::Broken(message))
}

fn floats(tensor: &TensorProto) -> Result<Vec<f32>, Fault> {
    if tensor.data_type != DataType::Float as i32 {
        return Err(Fault::Refused(format!("'{}' is not f32; quantise the f32 form of the model", tensor.name)));
    }
    let words = tensor.raw_data.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    complete(tensor, words.chain(tensor.float_data.iter().copied()).collect())
}

fn codes(tensor: &TensorProto) -> Result<Codes, Fault> {
    let raw = &tensor.raw_data;
    let kind = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
    let values: Vec<i32> = match kind {
        DataType::Uint8 => raw.iter().map(|&b| b.into()).collect(),
        DataType::Int8 => raw.iter().map(|&b| i32::from(b as i8)).collect(),
        DataType::Int32 => raw.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect(),
        other => {
            let message = format!("'{}' has elements of {other:?}; 8-bit weights are supported", tensor.name);
            return Err(Fault::Refused(message));
        }
    };
    let values = complete(tensor, values.into_iter().chain(tensor.int32_data.iter().copied()).collect())?;
    Ok(Codes { dims: dims(tensor)?, values, kind })
}
