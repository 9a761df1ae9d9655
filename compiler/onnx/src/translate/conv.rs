//! Convolutions in one and two dimensions.

use super::constant::{reshape, uniform};
use super::{At, Binding, Refused, Translator};
use flowlet_compiler::ir::{ConvGeometry, DType, Op, Tensor, Type, ValueId};
use tract_onnx::tract_core::ops::cnn::conv::KernelFormat;
use tract_onnx::tract_core::ops::cnn::{Conv, PaddingSpec};
use tract_onnx::tract_core::ops::nn::DataFormat;

impl Translator<'_> {
    pub(super) fn conv(&mut self, at: &At<'_>, op: &Conv) -> Result<Binding, Refused> {
        if op.q_params.is_some() {
            return Err("quantised convolutions are not imported yet; export the float model".to_owned());
        }
        if op.pool_spec.data_format != DataFormat::NCHW {
            return Err(format!("images are expected as NCHW, not {:?}", op.pool_spec.data_format));
        }
        let (x, pad_before) = match self.binding(at, 0)? {
            Binding::Padded { inner, pad } => (inner, pad),
            Binding::Value(_) | Binding::Constant { .. } => (self.operand(at, 0)?, [0; 4]),
        };
        let x_dims = self.graph.ty(x).dims.clone();
        let spatial = match x_dims.len() {
            3 => 1,
            4 => 2,
            rank => return Err(format!("a convolution over {} axes is not supported", rank.saturating_sub(2))),
        };
        let padded: Vec<usize> =
            (0..spatial).map(|i| x_dims[2 + i] + pad_before[i + 2 - spatial] + pad_before[i + 4 - spatial]).collect();
        let mut geometry = geometry(op, &padded)?;
        geometry.pad.iter_mut().zip(pad_before).for_each(|(p, before)| *p += before);
        let weight = self.kernel(at, op.kernel_fmt, spatial)?;
        let x = if spatial == 1 {
            let dims = vec![x_dims[0], x_dims[1], 1, x_dims[2]];
            self.emit(at, Op::Reshape { dims }, &[x])?
        } else {
            x
        };
        let mut inputs = vec![x, weight];
        let mut dynamic_bias = None;
        match self.bias(at, op.pool_spec.output_channels)? {
            Bias::None => {}
            Bias::Constant(id) => inputs.push(id),
            Bias::Computed(id) => dynamic_bias = Some(id),
        }
        let mut y = self.emit(at, Op::Conv(geometry), &inputs)?;
        if let Some(bias) = dynamic_bias {
            y = self.emit(at, Op::add(), &[y, bias])?;
        }
        if spatial == 1 {
            let dims = self.output_dims(at)?;
            y = self.emit(at, Op::Reshape { dims }, &[y])?;
        }
        Ok(Binding::Value(y))
    }

    /// The weights as `[O, I/g, kh, kw]`.
    fn kernel(&mut self, at: &At<'_>, format: KernelFormat, spatial: usize) -> Result<ValueId, Refused> {
        if format != KernelFormat::OIHW {
            return Err(format!("weights are expected as OIHW, not {format:?}"));
        }
        if spatial == 2 {
            return self.operand(at, 1);
        }
        let dims = self.input_dims(at, 1)?;
        let [o, i, k] = dims[..] else { return Err(format!("weights of {dims:?} do not fit one spatial axis")) };
        match self.constant(at, 1) {
            Some(tensor) => {
                let name = self.names.value(&self.model.node(at.node.inputs[1].node).name);
                Ok(self.graph.add_const(&name, reshape(&tensor, &[o, i, 1, k])))
            }
            None => {
                let weight = self.operand(at, 1)?;
                self.emit(at, Op::Reshape { dims: vec![o, i, 1, k] }, &[weight])
            }
        }
    }

    fn bias(&mut self, at: &At<'_>, channels: usize) -> Result<Bias, Refused> {
        if at.node.inputs.len() < 3 {
            return Ok(Bias::None);
        }
        let Some(tensor) = self.constant(at, 2) else {
            let bias = self.operand(at, 2)?;
            if self.graph.ty(bias) == &Type::new(DType::F32, &[channels]) {
                let shaped = self.emit(at, Op::Reshape { dims: vec![1, channels, 1, 1] }, &[bias])?;
                return Ok(Bias::Computed(shaped));
            }
            return Err(format!("a bias of {:?} does not fit {channels} channels", self.graph.ty(bias).dims));
        };
        if tensor.elements() == 1 && uniform(&tensor) == Some(0.0) {
            return Ok(Bias::None);
        }
        if tensor.dims == [channels] {
            return self.operand(at, 2).map(Bias::Constant);
        }
        match uniform(&tensor) {
            Some(value) if tensor.elements() == 1 => {
                let tensor = Tensor::f32(&[channels], vec![value; channels]);
                Ok(Bias::Constant(self.graph.add_const(&format!("{}.bias", at.name), tensor)))
            }
            Some(_) | None => Err(format!("a bias of {:?} does not fit {channels} channels", tensor.dims)),
        }
    }
}

enum Bias {
    None,
    Constant(ValueId),
    Computed(ValueId),
}

/// Stride, dilation and padding; a single spatial axis is the horizontal one.
fn geometry(op: &Conv, input: &[usize]) -> Result<ConvGeometry, Refused> {
    let spec = &op.pool_spec;
    let mut g = ConvGeometry { groups: op.group, ..ConvGeometry::default() };
    let first = 2 - input.len();
    for (i, &size) in input.iter().enumerate() {
        let stride = spec.strides.as_ref().map_or(1, |s| s[i]);
        let dilation = spec.dilations.as_ref().map_or(1, |d| d[i]);
        let kernel = spec.kernel_shape[i];
        if stride == 0 || dilation == 0 || kernel == 0 {
            return Err("stride, dilation and kernel are at least 1".to_owned());
        }
        let (before, after) = padding(&spec.padding, i, size, kernel, stride, dilation)?;
        g.stride[first + i] = stride;
        g.dilation[first + i] = dilation;
        g.pad[first + i] = before;
        g.pad[first + i + 2] = after;
    }
    Ok(g)
}

/// Padding before and after one axis.
pub(super) fn padding(
    spec: &PaddingSpec,
    axis: usize,
    size: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
) -> Result<(usize, usize), Refused> {
    let same = || -> Option<usize> {
        let window = (kernel - 1).checked_mul(dilation)?.checked_add(1)?;
        let steps = (size.div_ceil(stride) - 1).checked_mul(stride)?;
        Some(steps.checked_add(window)?.saturating_sub(size))
    };
    let same = || if size == 0 { None } else { same() }.ok_or_else(|| "its padding is too large".to_owned());
    match spec {
        PaddingSpec::Valid => Ok((0, 0)),
        PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, false) => {
            Ok((before[axis], after[axis]))
        }
        PaddingSpec::ExplicitOnnxPool(_, _, true) => Err("ceil_mode is not supported".to_owned()),
        PaddingSpec::SameUpper => same().map(|total| (total / 2, total - total / 2)),
        PaddingSpec::SameLower => same().map(|total| (total - total / 2, total / 2)),
    }
}
