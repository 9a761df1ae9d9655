//! The shape rule of every operation.

use super::{ConvGeometry, DType, NormKind, Op, Product, Split, TransposedGeometry, Type, Window};

/// An operation that does not accept its operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferError {
    /// The ONNX name of the node.
    pub node: String,
    /// One sentence: what is wrong and which shapes were seen.
    pub message: String,
}

impl InferError {
    fn new(message: impl Into<String>) -> Self {
        InferError { node: String::new(), message: message.into() }
    }

    /// The same error at a named node.
    pub fn at(mut self, node: &str) -> Self {
        node.clone_into(&mut self.node);
        self
    }
}

impl std::fmt::Display for InferError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node '{}': {}", self.node, self.message)
    }
}

impl std::error::Error for InferError {}

fn err<T>(message: impl Into<String>) -> Result<T, InferError> {
    Err(InferError::new(message))
}

/// Largest number of elements a tensor may have; keeps every product and offset far from overflow.
const MAX_ELEMENTS: usize = 1 << 31;

/// The output type of `op` on operands of these types. Quantised results keep the operand's quantisation where the
/// operation only moves elements; others state their own type and are checked by the verifier.
///
/// # Errors
/// When the number, element types or shapes of the operands do not fit the operation.
pub fn infer(op: &Op, inputs: &[&Type]) -> Result<Type, InferError> {
    let ty = infer_unbounded(op, inputs)?;
    match ty.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
        Some(n) if n <= MAX_ELEMENTS => Ok(ty),
        Some(_) | None => err(format!("the result {:?} is too large", ty.dims)),
    }
}

fn infer_unbounded(op: &Op, inputs: &[&Type]) -> Result<Type, InferError> {
    match op {
        Op::Conv(g) => {
            arity(op, inputs, 2, 4)?;
            let out = conv_dims(g, inputs[0], inputs[1])?;
            check_bias(inputs, 2, out[1])?;
            Ok(Type::f32(&out))
        }
        Op::Linear => {
            arity(op, inputs, 2, 4)?;
            let ([n, k], [o, i]) = (dims::<2>(inputs[0])?, dims::<2>(inputs[1])?);
            if k != i {
                return err(format!("a weight of {i} inputs cannot follow a tensor of {k} features"));
            }
            check_bias(inputs, 2, o)?;
            Ok(Type::f32(&[n, o]))
        }
        Op::Affine => {
            arity(op, inputs, 3, 3)?;
            let Some(&c) = inputs[0].dims.get(1) else { return err("an affine needs a channel axis") };
            for t in &inputs[1..] {
                if t.dims != [c] {
                    return err(format!("{c} channels need {c} scales and shifts, not {:?}", t.dims));
                }
            }
            Ok((*inputs[0]).clone())
        }
        Op::MatMul => {
            arity(op, inputs, 2, 2)?;
            matmul_dims(inputs[0], inputs[1]).map(|d| Type::f32(&d))
        }
        Op::ConvTranspose(g) => {
            arity(op, inputs, 2, 3)?;
            let out = transposed_dims(g, inputs[0], inputs[1])?;
            check_bias(inputs, 2, out[1])?;
            Ok(Type::f32(&out))
        }
        Op::Norm { kind, axis, groups, .. } => {
            arity(op, inputs, 1, 3)?;
            expect_dtype(inputs[0], DType::F32)?;
            let d = &inputs[0].dims;
            let Some(&c) = d.get(*axis).filter(|_| *axis > 0) else { return err("a norm needs a channel axis") };
            if *groups == 0 || c % groups != 0 {
                return err(format!("{c} channels do not divide into {groups} groups"));
            }
            if *kind == NormKind::Group && *axis != 1 {
                return err("the channels of a group norm are axis 1");
            }
            if inputs.len() == 2 || inputs[1..].iter().any(|t| t.dims != [c]) {
                return err(format!("{c} channels need {c} factors and {c} shifts, or neither"));
            }
            Ok((*inputs[0]).clone())
        }
        Op::HeadProduct(p) => {
            arity(op, inputs, 2, 2)?;
            head_product(p, inputs[0], inputs[1]).map(|d| Type::f32(&d))
        }
        Op::Softmax { axis } => {
            arity(op, inputs, 1, 1)?;
            expect_dtype(inputs[0], DType::F32)?;
            if *axis >= inputs[0].dims.len() {
                return err(format!("axis {axis} does not exist in {:?}", inputs[0].dims));
            }
            Ok((*inputs[0]).clone())
        }
        Op::Compare(_) => {
            arity(op, inputs, 2, 2)?;
            if inputs[0].dtype != inputs[1].dtype {
                return err(format!("{} and {} cannot be compared", inputs[0].dtype.name(), inputs[1].dtype.name()));
            }
            broadcast(&inputs[0].dims, &inputs[1].dims).map(|d| Type::new(DType::I64, &d))
        }
        Op::Where => {
            arity(op, inputs, 3, 3)?;
            expect_dtype(inputs[0], DType::I64)?;
            if inputs[1].dtype != inputs[2].dtype {
                return err(format!("{} and {} are no alternatives", inputs[1].dtype.name(), inputs[2].dtype.name()));
            }
            let d = broadcast(&broadcast(&inputs[0].dims, &inputs[1].dims)?, &inputs[2].dims)?;
            Ok(Type::new(inputs[1].dtype, &d))
        }
        Op::MaxPool(window) => {
            arity(op, inputs, 1, 1)?;
            let dims = pooled_dims(window, inputs[0])?.to_vec();
            Ok(Type { dims, ..(*inputs[0]).clone() })
        }
        Op::AveragePool { window, .. } => {
            arity(op, inputs, 1, 1)?;
            expect_dtype(inputs[0], DType::F32)?;
            pooled_dims(window, inputs[0]).map(|d| Type::f32(&d))
        }
        Op::QConvTranspose { geometry, table, .. } => {
            arity(op, inputs, 4 + usize::from(*table), 4 + usize::from(*table))?;
            expect_dtype(inputs[0], DType::S8)?;
            expect_dtype(inputs[1], DType::S8)?;
            if geometry.groups != 1 || geometry.dilation != [1, 1] {
                return err("a quantised transposed convolution has neither groups nor dilation yet");
            }
            let out = transposed_dims(geometry, inputs[0], inputs[1])?;
            words(inputs, 2, out[1])?;
            words(inputs, 3, out[1])?;
            check_table(inputs, *table, 4)?;
            Ok(Type::new(DType::S8, &out))
        }
        Op::QNorm { groups, kind, table, .. } => {
            arity(op, inputs, 3 + usize::from(*table), 3 + usize::from(*table))?;
            expect_dtype(inputs[0], DType::S8)?;
            let Some(&c) = inputs[0].dims.get(1) else { return err("a norm needs a channel axis") };
            if *groups == 0 || c % groups != 0 || (*kind != NormKind::Group && *groups != 1) {
                return err(format!("{c} channels in {groups} groups have no s8 norm of this kind"));
            }
            words(inputs, 1, c)?;
            words(inputs, 2, c)?;
            check_table(inputs, *table, 3)?;
            Ok(Type::new(DType::S8, &inputs[0].dims))
        }
        Op::QSoftmax => {
            arity(op, inputs, 2, 2)?;
            expect_dtype(inputs[0], DType::S8)?;
            if inputs[0].dims.len() < 2 || inputs[1].dtype != DType::S8 || inputs[1].dims != [512] {
                return err("a softmax needs a channel axis and a table of s8[512]");
            }
            Ok(Type::new(DType::S8, &inputs[0].dims))
        }
        Op::QHeadProduct { product, .. } => {
            arity(op, inputs, 2, 2)?;
            expect_dtype(inputs[0], DType::S8)?;
            expect_dtype(inputs[1], DType::S8)?;
            if inputs[1].quant.is_none_or(|q| q.zero_point != 0) {
                return err("the right operand of an s8 product is symmetric");
            }
            head_product(product, inputs[0], inputs[1]).map(|d| Type::new(DType::S8, &d))
        }
        Op::QAveragePool { window, .. } => {
            arity(op, inputs, 1, 1)?;
            expect_dtype(inputs[0], DType::S8)?;
            pooled_dims(window, inputs[0]).map(|d| Type::new(DType::S8, &d))
        }
        Op::QMul { table, .. } => {
            arity(op, inputs, 2 + usize::from(*table), 2 + usize::from(*table))?;
            expect_dtype(inputs[0], DType::S8)?;
            expect_dtype(inputs[1], DType::S8)?;
            let (a, b) = (&inputs[0].dims, &inputs[1].dims);
            let pixel = b.len() == a.len() && b[..2] == a[..2] && b[2..].iter().all(|&d| d == 1);
            if a.len() < 2 || !(a == b || pixel) {
                return err(format!("{a:?} and {b:?}: the second factor has the shape of the first, or one pixel"));
            }
            check_table(inputs, *table, 2)?;
            Ok(Type::new(DType::S8, a))
        }
        Op::Add { .. } | Op::Mul | Op::Div | Op::Pow | Op::Max | Op::Min => {
            arity(op, inputs, 2, 2)?;
            if inputs[0].dtype != inputs[1].dtype {
                return err(format!("{} and {} cannot be combined", inputs[0].dtype.name(), inputs[1].dtype.name()));
            }
            broadcast(&inputs[0].dims, &inputs[1].dims).map(|d| Type::new(inputs[0].dtype, &d))
        }
        Op::Unary(_) | Op::Clip { .. } | Op::FakeQuant { .. } => {
            arity(op, inputs, 1, 1)?;
            Ok((*inputs[0]).clone())
        }
        Op::Concat { axis } => concat(inputs, *axis),
        Op::Gather { axis } => {
            arity(op, inputs, 2, 2)?;
            if inputs[1].dtype != DType::I64 || *axis >= inputs[0].dims.len() {
                return err("gather needs i64 indices and an axis of its data");
            }
            let mut d = inputs[0].dims[..*axis].to_vec();
            d.extend(&inputs[1].dims);
            d.extend(&inputs[0].dims[axis + 1..]);
            Ok(Type::new(inputs[0].dtype, &d))
        }
        Op::Select => {
            arity(op, inputs, 2, 2)?;
            if inputs[0].dims.is_empty() || inputs[1].elements() != 1 || inputs[1].dtype != DType::I64 {
                return err("select needs a table with a row axis and one i64 index");
            }
            let mut d = inputs[0].dims.clone();
            d[0] = 1;
            Ok(Type::new(inputs[0].dtype, &d))
        }
        Op::Reshape { dims } => {
            arity(op, inputs, 1, 1)?;
            if Some(inputs[0].elements()) != dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) {
                return err(format!("{:?} cannot be reshaped to {dims:?}", inputs[0].dims));
            }
            Ok(Type { dims: dims.clone(), ..(*inputs[0]).clone() })
        }
        Op::Transpose { perm } => {
            arity(op, inputs, 1, 1)?;
            let mut seen = vec![false; inputs[0].dims.len()];
            for &p in perm {
                if p >= seen.len() || std::mem::replace(&mut seen[p], true) {
                    return err(format!("{perm:?} is not a permutation of {} axes", seen.len()));
                }
            }
            if perm.len() != seen.len() {
                return err(format!("{perm:?} is not a permutation of {} axes", seen.len()));
            }
            let d = perm.iter().map(|&p| inputs[0].dims[p]).collect();
            Ok(Type { dims: d, ..(*inputs[0]).clone() })
        }
        Op::Slice { axis, start, end, step } => {
            arity(op, inputs, 1, 1)?;
            let mut d = inputs[0].dims.clone();
            if *axis >= d.len() || start > end || *end > d[*axis] || *step == 0 {
                return err(format!("{start}..{end} step {step} on axis {axis} does not lie inside {d:?}"));
            }
            d[*axis] = (end - start).div_ceil(*step);
            Ok(Type { dims: d, ..(*inputs[0]).clone() })
        }
        Op::Expand { dims } => {
            arity(op, inputs, 1, 1)?;
            match broadcast(&inputs[0].dims, dims) {
                Ok(d) if d == *dims => Ok(Type { dims: d, ..(*inputs[0]).clone() }),
                Ok(_) | Err(_) => err(format!("{:?} does not broadcast to {dims:?}", inputs[0].dims)),
            }
        }
        Op::Cast { to } => {
            arity(op, inputs, 1, 1)?;
            Ok(Type::new(*to, &inputs[0].dims))
        }
        Op::ReduceMean { axes } | Op::ReduceSum { axes } | Op::ReduceMax { axes } => {
            arity(op, inputs, 1, 1)?;
            let mut d = inputs[0].dims.clone();
            for &a in axes {
                match d.get_mut(a) {
                    Some(n) => *n = 1,
                    None => return err(format!("axis {a} does not exist in {:?}", inputs[0].dims)),
                }
            }
            Ok(Type::new(inputs[0].dtype, &d))
        }
        Op::Upsample { factor } => {
            arity(op, inputs, 1, 1)?;
            let [n, c, h, w] = dims::<4>(inputs[0])?;
            if *factor == 0 {
                return err("an upsampling factor is at least 1");
            }
            scaled(inputs[0], [Some(n), Some(c), h.checked_mul(*factor), w.checked_mul(*factor)])
        }
        Op::PixelUnshuffle { block } => {
            arity(op, inputs, 1, 1)?;
            let [n, c, h, w] = dims::<4>(inputs[0])?;
            if *block == 0 || h % block != 0 || w % block != 0 {
                return err(format!("{h}x{w} does not divide into blocks of {block}"));
            }
            scaled(
                inputs[0],
                [Some(n), block.checked_mul(*block).and_then(|b| b.checked_mul(c)), Some(h / block), Some(w / block)],
            )
        }
        Op::PixelShuffle { block } => {
            arity(op, inputs, 1, 1)?;
            let [n, c, h, w] = dims::<4>(inputs[0])?;
            let square = block.checked_mul(*block).unwrap_or(0);
            if square == 0 || c % square != 0 {
                return err(format!("{c} channels do not divide into blocks of {block}x{block}"));
            }
            scaled(inputs[0], [Some(n), Some(c / square), h.checked_mul(*block), w.checked_mul(*block)])
        }
        Op::Quantize => {
            arity(op, inputs, 1, 1)?;
            Ok(Type::new(DType::S8, &inputs[0].dims))
        }
        Op::Dequantize => {
            arity(op, inputs, 1, 1)?;
            Ok(Type::f32(&inputs[0].dims))
        }
        Op::QConv { geometry, indexed, residual, table, .. } => {
            let extra = usize::from(*indexed) + usize::from(residual.is_some()) + usize::from(*table);
            arity(op, inputs, 4 + extra, 4 + extra)?;
            expect_dtype(inputs[0], DType::S8)?;
            expect_dtype(inputs[1], DType::S8)?;
            expect_dtype(inputs[2], DType::I32)?;
            expect_dtype(inputs[3], DType::I32)?;
            let as_4d = |t: &Type| match t.dims[..] {
                [n, k] => Type { dims: vec![n, k, 1, 1], ..t.clone() },
                _ => t.clone(),
            };
            let out = conv_dims(geometry, &as_4d(inputs[0]), &as_4d(inputs[1]))?;
            let out = if inputs[0].dims.len() == 2 { vec![out[0], out[1]] } else { out.to_vec() };
            if inputs[2].dims != [out[1]] || inputs[3].dims.len() != 2 || inputs[3].dims[1] != out[1] {
                return err("multipliers are [O] and biases [rows, O]");
            }
            let mut next = 4;
            if *indexed {
                expect_dtype(inputs[next], DType::I64)?;
                next += 1;
            }
            if residual.is_some() {
                expect_dtype(inputs[next], DType::S8)?;
                if inputs[next].dims != out {
                    return err(format!("a residual of {:?} does not fit a result of {out:?}", inputs[next].dims));
                }
                next += 1;
            }
            check_table(inputs, *table, next)?;
            Ok(Type::new(DType::S8, &out))
        }
        Op::QAdd { table, .. } => {
            arity(op, inputs, 2 + usize::from(*table), 2 + usize::from(*table))?;
            expect_dtype(inputs[0], DType::S8)?;
            expect_dtype(inputs[1], DType::S8)?;
            if inputs[0].dims != inputs[1].dims {
                return err(format!(
                    "{:?} and {:?} differ; the s8 sum does not broadcast",
                    inputs[0].dims, inputs[1].dims
                ));
            }
            check_table(inputs, *table, 2)?;
            Ok(Type::new(DType::S8, &inputs[0].dims))
        }
        Op::QMap => {
            arity(op, inputs, 2, 2)?;
            expect_dtype(inputs[0], DType::S8)?;
            check_table(inputs, true, 1)?;
            Ok(Type::new(DType::S8, &inputs[0].dims))
        }
    }
}

fn arity(op: &Op, inputs: &[&Type], least: usize, most: usize) -> Result<(), InferError> {
    if (least..=most).contains(&inputs.len()) {
        return Ok(());
    }
    err(format!("'{}' takes {least} to {most} operands, not {}", op.name(), inputs.len()))
}

fn dims<const N: usize>(t: &Type) -> Result<[usize; N], InferError> {
    <[usize; N]>::try_from(t.dims.as_slice())
        .map_err(|_| InferError::new(format!("expected {N} dimensions, found {:?}", t.dims)))
}

fn scaled(input: &Type, dims: [Option<usize>; 4]) -> Result<Type, InferError> {
    let known: Option<Vec<usize>> = dims.into_iter().collect();
    match known {
        Some(d) => Ok(Type { dims: d, ..input.clone() }),
        None => err("the result is too large"),
    }
}

fn expect_dtype(t: &Type, dtype: DType) -> Result<(), InferError> {
    if t.dtype == dtype {
        return Ok(());
    }
    err(format!("expected an operand of {}, found {}", dtype.name(), t.dtype.name()))
}

fn words(inputs: &[&Type], at: usize, channels: usize) -> Result<(), InferError> {
    if inputs[at].dtype == DType::I32 && inputs[at].dims == [channels] {
        return Ok(());
    }
    err(format!("operand {at} is i32[{channels}]"))
}

fn check_table(inputs: &[&Type], present: bool, at: usize) -> Result<(), InferError> {
    if present && (inputs[at].dtype != DType::S8 || inputs[at].dims != [256]) {
        return err("a table is s8[256]");
    }
    Ok(())
}

fn check_bias(inputs: &[&Type], at: usize, channels: usize) -> Result<(), InferError> {
    match (inputs.get(at), inputs.get(at + 1)) {
        (None, _) => Ok(()),
        (Some(b), None) if b.dims == [channels] => Ok(()),
        (Some(b), Some(i)) if b.dims.len() == 2 && b.dims[1] == channels && i.dtype == DType::I64 => Ok(()),
        (Some(b), _) => err(format!("a bias of {:?} does not fit {channels} output channels", b.dims)),
    }
}

/// Output dimensions of a convolution.
fn conv_dims(g: &ConvGeometry, x: &Type, w: &Type) -> Result<[usize; 4], InferError> {
    let ([n, c, h, wd], [o, i, kh, kw]) = (dims::<4>(x)?, dims::<4>(w)?);
    if g.groups == 0 || g.upsample == 0 || g.stride.contains(&0) || g.dilation.contains(&0) {
        return err("stride, dilation, groups and upsampling are at least 1");
    }
    if i.checked_mul(g.groups) != Some(c) || o % g.groups != 0 {
        return err(format!("weights [{o}, {i}, {kh}, {kw}] in {} groups do not fit {c} input channels", g.groups));
    }
    let axis = |size: usize, k: usize, a: usize| -> Option<usize> {
        let padded = size.checked_mul(g.upsample)?.checked_add(g.pad[a])?.checked_add(g.pad[a + 2])?;
        let window = k.checked_sub(1)?.checked_mul(g.dilation[a])?.checked_add(1)?;
        Some(padded.checked_sub(window)? / g.stride[a] + 1)
    };
    match (axis(h, kh, 0), axis(wd, kw, 1)) {
        (Some(oh), Some(ow)) => Ok([n, o, oh, ow]),
        _ => err(format!("a {kh}x{kw} kernel does not fit a {h}x{wd} input")),
    }
}

/// Output dimensions of a transposed convolution.
fn transposed_dims(g: &TransposedGeometry, x: &Type, w: &Type) -> Result<[usize; 4], InferError> {
    let ([n, c, h, wd], [i, o, kh, kw]) = (dims::<4>(x)?, dims::<4>(w)?);
    if g.groups == 0 || g.stride.contains(&0) || g.dilation.contains(&0) {
        return err("stride, dilation and groups are at least 1");
    }
    if i != c || c % g.groups != 0 {
        return err(format!("weights [{i}, {o}, {kh}, {kw}] in {} groups do not fit {c} input channels", g.groups));
    }
    let axis = |size: usize, k: usize, a: usize| -> Option<usize> {
        let window = k.checked_sub(1)?.checked_mul(g.dilation[a])?.checked_add(1)?;
        let full = size.checked_sub(1)?.checked_mul(g.stride[a])?.checked_add(window)?.checked_add(g.extra[a])?;
        full.checked_sub(g.pad[a])?.checked_sub(g.pad[a + 2]).filter(|&n| n > 0)
    };
    match (o.checked_mul(g.groups), axis(h, kh, 0), axis(wd, kw, 1)) {
        (Some(o), Some(oh), Some(ow)) => Ok([n, o, oh, ow]),
        _ => err(format!("a {kh}x{kw} kernel does not fit a {h}x{wd} input")),
    }
}

/// Output dimensions of pooling; every window holds at least one place of the input.
fn pooled_dims(window: &Window, x: &Type) -> Result<[usize; 4], InferError> {
    let [n, c, h, w] = dims::<4>(x)?;
    let axis = |size: usize, a: usize| -> Option<usize> {
        let (k, stride) = (window.kernel[a], window.stride[a]);
        if k == 0 || stride == 0 || window.pad[a] >= k || window.pad[a + 2] >= k {
            return None;
        }
        let padded = size.checked_add(window.pad[a])?.checked_add(window.pad[a + 2])?;
        Some(padded.checked_sub(k)? / stride + 1)
    };
    match (axis(h, 0), axis(w, 1)) {
        (Some(oh), Some(ow)) => Ok([n, c, oh, ow]),
        _ => err(format!("windows of {:?} do not fit a {h}x{w} input", window.kernel)),
    }
}

/// Rows and columns of one of the `batch` matrices in `[1, C, H, W]`.
fn matrices(t: &Type, split: Split, batch: usize) -> Result<(usize, usize), InferError> {
    let [n, c, h, w] = dims::<4>(t)?;
    let fits = n == 1
        && match split {
            Split::Rows => h == batch,
            Split::Channels => batch > 0 && c % batch == 0,
        };
    match split {
        _ if !fits => err(format!("{:?} does not hold {batch} matrices", t.dims)),
        Split::Rows => Ok((w, c)),
        Split::Channels => Ok((h * w, c / batch)),
    }
}

fn head_product(p: &Product, a: &Type, b: &Type) -> Result<Vec<usize>, InferError> {
    let ((m, k), (rows, columns)) = (matrices(a, p.a, p.batch)?, matrices(b, p.b, p.batch)?);
    let (inner, n) = if p.transposed { (columns, rows) } else { (rows, columns) };
    if k != inner {
        return err(format!("{:?} times {:?} is not defined", a.dims, b.dims));
    }
    Ok(match p.out {
        Split::Rows => vec![1, n, p.batch, m],
        Split::Channels => vec![1, n * p.batch, 1, m],
    })
}

fn concat(inputs: &[&Type], axis: usize) -> Result<Type, InferError> {
    let Some(first) = inputs.first() else { return err("concat needs an operand") };
    if axis >= first.dims.len() {
        return err(format!("axis {axis} does not exist in {:?}", first.dims));
    }
    let mut sum = 0usize;
    for t in inputs {
        let same = t.dims.len() == first.dims.len()
            && t.dtype == first.dtype
            && t.dims.iter().zip(&first.dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !same {
            return err(format!("{:?} and {:?} cannot be joined along axis {axis}", first.dims, t.dims));
        }
        if t.quant != first.quant {
            return err("quantised operands of concat need one scale and zero point");
        }
        sum = sum.saturating_add(t.dims[axis]);
    }
    let mut d = first.dims.clone();
    d[axis] = sum;
    Ok(Type { dims: d, ..(*first).clone() })
}

/// Dimensions of two broadcast operands (numpy's rule).
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, InferError> {
    let rank = a.len().max(b.len());
    let dim = |d: &[usize], i: usize| (i + d.len()).checked_sub(rank).map_or(1, |j| d[j]);
    (0..rank)
        .map(|i| match (dim(a, i), dim(b, i)) {
            (x, y) if x == y => Ok(x),
            (1, y) => Ok(y),
            (x, 1) => Ok(x),
            _ => err(format!("{a:?} and {b:?} do not broadcast")),
        })
        .collect()
}

fn matmul_dims(a: &Type, b: &Type) -> Result<Vec<usize>, InferError> {
    if a.dims.len() < 2 || b.dims.len() < 2 {
        return err("matmul needs two matrices");
    }
    let ((a_batch, a_mat), (b_batch, b_mat)) = (a.dims.split_at(a.dims.len() - 2), b.dims.split_at(b.dims.len() - 2));
    if a_mat[1] != b_mat[0] {
        return err(format!("{:?} times {:?} is not defined", a.dims, b.dims));
    }
    let mut d = broadcast(a_batch, b_batch)?;
    d.extend([a_mat[0], b_mat[1]]);
    Ok(d)
}
