//! Sums, means and average pooling.

use super::conv::padding;
use super::{At, Binding, Refused, Translator};
use flowlet_compiler::ir::{ConvGeometry, Op, Tensor, Unary};
use tract_onnx::tract_core::internal::TypedOp;
use tract_onnx::tract_core::ops::cnn::SumPool;
use tract_onnx::tract_core::ops::nn::{DataFormat, Reduce, Reducer};

impl Translator<'_> {
    /// `None` if the operation belongs to another family.
    pub(super) fn reduction(&mut self, at: &At<'_>, op: &dyn TypedOp) -> Result<Option<Binding>, Refused> {
        if let Some(op) = op.downcast_ref::<Reduce>() {
            return self.reduce(at, op).map(Some);
        }
        if let Some(op) = op.downcast_ref::<SumPool>() {
            return self.pool(at, op).map(Some);
        }
        Ok(None)
    }

    fn reduce(&mut self, at: &At<'_>, op: &Reduce) -> Result<Binding, Refused> {
        let mut axes = op.axes.to_vec();
        axes.sort_unstable();
        axes.dedup();
        match op.reducer {
            Reducer::Sum => self.unary(at, Op::ReduceSum { axes }),
            Reducer::MeanOfSquares => {
                let x = self.operand(at, 0)?;
                let square = self.emit(at, Op::Unary(Unary::Square), &[x])?;
                self.emit(at, Op::ReduceMean { axes }, &[square]).map(Binding::Value)
            }
            Reducer::ArgMax(_)
            | Reducer::ArgMin(_)
            | Reducer::Max
            | Reducer::Min
            | Reducer::Prod
            | Reducer::All
            | Reducer::Any => Err(format!("reducing by {:?} is not supported", op.reducer)),
        }
    }

    /// Average pooling, in the simplest of three forms: over everything, over tiles, or as a convolution.
    fn pool(&mut self, at: &At<'_>, op: &SumPool) -> Result<Binding, Refused> {
        let spec = &op.pool_spec;
        let dims = self.input_dims(at, 0)?;
        let [n, c, h, w] = dims[..] else { return Err(format!("pooling of {dims:?} is not supported")) };
        let dilated = spec.dilations.as_ref().is_some_and(|d| d.iter().any(|&d| d != 1));
        if spec.data_format != DataFormat::NCHW || dilated || spec.kernel_shape.contains(&0) {
            return Err("pooling is supported over NCHW images without dilation".to_owned());
        }
        let (kh, kw) = (spec.kernel_shape[0], spec.kernel_shape[1]);
        let stride = spec.strides.as_ref().map_or([1, 1], |s| [s[0], s[1]]);
        let vertical = padding(&spec.padding, 0, h, kh, stride[0], 1)?;
        let horizontal = padding(&spec.padding, 1, w, kw, stride[1], 1)?;
        let pad = [vertical.0, horizontal.0, vertical.1, horizontal.1];
        if !op.normalize {
            return Err("sums over windows are not supported, means are".to_owned());
        }
        let x = self.operand(at, 0)?;
        if pad == [0; 4] && (kh, kw) == (h, w) {
            return self.emit(at, Op::ReduceMean { axes: vec![2, 3] }, &[x]).map(Binding::Value);
        }
        if pad == [0; 4] && stride == [kh, kw] && h % kh == 0 && w % kw == 0 {
            let split = self.emit(at, Op::Reshape { dims: vec![n, c, h / kh, kh, w / kw, kw] }, &[x])?;
            let mean = self.emit(at, Op::ReduceMean { axes: vec![3, 5] }, &[split])?;
            return self.emit(at, Op::Reshape { dims: vec![n, c, h / kh, w / kw] }, &[mean]).map(Binding::Value);
        }
        if pad != [0; 4] && !op.count_include_pad {
            return Err("average pooling that does not count its padding is not supported; pool without padding or \
                        set count_include_pad"
                .to_owned());
        }
        let area = kh.checked_mul(kw).and_then(|a| a.checked_mul(c)).filter(|&a| a < 1 << 24);
        let area = area.ok_or_else(|| format!("a window of {kh}x{kw} is too large"))?;
        let weight = Tensor::f32(&[c, 1, kh, kw], vec![1.0 / (kh * kw) as f32; area]);
        let weight = self.graph.add_const(&format!("{}.window", at.name), weight);
        let geometry = ConvGeometry { stride, pad, groups: c, ..ConvGeometry::default() };
        self.emit(at, Op::Conv(geometry), &[x, weight]).map(Binding::Value)
    }
}
