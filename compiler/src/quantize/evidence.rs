//! What a layer's input looks like on the calibration samples, for choosing its int8 weights and biases.

use crate::ir::{ConvGeometry, Graph, Op, ValueId};
use std::collections::HashMap;

/// Positions of a layer that are looked at over all samples.
const POSITIONS: usize = 4096;

/// Most weights of an output channel whose products are gathered: their matrix grows with the square.
const MAX_TERMS: usize = 1200;

/// Mean input of a layer, and the products of what one output reads.
#[derive(Clone, Debug)]
pub(super) struct Evidence {
    /// The value that the layer reads.
    pub input: ValueId,
    /// Sum of the input over the samples, in graph order.
    pub sum: Vec<f64>,
    /// Samples.
    pub count: usize,
    /// For layers whose weights can be fitted.
    pub gram: Option<Gram>,
}

/// `X^T X` of the windows `X` that a convolution reads, `[terms, terms]`, summed over windows.
#[derive(Clone, Debug)]
pub(super) struct Gram {
    windows: Windows,
    /// Weights of an output channel.
    pub terms: usize,
    /// Windows summed.
    pub count: usize,
    /// The sums, row-major; the lower triangle is not filled.
    pub sums: Vec<f64>,
}

/// Where the windows of a convolution lie in its input `[C, H, W]`.
#[derive(Clone, Copy, Debug)]
struct Windows {
    geometry: ConvGeometry,
    channels: usize,
    input: [usize; 2],
    kernel: [usize; 2],
    output: [usize; 2],
}

impl Windows {
    /// The values of window `(oy, ox)` in the order of an output channel's weights.
    fn read(&self, values: &[f32], position: usize, into: &mut [f64]) {
        let g = &self.geometry;
        let [h, w] = self.input;
        let (oy, ox) = (position / self.output[1], position % self.output[1]);
        let mut slots = into.iter_mut();
        for c in 0..self.channels {
            for ky in 0..self.kernel[0] {
                for kx in 0..self.kernel[1] {
                    let place = |o: usize, k: usize, axis: usize, limit: usize| {
                        (o * g.stride[axis] + k * g.dilation[axis])
                            .checked_sub(g.pad[axis])
                            .filter(|&p| p < limit * g.upsample)
                            .map(|p| p / g.upsample)
                    };
                    let found = place(oy, ky, 0, h).zip(place(ox, kx, 1, w));
                    if let Some(slot) = slots.next() {
                        *slot = found.map_or(0.0, |(y, x)| values[(c * h + y) * w + x].into());
                    }
                }
            }
        }
    }
}

/// Empty evidence for every layer of a graph, by the value that the layer computes; with products if `products`.
pub(super) fn for_layers(graph: &Graph, products: bool) -> HashMap<ValueId, Evidence> {
    let layers = graph.nodes.iter().filter(|n| matches!(n.op, Op::Conv(_) | Op::Linear | Op::Affine));
    layers
        .map(|node| {
            let input = node.inputs[0];
            let evidence = Evidence {
                input,
                sum: vec![0.0; graph.ty(input).elements()],
                count: 0,
                gram: windows(graph, node).filter(|_| products).map(|(windows, terms)| Gram {
                    windows,
                    terms,
                    count: 0,
                    sums: vec![0.0; terms * terms],
                }),
            };
            (node.output, evidence)
        })
        .collect()
}

fn windows(graph: &Graph, node: &crate::ir::Node) -> Option<(Windows, usize)> {
    let weight = &graph.constant(node.inputs[1])?.dims;
    let (x, y) = (&graph.ty(node.inputs[0]).dims, &graph.ty(node.output).dims);
    let terms: usize = weight.iter().skip(1).product();
    let windows = match (&node.op, &x[..], &y[..]) {
        (Op::Conv(geometry), &[1, channels, h, w], &[_, _, oh, ow]) if geometry.groups == 1 => {
            Windows { geometry: *geometry, channels, input: [h, w], kernel: [weight[2], weight[3]], output: [oh, ow] }
        }
        (Op::Linear, &[1, channels], _) => {
            Windows { geometry: ConvGeometry::default(), channels, input: [1, 1], kernel: [1, 1], output: [1, 1] }
        }
        _ => return None,
    };
    (2..=MAX_TERMS).contains(&terms).then_some((windows, terms))
}

impl Evidence {
    /// Adds the layer's input from sample `i` of `n`. The windows that are looked at move from sample to sample.
    pub fn observe(&mut self, values: &[f32], i: usize, n: usize) {
        self.count += 1;
        self.sum.iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v));
        let Some(gram) = &mut self.gram else { return };
        let positions = gram.windows.output[0] * gram.windows.output[1];
        let stride = positions.div_ceil((POSITIONS / n).max(1)).max(1);
        let mut window = vec![0.0; gram.terms];
        for position in (i * 7 % stride..positions).step_by(stride) {
            gram.windows.read(values, position, &mut window);
            gram.count += 1;
            for (j, &x) in window.iter().enumerate().filter(|(_, x)| **x != 0.0) {
                let row = &mut gram.sums[j * gram.terms + j..(j + 1) * gram.terms];
                row.iter_mut().zip(&window[j..]).for_each(|(s, &y)| *s += x * y);
            }
        }
    }

    /// The mean input over the samples.
    pub fn mean(&self) -> Vec<f32> {
        self.sum.iter().map(|s| (s / self.count.max(1) as f64) as f32).collect()
    }
}
