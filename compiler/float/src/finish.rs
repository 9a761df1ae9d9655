//! Elementwise operations at the end of a step, while its results are in cache.

use crate::functions::{map, unary, zip};
use crate::memory::{Source, View};
use flowlet_compiler::ir::Unary;
use flowlet_kernels::float::Lanes;

/// One operation on the results of a step, in place.
#[derive(Clone, Debug)]
pub(crate) enum Finish {
    Unary(Unary),
    Clip {
        lo: f32,
        hi: f32,
    },
    FakeQuant {
        scale: f32,
        zero_point: f32,
    },
    /// `f(x, other)`, where the other operand repeats after `period` elements.
    Binary {
        function: Binary,
        other: Source,
        period: usize,
    },
}

/// Functions of two numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Binary {
    /// `alpha * x + beta * y + gamma`
    Add {
        alpha: f32,
        beta: f32,
        gamma: f32,
    },
    Mul,
    /// `x / y`
    Div,
    /// `y / x`
    DivideInto,
    Max,
    Min,
}

impl Binary {
    #[inline(always)]
    pub fn of<L: Lanes>(self, lanes: L, x: L::V, y: L::V) -> L::V {
        match self {
            Binary::Add { alpha, beta, gamma } => {
                let rest = lanes.fma(y, lanes.splat(beta), lanes.splat(gamma));
                lanes.fma(x, lanes.splat(alpha), rest)
            }
            Binary::Mul => lanes.mul(x, y),
            Binary::Div => lanes.div(x, y),
            Binary::DivideInto => lanes.div(y, x),
            Binary::Max => lanes.max(x, y),
            Binary::Min => lanes.min(x, y),
        }
    }

    /// The same function with its operands exchanged.
    pub fn exchanged(self) -> Binary {
        match self {
            Binary::Add { alpha, beta, gamma } => Binary::Add { alpha: beta, beta: alpha, gamma },
            Binary::Div => Binary::DivideInto,
            Binary::DivideInto => Binary::Div,
            Binary::Mul | Binary::Max | Binary::Min => self,
        }
    }
}

/// Applies the operations to the results `first..first + x.len()` of a step.
#[inline(always)]
pub(crate) fn apply<L: Lanes>(lanes: L, operations: &[Finish], view: &View<'_>, first: usize, x: &mut [f32]) {
    for operation in operations {
        match operation {
            Finish::Unary(function) => unary(lanes, *function, x),
            Finish::Clip { lo, hi } => {
                let (lo, hi) = (lanes.splat(*lo), lanes.splat(*hi));
                map!(lanes, x, |v| lanes.min(lanes.max(v, lo), hi));
            }
            Finish::FakeQuant { scale, zero_point } => {
                let scale = lanes.splat(*scale);
                let (lo, hi) = (lanes.splat(-128.0 - zero_point), lanes.splat(127.0 - zero_point));
                map!(lanes, x, |v| {
                    // Saturated before it is rounded: `round` takes no numbers beyond 2^22.
                    let code = lanes.round(lanes.min(lanes.max(lanes.div(v, scale), lo), hi));
                    lanes.mul(code, scale)
                });
            }
            Finish::Binary { function, other, period } => {
                let other = view.get(other);
                binary(lanes, *function, &other[..*period], first, x);
            }
        }
    }
}

#[inline(always)]
fn binary<L: Lanes>(lanes: L, function: Binary, other: &[f32], first: usize, x: &mut [f32]) {
    if let [y] = other {
        let y = lanes.splat(*y);
        map!(lanes, x, |v| function.of(lanes, v, y));
        return;
    }
    let mut at = first % other.len();
    let mut rest = x;
    while !rest.is_empty() {
        let count = rest.len().min(other.len() - at);
        let (now, later) = rest.split_at_mut(count);
        zip!(lanes, now, other[at..at + count], |x, y| function.of(lanes, x, y));
        (rest, at) = (later, 0);
    }
}
