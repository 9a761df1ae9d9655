//! Weights, multipliers and biases of one convolution or linear layer.

use super::QuantizeError;
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

/// Quantises the layer `node` between tensors with these scales.
///
/// Per output channel c in f64 and in this order: `s_w = max|w| / 127`, floored so that no bias of any row exceeds
/// 2^30 steps; `q_w = rne(w / s_w)`; `M_c = s_in * s_w / s_out`; `b_q = rne(b / (s_in * s_w)) - zp_in * sum(q_w)`.
pub(super) fn quantise_layer(graph: &Graph, node: &Node, input: Quant, output: Quant) -> Result<Layer, QuantizeError> {
    let fail = |message: String| QuantizeError::Layer { node: node.origin.clone(), message };
    let weight = graph.constant(node.inputs[1]).ok_or_else(|| {
        fail("its weights are computed, not constant; only constant weights have an int8 form".to_owned())
    })?;
    let w = weight.as_f32().ok_or_else(|| fail("its weights are not f32".to_owned()))?;
    if let Some(i) = w.iter().position(|x| !x.is_finite()) {
        return Err(fail(format!("weight {i} is not a finite number")));
    }
    let channels = weight.dims[0];
    let per = w.len() / channels;
    let bias: Vec<f32> = match node.inputs.get(2) {
        Some(&id) => graph
            .constant(id)
            .and_then(Tensor::as_f32)
            .ok_or_else(|| fail("its bias is computed, not constant".to_owned()))?
            .to_vec(),
        None => vec![0.0; channels],
    };
    let rows = bias.len() / channels;
    let (s_in, s_out) = (f64::from(input.scale), f64::from(output.scale));
    let mut quantised = vec![0i8; w.len()];
    let mut real = vec![0.0f64; channels];
    let mut bias_q = vec![0i64; bias.len()];
    let mut remark = None;
    for c in 0..channels {
        let own = &w[c * per..(c + 1) * per];
        let largest = own.iter().fold(0.0f64, |m, &x| m.max(f64::from(x).abs()));
        let largest_bias = (0..rows).fold(0.0f64, |m, r| m.max(f64::from(bias[r * channels + c]).abs()));
        let floor = (largest_bias / (s_in * BIAS_LIMIT)).max(s_out / s_in * 1e-6);
        let s_w = (largest / 127.0).max(floor);
        if largest / 127.0 < floor && largest > 0.0 {
            remark = Some(format!("channel {c}: the weight scale was raised to keep its bias inside 2^30 steps"));
        }
        let mut sum = 0i64;
        for (q, &x) in quantised[c * per..].iter_mut().zip(own) {
            *q = ties_even(f64::from(x) / s_w).clamp(-127.0, 127.0) as i8;
            sum += i64::from(*q);
        }
        real[c] = s_in * s_w / s_out;
        for r in 0..rows {
            let steps = ties_even(f64::from(bias[r * channels + c]) / (s_in * s_w));
            bias_q[r * channels + c] = steps as i64 - i64::from(input.zero_point) * sum;
        }
    }
    let left_shift =
        requant::choose(&real).ok_or_else(|| fail("its output is too small for the scale of its input".to_owned()))?;
    let bound = requant::accumulator_bound(left_shift);
    for (i, &b) in bias_q.iter().enumerate() {
        let c = i % channels;
        let weights: i64 = quantised[c * per..(c + 1) * per].iter().map(|&q| i64::from(q).abs()).sum();
        if b.abs() + 128 * weights >= bound {
            return Err(fail(format!(
                "channel {c}: its sum can reach {} steps and {bound} can be carried; raise the output scale by calibrating with larger samples, or scale the layer down",
                b.abs() + 128 * weights
            )));
        }
    }
    let multipliers = real.iter().map(|&m| requant::multiplier(m, left_shift)).collect();
    let geometry = match &node.op {
        Op::Conv(g) => *g,
        _ => ConvGeometry::default(),
    };
    Ok(Layer {
        weights: Tensor::s8(&weight.dims, quantised),
        multipliers: Tensor::i32(&[channels], multipliers),
        bias: Tensor::i32(&[rows, channels], bias_q.iter().map(|&b| b as i32).collect()),
        left_shift,
        geometry,
        remark,
    })
}
