//! The numerics rules against wide arithmetic.

mod random;

use flowlet_kernels::add::{Term, add_params, sum};
use flowlet_kernels::plan::{AddParams, Quant};
use flowlet_kernels::port::{dequantise, quantise};
use flowlet_kernels::requant::{accumulator_bound, choose, multiplier, requantise, saturate};
use flowlet_kernels::round::ties_even;
use flowlet_kernels::table::{lookup, tabulate};
use random::Random;

const PAIRS: u32 = if cfg!(miri) { 200 } else { 200_000 };

/// The law in exact arithmetic: floor((acc * 2^ls wrapped) * m / 2^32 + 1/2).
fn law(acc: i32, ls: u8, m: i32, zp: i8) -> i8 {
    let shifted = i128::from(((i128::from(acc) << ls) & 0xffff_ffff) as u32 as i32);
    let rounded = (shifted * i128::from(m) + (1 << 31)).div_euclid(1 << 32);
    (rounded + i128::from(zp)).clamp(-128, 127) as i8
}

/// The same bits by a rounding doubling high multiply with half the multiplier, as NEON and MVE have it.
fn doubling(acc: i32, ls: u8, m: i32, zp: i8) -> i8 {
    let high = (2 * i64::from(acc.wrapping_shl(u32::from(ls))) * i64::from(m / 2) + (1 << 31)) >> 32;
    saturate((high.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32).saturating_add(i32::from(zp)))
}

#[test]
fn requantise_is_the_law() {
    let mut random = Random(10);
    let extremes = [i32::MIN, i32::MIN + 1, -(1 << 30), -1, 0, 1, 1 << 30, i32::MAX];
    let multipliers = [0, 2, 4, 1 << 30, i32::MAX - 1];
    for acc in extremes {
        for m in multipliers {
            for ls in 0..=30 {
                for zp in [-128, -1, 0, 127] {
                    assert_eq!(requantise(acc, ls, m, zp), law(acc, ls, m, zp), "{acc} {ls} {m} {zp}");
                    assert_eq!(doubling(acc, ls, m, zp), law(acc, ls, m, zp), "{acc} {ls} {m} {zp}");
                }
            }
        }
    }
    for _ in 0..PAIRS {
        let acc = random.next() as i32 >> random.below(32);
        let m = ((random.next() >> 1) >> random.below(31)) as i32 & !1;
        let (ls, zp) = (random.below(31) as u8, random.next() as i8);
        assert_eq!(requantise(acc, ls, m, zp), law(acc, ls, m, zp), "{acc} {ls} {m} {zp}");
        assert_eq!(doubling(acc, ls, m, zp), law(acc, ls, m, zp), "{acc} {ls} {m} {zp}");
    }
}

#[test]
fn ties_round_up() {
    // m = 2^31 - 2 is not 1/2 exactly; 2^30 is 1/4.
    let quarter = 1 << 30;
    assert_eq!([-6, -2, 2, 6].map(|acc| requantise(acc, 0, quarter, 0)), [-1, 0, 1, 2]);
}

#[test]
fn chosen_multipliers_are_near_the_real_ones() {
    let mut random = Random(11);
    for _ in 0..PAIRS / 4 {
        let real: [f64; 3] = core::array::from_fn(|_| libm::exp2(f64::from(random.below(40_000)) / 1000.0 - 25.0));
        let ls = choose(&real).unwrap();
        let largest = real.into_iter().fold(0.0, f64::max);
        // The smallest shift with every real multiplier below 2^(ls - 1), but for rounding at that edge.
        assert!(largest < libm::exp2(f64::from(ls) - 1.0));
        assert!(ls == 0 || largest > libm::exp2(f64::from(ls) - 2.0) * (1.0 - libm::exp2(-29.0)));
        for r in real {
            let m = multiplier(r, ls);
            assert!(m >= 0 && m % 2 == 0);
            let exact = 2.0 * r * libm::exp2(31.0 - f64::from(ls));
            assert!((f64::from(m) - exact).abs() <= 1.0, "{r} {ls} {m} {exact}");
            // Inside the accumulator's bound the result is within a step of the real product, half of it by rounding.
            let limit = accumulator_bound(ls) - 1;
            let acc = ((i64::from(random.next() as i32) * limit) >> 31) as i32;
            let want = f64::from(acc) * r;
            let stated = 0.5 + f64::from(acc).abs() * libm::exp2(f64::from(ls) - 32.0);
            let got = f64::from(requantise(acc, ls, m, 0));
            if want.abs() < 127.0 {
                assert!((got - want).abs() <= stated + 1e-9, "{acc} * {r} = {want}, got {got}");
            } else {
                assert!(got.abs() >= 126.0 && got.signum() == want.signum());
            }
        }
    }
    assert_eq!(choose(&[0.4]), Some(0));
    assert_eq!(choose(&[0.5]), Some(1));
    assert_eq!(choose(&[]), Some(0));
    assert_eq!(choose(&[0.0]), Some(0));
    // Just below 1/2 the multiplier would round to 2^31, which is no i32.
    let edge = f64::from_bits(0.5f64.to_bits() - 1);
    assert_eq!(choose(&[edge]), Some(1));
    assert_eq!(choose(&[f64::NAN]), None);
    assert_eq!(choose(&[f64::INFINITY]), None);
    assert_eq!(choose(&[-0.1]), None);
    assert_eq!(choose(&[libm::exp2(29.0)]), None);
    assert_eq!(choose(&[1e300]), None);
    assert_eq!(choose(&[libm::exp2(28.5)]), Some(30));
    assert_eq!(multiplier(1e300, 0), i32::MAX - 1);
}

#[test]
fn sums_are_near_the_real_ones() {
    let mut random = Random(12);
    let mut refused = 0;
    for _ in 0..PAIRS / 10 {
        let mut quant = || Quant {
            scale: libm::exp2(f64::from(random.below(16_000)) / 1000.0 - 10.0) as f32,
            zero_point: random.next() as i8,
        };
        let (qa, qb, output) = (quant(), quant(), quant());
        let mut gain = || (f64::from(random.next() as i32) / 2_147_483_648.0) * random.pick(&[1.0, 0.1, 3.0]);
        let (a, b, offset) = (Term { quant: qa, gain: gain() }, Term { quant: qb, gain: gain() }, gain());
        let Some(params) = add_params(a, b, offset, output) else {
            refused += 1;
            continue;
        };
        assert!((1..=30).contains(&params.shift));
        for _ in 0..20 {
            let (x, y) = (random.next() as i8, random.next() as i8);
            let (dx, dy) = (f64::from(x) - f64::from(qa.zero_point), f64::from(y) - f64::from(qb.zero_point));
            let real = a.gain * dx * f64::from(qa.scale) + b.gain * dy * f64::from(qb.scale) + offset;
            let want = (real / f64::from(output.scale) + f64::from(output.zero_point)).clamp(-128.0, 127.0);
            let stated = 0.5 + (dx.abs() + dy.abs() + 1.0) * libm::exp2(-f64::from(params.shift) - 1.0);
            let got = f64::from(sum(x, y, &params));
            assert!((got - want).abs() <= stated + 1e-9, "{params:?} {x} {y}: {want}, got {got}");
            // Nothing wraps: the same in wide arithmetic.
            let wide = (i64::from(x) * i64::from(params.ma)
                + i64::from(y) * i64::from(params.mb)
                + i64::from(params.c)
                + (1 << (params.shift - 1)))
                >> params.shift;
            assert_eq!(i64::from(sum(x, y, &params)), wide.clamp(-128, 127));
        }
        // A larger shift would not have fitted.
        let larger = |r: f64| (r * libm::exp2(f64::from(params.shift) + 1.0)).round_ties_even();
        let ra = a.gain * f64::from(qa.scale) / f64::from(output.scale);
        let rb = b.gain * f64::from(qb.scale) / f64::from(output.scale);
        let rc = f64::from(output.zero_point) + offset / f64::from(output.scale);
        let reach = 128.0 * (larger(ra).abs() + larger(rb).abs()) * 2.0 + larger(rc).abs() + larger(0.5);
        assert!(params.shift == 30 || larger(ra).abs().max(larger(rb).abs()) > 32767.0 || reach > 2_147_483_647.0);
    }
    assert!(refused < PAIRS / 100, "{refused}");
}

#[test]
fn sum_of_zero_points_is_exact() {
    let quant = |scale, zero_point| Quant { scale, zero_point };
    let (a, b) = (Term { quant: quant(0.03, -7), gain: 0.7 }, Term { quant: quant(0.11, 100), gain: -1.3 });
    let params = add_params(a, b, 0.0, quant(0.05, 9)).unwrap();
    assert_eq!(sum(-7, 100, &params), 9);
    let unreachable = Term { quant: quant(1e9, 0), gain: 1.0 };
    assert_eq!(add_params(unreachable, b, 0.0, quant(0.05, 9)), None);
    assert_eq!(add_params(Term { gain: f64::NAN, ..a }, b, 0.0, quant(0.05, 9)), None);
    assert_eq!(add_params(a, b, f64::INFINITY, quant(0.05, 9)), None);
    // Two small operands around zero leave room for the largest shift, and none to spare.
    let small = Term { quant: quant(1.0, 0), gain: libm::exp2(-16.5) };
    assert_eq!(add_params(small, small, 0.0, quant(1.0, 0)).map(|p| p.shift), Some(30));
    let tie = AddParams { ma: 1, mb: 1, c: 0, shift: 1 };
    assert_eq!([sum(1, 0, &tie), sum(-1, 0, &tie), sum(-2, -1, &tie)], [1, 0, -1]);
}

#[test]
fn ports_round_ties_to_even() {
    let mut random = Random(13);
    for _ in 0..PAIRS {
        let x = f32::from_bits(random.next());
        let inverse = libm::exp2(f64::from(random.below(20_000)) / 1000.0 - 10.0) as f32;
        let zp = random.next() as i8;
        if !x.is_finite() {
            assert_eq!(quantise(x, inverse, zp), None);
            continue;
        }
        for x in [x, f32::from(random.next() as i16) / 32.0] {
            // The f32 product is part of the rule; the rest is exact in f64.
            let want = (f64::from(x * inverse).round_ties_even() + f64::from(zp)).clamp(-128.0, 127.0);
            assert_eq!(quantise(x, inverse, zp).map(f64::from), Some(want), "{x} {inverse} {zp}");
        }
    }
    assert_eq!([0.5, 1.5, 2.5, -0.5, -1.5, -2.5].map(|x| quantise(x, 1.0, 0).unwrap()), [0, 2, 2, 0, -2, -2]);
    assert_eq!([f32::MAX, f32::MIN].map(|x| quantise(x, f32::MAX, 0).unwrap()), [127, -128]);
    assert_eq!([f32::MAX, f32::MIN].map(|x| quantise(x, 1.0, -128).unwrap()), [127, -128]);
    assert_eq!([f32::MAX, f32::MIN].map(|x| quantise(x, 1.0, 127).unwrap()), [127, -128]);
    assert_eq!([f32::NAN, f32::INFINITY, f32::NEG_INFINITY].map(|x| quantise(x, 1.0, 0)), [None; 3]);
    assert_eq!([dequantise(127, 0.5, -128), dequantise(-128, 0.5, 127)], [127.5, -127.5]);
}

#[test]
fn every_s8_value_survives_its_own_port() {
    for scale in [1.0f32, 0.1, 0.007_843_138, 3.3e-5, 1.7e9] {
        for zp in [-128, -3, 0, 127] {
            for q in -128..=127 {
                assert_eq!(quantise(dequantise(q, scale, zp), 1.0 / scale, zp), Some(q), "{scale} {zp}");
            }
        }
    }
}

#[test]
fn rounding_without_std() {
    let mut random = Random(14);
    for _ in 0..PAIRS {
        let x =
            f64::from(random.next() as i32) / f64::from(1u32 << random.below(32)) + 0.25 * f64::from(random.below(4));
        assert_eq!(ties_even(x), x.round_ties_even(), "{x}");
    }
}

#[test]
fn tables() {
    let (input, output) = (Quant { scale: 0.05, zero_point: 20 }, Quant { scale: 0.03, zero_point: -100 });
    let table = tabulate(|x| x / (1.0 + libm::exp(-x)), input, output);
    for q in -128..=127i8 {
        let x = (f64::from(q) - 20.0) * f64::from(0.05f32);
        let y = x / (1.0 + libm::exp(-x)) / f64::from(0.03f32) - 100.0;
        assert!((f64::from(lookup(&table, q)) - y.clamp(-128.0, 127.0)).abs() <= 0.5 + 1e-9, "{q}");
    }
    let nan = tabulate(|_| f64::NAN, input, output);
    assert_eq!(lookup(&nan, 0), -100);
    let wide = tabulate(|x| x * 1e300, input, output);
    assert_eq!([lookup(&wide, -128), lookup(&wide, 20), lookup(&wide, 127)], [-128, -100, 127]);
}
