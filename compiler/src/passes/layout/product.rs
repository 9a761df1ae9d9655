//! Products of two computed tensors: where do their matrices lie?

use super::view::{View, reshape};
use super::{At, Layout};
use crate::ir::{InferError, Op, Product, Split, ValueId};

/// An operand of a product: rows of `columns` contiguous channels.
struct Matrices {
    base: ValueId,
    split: Split,
}

impl Layout<'_> {
    pub(super) fn product(&mut self, at: &At<'_>, a: View, b: View) -> Result<Option<View>, InferError> {
        let batch = |v: &View| v.dims[..v.dims.len() - 2].to_vec();
        let h: usize = batch(&a).iter().product();
        if h == 0 || batch(&b).iter().product::<usize>() != h {
            return Ok(None);
        }
        let (m, k, n) = (a.dims[a.dims.len() - 2], a.dims[a.dims.len() - 1], b.dims[b.dims.len() - 1]);
        let (a, b) = (self.complete(at, a)?, self.complete(at, b)?);
        let (Some(a), Some(b)) = (a.reshaped(&[h, m, k]), b.reshaped(&[h, k, n])) else { return Ok(None) };
        let turned = [0, 2, 1];
        let out_dims = self.old.ty(at.node.output).dims.clone();
        let mut swapped = false;
        let (left, right, transposed) = match self.matrices(at, &a)? {
            Some(left) => match (self.matrices(at, &b)?, self.matrices(at, &b.transposed(&turned))?) {
                // Rows of k are read as they lie.
                (_, Some(right)) => (left, right, true),
                (Some(right), None) => (left, right, false),
                (None, None) => (left, self.moved(at, b.transposed(&turned))?, true),
            },
            None => match (self.matrices(at, &b.transposed(&turned))?, self.matrices(at, &a.transposed(&turned))?) {
                (Some(left), Some(right)) => {
                    swapped = true;
                    (left, right, false)
                }
                (Some(right), None) => (self.moved(at, a)?, right, true),
                _ => match self.matrices(at, &b)? {
                    Some(right) => (self.moved(at, a)?, right, false),
                    None => (self.moved(at, a)?, self.moved(at, b.transposed(&turned))?, true),
                },
            },
        };
        // Scores are read along the keys by a softmax, so these become channels; weighted values return to heads.
        let out = if left.split == Split::Rows { Split::Channels } else { Split::Rows };
        let product = Product { batch: h, a: left.split, b: right.split, out, transposed, alpha: 1.0 };
        let base = self.emit(at, Op::HeadProduct(product), &[left.base, right.base])?;
        let (rows, columns) = if swapped { (n, m) } else { (m, n) };
        let strides = match out {
            Split::Rows => vec![rows, 1, h * rows],
            Split::Channels => vec![columns * rows, 1, rows],
        };
        let view = View { base, dims: vec![h, rows, columns], strides, offset: 0 };
        let view = if swapped { view.transposed(&turned) } else { view };
        match view.reshaped(&out_dims) {
            Some(view) => Ok(Some(view)),
            None => {
                let whole = view.materialise(&mut self.out, &format!("{}.moved", at.name), &at.node.origin)?;
                Ok(Some(View::whole(whole, &out_dims)))
            }
        }
    }

    /// `view[batch, rows, columns]` as matrices of an image, if its rows are contiguous there.
    fn matrices(&mut self, at: &At<'_>, view: &View) -> Result<Option<Matrices>, InferError> {
        let [h, r, c] = view.dims[..] else { return Ok(None) };
        let lies = |strides: [usize; 3]| (0..3).all(|a| view.dims[a] == 1 || view.strides[a] == strides[a]);
        let base_dims = self.out.ty(view.base).dims.clone();
        let (split, dims) = if h > 1 && lies([r, 1, h * r]) {
            (Split::Rows, vec![1, c, h, r])
        } else if lies([c * r, 1, r]) {
            let image = base_dims.len() == 4 && base_dims[1] == h * c && base_dims[2] * base_dims[3] == r;
            (Split::Channels, if image { base_dims } else { vec![1, h * c, 1, r] })
        } else {
            return Ok(None);
        };
        let base = reshape(&mut self.out, view.base, &dims, &format!("{}.matrices", at.name), &at.node.origin)?;
        Ok(Some(Matrices { base, split }))
    }

    /// The same by moving elements.
    fn moved(&mut self, at: &At<'_>, view: View) -> Result<Matrices, InferError> {
        let (h, r, c) = (view.dims[0], view.dims[1], view.dims[2]);
        let name = format!("{}.moved", at.name);
        let x = view.transposed(&[0, 2, 1]).materialise(&mut self.out, &name, &at.node.origin)?;
        let base = reshape(&mut self.out, x, &[1, h * c, 1, r], &name, &at.node.origin)?;
        Ok(Matrices { base, split: Split::Channels })
    }
}
