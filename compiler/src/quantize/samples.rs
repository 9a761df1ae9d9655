//! What a model is calibrated on.

use crate::interp::zeros;
use crate::ir::{Def, Graph, InputKind, Tensor, Type};
use flowlet_kernels::noise;

/// Input tensors, one list for each sample, in the order of the graph's inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The samples.
    pub samples: Vec<Vec<Tensor>>,
    source: String,
}

impl Calibration {
    /// Samples that were read from somewhere; `source` says where, for the record in the `.flq`.
    pub fn from_samples(samples: Vec<Vec<Tensor>>, source: &str) -> Self {
        Calibration { samples, source: source.to_owned() }
    }

    /// `n` samples of the deployed noise source, seeds `0..n` of stream [`Calibration::STREAM`], indices in turn.
    ///
    /// # Errors
    /// The name of an input that is neither the noise input nor an index.
    pub fn from_noise(graph: &Graph, n: usize) -> Result<Self, String> {
        let samples = Self::noise(graph, n, Self::STREAM)?;
        Ok(Calibration { samples, source: format!("deployed noise, stream {}", Self::STREAM) })
    }

    /// `n` samples of the deployed noise source that neither calibration nor scores use.
    ///
    /// # Errors
    /// As [`Calibration::from_noise`].
    pub fn held_out(graph: &Graph, n: usize) -> Result<Vec<Vec<Tensor>>, String> {
        Self::noise(graph, n, Self::HELD_OUT_STREAM)
    }

    fn noise(graph: &Graph, n: usize, stream: u32) -> Result<Vec<Vec<Tensor>>, String> {
        let noise = graph.meta("noise");
        let sample = |seed: usize| {
            graph
                .inputs
                .iter()
                .map(|&id| {
                    let value = graph.value(id);
                    match value.def {
                        Def::Input(InputKind::Index { count }) => {
                            Ok(Tensor::i64(&value.ty.dims, vec![(seed % count) as i64; value.ty.elements()]))
                        }
                        _ if noise == Some(value.name.as_str()) => Ok(noise_tensor(&value.ty, seed as u64, stream)),
                        _ => Err(value.name.clone()),
                    }
                })
                .collect()
        };
        (0..n).map(sample).collect()
    }

    /// The noise stream of calibration; samples are drawn from stream 0, so that scores are on held-out noise.
    pub const STREAM: u32 = 1;

    /// The noise stream of errors that are reported, and that choices are made by.
    pub const HELD_OUT_STREAM: u32 = 2;

    pub(super) fn describe(&self) -> String {
        format!("{} samples, {}", self.samples.len(), self.source)
    }
}

/// Noise of this f32 type. Elements are numbered in NHWC order, as on the device.
pub fn noise_tensor(ty: &Type, seed: u64, stream: u32) -> Tensor {
    let mut drawn = vec![0.0f32; ty.elements()];
    noise::fill_f32(&mut drawn, seed, stream);
    let [_, c, h, w] = ty.dims[..] else { return Tensor::f32(&ty.dims, drawn) };
    let mut out = zeros(&Type::f32(&ty.dims));
    if let crate::ir::Data::F32(values) = &mut out.data {
        for (i, v) in values.iter_mut().enumerate() {
            let (n, channel, pixel) = (i / (c * h * w), i / (h * w) % c, i % (h * w));
            *v = drawn[(n * h * w + pixel) * c + channel];
        }
    }
    out
}
