//! Weights, multipliers and biases of one convolution or linear layer.

use super::evidence::Evidence;
use super::rounding::Rounder;
use super::{QuantizeError, Settings};
use crate::interp;
use crate::ir::{ConvGeometry, Graph, Node, Op, Quant, Tensor};
use flowlet_kernels::requant;
use flowlet_kernels::round::ties_even;

/// The integer form of a layer.
pub(super) struct Layer {
    pub weights: Tensor,
    pub multipliers: Tensor,
    pub bias: Tensor,
    pub left_shift: u8,
    pub geometry: ConvGeometry,
    pub remark: Option<String>,
}

/// Largest magnitude of a bias in accumulator steps; weight scales are floored to keep it.
const BIAS_LIMIT: f64 = (1u32 << 30) as f64;

/// Quantises the layer `node` between tensors with these scales; an affine is a convolution of one pixel in as many groups
/// as channels.
pub(super) fn quantise_layer(
    graph: &Graph,
    node: &Node,
    input: Quant,
    output: Quant,
    evidence: Option<&Evidence>,
    settings: &Settings,
    codes: Option<&[i8]>,
) -> Result<Layer, QuantizeError> {
    let fail = |message: String| QuantizeError::Layer { node: node.origin.clone(), message };
    let weight = graph.constant(node.inputs[1]).ok_or_else(|| {
        fail("its weights are computed, not constant; only constant weights have an int8 form".to_owned())
    })?;
    let w = weight.as_f32().ok_or_else(|| fail("its weights are not f32".to_owned()))?;
    let channels = weight.dims[0];
    let geometry = match &node.op {
        Op::Conv(g) => *g,
        Op::Affine => ConvGeometry { groups: channels, ..ConvGeometry::default() },
        _ => ConvGeometry::default(),
    };
    let mut dims = weight.dims.clone();
    if node.op == Op::Affine {
        // A convolution of images, a layer of vectors: both have four axes here.
        dims = vec![channels, 1, 1, 1];
    }
    let bias = bias(graph, node, channels)?;
    let gram = evidence.and_then(|e| e.gram.as_ref()).filter(|_| settings.fit_weights);
    let rounder = gram.and_then(|gram| Rounder::new(gram, input.scale.into()));
    let mut filters = quantise_filters(node, w, &bias, channels, (input, output), rounder.as_ref(), codes)?;
    if let Some(evidence) = evidence.filter(|e| settings.correct_bias && e.count > 0) {
        filters.correct(graph, node, weight, evidence)?;
    }
    let sums: Vec<i64> =
        filters.weights.chunks(w.len() / channels).map(|own| own.iter().map(|&q| i64::from(q)).sum()).collect();
    let rows = bias.len() / channels;
    let corrected: Vec<i64> =
        filters.bias.iter().enumerate().map(|(i, b)| b - i64::from(input.zero_point) * sums[i % channels]).collect();
    filters.check(node, &corrected)?;
    Ok(Layer {
        weights: Tensor::s8(&dims, filters.weights),
        multipliers: Tensor::i32(&[channels], filters.multipliers),
        bias: Tensor::i32(&[rows, channels], corrected.iter().map(|&b| b as i32).collect()),
        left_shift: filters.left_shift,
        geometry,
        remark: filters.remark,
    })
}

/// Quantises a transposed convolution; its bias stands for values without their zero point.
pub(super) fn quantise_transposed(
    graph: &Graph,
    node: &Node,
    input: Quant,
    output: Quant,
    codes: Option<&[i8]>,
) -> Result<Layer, QuantizeError> {
    let fail = |message: &str| QuantizeError::Layer { node: node.origin.clone(), message: message.to_owned() };
    let weight = graph.constant(node.inputs[1]).ok_or_else(|| fail("its weights are computed, not constant"))?;
    let w = weight.as_f32().ok_or_else(|| fail("its weights are not f32"))?;
    let (&[inputs, channels, kh, kw], taps) = (&weight.dims[..], weight.dims[2..].iter().product::<usize>()) else {
        return Err(fail("its weights have no image axes"));
    };
    // Output channels first, as the scales are theirs.
    let turn = |j: usize| (j / taps % inputs * channels + j / (inputs * taps)) * taps + j % taps;
    let turned: Vec<f32> = (0..w.len()).map(|j| w[turn(j)]).collect();
    let bias = bias(graph, node, channels)?;
    let codes: Option<Vec<i8>> = codes.map(|q| (0..w.len()).filter_map(|j| q.get(turn(j)).copied()).collect());
    let filters = quantise_filters(node, &turned, &bias, channels, (input, output), None, codes.as_deref())?;
    // With the zero point inside, a sum grows by at most 128 steps a weight more.
    let per = inputs * taps;
    let largest: Vec<i64> = filters
        .bias
        .iter()
        .enumerate()
        .map(|(c, b)| {
            b.abs() + 128 * filters.weights[c * per..(c + 1) * per].iter().map(|&q| i64::from(q).abs()).sum::<i64>()
        })
        .collect();
    filters.check(node, &largest)?;
    let back: Vec<i8> = (0..w.len())
        .map(|j| filters.weights[(j / taps % channels * inputs + j / (channels * taps)) * taps + j % taps])
        .collect();
    Ok(Layer {
        weights: Tensor::s8(&[inputs, channels, kh, kw], back),
        multipliers: Tensor::i32(&[channels], filters.multipliers),
        bias: Tensor::i32(&[channels], filters.bias.iter().map(|&b| b as i32).collect()),
        left_shift: filters.left_shift,
        geometry: ConvGeometry::default(),
        remark: filters.remark,
    })
}

fn bias(graph: &Graph, node: &Node, channels: usize) -> Result<Vec<f32>, QuantizeError> {
    match node.inputs.get(2) {
        Some(&id) => graph.constant(id).and_then(Tensor::as_f32).map(<[f32]>::to_vec).ok_or_else(|| {
            QuantizeError::Layer { node: node.origin.clone(), message: "its bias is computed, not constant".to_owned() }
        }),
        None => Ok(vec![0.0; channels]),
    }
}

/// Filters `[O, K]` with biases `[rows, O]`, not yet corrected for the input's zero point.
struct Filters {
    weights: Vec<i8>,
    multipliers: Vec<i32>,
    bias: Vec<i64>,
    left_shift: u8,
    remark: Option<String>,
    /// The real value of one step of a channel's weights.
    steps: Vec<f64>,
    /// The same of its bias.
    bias_steps: Vec<f64>,
}

impl Filters {
    /// Moves each bias by the mean over samples and positions of what the rounded weights change.
    fn correct(
        &mut self,
        graph: &Graph,
        node: &Node,
        weight: &Tensor,
        evidence: &Evidence,
    ) -> Result<(), QuantizeError> {
        let bug = |e: crate::ir::InferError| QuantizeError::Bug(e.to_string());
        let channels = self.steps.len();
        let per = self.weights.len() / channels;
        let error: Vec<f32> = weight
            .as_f32()
            .unwrap_or(&[])
            .iter()
            .zip(&self.weights)
            .enumerate()
            .map(|(j, (&w, &q))| (f64::from(w) - f64::from(q) * self.steps[j / per]) as f32)
            .collect();
        let mean = Tensor::f32(&graph.ty(evidence.input).dims, evidence.mean());
        let (error, none) = (Tensor::f32(&weight.dims, error), Tensor::f32(&[channels], vec![0.0; channels]));
        let change = interp::eval(&node.op, &[&mean, &error, &none]).map_err(bug)?;
        let values = change.as_f32().unwrap_or(&[]);
        let positions = values.len() / channels;
        for (i, b) in self.bias.iter_mut().enumerate() {
            let own = &values[i % channels * positions..][..positions];
            let shift = own.iter().map(|&v| f64::from(v)).sum::<f64>() / positions as f64;
            *b += ties_even(shift / self.bias_steps[i % channels]) as i64;
        }
        Ok(())
    }

    /// Checks that no sum outgrows the accumulator.
    fn check(&self, node: &Node, bias: &[i64]) -> Result<(), QuantizeError> {
        let bound = requant::accumulator_bound(self.left_shift);
        let channels = self.multipliers.len();
        let per = self.weights.len() / channels;
        for (i, &b) in bias.iter().enumerate() {
            let c = i % channels;
            let weights: i64 = self.weights[c * per..(c + 1) * per].iter().map(|&q| i64::from(q).abs()).sum();
            if b.abs() + 128 * weights >= bound {
                let message = format!(
                    "channel {c}: its sum can reach {} steps and {bound} can be carried; raise the output scale by calibrating with larger samples, or scale the layer down",
                    b.abs() + 128 * weights
                );
                return Err(QuantizeError::Layer { node: node.origin.clone(), message });
            }
        }
        Ok(())
    }
}

/// The step of which all weights of a channel are multiples, at most 127 of them: weights that were quantised before stay
/// as they are. `None` if there is none.
fn own_step(w: &[f32], largest: f64) -> Option<f64> {
    // A product of an s8 and an f32, and a quotient: two roundings.
    const ROUNDING: f64 = 127.0 * f32::EPSILON as f64;
    let fits = |steps: &f64| {
        let on_grid = |&x: &f32| {
            let q = f64::from(x) * steps / largest;
            (q - ties_even(q)).abs() <= ROUNDING
        };
        w.iter().all(on_grid)
    };
    (1..=127).rev().map(f64::from).find(fits).map(|steps| largest / steps)
}

/// Whether a weight rounds to this code, or lies so close between two codes that the factor's own rounding decides.
fn rounds_to(x: f32, step: f64, code: i8) -> bool {
    const TIE: f64 = 1e-3;
    (f64::from(x) / step - f64::from(code)).abs() <= 0.5 + TIE
}

/// Per output channel c in f64 and in this order: `s_w = max|w| / 127`, or the step that the weights have, floored so
/// that no bias of any row exceeds 2^30 steps; `q_w = rne(w / s_w)`, or what the rounder makes of it, or the codes
/// that are given if they are that; `M_c = s_in * s_w / s_out`;
/// `b_q = rne(b / (s_in * s_w))`.
fn quantise_filters(
    node: &Node,
    w: &[f32],
    bias: &[f32],
    channels: usize,
    (input, output): (Quant, Quant),
    rounder: Option<&Rounder>,
    codes: Option<&[i8]>,
) -> Result<Filters, QuantizeError> {
    let fail = |message: String| QuantizeError::Layer { node: node.origin.clone(), message };
    if let Some(i) = w.iter().position(|x| !x.is_finite()) {
        return Err(fail(format!("weight {i} is not a finite number")));
    }
    let per = w.len() / channels;
    let rows = bias.len() / channels;
    let (s_in, s_out) = (f64::from(input.scale), f64::from(output.scale));
    let mut quantised = vec![0i8; w.len()];
    let mut real = vec![0.0f64; channels];
    let (mut steps, mut bias_steps) = (vec![0.0f64; channels], vec![0.0f64; channels]);
    let mut bias_q = vec![0i64; bias.len()];
    let mut remark = None;
    for c in 0..channels {
        let own = &w[c * per..(c + 1) * per];
        let largest = own.iter().fold(0.0f64, |m, &x| m.max(f64::from(x).abs()));
        let largest_bias = (0..rows).fold(0.0f64, |m, r| m.max(f64::from(bias[r * channels + c]).abs()));
        let floor = (largest_bias / (s_in * BIAS_LIMIT)).max(s_out / s_in * 1e-6);
        let step = own_step(own, largest).unwrap_or(largest / 127.0);
        let s_w = step.max(floor);
        if step < floor && largest > 0.0 {
            remark = Some(format!("channel {c}: the weight scale was raised to keep its bias inside 2^30 steps"));
        }
        match (codes.map(|codes| codes.get(c * per..(c + 1) * per)), rounder) {
            (Some(codes), _) => {
                let codes = codes.filter(|codes| codes.iter().zip(own).all(|(&q, &x)| rounds_to(x, s_w, q)));
                quantised[c * per..(c + 1) * per].copy_from_slice(codes.ok_or_else(|| {
                    fail(format!(
                        "channel {c}: its weights are not those of the first network times a positive factor, so that no \
                         pack can hold them; only norms whose factors follow a layer may differ"
                    ))
                })?);
            }
            (None, Some(rounder)) => quantised[c * per..(c + 1) * per].copy_from_slice(&rounder.round(own, s_w)),
            (None, None) => {
                for (q, &x) in quantised[c * per..].iter_mut().zip(own) {
                    *q = ties_even(f64::from(x) / s_w).clamp(-127.0, 127.0) as i8;
                }
            }
        }
        (steps[c], bias_steps[c]) = (s_w, s_in * s_w);
        real[c] = s_in * s_w / s_out;
        for r in 0..rows {
            bias_q[r * channels + c] = ties_even(f64::from(bias[r * channels + c]) / (s_in * s_w)) as i64;
        }
    }
    let left_shift =
        requant::choose(&real).ok_or_else(|| fail("its output is too small for the scale of its input".to_owned()))?;
    let multipliers = real.iter().map(|&m| requant::multiplier(m, left_shift)).collect();
    Ok(Filters { weights: quantised, multipliers, bias: bias_q, left_shift, remark, steps, bias_steps })
}
