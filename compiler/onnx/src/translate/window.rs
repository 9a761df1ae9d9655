//! Pooling and softmax.

use super::conv::padding;
use super::{At, Binding, Refused, Translator};
use flowlet_compiler::ir::{Op, Window};
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::ops::cnn::{MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_core::ops::nn::{DataFormat, Softmax, SoftmaxKind};

impl Translator<'_> {
    /// `None` if the operation belongs to another family.
    pub(super) fn window(&mut self, at: &At<'_>, op: &dyn TypedOp) -> Result<Option<Binding>, Refused> {
        if let Some(op) = op.downcast_ref::<SumPool>() {
            if !op.normalize {
                return Err("sums over windows are not supported, means are".to_owned());
            }
            let count_pad = op.count_include_pad;
            return self.pool(at, &op.pool_spec, |window| Op::AveragePool { window, count_pad }).map(Some);
        }
        if let Some(op) = op.downcast_ref::<MaxPool>() {
            return self.pool(at, &op.pool_spec, Op::MaxPool).map(Some);
        }
        if let Some(op) = op.downcast_ref::<Softmax>() {
            let [axis] = op.axes[..] else { return Err("softmax over several axes is not supported".to_owned()) };
            if op.kind != SoftmaxKind::Softmax || op.quant_output_dt.is_some() {
                return Err("only softmax of floats is supported".to_owned());
            }
            return self.unary(at, Op::Softmax { axis }).map(Some);
        }
        Ok(None)
    }

    fn pool(&mut self, at: &At<'_>, spec: &PoolSpec, op: impl Fn(Window) -> Op) -> Result<Binding, Refused> {
        let dims = self.input_dims(at, 0)?;
        let dilated = spec.dilations.as_ref().is_some_and(|d| d.iter().any(|&d| d != 1));
        if spec.data_format != DataFormat::NCHW || dilated || spec.kernel_shape.contains(&0) {
            return Err("pooling is supported over NCHW images without dilation".to_owned());
        }
        let axes = dims.len().saturating_sub(2);
        if !(1..=2).contains(&axes) || spec.kernel_shape.len() != axes {
            return Err(format!("pooling of {dims:?} is not supported"));
        }
        let mut window = Window { kernel: [1; 2], stride: [1; 2], pad: [0; 4] };
        for (i, &size) in dims[2..].iter().enumerate() {
            let a = i + 2 - axes;
            window.kernel[a] = spec.kernel_shape[i];
            window.stride[a] = spec.strides.as_ref().map_or(1, |s| s[i]);
            let pad = padding(&spec.padding, i, size, window.kernel[a], window.stride[a], 1)?;
            (window.pad[a], window.pad[a + 2]) = pad;
        }
        let x = self.operand(at, 0)?;
        if axes == 2 {
            return self.emit(at, op(window), &[x]).map(Binding::Value);
        }
        let x = self.emit(at, Op::Reshape { dims: vec![dims[0], dims[1], 1, dims[2]] }, &[x])?;
        let y = self.emit(at, op(window), &[x])?;
        let dims = self.output_dims(at)?;
        self.emit(at, Op::Reshape { dims }, &[y]).map(Binding::Value)
    }
}
