//! Packs: networks that differ in norm factors have the bytes of one network's weights, and each gives the bits of its own
//! full compile.
#![allow(clippy::unwrap_used)]

use flowlet::kernels::port;
use flowlet_compiler::compile::optimise;
use flowlet_compiler::interp;
use flowlet_compiler::ir::{Graph, Tensor, parse};
use flowlet_compiler::lower::{OwnedPlan, lower as lower_one};
use flowlet_compiler::pack::packs;
use flowlet_compiler::passes::Options;
use flowlet_compiler::program::lower;
use flowlet_compiler::quantize::{Calibration, QuantizeError, Quantizer, Settings, noise_tensor};
use flowlet_compiler::target::Target;
use flowlet_score::ProgramEngine;
use flowlet_score::layout::{channels_first, channels_last};

/// A norm of every kind: after a layer (folded), with statistics of the sample, and before a layer.
fn network(after: &str, group: &str, before: &str) -> String {
    format!(
        r#"graph "net" (%z: f32[1,2,6,6]) -> (%y) {{
  meta "noise" = "z"
  const @w1: f32[4,2,3,3] = random 1
  const @a: f32[4] = {after}
  const @da: f32[4] = [0.1, -0.2, 0.3, 0.0]
  const @g: f32[4] = {group}
  const @dg: f32[4] = [0.0, 0.25, -0.5, 0.1]
  const @w2: f32[4,4,3,3] = random 2
  const @b: f32[4] = {before}
  const @db: f32[4] = [0.5, 0.25, -0.25, 0.0]
  const @w3: f32[2,4,1,1] = random 3
  %c = conv %z, @w1 {{pad=[1,1,1,1]}} : f32[1,4,6,6] from "first"
  %n = affine %c, @a, @da : f32[1,4,6,6] from "first/norm"
  %s = silu %n : f32[1,4,6,6] from "first/act"
  %h = norm %s, @g, @dg {{kind=group, axis=1, groups=2, eps=1e-5}} : f32[1,4,6,6] from "gn"
  %t = conv %h, @w2 {{pad=[1,1,1,1]}} : f32[1,4,6,6] from "second"
  %u = tanh %t : f32[1,4,6,6] from "second/act"
  %v = affine %u, @b, @db : f32[1,4,6,6] from "before"
  %y = conv %v, @w3 : f32[1,2,6,6] from "head"
}}
"#
    )
}

const DAY: [&str; 3] = ["[1.0, 0.5, 2.0, 0.75]", "[1.0, 1.5, 0.5, 0.25]", "[1.0, 2.0, 0.5, 0.1]"];
const NIGHT: [&str; 3] = ["[3.0, 0.7, 0.3, 1.75]", "[0.4, 2.5, 1.5, 1.25]", "[0.3, 1.0, 2.5, 0.9]"];

fn float([after, group, before]: [&str; 3], keep_factors: bool) -> Graph {
    let graph = parse(&network(after, group, before), &[]).unwrap();
    optimise(graph, &Options { keep_factors, ..Options::default() }).unwrap()
}

fn quantizer(graph: &Graph) -> Quantizer {
    let calibration = Calibration::from_noise(graph, 32).unwrap();
    Quantizer::new(graph, &calibration, &Settings::default(), &mut |_, _| {}).unwrap()
}

fn alone(graph: &Graph) -> Graph {
    quantizer(graph).quantize(&Settings::default()).unwrap()
}

fn with_weights_of(first: &Graph, graph: &Graph) -> Result<Graph, QuantizeError> {
    let mut quantizer = quantizer(graph);
    quantizer.take_weights_of(first);
    quantizer.quantize(&Settings::default())
}

#[test]
fn each_pack_is_its_own_full_compile_over_one_copy_of_the_weights() {
    let (day, night) = (float(DAY, true), float(NIGHT, true));
    let first = alone(&day);
    let second = with_weights_of(&first, &night).unwrap();
    // The constraint changed nothing: a compile that knows of no other network gives the same graph.
    assert_eq!(second, alone(&night));
    let (program, graphs) = packs(&[("day".to_owned(), first.clone()), ("night".to_owned(), second.clone())]).unwrap();
    let lowered = lower(&program, [0; 32], &graphs, &Target::native()).unwrap();
    let one = lower_one(&first, [0; 32], &Target::native()).unwrap();
    // Of its own the pack has multipliers, biases, tables and gains: 16-byte rows and four tables here.
    let own = lowered.weights().len() - one.weights.len();
    assert!(own > 0 && own <= 4 * 256 + 16 * 16, "{own} bytes");
    let added = lowered.nets[1].constants.iter().skip(one.constants.len());
    let named: Vec<&str> = added.map(|(name, _)| name.as_str()).collect();
    assert!(!named.is_empty() && !named.iter().any(|n| n.ends_with(" weights")), "{named:?}");
    let plans: Vec<OwnedPlan<'_>> = lowered.nets.iter().map(|net| net.plan()).collect();
    let borrowed: Vec<_> = plans.iter().map(|plan| plan.borrow()).collect();
    let engine = ProgramEngine::plans(&lowered, borrowed.iter().map(|plan| plan.check().unwrap()).collect());
    for seed in 0..4 {
        let z = noise_tensor(day.ty(day.inputs[0]), seed, 0);
        let real = z.as_f32().unwrap();
        let found = engine.with(|runner, nets| {
            runner.write("z", &channels_last(&z.dims, real))?;
            ["day", "night", "day"]
                .into_iter()
                .map(|entry| {
                    runner.run(nets, entry, 0)?;
                    Ok(channels_first(&z.dims, runner.read("y")?))
                })
                .collect::<Result<Vec<_>, _>>()
        });
        let expected = [&first, &second, &first].map(|graph| {
            let q = graph.ty(graph.inputs[0]).quant.unwrap();
            let codes = real.iter().map(|&x| port::quantise(x, 1.0 / q.scale, q.zero_point).unwrap());
            let out = interp::run(graph, &[Tensor::s8(&z.dims, codes.collect())]).unwrap().remove(0);
            let q = graph.ty(graph.outputs[0]).quant.unwrap();
            out.as_s8().unwrap().iter().map(|&v| port::dequantise(v, q.scale, q.zero_point)).collect::<Vec<f32>>()
        });
        assert_eq!(found.unwrap(), expected);
        assert_ne!(expected[0], expected[1]);
    }
}

/// Factors that were folded into the layers after them are in the weights.
#[test]
fn folded_factors_are_no_pack() {
    let first = alone(&float(DAY, false));
    let error = with_weights_of(&first, &float(NIGHT, false)).unwrap_err().to_string();
    assert!(error.contains("times a positive factor"), "{error}");
}

/// Another network, a factor of another sign, and a single network.
#[test]
fn what_is_no_pack_is_refused_by_name() {
    let first = alone(&float(DAY, true));
    let turned = ["[-1.0, 0.5, 2.0, 0.75]", DAY[1], DAY[2]];
    let error = with_weights_of(&first, &float(turned, true)).unwrap_err().to_string();
    assert!(error.contains("node 'first': channel 0"), "{error}");
    let other = alone(&float(turned, true));
    let named = |graph: &Graph, name: &str| (name.to_owned(), graph.clone());
    let error = packs(&[named(&first, "day"), named(&other, "night")]).unwrap_err().to_string();
    assert!(error.contains("pack 'night'") && error.contains("'first'"), "{error}");
    assert!(packs(&[named(&first, "day")]).unwrap_err().to_string().contains("two networks"));
}
