//! Operations and their attributes.

use flowlet_plan::AddParams;

/// Geometry of a 2-D convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right, in (upsampled) input pixels.
    pub pad: [usize; 4],
    /// Vertical and horizontal dilation.
    pub dilation: [usize; 2],
    /// Number of groups.
    pub groups: usize,
    /// Nearest-neighbour factor by which the input is upsampled before the convolution.
    pub upsample: usize,
}

impl Default for ConvGeometry {
    fn default() -> Self {
        ConvGeometry { stride: [1, 1], pad: [0; 4], dilation: [1, 1], groups: 1, upsample: 1 }
    }
}

/// Geometry of a transposed convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransposedGeometry {
    /// Vertical and horizontal stride: distance between the places that neighbouring inputs write.
    pub stride: [usize; 2],
    /// Rows and columns cut off: top, left, bottom, right.
    pub pad: [usize; 4],
    /// Vertical and horizontal dilation.
    pub dilation: [usize; 2],
    /// Rows and columns added below and to the right.
    pub extra: [usize; 2],
    /// Number of groups.
    pub groups: usize,
}

impl Default for TransposedGeometry {
    fn default() -> Self {
        TransposedGeometry { stride: [1, 1], pad: [0; 4], dilation: [1, 1], extra: [0; 2], groups: 1 }
    }
}

/// Windows of a pooling operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub kernel: [usize; 2],
    /// Vertical and horizontal stride.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pad: [usize; 4],
}

/// Over which elements the statistics of a norm run, and whether the mean is taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// The channels of a group at all positions, centred: group and instance normalization.
    Group,
    /// The channels of a group at one position, centred: layer normalization.
    Layer,
    /// The channels of a group at one position, not centred: root mean square normalization.
    Rms,
}

impl NormKind {
    const ALL: [(NormKind, &'static str); 3] =
        [(NormKind::Group, "group"), (NormKind::Layer, "layer"), (NormKind::Rms, "rms")];

    fn name(self) -> &'static str {
        NormKind::ALL.iter().find(|(k, _)| *k == self).map_or("", |(_, n)| n)
    }
}

/// How a `[1, C, H, W]` tensor holds a batch of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Matrix `n` is image row `n`: a row for each column of the image, a column for each channel.
    Rows,
    /// Matrix `n` is the `n`-th run of channels (a head): a row for each pixel, a column for each channel of the run.
    Channels,
}

impl Split {
    const ALL: [(Split, &'static str); 2] = [(Split::Rows, "rows"), (Split::Channels, "channels")];

    fn name(self) -> &'static str {
        Split::ALL.iter().find(|(k, _)| *k == self).map_or("", |(_, n)| n)
    }
}

/// Layout of a batched product of two computed tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Number of matrices (heads).
    pub batch: usize,
    /// Where the matrices of the left operand lie; they have rows of `k`.
    pub a: Split,
    /// Where the matrices of the right operand lie.
    pub b: Split,
    /// Where the matrices of the result lie.
    pub out: Split,
    /// Whether the right operand holds rows of `k` (its transpose is multiplied).
    pub transposed: bool,
    /// Factor of the product.
    pub alpha: f32,
}

/// A comparison of two tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `a == b`
    Equal,
    /// `a < b`
    Less,
    /// `a <= b`
    LessOrEqual,
}

impl Comparison {
    const ALL: [(Comparison, &'static str); 3] =
        [(Comparison::Equal, "equal"), (Comparison::Less, "less"), (Comparison::LessOrEqual, "less_or_equal")];

    fn name(self) -> &'static str {
        Comparison::ALL.iter().find(|(k, _)| *k == self).map_or("", |(_, n)| n)
    }
}

/// Elementwise functions of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x * sigmoid(x)`
    Silu,
    /// `x * tanh(ln(1 + exp(x)))`
    Mish,
    /// `x * (1 + erf(x / sqrt(2))) / 2`
    Gelu,
    /// `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`
    GeluTanh,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `tanh(x)`
    Tanh,
    /// `max(x, 0)`
    Relu,
    /// `sin(x)`
    Sin,
    /// `cos(x)`
    Cos,
    /// `exp(x)`
    Exp,
    /// `ln(x)`
    Log,
    /// `sqrt(x)`
    Sqrt,
    /// `1 / x`
    Reciprocal,
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// `erf(x)`
    Erf,
    /// `x * x`
    Square,
    /// The largest integer at most `x`.
    Floor,
    /// The smallest integer at least `x`.
    Ceil,
    /// The nearest integer, ties to even.
    Round,
}

impl Unary {
    /// All functions with their names in the text form.
    pub const ALL: [(Unary, &'static str); 21] = [
        (Unary::Sigmoid, "sigmoid"),
        (Unary::Silu, "silu"),
        (Unary::Mish, "mish"),
        (Unary::Gelu, "gelu"),
        (Unary::GeluTanh, "gelu_tanh"),
        (Unary::Softplus, "softplus"),
        (Unary::Tanh, "tanh"),
        (Unary::Relu, "relu"),
        (Unary::Sin, "sin"),
        (Unary::Cos, "cos"),
        (Unary::Exp, "exp"),
        (Unary::Log, "log"),
        (Unary::Sqrt, "sqrt"),
        (Unary::Reciprocal, "reciprocal"),
        (Unary::Neg, "neg"),
        (Unary::Abs, "abs"),
        (Unary::Erf, "erf"),
        (Unary::Square, "square"),
        (Unary::Floor, "floor"),
        (Unary::Ceil, "ceil"),
        (Unary::Round, "round"),
    ];

    /// The name in the text form.
    pub fn name(self) -> &'static str {
        Unary::ALL.iter().find(|(u, _)| *u == self).map_or("", |(_, n)| n)
    }

    /// The function at `x`, with the `libm` crate only, so that tables and constants are the same bytes on every host.
    pub fn eval(self, x: f32) -> f32 {
        let sigmoid = |x: f32| 1.0 / (1.0 + libm::expf(-x));
        let softplus = |x: f32| if x > 20.0 { x } else { libm::log1pf(libm::expf(x)) };
        match self {
            Unary::Sigmoid => sigmoid(x),
            Unary::Silu => x * sigmoid(x),
            Unary::Mish => x * libm::tanhf(softplus(x)),
            Unary::Gelu => 0.5 * x * (1.0 + libm::erff(x * std::f32::consts::FRAC_1_SQRT_2)),
            Unary::GeluTanh => {
                let root = std::f32::consts::FRAC_2_SQRT_PI * std::f32::consts::FRAC_1_SQRT_2;
                0.5 * x * (1.0 + libm::tanhf(root * (x + 0.044_715 * x * x * x)))
            }
            Unary::Softplus => softplus(x),
            Unary::Tanh => libm::tanhf(x),
            Unary::Relu => {
                if x > 0.0 {
                    x
                } else {
                    0.0
                }
            }
            Unary::Sin => libm::sinf(x),
            Unary::Cos => libm::cosf(x),
            Unary::Exp => libm::expf(x),
            Unary::Log => libm::logf(x),
            Unary::Sqrt => libm::sqrtf(x),
            Unary::Reciprocal => 1.0 / x,
            Unary::Neg => -x,
            Unary::Abs => libm::fabsf(x),
            Unary::Erf => libm::erff(x),
            Unary::Square => x * x,
            Unary::Floor => libm::floorf(x),
            Unary::Ceil => libm::ceilf(x),
            Unary::Round => libm::rintf(x),
        }
    }
}

/// An operation. Operands are listed in their order; `[x]` is optional.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `x, weight[O,I/g,kh,kw], [bias]`; a bias is `[O]`, or `[rows,O]` with an index value as last operand.
    Conv(ConvGeometry),
    /// `x, weight[I,O/g,kh,kw], [bias[O]]`: transposed convolution.
    ConvTranspose(TransposedGeometry),
    /// `x[N,K], weight[O,K], [bias]`: a fully connected layer; bias as in [`Op::Conv`].
    Linear,
    /// `x, scale[C], shift[C]`: per channel (axis 1) `x * scale + shift`. A fixed-statistics norm is one.
    Affine,
    /// `x, [gamma[C], beta[C]]`: norm with statistics of the sample, `(x - mean) / sqrt(var + eps) * gamma + beta`, or
    /// `x / sqrt(mean(x^2) + eps) * gamma + beta`; axis 0 holds samples.
    Norm {
        /// Over what the statistics run.
        kind: NormKind,
        /// The axis of the channels.
        axis: usize,
        /// Number of groups of consecutive channels.
        groups: usize,
        /// Added to the variance or mean square.
        eps: f32,
    },
    /// `a, b`: batched matrix product with ONNX broadcasting.
    MatMul,
    /// `a[1,C,H,W], b[1,C,H,W]`: batched matrix product whose matrices lie in images (attention in one layout); a result
    /// that is split by channels has one pixel for each row of `a`.
    HeadProduct(Product),
    /// `x`: softmax along one axis.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// `a, b`: `alpha * a + beta * b + gamma` with broadcasting.
    Add {
        /// Factor of the first operand.
        alpha: f32,
        /// Factor of the second operand.
        beta: f32,
        /// Constant term.
        gamma: f32,
    },
    /// `a, b`: product with broadcasting.
    Mul,
    /// `a, b`: quotient with broadcasting.
    Div,
    /// `a, b`: power with broadcasting.
    Pow,
    /// `a, b`: the greater with broadcasting.
    Max,
    /// `a, b`: the smaller with broadcasting.
    Min,
    /// `a, b`: 1 where the comparison holds, else 0, as i64, with broadcasting.
    Compare(Comparison),
    /// `condition[i64], a, b`: `a` where the condition is not 0, else `b`, with broadcasting.
    Where,
    /// `x`: an elementwise function.
    Unary(Unary),
    /// `x`: clamp to `[lo, hi]`.
    Clip {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// `x`: rounding to the numbers that an s8 tensor of this quantisation can hold; the tensor keeps it in int8.
    FakeQuant {
        /// Distance of two numbers.
        scale: f32,
        /// The s8 value that stands for 0.
        zero_point: i8,
    },
    /// `x...`: concatenation.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// `data, indices[i64]`: rows of `data` along `axis`.
    Gather {
        /// The axis.
        axis: usize,
    },
    /// `table[rows, ...], index`: row `index` of a constant table, as `[1, ...]`.
    Select,
    /// `x`: the same elements under other dimensions.
    Reshape {
        /// New dimensions; all known.
        dims: Vec<usize>,
    },
    /// `x`: permuted axes, `out.dims[i] = in.dims[perm[i]]`.
    Transpose {
        /// The permutation.
        perm: Vec<usize>,
    },
    /// `x`: elements `start, start+step, ... < end` along one axis.
    Slice {
        /// The axis.
        axis: usize,
        /// First element.
        start: usize,
        /// Past the last element.
        end: usize,
        /// Distance, at least 1.
        step: usize,
    },
    /// `x`: broadcast to larger dimensions.
    Expand {
        /// New dimensions.
        dims: Vec<usize>,
    },
    /// `x`: conversion between f32 and i64.
    Cast {
        /// The new element type.
        to: super::DType,
    },
    /// `x`: mean over axes, which stay as 1.
    ReduceMean {
        /// The axes, ascending.
        axes: Vec<usize>,
    },
    /// `x`: sum over axes, which stay as 1.
    ReduceSum {
        /// The axes, ascending.
        axes: Vec<usize>,
    },
    /// `x`: the greatest over axes, which stay as 1.
    ReduceMax {
        /// The axes, ascending.
        axes: Vec<usize>,
    },
    /// `x[N,C,H,W]`: the greatest under each window; padding does not count.
    MaxPool(Window),
    /// `x[N,C,H,W]`: the mean under each window; padding counts as 0 in the sum and not at all in the number of values,
    /// unless `count_pad`.
    AveragePool {
        /// The windows.
        window: Window,
        /// Whether padding counts as values.
        count_pad: bool,
    },
    /// `x[N,C,H,W]`: nearest-neighbour upsampling of H and W.
    Upsample {
        /// Integer factor.
        factor: usize,
    },
    /// `x[N,C,H,W] -> [N,C*b*b,H/b,W/b]`: PyTorch's channel order `c*b*b + dy*b + dx`.
    PixelUnshuffle {
        /// Block size.
        block: usize,
    },
    /// The inverse of [`Op::PixelUnshuffle`].
    PixelShuffle {
        /// Block size.
        block: usize,
    },
    /// `x: f32` to s8 with the output type's quantisation; ties to even.
    Quantize,
    /// `x: s8` to f32.
    Dequantize,
    /// `x, weight(s8), multiplier(i32[O]), bias(i32[rows,O]), [index], [residual], [table(s8[256])]`: the requantise
    /// law, the residual sum, the table, in this order.
    QConv {
        /// Geometry.
        geometry: ConvGeometry,
        /// Left shift of the requantise law.
        left_shift: u8,
        /// Zero point of the requantised result, before residual and table.
        zero_point: i8,
        /// Whether an index operand selects the bias row.
        indexed: bool,
        /// Constants of the residual sum, if there is a residual operand.
        residual: Option<AddParams>,
        /// Whether a table operand follows.
        table: bool,
    },
    /// `x, weight(s8[I,O,kh,kw]), multiplier(i32[O]), bias(i32[O]), [table(s8[256])]`: transposed convolution of
    /// `q - zero point of x`, the requantise law, the table.
    QConvTranspose {
        /// Geometry; groups and dilation are 1.
        geometry: TransposedGeometry,
        /// Left shift of the requantise law.
        left_shift: u8,
        /// Zero point of the requantised result, before the table.
        zero_point: i8,
        /// Whether a table operand follows.
        table: bool,
    },
    /// `x, gain(i32[C]), offset(i32[C]), [table(s8[256])]`: a norm in fixed point (`flowlet_kernels::norm`).
    QNorm {
        /// Over what the statistics run.
        kind: NormKind,
        /// Number of groups; 1 for layer and root mean square norms.
        groups: usize,
        /// `N^2 * eps / scale_in^2`, at least 1.
        epsilon: u64,
        /// Binary point of the gains.
        gain_shift: u8,
        /// Whether a table operand follows.
        table: bool,
    },
    /// `x, table(s8[512])`: softmax over axis 1; the table holds `exp(-d * scale)` as 256 little-endian u16.
    QSoftmax,
    /// `a, b`: a batched product of s8 matrices; `b` is symmetric.
    QHeadProduct {
        /// Where the matrices lie; its factor is inside the multiplier.
        product: Product,
        /// Requantise multiplier, even and positive.
        multiplier: i32,
        /// Left shift of the requantise law.
        left_shift: u8,
        /// Zero point of the result.
        zero_point: i8,
    },
    /// `x`: the mean under each window by the requantise law.
    QAveragePool {
        /// The windows.
        window: Window,
        /// Requantise multiplier, even and positive.
        multiplier: i32,
        /// Left shift of the requantise law.
        left_shift: u8,
        /// Zero point of the result.
        zero_point: i8,
    },
    /// `a, b, [table(s8[256])]`: the s8 product; `b` has the shape of `a` or one pixel.
    QMul {
        /// Requantise multiplier, even and positive.
        multiplier: i32,
        /// Left shift of the requantise law.
        left_shift: u8,
        /// Zero point of the product, before the table.
        zero_point: i8,
        /// Whether a table operand follows.
        table: bool,
    },
    /// `a, b, [table]`: the s8 sum.
    QAdd {
        /// Its constants.
        params: AddParams,
        /// Whether a table operand follows.
        table: bool,
    },
    /// `x, table(s8[256])`: an s8 function or change of scale.
    QMap,
}

/// An attribute in the text form.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// A float, in shortest round-trip form.
    Float(f32),
    /// A list of integers.
    Ints(Vec<i64>),
    /// A word.
    Word(String),
}

type Attrs = Vec<(&'static str, Attr)>;

fn ints(values: &[usize]) -> Attr {
    Attr::Ints(values.iter().map(|&v| v as i64).collect())
}

fn int(value: usize) -> Attr {
    Attr::Int(value as i64)
}

impl Op {
    /// The operation's name in the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv(_) => "conv",
            Op::Linear => "linear",
            Op::Affine => "affine",
            Op::MatMul => "matmul",
            Op::ConvTranspose(_) => "conv_transpose",
            Op::Norm { .. } => "norm",
            Op::HeadProduct(_) => "head_product",
            Op::Softmax { .. } => "softmax",
            Op::Max => "max",
            Op::Min => "min",
            Op::Compare(c) => c.name(),
            Op::Where => "where",
            Op::ReduceMax { .. } => "reduce_max",
            Op::MaxPool(_) => "max_pool",
            Op::AveragePool { .. } => "average_pool",
            Op::Add { .. } => "add",
            Op::Mul => "mul",
            Op::Div => "div",
            Op::Pow => "pow",
            Op::Unary(u) => u.name(),
            Op::Clip { .. } => "clip",
            Op::FakeQuant { .. } => "fake_quant",
            Op::Concat { .. } => "concat",
            Op::Gather { .. } => "gather",
            Op::Select => "select",
            Op::Reshape { .. } => "reshape",
            Op::Transpose { .. } => "transpose",
            Op::Slice { .. } => "slice",
            Op::Expand { .. } => "expand",
            Op::Cast { .. } => "cast",
            Op::ReduceMean { .. } => "reduce_mean",
            Op::ReduceSum { .. } => "reduce_sum",
            Op::Upsample { .. } => "upsample",
            Op::PixelUnshuffle { .. } => "pixel_unshuffle",
            Op::PixelShuffle { .. } => "pixel_shuffle",
            Op::Quantize => "quantize",
            Op::Dequantize => "dequantize",
            Op::QConv { .. } => "qconv",
            Op::QConvTranspose { .. } => "qconv_transpose",
            Op::QNorm { .. } => "qnorm",
            Op::QSoftmax => "qsoftmax",
            Op::QHeadProduct { .. } => "qhead_product",
            Op::QAveragePool { .. } => "qaverage_pool",
            Op::QMul { .. } => "qmul",
            Op::QAdd { .. } => "qadd",
            Op::QMap => "qmap",
        }
    }

    /// A plain sum.
    pub fn add() -> Self {
        Op::Add { alpha: 1.0, beta: 1.0, gamma: 0.0 }
    }

    /// A difference.
    pub fn sub() -> Self {
        Op::Add { alpha: 1.0, beta: -1.0, gamma: 0.0 }
    }

    /// Attributes in printing order; those at their default are left out.
    pub fn attrs(&self) -> Attrs {
        match self {
            Op::Conv(g) => geometry_attrs(g),
            Op::Add { alpha, beta, gamma } => {
                let all = [("alpha", *alpha, 1.0f32), ("beta", *beta, 1.0), ("gamma", *gamma, 0.0)];
                all.into_iter()
                    .filter(|(_, v, d)| v.to_bits() != d.to_bits())
                    .map(|(k, v, _)| (k, Attr::Float(v)))
                    .collect()
            }
            Op::Clip { lo, hi } => vec![("lo", Attr::Float(*lo)), ("hi", Attr::Float(*hi))],
            Op::FakeQuant { scale, zero_point } => {
                vec![("scale", Attr::Float(*scale)), ("zero_point", Attr::Int((*zero_point).into()))]
            }
            Op::ConvTranspose(g) => transposed_attrs(g),
            Op::Norm { kind, axis, groups, eps } => vec![
                ("kind", Attr::Word(kind.name().to_owned())),
                ("axis", int(*axis)),
                ("groups", int(*groups)),
                ("eps", Attr::Float(*eps)),
            ],
            Op::HeadProduct(p) => product_attrs(p),
            Op::QConvTranspose { geometry, left_shift, zero_point, table } => {
                let mut attrs = transposed_attrs(geometry);
                attrs.extend(law_attrs(None, *left_shift, *zero_point));
                attrs.extend(flag("table", *table));
                attrs
            }
            Op::QNorm { kind, groups, epsilon, gain_shift, table } => {
                let mut attrs = vec![
                    ("kind", Attr::Word(kind.name().to_owned())),
                    ("groups", int(*groups)),
                    ("epsilon", Attr::Int(*epsilon as i64)),
                    ("gain_shift", Attr::Int((*gain_shift).into())),
                ];
                attrs.extend(flag("table", *table));
                attrs
            }
            Op::QHeadProduct { product, multiplier, left_shift, zero_point } => {
                let mut attrs = product_attrs(product);
                attrs.extend(law_attrs(Some(*multiplier), *left_shift, *zero_point));
                attrs
            }
            Op::QAveragePool { window, multiplier, left_shift, zero_point } => {
                let mut attrs = window_attrs(window);
                attrs.extend(law_attrs(Some(*multiplier), *left_shift, *zero_point));
                attrs
            }
            Op::QMul { multiplier, left_shift, zero_point, table } => {
                let mut attrs = law_attrs(Some(*multiplier), *left_shift, *zero_point);
                attrs.extend(flag("table", *table));
                attrs
            }
            Op::MaxPool(window) => window_attrs(window),
            Op::AveragePool { window, count_pad } => {
                let mut attrs = window_attrs(window);
                if *count_pad {
                    attrs.push(("count_pad", Attr::Int(1)));
                }
                attrs
            }
            Op::Concat { axis } | Op::Gather { axis } | Op::Softmax { axis } => vec![("axis", int(*axis))],
            Op::Reshape { dims } | Op::Expand { dims } => vec![("dims", ints(dims))],
            Op::Transpose { perm } => vec![("perm", ints(perm))],
            Op::Slice { axis, start, end, step } => {
                vec![("axis", int(*axis)), ("start", int(*start)), ("end", int(*end)), ("step", int(*step))]
            }
            Op::Cast { to } => vec![("to", Attr::Word(to.name().to_owned()))],
            Op::ReduceMean { axes } | Op::ReduceSum { axes } | Op::ReduceMax { axes } => vec![("axes", ints(axes))],
            Op::Upsample { factor } => vec![("factor", int(*factor))],
            Op::PixelUnshuffle { block } | Op::PixelShuffle { block } => vec![("block", int(*block))],
            Op::QConv { geometry, left_shift, zero_point, indexed, residual, table } => {
                let mut attrs = geometry_attrs(geometry);
                attrs.push(("left_shift", Attr::Int((*left_shift).into())));
                attrs.push(("zero_point", Attr::Int((*zero_point).into())));
                if *indexed {
                    attrs.push(("indexed", Attr::Int(1)));
                }
                if let Some(params) = residual {
                    attrs.push(("residual", add_params_attr(params)));
                }
                if *table {
                    attrs.push(("table", Attr::Int(1)));
                }
                attrs
            }
            Op::QAdd { params, table } => {
                let mut attrs = vec![("params", add_params_attr(params))];
                if *table {
                    attrs.push(("table", Attr::Int(1)));
                }
                attrs
            }
            Op::Linear
            | Op::Affine
            | Op::MatMul
            | Op::Max
            | Op::Min
            | Op::Compare(_)
            | Op::Where
            | Op::Mul
            | Op::Div
            | Op::Pow
            | Op::Unary(_)
            | Op::Select
            | Op::Quantize
            | Op::Dequantize
            | Op::QSoftmax
            | Op::QMap => Vec::new(),
        }
    }

    /// The operation with this name and these attributes.
    ///
    /// # Errors
    /// One sentence that names the unknown operation or the attribute that is missing, unknown or out of range.
    pub fn from_attrs(name: &str, attrs: &[(String, Attr)]) -> Result<Op, String> {
        let mut r = AttrReader { op: name, attrs, used: vec![false; attrs.len()] };
        if let Some((unary, _)) = Unary::ALL.iter().find(|(_, n)| *n == name) {
            r.finish()?;
            return Ok(Op::Unary(*unary));
        }
        if let Some((comparison, _)) = Comparison::ALL.iter().find(|(_, n)| *n == name) {
            r.finish()?;
            return Ok(Op::Compare(*comparison));
        }
        let op = match name {
            "conv_transpose" => Op::ConvTranspose(r.transposed()?),
            "norm" => Op::Norm {
                kind: r.choice("kind", &NormKind::ALL)?,
                axis: r.size("axis", None)?,
                groups: r.size("groups", None)?,
                eps: r.float("eps", None)?,
            },
            "head_product" => Op::HeadProduct(r.product()?),
            "qconv_transpose" => Op::QConvTranspose {
                geometry: r.transposed()?,
                left_shift: r.narrow("left_shift")?,
                zero_point: r.narrow("zero_point")?,
                table: r.size("table", Some(0))? != 0,
            },
            "qnorm" => Op::QNorm {
                kind: r.choice("kind", &NormKind::ALL)?,
                groups: r.size("groups", None)?,
                epsilon: r.narrow("epsilon")?,
                gain_shift: r.narrow("gain_shift")?,
                table: r.size("table", Some(0))? != 0,
            },
            "qsoftmax" => Op::QSoftmax,
            "qhead_product" => Op::QHeadProduct {
                product: r.product()?,
                multiplier: r.narrow("multiplier")?,
                left_shift: r.narrow("left_shift")?,
                zero_point: r.narrow("zero_point")?,
            },
            "qaverage_pool" => Op::QAveragePool {
                window: r.window()?,
                multiplier: r.narrow("multiplier")?,
                left_shift: r.narrow("left_shift")?,
                zero_point: r.narrow("zero_point")?,
            },
            "qmul" => Op::QMul {
                multiplier: r.narrow("multiplier")?,
                left_shift: r.narrow("left_shift")?,
                zero_point: r.narrow("zero_point")?,
                table: r.size("table", Some(0))? != 0,
            },
            "softmax" => Op::Softmax { axis: r.size("axis", None)? },
            "max" => Op::Max,
            "min" => Op::Min,
            "where" => Op::Where,
            "reduce_max" => Op::ReduceMax { axes: r.sizes("axes")? },
            "max_pool" => Op::MaxPool(r.window()?),
            "average_pool" => Op::AveragePool { window: r.window()?, count_pad: r.size("count_pad", Some(0))? != 0 },
            "conv" => Op::Conv(r.geometry()?),
            "linear" => Op::Linear,
            "affine" => Op::Affine,
            "matmul" => Op::MatMul,
            "add" => Op::Add {
                alpha: r.float("alpha", Some(1.0))?,
                beta: r.float("beta", Some(1.0))?,
                gamma: r.float("gamma", Some(0.0))?,
            },
            "mul" => Op::Mul,
            "div" => Op::Div,
            "pow" => Op::Pow,
            "clip" => Op::Clip { lo: r.float("lo", None)?, hi: r.float("hi", None)? },
            "fake_quant" => Op::FakeQuant { scale: r.positive("scale")?, zero_point: r.narrow("zero_point")? },
            "concat" => Op::Concat { axis: r.size("axis", None)? },
            "gather" => Op::Gather { axis: r.size("axis", None)? },
            "select" => Op::Select,
            "reshape" => Op::Reshape { dims: r.sizes("dims")? },
            "transpose" => Op::Transpose { perm: r.sizes("perm")? },
            "slice" => Op::Slice {
                axis: r.size("axis", None)?,
                start: r.size("start", None)?,
                end: r.size("end", None)?,
                step: r.size("step", Some(1))?,
            },
            "expand" => Op::Expand { dims: r.sizes("dims")? },
            "cast" => Op::Cast { to: r.dtype("to")? },
            "reduce_mean" => Op::ReduceMean { axes: r.sizes("axes")? },
            "reduce_sum" => Op::ReduceSum { axes: r.sizes("axes")? },
            "upsample" => Op::Upsample { factor: r.size("factor", None)? },
            "pixel_unshuffle" => Op::PixelUnshuffle { block: r.size("block", None)? },
            "pixel_shuffle" => Op::PixelShuffle { block: r.size("block", None)? },
            "quantize" => Op::Quantize,
            "dequantize" => Op::Dequantize,
            "qconv" => Op::QConv {
                geometry: r.geometry()?,
                left_shift: r.narrow("left_shift")?,
                zero_point: r.narrow("zero_point")?,
                indexed: r.size("indexed", Some(0))? != 0,
                residual: if r.has("residual") { Some(r.add_params("residual")?) } else { None },
                table: r.size("table", Some(0))? != 0,
            },
            "qadd" => Op::QAdd { params: r.add_params("params")?, table: r.size("table", Some(0))? != 0 },
            "qmap" => Op::QMap,
            other => return Err(format!("there is no operation '{other}'")),
        };
        r.finish()?;
        Ok(op)
    }
}

fn geometry_attrs(g: &ConvGeometry) -> Attrs {
    let d = ConvGeometry::default();
    let mut attrs = Vec::new();
    if g.stride != d.stride {
        attrs.push(("stride", ints(&g.stride)));
    }
    if g.pad != d.pad {
        attrs.push(("pad", ints(&g.pad)));
    }
    if g.dilation != d.dilation {
        attrs.push(("dilation", ints(&g.dilation)));
    }
    if g.groups != d.groups {
        attrs.push(("groups", int(g.groups)));
    }
    if g.upsample != d.upsample {
        attrs.push(("upsample", int(g.upsample)));
    }
    attrs
}

fn transposed_attrs(g: &TransposedGeometry) -> Attrs {
    let d = TransposedGeometry::default();
    let lists: [(&str, &[usize], &[usize]); 4] = [
        ("stride", &g.stride, &d.stride),
        ("pad", &g.pad, &d.pad),
        ("dilation", &g.dilation, &d.dilation),
        ("extra", &g.extra, &d.extra),
    ];
    let mut attrs: Attrs = lists.iter().filter(|(_, v, d)| v != d).map(|(k, v, _)| (*k, ints(v))).collect();
    if g.groups != d.groups {
        attrs.push(("groups", int(g.groups)));
    }
    attrs
}

fn product_attrs(p: &Product) -> Attrs {
    let mut attrs = vec![
        ("batch", int(p.batch)),
        ("a", Attr::Word(p.a.name().to_owned())),
        ("b", Attr::Word(p.b.name().to_owned())),
        ("out", Attr::Word(p.out.name().to_owned())),
    ];
    attrs.extend(flag("transposed", p.transposed));
    if p.alpha.to_bits() != 1f32.to_bits() {
        attrs.push(("alpha", Attr::Float(p.alpha)));
    }
    attrs
}

/// Constants of the requantise law.
fn law_attrs(multiplier: Option<i32>, left_shift: u8, zero_point: i8) -> Attrs {
    let mut attrs: Attrs = multiplier.map(|m| ("multiplier", Attr::Int(m.into()))).into_iter().collect();
    attrs.push(("left_shift", Attr::Int(left_shift.into())));
    attrs.push(("zero_point", Attr::Int(zero_point.into())));
    attrs
}

fn flag(key: &'static str, set: bool) -> Option<(&'static str, Attr)> {
    set.then_some((key, Attr::Int(1)))
}

fn window_attrs(w: &Window) -> Attrs {
    let mut attrs = vec![("kernel", ints(&w.kernel)), ("stride", ints(&w.stride))];
    if w.pad != [0; 4] {
        attrs.push(("pad", ints(&w.pad)));
    }
    attrs
}

fn add_params_attr(p: &AddParams) -> Attr {
    Attr::Ints(vec![p.ma.into(), p.mb.into(), p.c.into(), p.shift.into()])
}

struct AttrReader<'a> {
    op: &'a str,
    attrs: &'a [(String, Attr)],
    used: Vec<bool>,
}

impl AttrReader<'_> {
    fn has(&self, key: &str) -> bool {
        self.attrs.iter().any(|(k, _)| k == key)
    }

    fn get(&mut self, key: &str) -> Option<&Attr> {
        let i = self.attrs.iter().position(|(k, _)| k == key)?;
        self.used[i] = true;
        Some(&self.attrs[i].1)
    }

    fn wrong(&self, key: &str, what: &str) -> String {
        format!("'{}' needs {what} in attribute '{key}'", self.op)
    }

    fn int(&mut self, key: &str, default: Option<i64>) -> Result<i64, String> {
        match (self.get(key), default) {
            (Some(Attr::Int(v)), _) => Ok(*v),
            (None, Some(d)) => Ok(d),
            (Some(Attr::Float(_) | Attr::Ints(_) | Attr::Word(_)) | None, _) => Err(self.wrong(key, "an integer")),
        }
    }

    fn size(&mut self, key: &str, default: Option<usize>) -> Result<usize, String> {
        let value = self.int(key, default.map(|d| d as i64))?;
        u32::try_from(value).map(|v| v as usize).map_err(|_| self.wrong(key, "a size"))
    }

    fn narrow<T: TryFrom<i64>>(&mut self, key: &str) -> Result<T, String> {
        let value = self.int(key, None)?;
        T::try_from(value).map_err(|_| self.wrong(key, "a value in range"))
    }

    fn float(&mut self, key: &str, default: Option<f32>) -> Result<f32, String> {
        match (self.get(key), default) {
            (Some(Attr::Float(v)), _) => Ok(*v),
            (Some(Attr::Int(v)), _) => Ok(*v as f32),
            (None, Some(d)) => Ok(d),
            (Some(Attr::Ints(_) | Attr::Word(_)) | None, _) => Err(self.wrong(key, "a number")),
        }
    }

    fn positive(&mut self, key: &str) -> Result<f32, String> {
        let value = self.float(key, None)?;
        if value.is_finite() && value > 0.0 { Ok(value) } else { Err(self.wrong(key, "a positive number")) }
    }

    fn sizes(&mut self, key: &str) -> Result<Vec<usize>, String> {
        let Some(Attr::Ints(values)) = self.get(key) else { return Err(self.wrong(key, "a list of sizes")) };
        let sizes: Option<Vec<usize>> = values.iter().map(|&v| u32::try_from(v).ok().map(|v| v as usize)).collect();
        sizes.ok_or_else(|| self.wrong(key, "a list of sizes"))
    }

    fn array<const N: usize>(&mut self, key: &str, default: [usize; N]) -> Result<[usize; N], String> {
        if !self.has(key) {
            return Ok(default);
        }
        let what = format!("{N} sizes");
        <[usize; N]>::try_from(self.sizes(key)?).map_err(|_| self.wrong(key, &what))
    }

    fn dtype(&mut self, key: &str) -> Result<super::DType, String> {
        match self.get(key) {
            Some(Attr::Word(w)) => super::DType::from_name(w),
            Some(Attr::Int(_) | Attr::Float(_) | Attr::Ints(_)) | None => None,
        }
        .ok_or_else(|| self.wrong(key, "an element type"))
    }

    fn choice<T: Copy>(&mut self, key: &str, all: &[(T, &'static str)]) -> Result<T, String> {
        let found = match self.get(key) {
            Some(Attr::Word(w)) => all.iter().find(|(_, n)| n == w).map(|(t, _)| *t),
            Some(Attr::Int(_) | Attr::Float(_) | Attr::Ints(_)) | None => None,
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|(_, n)| *n).collect();
            self.wrong(key, &format!("one of {}", names.join(", ")))
        })
    }

    fn product(&mut self) -> Result<Product, String> {
        Ok(Product {
            batch: self.size("batch", None)?,
            a: self.choice("a", &Split::ALL)?,
            b: self.choice("b", &Split::ALL)?,
            out: self.choice("out", &Split::ALL)?,
            transposed: self.size("transposed", Some(0))? != 0,
            alpha: self.float("alpha", Some(1.0))?,
        })
    }

    fn window(&mut self) -> Result<Window, String> {
        Ok(Window {
            kernel: self.array("kernel", [1; 2])?,
            stride: self.array("stride", [1; 2])?,
            pad: self.array("pad", [0; 4])?,
        })
    }

    fn transposed(&mut self) -> Result<TransposedGeometry, String> {
        let d = TransposedGeometry::default();
        Ok(TransposedGeometry {
            stride: self.array("stride", d.stride)?,
            pad: self.array("pad", d.pad)?,
            dilation: self.array("dilation", d.dilation)?,
            extra: self.array("extra", d.extra)?,
            groups: self.size("groups", Some(d.groups))?,
        })
    }

    fn geometry(&mut self) -> Result<ConvGeometry, String> {
        let d = ConvGeometry::default();
        Ok(ConvGeometry {
            stride: self.array("stride", d.stride)?,
            pad: self.array("pad", d.pad)?,
            dilation: self.array("dilation", d.dilation)?,
            groups: self.size("groups", Some(d.groups))?,
            upsample: self.size("upsample", Some(d.upsample))?,
        })
    }

    fn add_params(&mut self, key: &str) -> Result<AddParams, String> {
        let wrong = self.wrong(key, "[ma, mb, c, shift]");
        let Some(Attr::Ints(v)) = self.get(key) else { return Err(wrong) };
        let [ma, mb, c, shift] = v[..] else { return Err(wrong) };
        match (i16::try_from(ma), i16::try_from(mb), i32::try_from(c), u8::try_from(shift)) {
            (Ok(ma), Ok(mb), Ok(c), Ok(shift)) if (1..=30).contains(&shift) => Ok(AddParams { ma, mb, c, shift }),
            _ => Err(wrong),
        }
    }

    fn finish(&self) -> Result<(), String> {
        match self.used.iter().position(|u| !u) {
            None => Ok(()),
            Some(i) => Err(format!("'{}' has no attribute '{}'", self.op, self.attrs[i].0)),
        }
    }
}
