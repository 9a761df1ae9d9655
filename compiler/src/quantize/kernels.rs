//! Norms, products, pools and transposed convolutions: constants of their integer kernels.

use super::fuse::{Group, factors};
use super::{Emitter, QuantizeError, layer};
use crate::ir::{Node, NormKind, Op, Product, Quant, Remark, Tensor, TransposedGeometry, ValueId};
use flowlet_kernels::{norm, requant, softmax};

impl Emitter<'_> {
    /// A node with a kernel of its own, and the function behind it.
    pub(super) fn other(&mut self, group: &Group, position: usize, table: Option<Tensor>) -> Result<(), QuantizeError> {
        let graph = self.graph;
        let node = &graph.nodes[position];
        let last = &graph.nodes[group.last()];
        let output = self.quant(if table.is_none() { last.output } else { node.output })?;
        let name = graph.value(node.output).name.clone();
        let (op, mut inputs) = match &node.op {
            Op::Norm { kind, groups, eps, .. } => self.norm(node, (*kind, *groups), *eps, output, table.is_some())?,
            Op::Softmax { .. } => {
                let x = self.operand(node.inputs[0], node)?;
                let bytes = softmax::tabulate(libm::exp, self.quant(node.inputs[0])?.scale);
                let lut = Tensor::s8(&[512], bytes.iter().map(|&b| b as i8).collect());
                (Op::QSoftmax, vec![x, self.out.add_const(&format!("{name}.exp"), lut)])
            }
            Op::HeadProduct(product) => self.head_product(node, *product, output)?,
            Op::AveragePool { window, .. } => {
                let places = (window.kernel[0] * window.kernel[1]) as f64;
                let input = self.quant(node.inputs[0])?;
                let (multiplier, left_shift) = law(node, f64::from(input.scale) / f64::from(output.scale) / places)?;
                bound(node, left_shift, 255.0 * places)?;
                let op = Op::QAveragePool { window: *window, multiplier, left_shift, zero_point: output.zero_point };
                (op, vec![self.operand(node.inputs[0], node)?])
            }
            Op::Mul => {
                let Some([a, b]) = factors(graph, position) else { return Err(bug(node)) };
                let (qa, qb) = (self.quant(a)?, self.quant(b)?);
                let real = f64::from(qa.scale) * f64::from(qb.scale) / f64::from(output.scale);
                let (multiplier, left_shift) = law(node, real)?;
                bound(node, left_shift, 255.0 * 255.0)?;
                let zero_point = output.zero_point;
                let op = Op::QMul { multiplier, left_shift, zero_point, table: table.is_some() };
                (op, vec![self.operand(a, node)?, self.operand(b, node)?])
            }
            Op::ConvTranspose(geometry) => self.transposed(node, *geometry, output, table.is_some())?,
            _ => return Err(bug(node)),
        };
        inputs.extend(table.map(|t| self.out.add_const(&format!("{name}.table"), t)));
        self.push(last.output, op, &inputs, &node.origin)
    }

    fn norm(
        &mut self,
        node: &Node,
        (kind, groups): (NormKind, usize),
        eps: f32,
        output: Quant,
        table: bool,
    ) -> Result<(Op, Vec<ValueId>), QuantizeError> {
        let graph = self.graph;
        let dims = &graph.ty(node.inputs[0]).dims;
        let channels = dims[1];
        let row = |slot: usize, default: f64| -> Vec<f64> {
            let values = node.inputs.get(slot).and_then(|&id| graph.constant(id)).and_then(Tensor::as_f32);
            values.map_or(vec![default; channels], |v| v.iter().map(|&x| x.into()).collect())
        };
        let (gamma, beta) = (row(1, 1.0), row(2, 0.0));
        let input = self.quant(node.inputs[0])?;
        let scales = [f64::from(input.scale), f64::from(output.scale)];
        let (mut gains, mut offsets) = (vec![0; channels], vec![0; channels]);
        let gain_shift = norm::constants(&gamma, &beta, scales, output.zero_point, &mut gains, &mut offsets)
            .ok_or_else(|| QuantizeError::Layer {
                node: node.origin.clone(),
                message: "its factors are not finite, or far larger than its result".to_owned(),
            })?;
        let pixels: usize = dims[2..].iter().product();
        let n = if kind == NormKind::Group { channels / groups * pixels } else { channels };
        if n >= 1 << 20 {
            return Err(QuantizeError::Layer {
                node: node.origin.clone(),
                message: format!("its statistics run over {n} elements; fewer than 2^20 can be summed"),
            });
        }
        let name = graph.value(node.output).name.clone();
        let inputs = vec![
            self.operand(node.inputs[0], node)?,
            self.out.add_const(&format!("{name}.gain"), Tensor::i32(&[channels], gains)),
            self.out.add_const(&format!("{name}.offset"), Tensor::i32(&[channels], offsets)),
        ];
        let epsilon = norm::epsilon(eps.into(), scales[0], n);
        Ok((Op::QNorm { kind, groups, epsilon, gain_shift, table }, inputs))
    }

    fn head_product(
        &mut self,
        node: &Node,
        product: Product,
        output: Quant,
    ) -> Result<(Op, Vec<ValueId>), QuantizeError> {
        let (a, b) = (self.quant(node.inputs[0])?, self.quant(node.inputs[1])?);
        if b.zero_point != 0 || product.alpha <= 0.0 {
            return Err(QuantizeError::Layer {
                node: node.origin.clone(),
                message: "the right operand of the product cannot be symmetric".to_owned(),
            });
        }
        let real = f64::from(a.scale) * f64::from(b.scale) * f64::from(product.alpha) / f64::from(output.scale);
        let (multiplier, left_shift) = law(node, real)?;
        let dims = &self.graph.ty(node.inputs[0]).dims;
        let k = match product.a {
            crate::ir::Split::Rows => dims[1],
            crate::ir::Split::Channels => dims[1] / product.batch,
        };
        bound(node, left_shift, 255.0 * 127.0 * k as f64)?;
        let product = Product { alpha: 1.0, ..product };
        let inputs = vec![self.operand(node.inputs[0], node)?, self.operand(node.inputs[1], node)?];
        Ok((Op::QHeadProduct { product, multiplier, left_shift, zero_point: output.zero_point }, inputs))
    }

    fn transposed(
        &mut self,
        node: &Node,
        geometry: TransposedGeometry,
        output: Quant,
        table: bool,
    ) -> Result<(Op, Vec<ValueId>), QuantizeError> {
        let built =
            layer::quantise_transposed(self.graph, node, self.quant(node.inputs[0])?, output, self.codes_of(node))?;
        if let Some(message) = built.remark {
            self.out.remarks.push(Remark { pass: "quantize".to_owned(), node: node.origin.clone(), message });
        }
        let name = self.graph.value(node.inputs[1]).name.clone();
        let inputs = vec![
            self.operand(node.inputs[0], node)?,
            self.out.add_const(&format!("{name}.s8"), built.weights),
            self.out.add_const(&format!("{name}.multiplier"), built.multipliers),
            self.out.add_const(&format!("{name}.bias"), built.bias),
        ];
        let (left_shift, zero_point) = (built.left_shift, output.zero_point);
        Ok((Op::QConvTranspose { geometry, left_shift, zero_point, table }, inputs))
    }
}

/// Multiplier and left shift of the requantise law for one real factor.
fn law(node: &Node, real: f64) -> Result<(i32, u8), QuantizeError> {
    let fail = || QuantizeError::Layer {
        node: node.origin.clone(),
        message: "its output is too small, or too large, for the scales of its inputs".to_owned(),
    };
    let left_shift = requant::choose(&[real]).ok_or_else(fail)?;
    match requant::multiplier(real, left_shift) {
        0 => Err(fail()),
        multiplier => Ok((multiplier, left_shift)),
    }
}

/// Checks that sums of this size can be shifted.
fn bound(node: &Node, left_shift: u8, largest: f64) -> Result<(), QuantizeError> {
    if largest < requant::accumulator_bound(left_shift) as f64 {
        return Ok(());
    }
    Err(QuantizeError::Layer {
        node: node.origin.clone(),
        message: format!("its sums can reach {largest} steps, more than can be carried"),
    })
}

fn bug(node: &Node) -> QuantizeError {
    QuantizeError::Bug(format!("'{}' has no kernel", node.op.name()))
}
