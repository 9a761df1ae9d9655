//! Functions of one element and arithmetic between tensors.

use crate::build::{Model, close, float, noise, tensor, text};
use flowlet_compiler::ir::{Op, Tensor};
use tract_onnx::pb::AttributeProto;

/// Runs a function over numbers in `lo..hi`; the names of the operations must be `ops`, if any are given.
#[track_caller]
fn function(op: &str, attributes: Vec<AttributeProto>, ops: &[&str], lo: f32, hi: f32, expected: fn(f32) -> f32) {
    let opset = if op == "Gelu" { 20 } else { 18 };
    let model = Model::new().opset(opset).input("x", &[2, 20]).output("y").node(op, &["x"], &["y"], attributes);
    if !ops.is_empty() {
        assert_eq!(model.ops(), ops);
    }
    let x: Vec<f32> = noise(40, 5).iter().map(|v| lo + (v + 1.0) / 2.0 * (hi - lo)).collect();
    let y: Vec<f32> = x.iter().map(|&v| expected(v)).collect();
    model.expect(&[Tensor::f32(&[2, 20], x)], &[2, 20], &y);
}

#[test]
fn functions_with_a_name_of_their_own() {
    function("Sigmoid", vec![], &["sigmoid"], -5.0, 5.0, |x| 1.0 / (1.0 + (-x).exp()));
    function("Tanh", vec![], &["tanh"], -3.0, 3.0, f32::tanh);
    function("Relu", vec![], &["relu"], -3.0, 3.0, |x| x.max(0.0));
    function("Sin", vec![], &["sin"], -3.0, 3.0, f32::sin);
    function("Cos", vec![], &["cos"], -3.0, 3.0, f32::cos);
    function("Exp", vec![], &["exp"], -3.0, 3.0, f32::exp);
    function("Log", vec![], &["log"], 0.1, 3.0, f32::ln);
    function("Sqrt", vec![], &["sqrt"], 0.1, 3.0, f32::sqrt);
    function("Reciprocal", vec![], &["reciprocal"], 0.5, 3.0, |x| 1.0 / x);
    function("Neg", vec![], &["neg"], -3.0, 3.0, |x| -x);
    function("Abs", vec![], &["abs"], -3.0, 3.0, f32::abs);
}

#[test]
fn functions_that_are_composed() {
    function("Softplus", vec![], &["softplus"], -5.0, 5.0, |x| x.exp().ln_1p());
    function("Mish", vec![], &["mish"], -5.0, 5.0, |x| x * x.exp().ln_1p().tanh());
    function("HardSwish", vec![], &[], -5.0, 5.0, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    function("LeakyRelu", vec![float("alpha", 0.1)], &[], -3.0, 3.0, |x| if x < 0.0 { 0.1 * x } else { x });
    function("Elu", vec![float("alpha", 0.7)], &[], -3.0, 3.0, |x| if x < 0.0 { 0.7 * x.exp_m1() } else { x });
    function("HardSigmoid", vec![], &[], -4.0, 4.0, |x| (0.2 * x + 0.5).clamp(0.0, 1.0));
    function("Swish", vec![], &["silu"], -5.0, 5.0, |x| x / (1.0 + (-x).exp()));
}

/// The error function by its series, far enough for |x| < 3.
fn erf(x: f32) -> f32 {
    let (x, mut term, mut sum) = (f64::from(x), f64::from(x), f64::from(x));
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    (sum * 2.0 / std::f64::consts::PI.sqrt()) as f32
}

#[test]
fn erf_and_gelu() {
    function("Erf", vec![], &["erf"], -2.5, 2.5, erf);
    function("Gelu", vec![], &["gelu"], -2.5, 2.5, |x| 0.5 * x * (1.0 + erf(x / 2f32.sqrt())));
    function("Gelu", vec![text("approximate", "tanh")], &[], -2.5, 2.5, |x| {
        0.5 * x * (1.0 + ((2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
    });
}

/// Arithmetic of an input with another input of the given shape.
#[track_caller]
fn arithmetic(op: &str, dims: &[usize], expected: fn(f32, f32) -> f32) {
    let model = Model::new().input("a", &[2, 3, 4]).input("b", dims).output("y").node(op, &["a", "b"], &["y"], vec![]);
    let (a, b) = (tensor(&[2, 3, 4], 1), tensor(dims, 2));
    let (av, bv) = (a.as_f32().unwrap(), b.as_f32().unwrap());
    let period = match dims {
        [3, 1] => |i: usize| i / 4 % 3,
        [4] => |i: usize| i % 4,
        _ => |i: usize| i,
    };
    let y: Vec<f32> = av.iter().enumerate().map(|(i, &x)| expected(x, bv[period(i)])).collect();
    close(model.run(&[a.clone(), b.clone()]).as_f32().unwrap(), &y, 1e-6);
}

#[test]
fn arithmetic_broadcasts() {
    for dims in [&[2, 3, 4][..], &[3, 1], &[4]] {
        arithmetic("Add", dims, |a, b| a + b);
        arithmetic("Sub", dims, |a, b| a - b);
        arithmetic("Mul", dims, |a, b| a * b);
        arithmetic("Div", dims, |a, b| a / b);
        arithmetic("Sum", dims, |a, b| a + b);
    }
}

/// One number against a tensor, on either side.
fn with_number(op: &str, number: f32, left: bool) -> Model {
    let inputs: &[&str] = if left { &["c", "x"] } else { &["x", "c"] };
    Model::new().input("x", &[2, 3]).constant("c", &[], &[number]).output("y").node(op, inputs, &["y"], vec![])
}

#[test]
fn arithmetic_with_a_number_on_either_side() {
    let x = Tensor::f32(&[2, 3], vec![0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
    let check = |op: &str, number: f32, left: bool, f: fn(f32) -> f32| {
        let y: Vec<f32> = x.as_f32().unwrap().iter().map(|&v| f(v)).collect();
        with_number(op, number, left).expect(std::slice::from_ref(&x), &[2, 3], &y);
    };
    check("Sub", 1.0, true, |v| 1.0 - v);
    check("Sub", 1.0, false, |v| v - 1.0);
    check("Div", 2.0, true, |v| 2.0 / v);
    check("Div", 2.0, false, |v| v / 2.0);
    check("Pow", 3.0, false, |v| v * v * v);
    check("Pow", 2.0, true, |v| 2f32.powf(v));
    check("Pow", 2.0, false, |v| v * v);
    check("Pow", 0.5, false, f32::sqrt);
    check("Max", 1.2, false, |v| v.max(1.2));
    check("Min", 1.2, true, |v| v.min(1.2));
}

#[test]
fn numbers_that_change_nothing_leave_nothing() {
    for (op, number) in [("Add", 0.0), ("Sub", 0.0), ("Mul", 1.0), ("Div", 1.0), ("Pow", 1.0)] {
        let model = with_number(op, number, false);
        assert!(model.ops().is_empty(), "{op}");
    }
    assert_eq!(with_number("Sub", 0.0, true).ops(), ["add"]);
    assert_eq!(with_number("Pow", 2.0, false).ops(), ["square"]);
}

#[test]
fn a_number_that_broadcasts_the_other_way_still_does() {
    let model = Model::new().input("x", &[1, 3]).constant("c", &[2, 3], &[0.0; 6]).output("y");
    let model = model.node("Add", &["x", "c"], &["y"], vec![]);
    model.expect(&[Tensor::f32(&[1, 3], vec![1.0, 2.0, 3.0])], &[2, 3], &[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
}

#[test]
fn clip_with_one_bound_two_or_none() {
    let x = Tensor::f32(&[5], vec![-2.0, -0.5, 0.0, 0.5, 2.0]);
    let clip = |bounds: &[&str]| {
        let model = Model::new()
            .input("x", &[5])
            .constant("lo", &[], &[-1.0])
            .constant("hi", &[], &[1.0])
            .constant("zero", &[], &[0.0])
            .constant("inf", &[], &[f32::INFINITY])
            .output("y");
        model.node("Clip", &[&["x"], bounds].concat(), &["y"], vec![])
    };
    clip(&["lo", "hi"]).expect(std::slice::from_ref(&x), &[5], &[-1.0, -0.5, 0.0, 0.5, 1.0]);
    clip(&["", "hi"]).expect(std::slice::from_ref(&x), &[5], &[-2.0, -0.5, 0.0, 0.5, 1.0]);
    clip(&["lo"]).expect(std::slice::from_ref(&x), &[5], &[-1.0, -0.5, 0.0, 0.5, 2.0]);
    clip(&["zero", "inf"]).expect(&[x], &[5], &[0.0, 0.0, 0.0, 0.5, 2.0]);
    assert_eq!(clip(&["lo", "hi"]).ops(), ["clip"]);
    assert_eq!(clip(&["zero", "hi"]).ops(), ["clip"]);
    let graph = clip(&["lo", "hi"]).graph_or_panic();
    assert!(matches!(graph.nodes[0].op, Op::Clip { lo: -1.0, hi: 1.0 }));
}

#[test]
fn constants_through_functions_are_left_to_the_compiler() {
    let model = Model::new()
        .input("x", &[1, 2])
        .constant("c", &[1, 2], &[0.5, -0.5])
        .output("y")
        .node("Sin", &["c"], &["s"], vec![])
        .node("Mul", &["x", "s"], &["y"], vec![]);
    assert_eq!(model.ops(), ["sin", "mul"]);
}
