//! Batched products of two computed tensors.

use super::tile::store_some;
use flowlet_kernels::float::{LANES, Lanes, accumulate};
use std::ops::Range;

/// Where the matrices of an operand lie.
#[derive(Clone, Debug)]
pub(crate) struct Matrices {
    /// Where each begins.
    pub starts: Vec<usize>,
    /// From one row to the next.
    pub row: usize,
    /// From one column to the next.
    pub column: usize,
}

/// `out = alpha * a * b` for each matrix: `[rows][depth]` times `[depth][columns]`.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub a: Matrices,
    pub b: Matrices,
    pub out: Matrices,
    pub rows: usize,
    pub depth: usize,
    pub columns: usize,
    pub alpha: f32,
}

impl Product {
    /// Multiply-accumulates.
    pub fn macs(&self) -> usize {
        self.out.starts.len() * self.rows * self.depth * self.columns
    }

    /// Parts that can be computed apart, of equal numbers of neighbours in the result: matrices where they lie one after
    /// the other, else rows of all of them.
    pub fn parts(&self) -> usize {
        if self.lies_in_order() {
            self.out.starts.len()
        } else if self.has_rows() {
            self.rows
        } else {
            1
        }
    }

    /// Matrices and rows of these parts.
    pub fn part(&self, parts: Range<usize>) -> (Range<usize>, Range<usize>) {
        if self.lies_in_order() {
            (parts, 0..self.rows)
        } else if self.has_rows() {
            (0..self.out.starts.len(), parts)
        } else {
            (0..self.out.starts.len(), 0..self.rows)
        }
    }

    /// Whether each row of the result in memory holds a row of every matrix.
    fn has_rows(&self) -> bool {
        self.out.column == 1 && self.out.row == self.out.starts.len() * self.columns
    }

    fn lies_in_order(&self) -> bool {
        let size = self.rows * self.columns;
        self.out.column == 1
            && self.out.row == self.columns
            && self.out.starts.iter().enumerate().all(|(i, &start)| start == i * size)
    }

    /// Numbers of scratch: the right matrix in panels, and a row of the left one or the result that has to be gathered.
    pub fn scratch(&self) -> usize {
        self.packed() + self.rows * self.depth
    }

    fn packed(&self) -> usize {
        self.columns.div_ceil(LANES) * LANES * self.depth
    }

    /// Computes rows `rows` of matrices `matrices` into `out`, which begins at element `origin` of the result.
    #[inline(always)]
    pub fn run<L: Lanes>(
        &self,
        lanes: L,
        [a, b]: [&[f32]; 2],
        matrices: Range<usize>,
        rows: Range<usize>,
        (origin, out): (usize, &mut [f32]),
        scratch: &mut [f32],
    ) {
        let (panels, left) = scratch.split_at_mut(self.packed());
        for matrix in matrices {
            self.pack(lanes, &b[self.b.starts[matrix]..], panels);
            let a = &a[self.a.starts[matrix]..];
            let (a, stride) = if self.a.column == 1 {
                (a, self.a.row)
            } else {
                for (r, row) in left.chunks_exact_mut(self.depth).take(self.rows).enumerate() {
                    row.iter_mut().enumerate().for_each(|(k, x)| *x = a[r * self.a.row + k * self.a.column]);
                }
                (&*left, self.depth)
            };
            let start = self.out.starts[matrix];
            for (panel, first) in (0..self.columns).step_by(LANES).enumerate() {
                let weights = &panels[panel * LANES * self.depth..][..LANES * self.depth];
                let columns = first..self.columns.min(first + LANES);
                let mut row = rows.start;
                while row < rows.end {
                    let a = &a[row * stride..];
                    let out = &mut out[start + row * self.out.row - origin..];
                    let columns = columns.clone();
                    row += match rows.end - row {
                        12.. if L::ROWS >= 12 => self.block::<L, 12>(lanes, a, stride, weights, columns, out),
                        6.. if L::ROWS >= 6 => self.block::<L, 6>(lanes, a, stride, weights, columns, out),
                        2.. => self.block::<L, 2>(lanes, a, stride, weights, columns, out),
                        _ => self.block::<L, 1>(lanes, a, stride, weights, columns, out),
                    };
                }
            }
        }
    }

    /// The first `M` rows of `a` and of `out`, and how many they are.
    #[inline(always)]
    fn block<L: Lanes, const M: usize>(
        &self,
        lanes: L,
        a: &[f32],
        stride: usize,
        weights: &[f32],
        columns: Range<usize>,
        out: &mut [f32],
    ) -> usize {
        let mut acc = [[lanes.splat(0.0); 1]; M];
        let rows: [&[f32]; M] = std::array::from_fn(|m| &a[m * stride..][..self.depth]);
        accumulate(lanes, rows, [weights], &mut acc);
        let alpha = lanes.splat(self.alpha);
        for (m, [sum]) in acc.into_iter().enumerate() {
            let start = m * self.out.row;
            let v = lanes.mul(sum, alpha);
            if self.out.column == 1 {
                store_some(lanes, v, &mut out[start + columns.start..start + columns.end]);
            } else {
                let mut part = [0.0; LANES];
                lanes.store(v, &mut part);
                columns.clone().zip(part).for_each(|(c, v)| out[start + c * self.out.column] = v);
            }
        }
        M
    }

    /// The right matrix as `[panel][k][LANES]`.
    #[inline(always)]
    fn pack<L: Lanes>(&self, lanes: L, b: &[f32], panels: &mut [f32]) {
        for (panel, first) in panels.chunks_exact_mut(LANES * self.depth).zip((0..).step_by(LANES)) {
            let count = LANES.min(self.columns - first);
            for (k, to) in panel.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
                let from = &b[k * self.b.row + first * self.b.column..];
                if self.b.column == 1 && count == LANES {
                    lanes.store(lanes.load(from.first_chunk().unwrap_or(&[0.0; LANES])), to);
                } else {
                    *to = [0.0; LANES];
                    to.iter_mut().take(count).enumerate().for_each(|(i, x)| *x = from[i * self.b.column]);
                }
            }
        }
    }
}
