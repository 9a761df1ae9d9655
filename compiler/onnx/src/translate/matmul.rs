//! Matrix products, which tract writes as Einstein sums.

use super::constant::transpose;
use super::{At, Binding, Refused, Translator};
use flowlet_compiler::ir::{DType, Op, ValueId};
use tract_onnx::tract_core::internal::InOut;
use tract_onnx::tract_core::ops::einsum::EinSum;

/// The axes of a product of two operands, each as (axis of a, axis of b, axis of the result).
#[derive(Default)]
struct Roles {
    batch: Vec<(usize, usize, usize)>,
    rows: Vec<(usize, usize)>,
    columns: Vec<(usize, usize)>,
    inner: Vec<(usize, usize)>,
}

impl Translator<'_> {
    pub(super) fn einsum(&mut self, at: &At<'_>, op: &EinSum) -> Result<Binding, Refused> {
        if op.q_params.is_some() || !op.operating_dt.is_float() {
            return Err("integer matrix products are not imported yet; export the float model".to_owned());
        }
        if op.axes.input_count() == 1 {
            return self.permuted(at, op);
        }
        let roles = roles(op)?;
        let (a_dims, b_dims) = (self.input_dims(at, 0)?, self.input_dims(at, 1)?);
        let plain = roles.batch.is_empty() && roles.rows.len() == 1 && roles.columns.len() == 1;
        let plain = plain && roles.inner.len() == 1 && roles.rows[0].1 == 0;
        if plain
            && a_dims.len() == 2
            && b_dims.len() == 2
            && let Some(weight) = self.weight(at, roles.columns[0].0)?
        {
            let a = self.operand(at, 0)?;
            let a = if roles.rows[0].0 == 0 { a } else { self.emit(at, Op::Transpose { perm: vec![1, 0] }, &[a])? };
            return self.emit(at, Op::Linear, &[a, weight]).map(Binding::Value);
        }
        self.general(at, &roles, &a_dims, &b_dims)
    }

    /// An Einstein sum of one operand: sums over the axes that the result lacks, then moves the rest.
    fn permuted(&mut self, at: &At<'_>, op: &EinSum) -> Result<Binding, Refused> {
        let mut x = self.operand(at, 0)?;
        let mut order = Vec::new();
        let mut summed = Vec::new();
        for axis in op.axes.iter_all_axes() {
            match (&axis.inputs[0][..], &axis.outputs[0][..]) {
                (&[a], &[o]) => order.push((o, a)),
                (&[a], &[]) => summed.push(a),
                _ => return Err(format!("the Einstein sum '{}' is not supported", op.axes)),
            }
        }
        order.sort_unstable();
        summed.sort_unstable();
        let mut perm: Vec<usize> = order.into_iter().map(|(_, a)| a).collect();
        if !summed.is_empty() {
            x = self.emit(at, Op::ReduceSum { axes: summed.clone() }, &[x])?;
            perm.extend(summed);
        }
        if !perm.is_sorted() {
            x = self.emit(at, Op::Transpose { perm }, &[x])?;
        }
        let dims = self.output_dims(at)?;
        if self.graph.ty(x).dims != dims {
            x = self.emit(at, Op::Reshape { dims }, &[x])?;
        }
        Ok(Binding::Value(x))
    }

    /// The right operand as `[O, K]`, if it is a constant; `outputs` is the axis of its output features.
    fn weight(&mut self, at: &At<'_>, outputs: usize) -> Result<Option<ValueId>, Refused> {
        let Some(tensor) = self.constant(at, 1).filter(|t| t.dtype() == DType::F32) else { return Ok(None) };
        if outputs == 0 {
            return self.operand(at, 1).map(Some);
        }
        let name = self.names.value(&self.model.node(at.node.inputs[1].node).name);
        Ok(Some(self.graph.add_const(&name, transpose(&tensor, &[1, 0]))))
    }

    /// `[batch.., rows, inner] x [batch.., inner, columns]`, with axes moved and merged around it as necessary.
    fn general(&mut self, at: &At<'_>, roles: &Roles, a_dims: &[usize], b_dims: &[usize]) -> Result<Binding, Refused> {
        let (a, b) = (self.operand(at, 0)?, self.operand(at, 1)?);
        let of = |dims: &[usize], axes: &[usize]| axes.iter().map(|&x| dims[x]).product::<usize>();
        let rows: Vec<usize> = roles.rows.iter().map(|r| r.0).collect();
        let columns: Vec<usize> = roles.columns.iter().map(|c| c.0).collect();
        let (inner_a, inner_b): (Vec<usize>, Vec<usize>) = roles.inner.iter().copied().unzip();
        let batch_a: Vec<usize> = roles.batch.iter().map(|x| x.0).collect();
        let batch_b: Vec<usize> = roles.batch.iter().map(|x| x.1).collect();

        let mut dims: Vec<usize> = batch_a.iter().map(|&x| a_dims[x]).collect();
        dims.extend([of(a_dims, &rows), of(a_dims, &inner_a)]);
        let a = self.arrange(at, a, &[&batch_a[..], &rows[..], &inner_a[..]].concat(), dims)?;
        let mut dims: Vec<usize> = batch_b.iter().map(|&x| b_dims[x]).collect();
        dims.extend([of(b_dims, &inner_b), of(b_dims, &columns)]);
        let b = self.arrange(at, b, &[&batch_b[..], &inner_b[..], &columns[..]].concat(), dims)?;
        let product = self.emit(at, Op::MatMul, &[a, b])?;

        let out = self.output_dims(at)?;
        let order: Vec<usize> = (roles.batch.iter().map(|x| x.2))
            .chain(roles.rows.iter().map(|r| r.1))
            .chain(roles.columns.iter().map(|c| c.1))
            .collect();
        let split: Vec<usize> = order.iter().map(|&axis| out[axis]).collect();
        let product = if self.graph.ty(product).dims == split {
            product
        } else {
            self.emit(at, Op::Reshape { dims: split }, &[product])?
        };
        let perm: Vec<usize> = (0..out.len()).filter_map(|axis| order.iter().position(|&o| o == axis)).collect();
        if perm.is_sorted() {
            return Ok(Binding::Value(product));
        }
        self.emit(at, Op::Transpose { perm }, &[product]).map(Binding::Value)
    }

    fn arrange(&mut self, at: &At<'_>, x: ValueId, perm: &[usize], dims: Vec<usize>) -> Result<ValueId, Refused> {
        let x = if perm.is_sorted() { x } else { self.emit(at, Op::Transpose { perm: perm.to_vec() }, &[x])? };
        if self.graph.ty(x).dims == dims { Ok(x) } else { self.emit(at, Op::Reshape { dims }, &[x]) }
    }
}

fn roles(op: &EinSum) -> Result<Roles, Refused> {
    let unusual = || format!("the Einstein sum '{}' is not a matrix product", op.axes);
    if op.axes.input_count() != 2 || op.axes.output_count() != 1 {
        return Err(unusual());
    }
    let mut roles = Roles::default();
    for axis in op.axes.iter_all_axes() {
        match (&axis.inputs[0][..], &axis.inputs[1][..], &axis.outputs[0][..]) {
            (&[a], &[b], &[o]) => roles.batch.push((a, b, o)),
            (&[a], &[], &[o]) => roles.rows.push((a, o)),
            (&[], &[b], &[o]) => roles.columns.push((b, o)),
            (&[a], &[b], &[]) => roles.inner.push((a, b)),
            _ => return Err(unusual()),
        }
    }
    roles.batch.sort_by_key(|x| x.2);
    roles.rows.sort_by_key(|x| x.1);
    roles.columns.sort_by_key(|x| x.1);
    let complete = op.axes.rank(InOut::Out(0)) == roles.batch.len() + roles.rows.len() + roles.columns.len();
    if complete { Ok(roles) } else { Err(unusual()) }
}
