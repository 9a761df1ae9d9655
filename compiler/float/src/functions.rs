//! Functions of one number, sixteen at a time.

use flowlet_compiler::ir::Unary;
use flowlet_kernels::float::Lanes;

/// Replaces all numbers of a slice by an expression of them. No function that takes a closure: a closure is not inlined for
/// sure, and without that it is compiled without the instructions.
macro_rules! map {
    ($lanes:expr, $x:expr, |$v:ident| $f:expr) => {{
        let (whole, rest) = $x.as_chunks_mut::<{ flowlet_kernels::float::LANES }>();
        for part in whole {
            let $v = $lanes.load(part);
            $lanes.store($f, part);
        }
        if !rest.is_empty() {
            let mut part = [0.0; flowlet_kernels::float::LANES];
            part[..rest.len()].copy_from_slice(rest);
            let $v = $lanes.load(&part);
            $lanes.store($f, &mut part);
            rest.copy_from_slice(&part[..rest.len()]);
        }
    }};
}
pub(crate) use map;

/// Replaces all numbers of a slice by an expression of them and those of a slice that is as long.
macro_rules! zip {
    ($lanes:expr, $x:expr, $y:expr, |$v:ident, $w:ident| $f:expr) => {{
        let (whole, rest) = $x.as_chunks_mut::<{ flowlet_kernels::float::LANES }>();
        let (others, other_rest) = $y.as_chunks::<{ flowlet_kernels::float::LANES }>();
        for (part, other) in whole.iter_mut().zip(others) {
            let ($v, $w) = ($lanes.load(part), $lanes.load(other));
            $lanes.store($f, part);
        }
        if !rest.is_empty() {
            let mut part = [[0.0; flowlet_kernels::float::LANES]; 2];
            part[0][..rest.len()].copy_from_slice(rest);
            part[1][..rest.len()].copy_from_slice(&other_rest[..rest.len()]);
            let ($v, $w) = ($lanes.load(&part[0]), $lanes.load(&part[1]));
            $lanes.store($f, &mut part[0]);
            rest.copy_from_slice(&part[0][..rest.len()]);
        }
    }};
}
pub(crate) use zip;

/// `e^x` of numbers from -87 to 88; what lies beyond gives the value at the end. At most two units in the last place off.
#[inline(always)]
pub(crate) fn exp<L: Lanes>(lanes: L, x: L::V) -> L::V {
    /// Taylor coefficients of `e^r`, highest first: on |r| <= ln(2) / 2 the next term is below 6e-9.
    const SERIES: [f32; 8] = [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    // ln 2 as a number of few bits, so that a product with a whole number is exact, and the rest.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = lanes.min(lanes.max(x, lanes.splat(-87.0)), lanes.splat(88.0));
    let n = lanes.round(lanes.mul(x, lanes.splat(std::f32::consts::LOG2_E)));
    let r = lanes.fma(n, lanes.splat(-LN_2_HIGH), x);
    let r = lanes.fma(n, lanes.splat(-LN_2_LOW), r);
    let mut sum = lanes.splat(SERIES[0]);
    for c in &SERIES[1..] {
        sum = lanes.fma(sum, r, lanes.splat(*c));
    }
    lanes.mul(sum, lanes.power_of_two(n))
}

/// `1 / (1 + e^-x)`
#[inline(always)]
fn sigmoid<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let one = lanes.splat(1.0);
    lanes.div(one, lanes.add(one, exp(lanes, lanes.sub(lanes.splat(0.0), x))))
}

/// `tanh x = 1 - 2 / (e^2x + 1)`
#[inline(always)]
fn tanh<L: Lanes>(lanes: L, x: L::V) -> L::V {
    let one = lanes.splat(1.0);
    let e = exp(lanes, lanes.add(x, x));
    lanes.sub(one, lanes.div(lanes.splat(2.0), lanes.add(e, one)))
}

/// The error function by formula 7.1.26 of Abramowitz and Stegun, 1.5e-7 off at most.
#[inline(always)]
fn erf<L: Lanes>(lanes: L, x: L::V) -> L::V {
    const SERIES: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let (zero, one) = (lanes.splat(0.0), lanes.splat(1.0));
    let size = lanes.max(x, lanes.sub(zero, x));
    let t = lanes.div(one, lanes.fma(lanes.splat(0.327_591_1), size, one));
    let mut sum = lanes.splat(SERIES[0]);
    for c in &SERIES[1..] {
        sum = lanes.fma(sum, t, lanes.splat(*c));
    }
    let tail = lanes.mul(lanes.mul(sum, t), exp(lanes, lanes.sub(zero, lanes.mul(size, size))));
    // Its sign is that of `x`: a large multiple of `x`, cut off at one.
    let sign = lanes.max(lanes.min(lanes.mul(x, lanes.splat(1e30)), one), lanes.splat(-1.0));
    lanes.mul(sign, lanes.sub(one, tail))
}

/// Applies a function of the graph to all numbers.
#[inline(always)]
pub(crate) fn unary<L: Lanes>(lanes: L, function: Unary, x: &mut [f32]) {
    match function {
        Unary::Sigmoid => map!(lanes, x, |x| sigmoid(lanes, x)),
        Unary::Silu => map!(lanes, x, |x| lanes.mul(x, sigmoid(lanes, x))),
        Unary::Tanh => map!(lanes, x, |x| tanh(lanes, x)),
        Unary::Mish => map!(lanes, x, |x| {
            // tanh(ln(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2), 1 from e = e^20 on.
            let e = exp(lanes, lanes.min(x, lanes.splat(20.0)));
            let n = lanes.mul(e, lanes.add(e, lanes.splat(2.0)));
            lanes.mul(x, lanes.div(n, lanes.add(n, lanes.splat(2.0))))
        }),
        Unary::GeluTanh => map!(lanes, x, |x| {
            // (1 + tanh u) / 2 is the sigmoid of 2u.
            let cube = lanes.mul(lanes.mul(x, x), lanes.mul(x, lanes.splat(0.044_715)));
            let u = lanes.mul(lanes.add(x, cube), lanes.splat(1.595_769));
            lanes.mul(x, sigmoid(lanes, u))
        }),
        Unary::Gelu => map!(lanes, x, |x| {
            let half = lanes.mul(x, lanes.splat(0.5));
            let e = erf(lanes, lanes.mul(x, lanes.splat(std::f32::consts::FRAC_1_SQRT_2)));
            lanes.fma(half, e, half)
        }),
        Unary::Erf => map!(lanes, x, |x| erf(lanes, x)),
        Unary::Exp => map!(lanes, x, |x| exp(lanes, x)),
        Unary::Relu => map!(lanes, x, |x| lanes.max(x, lanes.splat(0.0))),
        Unary::Reciprocal => map!(lanes, x, |x| lanes.div(lanes.splat(1.0), x)),
        Unary::Neg => map!(lanes, x, |x| lanes.sub(lanes.splat(0.0), x)),
        Unary::Abs => map!(lanes, x, |x| lanes.max(x, lanes.sub(lanes.splat(0.0), x))),
        Unary::Square => map!(lanes, x, |x| lanes.mul(x, x)),
        Unary::Sqrt => x.iter_mut().for_each(|x| *x = x.sqrt()),
        Unary::Softplus | Unary::Sin | Unary::Cos | Unary::Log | Unary::Floor | Unary::Ceil | Unary::Round => {
            x.iter_mut().for_each(|x| *x = function.eval(*x));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowlet_kernels::float::{Instructions, Work};

    struct Apply<'x>(Unary, &'x mut [f32]);

    impl Work for Apply<'_> {
        type Output = ();

        #[inline(always)]
        fn run<L: Lanes>(self, lanes: L) {
            unary(lanes, self.0, self.1);
        }
    }

    #[test]
    fn functions_are_near_those_of_the_interpreter() {
        let points: Vec<f32> = (-4000..4001).map(|i| i as f32 * 0.005).collect();
        for instructions in Instructions::available() {
            for (function, name) in Unary::ALL {
                let domain = points.iter().copied().filter(|&x| match function {
                    Unary::Log | Unary::Sqrt => x > 0.0,
                    Unary::Reciprocal => x.abs() > 0.01,
                    _ => true,
                });
                let domain: Vec<f32> = domain.collect();
                let mut values = domain.clone();
                instructions.run(Apply(function, &mut values));
                for (&x, &got) in domain.iter().zip(&values) {
                    let want = function.eval(x);
                    let allowed = 4e-7 * want.abs().max(1.0);
                    let difference = (got - want).abs();
                    assert!(difference <= allowed, "{name}({x}) is {got}, not {want}, with {}", instructions.name());
                }
            }
        }
    }

    #[test]
    fn far_arguments_stay_finite() {
        for instructions in Instructions::available() {
            for function in [Unary::Sigmoid, Unary::Silu, Unary::Tanh, Unary::Mish, Unary::Gelu, Unary::GeluTanh] {
                let mut values = [-1e4, -200.0, -90.0, 90.0, 200.0, 1e4];
                let want = values.map(|x| function.eval(x));
                instructions.run(Apply(function, &mut values));
                for (got, want) in values.iter().zip(want) {
                    assert!((got - want).abs() <= 1e-6 * want.abs().max(1.0), "{function:?}: {got}, not {want}");
                }
            }
        }
    }
}
