//! Writes small ONNX models and compares what they compute with textbook loops.

use flowlet_compiler::interp;
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_onnx::{ImportError, ImportOptions, import};
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_proto::DataType, tensor_shape_proto::Dimension,
    tensor_shape_proto::dimension::Value, type_proto,
};

/// A model under construction.
#[derive(Clone)]
pub struct Model {
    pub proto: ModelProto,
}

/// A dimension: fixed or a symbol.
#[derive(Clone)]
pub enum Dim {
    Fixed(i64),
    Symbol(&'static str),
    Unnamed,
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Dim::Fixed(size as i64)
    }
}

impl From<&'static str> for Dim {
    fn from(name: &'static str) -> Self {
        Dim::Symbol(name)
    }
}

impl Model {
    pub fn new() -> Self {
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 17 }],
            graph: Some(GraphProto { name: "test".to_owned(), ..GraphProto::default() }),
            ..ModelProto::default()
        };
        Model { proto }
    }

    pub fn opset(mut self, version: i64) -> Self {
        self.proto.opset_import[0].version = version;
        self
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.proto.graph.as_mut().unwrap()
    }

    pub fn input_of(mut self, name: &str, dtype: DataType, dims: &[Dim]) -> Self {
        let dim = dims.iter().map(|d| Dimension {
            value: match d {
                Dim::Fixed(v) => Some(Value::DimValue(*v)),
                Dim::Symbol(s) => Some(Value::DimParam((*s).to_owned())),
                Dim::Unnamed => None,
            },
            ..Dimension::default()
        });
        let tensor =
            type_proto::Tensor { elem_type: dtype as i32, shape: Some(TensorShapeProto { dim: dim.collect() }) };
        let info = ValueInfoProto {
            name: name.to_owned(),
            r#type: Some(TypeProto { value: Some(type_proto::Value::TensorType(tensor)), ..TypeProto::default() }),
            ..ValueInfoProto::default()
        };
        self.graph().input.push(info);
        self
    }

    pub fn input(self, name: &str, dims: &[usize]) -> Self {
        let dims: Vec<Dim> = dims.iter().map(|&d| d.into()).collect();
        self.input_of(name, DataType::Float, &dims)
    }

    pub fn output(mut self, name: &str) -> Self {
        self.graph().output.push(ValueInfoProto { name: name.to_owned(), ..ValueInfoProto::default() });
        self
    }

    pub fn stored(mut self, tensor: TensorProto) -> Self {
        self.graph().initializer.push(tensor);
        self
    }

    pub fn constant(self, name: &str, dims: &[usize], data: &[f32]) -> Self {
        self.stored(f32_tensor(name, dims, data))
    }

    pub fn integers(self, name: &str, dims: &[usize], data: &[i64]) -> Self {
        self.stored(TensorProto {
            name: name.to_owned(),
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: DataType::Int64 as i32,
            int64_data: data.to_vec(),
            ..TensorProto::default()
        })
    }

    /// Adds a node whose name is its operator in lower case and its first output.
    pub fn node(self, op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> Self {
        let name = format!("/{}/{}", op.to_lowercase(), outputs[0]);
        self.named(&name, op, inputs, outputs, attributes)
    }

    pub fn named(
        mut self,
        name: &str,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> Self {
        let words = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect();
        self.graph().node.push(NodeProto {
            name: name.to_owned(),
            op_type: op.to_owned(),
            input: words(inputs),
            output: words(outputs),
            attribute: attributes,
            ..NodeProto::default()
        });
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.proto.encode_to_vec()
    }

    pub fn import(&self) -> Result<Graph, ImportError> {
        import(&self.bytes(), &ImportOptions::default())
    }

    pub fn graph_or_panic(&self) -> Graph {
        match self.import() {
            Ok(graph) => graph,
            Err(e) => panic!("the model does not import: {e}"),
        }
    }

    /// The operations of the imported graph, in order.
    pub fn ops(&self) -> Vec<&'static str> {
        self.graph_or_panic().nodes.iter().map(|n| n.op.name()).collect()
    }

    /// Imports, runs on `inputs` and returns the first output.
    pub fn run(&self, inputs: &[Tensor]) -> Tensor {
        let graph = self.graph_or_panic();
        match interp::run(&graph, inputs) {
            Ok(mut outputs) => outputs.remove(0),
            Err(e) => panic!("the graph does not run: {e}"),
        }
    }

    /// Checks shape and elements of the first output.
    #[track_caller]
    pub fn expect(&self, inputs: &[Tensor], dims: &[usize], expected: &[f32]) {
        let result = self.run(inputs);
        assert_eq!(result.dims, dims);
        close(result.as_f32().unwrap(), expected, 2e-6);
    }
}

/// Compares relative to the largest expected element.
#[track_caller]
pub fn close(found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len());
    let range = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance * range, "element {i}: {a} is not {b}");
    }
}

/// `n` numbers in -1..1 that look random.
pub fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9).wrapping_add(0x7f4a_7c15);
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

pub fn tensor(dims: &[usize], seed: u32) -> Tensor {
    Tensor::f32(dims, noise(dims.iter().product(), seed))
}

pub fn f32_tensor(name: &str, dims: &[usize], data: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: kind as i32, ..AttributeProto::default() }
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: value, ..attribute(name, AttributeType::Int) }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { ints: values.to_vec(), ..attribute(name, AttributeType::Ints) }
}

pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: value, ..attribute(name, AttributeType::Float) }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { s: value.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}

pub fn value(tensor: TensorProto) -> AttributeProto {
    AttributeProto { t: Some(tensor), ..attribute("value", AttributeType::Tensor) }
}
