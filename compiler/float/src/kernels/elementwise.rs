//! Elementwise operations whose operands are broadcast, and reductions: loops over strides.

use super::tile::store_some;
use crate::finish::Binary;
use crate::functions::{map, zip};
use flowlet_kernels::float::{LANES, Lanes};

/// Nested loops over a result, outermost first: length, and strides of the operands.
#[derive(Clone, Debug)]
pub(crate) struct Loops<const N: usize> {
    pub lengths: Vec<usize>,
    pub strides: Vec<[usize; N]>,
}

impl<const N: usize> Loops<N> {
    /// Loops of lengths `dims` with `strides` of each operand, in this order; neighbours that go together become one.
    pub fn new(dims: &[usize], strides: [&[usize]; N]) -> Self {
        let mut loops = Loops { lengths: Vec::new(), strides: Vec::new() };
        for (axis, &length) in dims.iter().enumerate().filter(|(_, d)| **d != 1) {
            let own: [usize; N] = std::array::from_fn(|n| strides[n][axis]);
            match (loops.lengths.last_mut(), loops.strides.last_mut()) {
                (Some(outer), Some(steps)) if (0..N).all(|n| steps[n] == own[n] * length) => {
                    *outer *= length;
                    *steps = own;
                }
                _ => {
                    loops.lengths.push(length);
                    loops.strides.push(own);
                }
            }
        }
        if loops.lengths.is_empty() {
            loops.lengths.push(1);
            loops.strides.push([0; N]);
        }
        loops
    }

    /// Steps of all loops but the innermost.
    fn outer(&self) -> usize {
        self.lengths[..self.lengths.len() - 1].iter().product()
    }

    /// The place of each operand at one of these steps.
    fn places(&self, step: usize) -> [usize; N] {
        let outer = self.lengths.len() - 1;
        let (mut rest, mut places) = (step, [0; N]);
        for (length, strides) in self.lengths[..outer].iter().zip(&self.strides).rev() {
            let at = rest % length;
            rest /= length;
            (0..N).for_each(|n| places[n] += at * strides[n]);
        }
        places
    }

    /// Length and strides of the innermost loop.
    fn inner(&self) -> (usize, [usize; N]) {
        let last = self.lengths.len() - 1;
        (self.lengths[last], self.strides[last])
    }
}

/// `out = f(a, b)` with operands of any strides.
#[inline(always)]
pub(crate) fn binary<L: Lanes>(lanes: L, loops: &Loops<2>, function: Binary, [a, b]: [&[f32]; 2], out: &mut [f32]) {
    let (length, [sa, sb]) = loops.inner();
    for (step, row) in out.chunks_exact_mut(length).enumerate().take(loops.outer()) {
        let [pa, pb] = loops.places(step);
        match (sa, sb) {
            (1, 0) => {
                row.copy_from_slice(&a[pa..pa + length]);
                let y = lanes.splat(b[pb]);
                map!(lanes, row, |x| function.of(lanes, x, y));
            }
            (0, 1) => {
                row.copy_from_slice(&b[pb..pb + length]);
                let x = lanes.splat(a[pa]);
                map!(lanes, row, |y| function.of(lanes, x, y));
            }
            _ => {
                for (block, row) in row.chunks_mut(LANES).enumerate() {
                    let (mut x, mut y) = ([0.0; LANES], [0.0; LANES]);
                    for (i, (x, y)) in x.iter_mut().zip(&mut y).enumerate().take(row.len()) {
                        let at = block * LANES + i;
                        (*x, *y) = (a[pa + at * sa], b[pb + at * sb]);
                    }
                    let (x, y) = (lanes.load(&x), lanes.load(&y));
                    store_some(lanes, function.of(lanes, x, y), row);
                }
            }
        }
    }
}

/// How a reduction joins numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Reduce {
    /// The sum times a factor.
    Sum(f32),
    Max,
}

/// Joins the numbers of `x`, which the loops visit in order, in the places of `out` that their stride says.
#[inline(always)]
pub(crate) fn reduce<L: Lanes>(lanes: L, loops: &Loops<1>, how: Reduce, x: &[f32], out: &mut [f32]) {
    out.fill(if how == Reduce::Max { f32::MIN } else { 0.0 });
    let join = |a: f32, b: f32| if how == Reduce::Max { a.max(b) } else { a + b };
    let (length, [stride]) = loops.inner();
    for (step, row) in x.chunks_exact(length).enumerate().take(loops.outer()) {
        let [place] = loops.places(step);
        match (stride, how) {
            (1, Reduce::Sum(_)) => zip!(lanes, out[place..place + length], row, |a, b| lanes.add(a, b)),
            (1, Reduce::Max) => zip!(lanes, out[place..place + length], row, |a, b| lanes.max(a, b)),
            _ => row.iter().enumerate().for_each(|(i, &v)| out[place + i * stride] = join(out[place + i * stride], v)),
        }
    }
    if let Reduce::Sum(factor) = how {
        let factor = lanes.splat(factor);
        map!(lanes, out, |v| lanes.mul(v, factor));
    }
}
