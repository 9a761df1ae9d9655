//! Operations that stay whole.
//!
//! tract spells these out as it types a model (a softplus as `ln(exp(x) + 1)`, which overflows, a norm as nine
//! operations), so that they would have to be recognised again. They pass through it as operations of ours instead.

use flowlet_compiler::ir::{TransposedGeometry, Unary};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_core::{not_out_of_plan, op_as_typed_op};
use tract_onnx::tract_hir::internal::*;

/// ONNX operators that stay whole and that tract does not know.
pub(crate) const UNKNOWN_TO_TRACT: &[&str] = &["Attention", crate::quantised::FAKE_QUANT];

/// An operation of one result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kept {
    /// A function that the compiler has under the same name.
    Unary(Unary),
    /// `x` where positive, else `alpha * (exp(x) - 1)`.
    Elu(f32),
    /// Rounding to a grid of 256 numbers.
    FakeQuant {
        /// Distance of two numbers.
        scale: f32,
        /// The signed byte that stands for 0.
        zero_point: i8,
    },
    /// `x, scale[C], shift[C]`: instance normalization.
    InstanceNorm {
        /// Added to the variance.
        eps: f32,
    },
    /// `x, scale, shift`: group normalization; scale and shift are `[C]`, or `[groups]` before operator set 21.
    GroupNorm {
        /// Number of groups.
        groups: usize,
        /// Added to the variance.
        eps: f32,
    },
    /// `x, scale, [shift]`: statistics over all axes from `axis` on.
    LayerNorm {
        /// First axis; negative from the back.
        axis: i64,
        /// Added to the variance or mean square.
        eps: f32,
        /// Whether the mean is taken off.
        centred: bool,
    },
    /// `x, weight, [bias]`: transposed convolution of one or two axes, in two.
    ConvTranspose(TransposedGeometry),
    /// `q, k, v`: `softmax(scale * q k^T) v` without a mask.
    Attention {
        /// `1 / sqrt(head size)` if there is none.
        scale: Option<f32>,
        /// Heads of q, k and v when they are `[batch, tokens, heads * size]`.
        heads: Option<usize>,
    },
}

impl Eq for Kept {}

impl Kept {
    /// The operation that an ONNX node stands for, if it is one of these.
    pub(crate) fn of(node: &NodeProto) -> TractResult<Option<Kept>> {
        let eps = |default: f32| -> TractResult<f32> { Ok(node.get_attr_opt::<f32>("epsilon")?.unwrap_or(default)) };
        let results = node.output.iter().filter(|o| !o.is_empty()).count();
        let kept = match node.op_type.as_str() {
            "Softplus" => Kept::Unary(Unary::Softplus),
            "Mish" => Kept::Unary(Unary::Mish),
            "Swish" => match node.get_attr_opt::<f32>("alpha")? {
                None | Some(1.0) => Kept::Unary(Unary::Silu),
                Some(alpha) => bail!("swish with alpha = {alpha} is not supported, with 1 it is"),
            },
            "Gelu" => match node.get_attr_opt::<String>("approximate")?.as_deref() {
                None | Some("none") => Kept::Unary(Unary::Gelu),
                Some("tanh") => Kept::Unary(Unary::GeluTanh),
                Some(other) => bail!("gelu with the approximation '{other}' is not supported"),
            },
            "Elu" => Kept::Elu(node.get_attr_opt::<f32>("alpha")?.unwrap_or(1.0)),
            crate::quantised::FAKE_QUANT => Kept::FakeQuant {
                scale: node.get_attr::<f32>("scale")?,
                zero_point: i8::try_from(node.get_attr::<i64>("zero_point")?)?,
            },
            "InstanceNormalization" => Kept::InstanceNorm { eps: eps(1e-5)? },
            "GroupNormalization" => Kept::GroupNorm { groups: node.get_attr::<usize>("num_groups")?, eps: eps(1e-5)? },
            "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => Kept::LayerNorm {
                axis: node.get_attr_opt::<i64>("axis")?.unwrap_or(-1),
                eps: eps(1e-5)?,
                centred: node.op_type == "LayerNormalization",
            },
            "ConvTranspose" => Kept::ConvTranspose(transposed(node)?),
            "Attention" => attention(node)?,
            _ => return Ok(None),
        };
        ensure!(results == 1, "only the first of its {results} results is supported");
        Ok(Some(kept))
    }

    /// Dimensions of the result.
    fn dims(&self, inputs: &[TVec<usize>]) -> TractResult<TVec<usize>> {
        match self {
            Kept::Unary(_)
            | Kept::Elu(_)
            | Kept::FakeQuant { .. }
            | Kept::InstanceNorm { .. }
            | Kept::GroupNorm { .. }
            | Kept::LayerNorm { .. } => Ok(inputs[0].clone()),
            Kept::Attention { .. } => {
                let (q, k, v) = (&inputs[0], &inputs[1], &inputs[2]);
                let same = q.len() == k.len() && q.len() == v.len() && (3..=4).contains(&q.len());
                ensure!(same && q[..q.len() - 2] == k[..k.len() - 2], "q {q:?}, k {k:?} and v {v:?} do not fit");
                ensure!(q[..q.len() - 2] == v[..v.len() - 2], "q {q:?} and v {v:?} do not fit");
                let mut dims = q.clone();
                dims[q.len() - 1] = v[v.len() - 1];
                Ok(dims)
            }
            Kept::ConvTranspose(g) => {
                let (x, w) = (&inputs[0], &inputs[1]);
                ensure!(x.len() == w.len() && (3..=4).contains(&x.len()), "{x:?} and weights {w:?} do not fit");
                let mut dims = tvec![x[0], w[1].checked_mul(g.groups).context("too many channels")?];
                for (i, (&size, &kernel)) in x[2..].iter().zip(&w[2..]).enumerate() {
                    let a = i + 4 - x.len();
                    let full = || {
                        let window = kernel.checked_sub(1)?.checked_mul(g.dilation[a])?.checked_add(1 + g.extra[a])?;
                        let full = size.checked_sub(1)?.checked_mul(g.stride[a])?.checked_add(window)?;
                        full.checked_sub(g.pad[a].checked_add(g.pad[a + 2])?)
                    };
                    dims.push(full().filter(|&n| n > 0).with_context(|| format!("{kernel} does not fit {size}"))?);
                }
                Ok(dims)
            }
        }
    }
}

fn attention(node: &NodeProto) -> TractResult<Kept> {
    ensure!(node.input.len() >= 3, "attention needs q, k and v");
    ensure!(node.input[3..].iter().all(String::is_empty), "attention with a mask or a cache is not supported");
    ensure!(node.get_attr_opt::<i64>("is_causal")?.unwrap_or(0) == 0, "causal attention is not supported");
    ensure!(node.get_attr_opt::<f32>("softcap")?.unwrap_or(0.0) == 0.0, "attention with a soft cap is not supported");
    let (q, kv) = (node.get_attr_opt::<usize>("q_num_heads")?, node.get_attr_opt::<usize>("kv_num_heads")?);
    ensure!(q == kv && q != Some(0), "attention with fewer heads for keys than for queries is not supported");
    Ok(Kept::Attention { scale: node.get_attr_opt::<f32>("scale")?, heads: q })
}

/// The attributes of a transposed convolution; a single axis is the horizontal one.
fn transposed(node: &NodeProto) -> TractResult<TransposedGeometry> {
    let auto = node.get_attr_opt::<String>("auto_pad")?;
    ensure!(auto.as_deref().is_none_or(|a| a == "NOTSET" || a == "VALID"), "automatic padding is not supported");
    ensure!(node.get_attr_opt_tvec::<usize>("output_shape")?.is_none(), "'output_shape' is not supported, pads are");
    let list = |name: &str, default: usize| -> TractResult<[usize; 2]> {
        match node.get_attr_opt_tvec::<usize>(name)?.as_deref() {
            None => Ok([default; 2]),
            Some([x]) => Ok([default, *x]),
            Some([y, x]) => Ok([*y, *x]),
            Some(other) => bail!("'{name}' of {} axes is not supported", other.len()),
        }
    };
    let pad = match node.get_attr_opt_tvec::<usize>("pads")?.as_deref() {
        None => [0; 4],
        Some([before, after]) => [0, *before, 0, *after],
        Some([top, left, bottom, right]) => [*top, *left, *bottom, *right],
        Some(other) => bail!("{} pads are not supported", other.len()),
    };
    let g = TransposedGeometry {
        stride: list("strides", 1)?,
        dilation: list("dilations", 1)?,
        extra: list("output_padding", 0)?,
        pad,
        groups: node.get_attr_opt::<usize>("group")?.unwrap_or(1),
    };
    ensure!(!g.stride.contains(&0) && !g.dilation.contains(&0) && g.groups > 0, "stride and groups are at least 1");
    Ok(g)
}

impl Expansion for Kept {
    fn name(&self) -> StaticName {
        "Kept".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        let least = match self {
            Kept::Unary(_) | Kept::Elu(_) | Kept::FakeQuant { .. } => 1,
            Kept::LayerNorm { .. } | Kept::ConvTranspose(_) => 2,
            Kept::InstanceNorm { .. } | Kept::GroupNorm { .. } | Kept::Attention { .. } => 3,
        };
        ensure!(inputs.len() >= least, "{least} operands are needed, {} are there", inputs.len());
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.given_all(inputs.iter().map(|i| &i.shape), move |s: &mut Solver<'r>, shapes: Vec<TVec<TDim>>| {
            let concrete =
                |shape: &TVec<TDim>| shape.iter().map(|d| d.to_usize().ok()).collect::<Option<TVec<usize>>>();
            let Some(shapes) = shapes.iter().map(concrete).collect::<Option<Vec<_>>>() else { return Ok(()) };
            let dims = self.dims(&shapes)?.iter().map(|d| d.to_dim()).collect::<TVec<TDim>>();
            s.equals(&outputs[0].shape, dims)
        })
    }

    fn wire(&self, prefix: &str, target: &mut TypedModel, inputs: &[OutletId]) -> TractResult<TVec<OutletId>> {
        target.wire_node(prefix, self.clone(), inputs)
    }

    fn runs_out_of_plan(&self) -> bool {
        false
    }
}

impl Op for Kept {
    fn name(&self) -> StaticName {
        "Kept".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Kept {
    not_out_of_plan!();
}

impl TypedOp for Kept {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shapes: TractResult<Vec<TVec<usize>>> =
            inputs.iter().map(|f| f.shape.as_concrete().map(Into::into).context("a dimension is open")).collect();
        Ok(tvec!(inputs[0].datum_type.fact(self.dims(&shapes?)?)))
    }

    fn as_op(&self) -> &dyn Op {
        self
    }

    fn as_op_mut(&mut self) -> &mut dyn Op {
        self
    }
}
