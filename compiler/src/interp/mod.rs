//! Evaluates a graph, f32 or quantised, in the simplest order that is still fast enough to calibrate with.
//!
//! Every sum runs over its terms in sequence, without fused multiply-add, and transcendental functions come from the
//! `libm` crate: two machines compute the same bytes. Quantised operations use the laws of `flowlet-kernels` and
//! textbook loops, so that the interpreter is the yardstick of every kernel.

mod conv;
mod elementwise;
mod movement;
mod norm;
mod quantised;

use crate::ir::{Comparison, DType, Data, Def, Graph, InferError, InputKind, Op, Tensor, Type, Unary, ValueId, infer};
use conv::PackedConv;
use std::collections::HashMap;

/// Why a graph could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InterpError {
    /// An input has another type or shape than the graph declares, or holds NaN, or an index is out of range.
    Input {
        /// Name of the input.
        name: String,
        /// What is wrong and what is expected.
        message: String,
    },
    /// The number of inputs differs.
    InputCount {
        /// Inputs that the graph declares.
        expected: usize,
        /// Inputs given.
        found: usize,
    },
    /// A node cannot be evaluated.
    Node(InferError),
}

impl std::fmt::Display for InterpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InterpError::Input { name, message } => write!(f, "input '{name}': {message}"),
            InterpError::InputCount { expected, found } => {
                write!(f, "the graph takes {expected} inputs and {found} were given")
            }
            InterpError::Node(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for InterpError {}

/// A graph prepared for repeated evaluation.
pub struct Interpreter<'g> {
    graph: &'g Graph,
    packed: HashMap<ValueId, PackedConv>,
    last_use: Vec<usize>,
}

impl<'g> Interpreter<'g> {
    /// Rearranges the weights of convolutions and linear layers once.
    pub fn new(graph: &'g Graph) -> Self {
        let mut last_use = vec![0; graph.values.len()];
        for (i, node) in graph.nodes.iter().enumerate() {
            for id in &node.inputs {
                last_use[id.0 as usize] = i;
            }
        }
        for id in &graph.outputs {
            last_use[id.0 as usize] = usize::MAX;
        }
        let weights = graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv(_) | Op::Linear | Op::QConv { .. }));
        let packed = weights
            .filter_map(|n| Some((n.inputs[1], PackedConv::new(graph.constant(n.inputs[1])?, groups(&n.op))?)))
            .collect();
        Interpreter { graph, packed, last_use }
    }

    /// Evaluates the graph.
    ///
    /// # Errors
    /// When the inputs do not fit the graph.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, InterpError> {
        self.run_with(inputs, &mut |_, _| {})
    }

    /// Evaluates the graph and shows every computed value to `observe`, in order.
    ///
    /// # Errors
    /// When the inputs do not fit the graph.
    pub fn run_with(
        &self,
        inputs: &[Tensor],
        observe: &mut dyn FnMut(ValueId, &Tensor),
    ) -> Result<Vec<Tensor>, InterpError> {
        let graph = self.graph;
        check_inputs(graph, inputs)?;
        let mut values: Vec<Option<Tensor>> = vec![None; graph.values.len()];
        for (&id, tensor) in graph.inputs.iter().zip(inputs) {
            observe(id, tensor);
            values[id.0 as usize] = Some(tensor.clone());
        }
        for (i, node) in graph.nodes.iter().enumerate() {
            let operands: Option<Vec<&Tensor>> =
                node.inputs.iter().map(|&id| graph.constant(id).or(values[id.0 as usize].as_ref())).collect();
            let missing =
                || InferError { node: node.origin.clone(), message: "an operand was never computed".to_owned() };
            let operands = operands.ok_or_else(|| InterpError::Node(missing()))?;
            let quants: Vec<Type> = node.inputs.iter().map(|&id| graph.ty(id).clone()).collect();
            let packed = node.inputs.get(1).and_then(|id| self.packed.get(id));
            let result = eval_node(&node.op, &operands, &quants, graph.ty(node.output), packed)
                .map_err(|e| InterpError::Node(e.at(&node.origin)))?;
            observe(node.output, &result);
            values[node.output.0 as usize] = Some(result);
            for id in &node.inputs {
                if self.last_use[id.0 as usize] == i {
                    values[id.0 as usize] = None;
                }
            }
        }
        let outputs = graph.outputs.iter().map(|&id| {
            graph.constant(id).or(values[id.0 as usize].as_ref()).cloned().ok_or_else(|| {
                InterpError::Node(InferError {
                    node: graph.value(id).name.clone(),
                    message: "the output was never computed".to_owned(),
                })
            })
        });
        outputs.collect()
    }
}

/// Evaluates a graph once. Prepare an [`Interpreter`] to evaluate it often.
///
/// # Errors
/// When the inputs do not fit the graph.
pub fn run(graph: &Graph, inputs: &[Tensor]) -> Result<Vec<Tensor>, InterpError> {
    Interpreter::new(graph).run(inputs)
}

/// Evaluates one operation on constants, for folding.
///
/// # Errors
/// When the operation does not accept the operands.
pub fn eval(op: &Op, inputs: &[&Tensor]) -> Result<Tensor, InferError> {
    let types: Vec<Type> = inputs.iter().map(|t| t.ty()).collect();
    let ty = infer(op, &types.iter().collect::<Vec<_>>())?;
    eval_node(op, inputs, &types, &ty, None)
}

fn check_inputs(graph: &Graph, inputs: &[Tensor]) -> Result<(), InterpError> {
    if inputs.len() != graph.inputs.len() {
        return Err(InterpError::InputCount { expected: graph.inputs.len(), found: inputs.len() });
    }
    for (&id, tensor) in graph.inputs.iter().zip(inputs) {
        let value = graph.value(id);
        let fail = |message: String| Err(InterpError::Input { name: value.name.clone(), message });
        if tensor.dtype() != value.ty.dtype || tensor.dims != value.ty.dims {
            return fail(format!(
                "expected {}{:?}, found {}{:?}",
                value.ty.dtype.name(),
                value.ty.dims,
                tensor.dtype().name(),
                tensor.dims
            ));
        }
        if let Some(i) = tensor.as_f32().and_then(|v| v.iter().position(|x| !x.is_finite())) {
            return fail(format!("element {i} is not a finite number"));
        }
        if let (Def::Input(InputKind::Index { count }), Some(&[k])) = (&value.def, tensor.as_i64())
            && usize::try_from(k).map_or(true, |k| k >= *count)
        {
            return fail(format!("{k} is out of range; valid are 0 to {}", count - 1));
        }
    }
    Ok(())
}

fn bad(message: impl Into<String>) -> InferError {
    InferError { node: String::new(), message: message.into() }
}

pub(crate) use quantised::{plan_kind, plan_split};

pub(crate) fn floats(t: &Tensor) -> Result<&[f32], InferError> {
    t.as_f32().ok_or_else(|| bad(format!("expected f32, found {}", t.dtype().name())))
}

pub(crate) fn int8s(t: &Tensor) -> Result<&[i8], InferError> {
    t.as_s8().ok_or_else(|| bad(format!("expected s8, found {}", t.dtype().name())))
}

pub(crate) fn index(t: &Tensor) -> Result<usize, InferError> {
    match t.as_i64() {
        Some(&[k]) => usize::try_from(k).map_err(|_| bad(format!("{k} is not an index"))),
        Some(_) | None => Err(bad("expected one i64 index")),
    }
}

/// Entry `q` of a table of 256.
pub(crate) fn lookup(table: &[i8], q: i8) -> i8 {
    table[(i32::from(q) + 128) as usize]
}

fn zero_point(ty: &Type) -> i8 {
    ty.quant.map_or(0, |q| q.zero_point)
}

fn eval_node(
    op: &Op,
    x: &[&Tensor],
    types: &[Type],
    out: &Type,
    packed: Option<&PackedConv>,
) -> Result<Tensor, InferError> {
    match op {
        Op::Conv(g) => conv::float(g, x, &out.dims, packed),
        Op::Linear => conv::linear(x, &out.dims, packed),
        Op::QConv { .. } => conv::quantised(op, x, zero_point(&types[0]), &out.dims, packed),
        Op::ConvTranspose(g) => conv::transposed(g, x, &out.dims),
        Op::Norm { kind, axis, groups, eps } => norm::norm(x, *kind, *axis, *groups, *eps),
        Op::HeadProduct(p) => norm::head_product(x, p, &out.dims),
        Op::Softmax { axis } => norm::softmax(x[0], *axis),
        Op::QConvTranspose { .. } => quantised::conv_transpose(op, x, zero_point(&types[0]), &out.dims),
        Op::QNorm { .. } | Op::QSoftmax | Op::QHeadProduct { .. } | Op::QAveragePool { .. } | Op::QMul { .. } => {
            quantised::eval(op, x, types, &out.dims)
        }
        Op::MaxPool(_) if x[0].dtype() == DType::S8 => quantised::eval(op, x, types, &out.dims),
        Op::MaxPool(window) => norm::max_pool(x[0], window, &out.dims),
        Op::AveragePool { window, count_pad } => norm::average_pool(x[0], window, *count_pad, &out.dims),
        Op::ReduceMax { axes } => norm::reduce_max(x[0], axes),
        Op::Max => elementwise::binary(x, &out.dims, f32::max, i64::max),
        Op::Min => elementwise::binary(x, &out.dims, f32::min, i64::min),
        Op::Compare(Comparison::Equal) => elementwise::compare(x, &out.dims, |a, b| a == b, |a, b| a == b),
        Op::Compare(Comparison::Less) => elementwise::compare(x, &out.dims, |a, b| a < b, |a, b| a < b),
        Op::Compare(Comparison::LessOrEqual) => elementwise::compare(x, &out.dims, |a, b| a <= b, |a, b| a <= b),
        Op::Where => elementwise::choose(x, &out.dims),
        Op::Affine => elementwise::affine(x),
        Op::MatMul => elementwise::matmul(x, &out.dims),
        Op::Add { alpha, beta, gamma } => elementwise::add(x, &out.dims, *alpha, *beta, *gamma),
        Op::Mul => elementwise::binary(x, &out.dims, |a, b| a * b, |a, b| a.wrapping_mul(b)),
        Op::Div => elementwise::binary(x, &out.dims, |a, b| a / b, |a, b| a.checked_div(b).unwrap_or(0)),
        Op::Pow => elementwise::binary(x, &out.dims, pow, |a, b| a.wrapping_pow(b.try_into().unwrap_or(0))),
        Op::Unary(u) => elementwise::unary(x[0], |v| u.eval(v), *u == Unary::Neg),
        Op::Clip { lo, hi } => elementwise::unary(
            x[0],
            |v| {
                if v < *lo {
                    *lo
                } else if v > *hi {
                    *hi
                } else {
                    v
                }
            },
            false,
        ),
        Op::FakeQuant { scale, zero_point } => {
            elementwise::unary(x[0], |v| elementwise::fake_quant(v, *scale, *zero_point), false)
        }
        Op::QAdd { params, table } => elementwise::quantised_add(x, params, *table),
        Op::QMap => elementwise::quantised_map(x[0], x[1]),
        Op::Quantize => elementwise::quantize(x[0], out),
        Op::Dequantize => elementwise::dequantize(x[0], &types[0]),
        Op::ReduceMean { axes } => elementwise::reduce(x[0], axes, true),
        Op::ReduceSum { axes } => elementwise::reduce(x[0], axes, false),
        Op::Cast { to } => elementwise::cast(x[0], *to),
        Op::Concat { axis } => movement::concat(x, *axis, &out.dims),
        Op::Gather { axis } => movement::gather(x[0], x[1], *axis, &out.dims),
        Op::Select => movement::select(x[0], index(x[1])?, &out.dims),
        Op::Reshape { dims } => Ok(Tensor { dims: dims.clone(), data: x[0].data.clone() }),
        Op::Transpose { perm } => Ok(movement::transpose(x[0], perm, &out.dims)),
        Op::Slice { axis, start, step, .. } => Ok(movement::slice(x[0], *axis, *start, *step, &out.dims)),
        Op::Expand { dims } => Ok(movement::expand(x[0], dims)),
        Op::Upsample { factor } => Ok(movement::upsample(x[0], *factor, &out.dims)),
        Op::PixelUnshuffle { block } => Ok(movement::pixel_unshuffle(x[0], *block, &out.dims)),
        Op::PixelShuffle { block } => Ok(movement::pixel_shuffle(x[0], *block, &out.dims)),
    }
}

fn groups(op: &Op) -> usize {
    match op {
        Op::Conv(g) | Op::QConv { geometry: g, .. } => g.groups,
        _ => 1,
    }
}

/// Squares are exact products in every exporter's spelling; other powers come from libm.
fn pow(a: f32, b: f32) -> f32 {
    if b == 2.0 { a * a } else { libm::powf(a, b) }
}

/// Applies `pick` to the elements of any type: `out[i] = in[pick(i)]`.
pub(crate) fn rearrange(t: &Tensor, dims: &[usize], pick: impl Fn(usize) -> usize) -> Tensor {
    let n = dims.iter().product();
    let data = match &t.data {
        Data::F32(v) => Data::F32((0..n).map(|i| v[pick(i)]).collect()),
        Data::I64(v) => Data::I64((0..n).map(|i| v[pick(i)]).collect()),
        Data::I32(v) => Data::I32((0..n).map(|i| v[pick(i)]).collect()),
        Data::S8(v) => Data::S8((0..n).map(|i| v[pick(i)]).collect()),
    };
    Tensor { dims: dims.to_vec(), data }
}

/// The zero of an element type, as a one-element tensor of these dimensions.
pub fn zeros(ty: &Type) -> Tensor {
    let n = ty.elements();
    let data = match ty.dtype {
        DType::F32 => Data::F32(vec![0.0; n]),
        DType::I64 => Data::I64(vec![0; n]),
        DType::I32 => Data::I32(vec![0; n]),
        DType::S8 => Data::S8(vec![0; n]),
    };
    Tensor { dims: ty.dims.clone(), data }
}
