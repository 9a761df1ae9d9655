//! Operations that tract passes on whole: norms, transposed convolution, attention.

use super::constant::reshape;
use super::{At, Binding, Refused, Translator};
use crate::kept::Kept;
use flowlet_compiler::ir::{NormKind, Op, Tensor, TransposedGeometry, Unary, ValueId};

impl Translator<'_> {
    pub(super) fn kept(&mut self, at: &At<'_>, op: &Kept) -> Result<Binding, Refused> {
        let x = self.operand(at, 0)?;
        match op {
            Kept::Unary(unary) => self.emit(at, Op::Unary(*unary), &[x]).map(Binding::Value),
            Kept::Elu(alpha) => {
                let up = self.emit(at, Op::Unary(Unary::Relu), &[x])?;
                let down = self.emit(at, Op::Clip { lo: f32::MIN, hi: 0.0 }, &[x])?;
                let down = self.emit(at, Op::Unary(Unary::Exp), &[down])?;
                let op = Op::Add { alpha: 1.0, beta: *alpha, gamma: -alpha };
                self.emit(at, op, &[up, down]).map(Binding::Value)
            }
            Kept::FakeQuant { scale, zero_point } => {
                let op = Op::FakeQuant { scale: *scale, zero_point: *zero_point };
                self.emit(at, op, &[x]).map(Binding::Value)
            }
            Kept::InstanceNorm { eps } => {
                let channels = self.channels(at)?;
                let op = Op::Norm { kind: NormKind::Group, axis: 1, groups: channels, eps: *eps };
                let inputs = [x, self.operand(at, 1)?, self.operand(at, 2)?];
                self.emit(at, op, &inputs).map(Binding::Value)
            }
            Kept::GroupNorm { groups, eps } => {
                let channels = self.channels(at)?;
                let op = Op::Norm { kind: NormKind::Group, axis: 1, groups: *groups, eps: *eps };
                let inputs = [x, self.group_row(at, 1, channels)?, self.group_row(at, 2, channels)?];
                self.emit(at, op, &inputs).map(Binding::Value)
            }
            Kept::LayerNorm { axis, eps, centred } => self.layer_norm(at, x, *axis, *eps, *centred),
            Kept::ConvTranspose(geometry) => self.conv_transpose(at, x, *geometry),
            Kept::Attention { scale, heads } => self.attention(at, *scale, *heads),
        }
    }

    fn channels(&self, at: &At<'_>) -> Result<usize, Refused> {
        let dims = self.input_dims(at, 0)?;
        dims.get(1).copied().ok_or_else(|| format!("{dims:?} has no channel axis"))
    }

    /// A factor or shift for each channel; before operator set 21 there is one for each group.
    fn group_row(&mut self, at: &At<'_>, slot: usize, channels: usize) -> Result<ValueId, Refused> {
        let Some(tensor) = self.constant(at, slot) else { return self.operand(at, slot) };
        let values = tensor.as_f32().unwrap_or(&[]);
        if values.len() == channels || values.is_empty() || !channels.is_multiple_of(values.len()) {
            return self.operand(at, slot);
        }
        let run = channels / values.len();
        let row = Tensor::f32(&[channels], (0..channels).map(|c| values[c / run]).collect());
        Ok(self.graph.add_const(&format!("{}.{}", at.name, if slot == 1 { "scale" } else { "shift" }), row))
    }

    fn layer_norm(&mut self, at: &At<'_>, x: ValueId, axis: i64, eps: f32, centred: bool) -> Result<Binding, Refused> {
        let dims = self.input_dims(at, 0)?;
        let first = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok();
        let first = first.filter(|&a| a < dims.len() && a > 0);
        let first = first.ok_or_else(|| format!("axis {axis} of {dims:?} cannot be normalised for one sample"))?;
        let size: usize = dims[first..].iter().product();
        let mut flat = dims[..first].to_vec();
        flat.push(size);
        let scale = self.row(at, 1, size)?;
        let shift = if at.node.inputs.len() > 2 {
            self.row(at, 2, size)?
        } else {
            self.graph.add_const(&format!("{}.shift", at.name), Tensor::f32(&[size], vec![0.0; size]))
        };
        let kind = if centred { NormKind::Layer } else { NormKind::Rms };
        let op = Op::Norm { kind, axis: first, groups: 1, eps };
        if flat == dims {
            return self.emit(at, op, &[x, scale, shift]).map(Binding::Value);
        }
        let x = self.emit(at, Op::Reshape { dims: flat }, &[x])?;
        let y = self.emit(at, op, &[x, scale, shift])?;
        self.emit(at, Op::Reshape { dims }, &[y]).map(Binding::Value)
    }

    /// Operand `slot` as one row of `size` numbers.
    fn row(&mut self, at: &At<'_>, slot: usize, size: usize) -> Result<ValueId, Refused> {
        match self.constant(at, slot) {
            Some(tensor) if tensor.elements() == size => {
                let name = self.names.value(&self.model.node(at.node.inputs[slot].node).name);
                Ok(self.graph.add_const(&name, reshape(&tensor, &[size])))
            }
            Some(tensor) if tensor.elements() == 1 => {
                let value = tensor.as_f32().map_or(1.0, |v| v[0]);
                Ok(self.graph.add_const(&format!("{}.row", at.name), Tensor::f32(&[size], vec![value; size])))
            }
            Some(tensor) => Err(format!("factors of {:?} do not fit {size} elements", tensor.dims)),
            None => Err("factors that are computed are not supported".to_owned()),
        }
    }

    fn conv_transpose(&mut self, at: &At<'_>, x: ValueId, geometry: TransposedGeometry) -> Result<Binding, Refused> {
        let dims = self.input_dims(at, 0)?;
        let Some(weight) = self.constant(at, 1) else {
            return Err("weights that are computed are not supported".into());
        };
        let name = self.names.value(&self.model.node(at.node.inputs[1].node).name);
        let flat = dims.len() == 3;
        let weight = match weight.dims[..] {
            [i, o, k] if flat => reshape(&weight, &[i, o, 1, k]),
            _ => (*weight).clone(),
        };
        let mut inputs = vec![x, self.graph.add_const(&name, weight)];
        if flat {
            inputs[0] = self.emit(at, Op::Reshape { dims: vec![dims[0], dims[1], 1, dims[2]] }, &[x])?;
        }
        if at.node.inputs.len() > 2 {
            inputs.push(self.operand(at, 2)?);
        }
        let y = self.emit(at, Op::ConvTranspose(geometry), &inputs)?;
        if !flat {
            return Ok(Binding::Value(y));
        }
        let dims = self.output_dims(at)?;
        self.emit(at, Op::Reshape { dims }, &[y]).map(Binding::Value)
    }

    fn attention(&mut self, at: &At<'_>, scale: Option<f32>, heads: Option<usize>) -> Result<Binding, Refused> {
        let mut operands = Vec::new();
        for slot in 0..3 {
            let dims = self.input_dims(at, slot)?;
            let x = self.operand(at, slot)?;
            let x = match (dims[..].len(), heads) {
                (4, _) => x,
                (_, Some(h)) if dims[2] % h == 0 => {
                    let split = Op::Reshape { dims: vec![dims[0], dims[1], h, dims[2] / h] };
                    let x = self.emit(at, split, &[x])?;
                    self.emit(at, Op::Transpose { perm: vec![0, 2, 1, 3] }, &[x])?
                }
                _ => return Err(format!("operands of {dims:?} need 'q_num_heads'")),
            };
            operands.push(x);
        }
        let size = self.graph.ty(operands[0]).dims[3];
        let factor = self.scalar(at, operands[0], scale.unwrap_or(1.0 / (size as f32).sqrt()));
        let q = self.emit(at, Op::Mul, &[operands[0], factor])?;
        let k = self.emit(at, Op::Transpose { perm: vec![0, 1, 3, 2] }, &[operands[1]])?;
        let scores = self.emit(at, Op::MatMul, &[q, k])?;
        let weights = self.emit(at, Op::Softmax { axis: 3 }, &[scores])?;
        let y = self.emit(at, Op::MatMul, &[weights, operands[2]])?;
        let dims = self.output_dims(at)?;
        if dims.len() == 4 {
            return Ok(Binding::Value(y));
        }
        let y = self.emit(at, Op::Transpose { perm: vec![0, 2, 1, 3] }, &[y])?;
        self.emit(at, Op::Reshape { dims }, &[y]).map(Binding::Value)
    }
}
