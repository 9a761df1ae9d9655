//! How far an int8 graph is from the f32 graph that it came from, tensor by tensor.

use super::{QuantizeError, prepare};
use crate::interp::Interpreter;
use crate::ir::{Data, Graph, Tensor, Type, ValueId};
use flowlet_kernels::port::{dequantise, quantise_finite};
use std::collections::HashMap;

/// Signal-to-quantisation-noise ratio of one tensor: the power of its f32 values over that of the difference, the errors
/// of all layers before it included.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerError {
    /// Name of the tensor in both graphs.
    pub tensor: String,
    /// ONNX name of the node that computes it.
    pub node: String,
    /// Over all samples, in dB.
    pub snr_db: f64,
    /// Of the worst sample, in dB.
    pub worst_db: f64,
    /// Which sample that is.
    pub worst_sample: usize,
}

/// The error of one output of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputError {
    /// Name of the output.
    pub name: String,
    /// Over all samples, in dB.
    pub snr_db: f64,
    /// Of the worst sample, in dB.
    pub worst_db: f64,
    /// Which sample that is.
    pub worst_sample: usize,
    /// Mean over samples of the largest absolute difference, in the output's unit.
    pub linf: f64,
    /// The largest absolute difference of all samples, in the output's unit.
    pub worst_linf: f64,
}

/// What [`measure`] found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Number of samples.
    pub samples: usize,
    /// Every tensor that both graphs compute, in order.
    pub layers: Vec<LayerError>,
    /// Every output.
    pub outputs: Vec<OutputError>,
}

/// Powers of a tensor over the samples so far.
#[derive(Clone, Default)]
struct Powers {
    signal: f64,
    noise: f64,
    worst: Option<(f64, usize)>,
    linf: f64,
    worst_linf: f64,
}

impl Powers {
    fn add(&mut self, sample: usize, want: &[f32], got: impl Iterator<Item = f32>) {
        let (mut signal, mut noise, mut linf) = (0.0f64, 0.0f64, 0.0f64);
        for (&w, g) in want.iter().zip(got) {
            let (w, difference) = (f64::from(w), f64::from(w) - f64::from(g));
            signal += w * w;
            noise += difference * difference;
            linf = linf.max(difference.abs());
        }
        self.signal += signal;
        self.noise += noise;
        self.linf += linf;
        self.worst_linf = self.worst_linf.max(linf);
        let db = decibels(signal, noise);
        if self.worst.is_none_or(|(worst, _)| db < worst) {
            self.worst = Some((db, sample));
        }
    }
}

impl Powers {
    fn compare(&mut self, sample: usize, want: &[f32], got: &Tensor, ty: &Type) {
        match (&got.data, ty.quant) {
            (Data::S8(q), Some(quant)) => {
                self.add(sample, want, q.iter().map(|&q| dequantise(q, quant.scale, quant.zero_point)));
            }
            (Data::F32(v), _) => self.add(sample, want, v.iter().copied()),
            (Data::S8(_) | Data::I32(_) | Data::I64(_), _) => {}
        }
    }

    fn output(&self, name: &str, samples: usize) -> OutputError {
        let (worst_db, worst_sample) = self.worst.unwrap_or((f64::INFINITY, 0));
        OutputError {
            name: name.to_owned(),
            snr_db: decibels(self.signal, self.noise),
            worst_db,
            worst_sample,
            linf: self.linf / samples.max(1) as f64,
            worst_linf: self.worst_linf,
        }
    }
}

fn decibels(signal: f64, noise: f64) -> f64 {
    match (signal > 0.0, noise > 0.0) {
        (_, false) => f64::INFINITY,
        (false, true) => f64::NEG_INFINITY,
        (true, true) => 10.0 * libm::log10(signal / noise),
    }
}

/// The outputs of an f32 graph on some samples, to compare many other forms of it with.
pub struct Reference<'a> {
    float: &'a Graph,
    samples: &'a [Vec<Tensor>],
    outputs: Vec<Vec<Tensor>>,
}

impl<'a> Reference<'a> {
    /// Runs the f32 graph. `progress` is called with samples done and samples in all.
    ///
    /// # Errors
    /// When the samples do not fit.
    pub fn new(
        float: &'a Graph,
        samples: &'a [Vec<Tensor>],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, QuantizeError> {
        let interpreter = Interpreter::new(float);
        let mut outputs = Vec::with_capacity(samples.len());
        for sample in samples {
            outputs.push(interpreter.run(sample).map_err(|e| QuantizeError::Calibration(e.to_string()))?);
            progress(outputs.len(), samples.len());
        }
        Ok(Reference { float, samples, outputs })
    }

    /// The error of another form of the graph, f32 or int8, at the outputs that both have.
    ///
    /// # Errors
    /// When it has other inputs.
    pub fn error(&self, other: &Graph) -> Result<Measured, QuantizeError> {
        let tested = Interpreter::new(other);
        let mut powers = vec![Powers::default(); other.outputs.len()];
        for (i, (sample, want)) in self.samples.iter().zip(&self.outputs).enumerate() {
            let got = tested
                .run(&inputs(self.float, other, sample)?)
                .map_err(|e| QuantizeError::Calibration(e.to_string()))?;
            for ((powers, got), &id) in powers.iter_mut().zip(&got).zip(&other.outputs) {
                let name = &other.value(id).name;
                let twin = self.float.outputs.iter().position(|&f| self.float.value(f).name == *name);
                if let Some(want) = twin.and_then(|t| want.get(t)).and_then(Tensor::as_f32) {
                    powers.compare(i, want, got, other.ty(id));
                }
            }
        }
        let outputs =
            powers.iter().zip(&other.outputs).map(|(p, &id)| p.output(&other.value(id).name, self.samples.len()));
        Ok(Measured { samples: self.samples.len(), layers: Vec::new(), outputs: outputs.collect() })
    }
}

/// Runs `int8`, or another static form, and the f32 graph that it was made from on the same samples, which are inputs of
/// the f32 graph. `progress` is called with samples done and samples in all.
///
/// # Errors
/// When the samples do not fit, or the two graphs have other inputs.
pub fn measure(
    float: &Graph,
    int8: &Graph,
    samples: &[Vec<Tensor>],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Measured, QuantizeError> {
    let float = prepare::prepare(float).map_err(|e| QuantizeError::Bug(e.to_string()))?;
    let names: HashMap<&str, ValueId> =
        float.nodes.iter().map(|n| (float.value(n.output).name.as_str(), n.output)).collect();
    // For each value of the int8 graph, what it stands for.
    let twins: HashMap<ValueId, ValueId> = int8
        .nodes
        .iter()
        .filter_map(|n| {
            let (name, &twin) = names.get_key_value(int8.value(n.output).name.as_str())?;
            (float.ty(twin).dims == int8.ty(n.output).dims && !name.is_empty()).then_some((n.output, twin))
        })
        .collect();
    let (reference, tested) = (Interpreter::new(&float), Interpreter::new(int8));
    let mut powers: HashMap<ValueId, Powers> = HashMap::new();
    let wanted: Vec<ValueId> = twins.values().copied().collect();
    for (i, sample) in samples.iter().enumerate() {
        let mut values: HashMap<ValueId, Vec<f32>> = HashMap::new();
        let mut keep = |id: ValueId, tensor: &Tensor| {
            if let Some(v) = tensor.as_f32().filter(|_| wanted.contains(&id)) {
                values.insert(id, v.to_vec());
            }
        };
        let fail = |e: crate::interp::InterpError| QuantizeError::Calibration(e.to_string());
        reference.run_with(sample, &mut keep).map_err(fail)?;
        let mut compare = |id: ValueId, tensor: &Tensor| {
            let Some(want) = twins.get(&id).and_then(|twin| values.get(twin)) else { return };
            powers.entry(id).or_default().compare(i, want, tensor, int8.ty(id));
        };
        tested.run_with(&inputs(&float, int8, sample)?, &mut compare).map_err(fail)?;
        progress(i + 1, samples.len());
    }
    let mut measured = Measured { samples: samples.len(), ..Measured::default() };
    for node in &int8.nodes {
        let Some(p) = powers.get(&node.output) else { continue };
        let name = int8.value(node.output).name.clone();
        let (worst_db, worst_sample) = p.worst.unwrap_or((f64::INFINITY, 0));
        let snr_db = decibels(p.signal, p.noise);
        if int8.outputs.contains(&node.output) {
            measured.outputs.push(p.output(&name, samples.len()));
        }
        measured.layers.push(LayerError { tensor: name, node: node.origin.clone(), snr_db, worst_db, worst_sample });
    }
    Ok(measured)
}

/// The inputs of the int8 graph for a sample of the f32 graph.
fn inputs(float: &Graph, int8: &Graph, sample: &[Tensor]) -> Result<Vec<Tensor>, QuantizeError> {
    let one = |&id: &ValueId| {
        let (name, ty) = (&int8.value(id).name, int8.ty(id));
        let position = float.inputs.iter().position(|&f| float.value(f).name == *name);
        let tensor = position
            .and_then(|p| sample.get(p))
            .ok_or_else(|| QuantizeError::Calibration(format!("there is no sample of input '{name}'")))?;
        Ok(match (tensor.as_f32(), ty.quant) {
            (Some(values), Some(q)) => {
                let inverse = 1.0 / q.scale;
                let values = values.iter().map(|&x| quantise_finite(x, inverse, q.zero_point)).collect();
                Tensor::s8(&ty.dims, values)
            }
            _ => tensor.clone(),
        })
    };
    int8.inputs.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_sample_is_named() {
        let mut powers = Powers::default();
        powers.add(0, &[1.0, 0.0], [1.0, 0.1].into_iter());
        powers.add(1, &[1.0, 0.0], [1.0, 0.5].into_iter());
        powers.add(2, &[1.0, 0.0], [1.0, 0.0].into_iter());
        let (db, sample) = powers.worst.unwrap();
        assert_eq!(sample, 1);
        assert!((db - 6.02).abs() < 0.01 && (powers.worst_linf - 0.5).abs() < 1e-6, "{db}");
        assert!((decibels(powers.signal, powers.noise) - 10.0 * (3.0f64 / 0.26).log10()).abs() < 1e-5);
        assert_eq!(decibels(1.0, 0.0), f64::INFINITY);
    }
}
