//! Entry points for slow inputs: `encode` then `act` gives the bytes of the whole graph, whatever changes in between.
#![allow(clippy::unwrap_used)]

use flowlet::kernels::port;
use flowlet_compiler::flq;
use flowlet_compiler::hoist::{HoistError, hoist};
use flowlet_compiler::interp;
use flowlet_compiler::ir::{DType, Data, Graph, Tensor, parse};
use flowlet_compiler::lower::OwnedPlan;
use flowlet_compiler::program::{LaneKind, LoweredProgram, Program, float, lower};
use flowlet_compiler::quantize::{Calibration, noise_tensor, quantize};
use flowlet_compiler::target::Target;
use flowlet_score::ProgramEngine;
use flowlet_score::layout::{channels_first, channels_last};

/// A camera policy: what it sees is a vector and a picture, what it feels and the noise change with each action.
const POLICY: &str = r#"graph "policy" (%image: f32[1,2,8,8], %state: f32[1,4,1,1], %noise: f32[1,4,1,1], %task: i64[1] index(3)) -> (%action) {
  meta "precision" = "f32"
  const @w1: f32[6,2,3,3] = random 1
  const @w2: f32[4,6,3,3] = random 2
  const @b2: f32[3,4] = random 3
  const @w3: f32[4,4,1,1] = random 4
  const @w4: f32[4,12,1,1] = random 5
  const @w5: f32[4,4,1,1] = random 6
  %a = conv %image, @w1 {pad=[1,1,1,1], stride=[2,2]} : f32[1,6,4,4] from "eye/1"
  %b = relu %a : f32[1,6,4,4] from "eye/relu"
  %c = conv %b, @w2, @b2, %task {pad=[1,1,1,1], stride=[4,4]} : f32[1,4,1,1] from "eye/2"
  %s = conv %state, @w3 : f32[1,4,1,1] from "feel"
  %h = concat %c, %s, %noise {axis=1} : f32[1,12,1,1] from "join"
  %g = conv %h, @w4 : f32[1,4,1,1] from "trunk"
  %t = tanh %g : f32[1,4,1,1] from "trunk/tanh"
  %action = conv %t, @w5 : f32[1,4,1,1] from "head"
}
"#;

fn graph(text: &str) -> Graph {
    parse(text, &[]).unwrap()
}

fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let one = |(i, id): (usize, &flowlet_compiler::ir::ValueId)| {
        let ty = graph.ty(*id);
        match ty.dtype {
            DType::I64 => Tensor::i64(&ty.dims, vec![(seed % 3) as i64]),
            _ => noise_tensor(&flowlet_compiler::ir::Type::f32(&ty.dims), seed, i as u32),
        }
    };
    graph.inputs.iter().enumerate().map(one).collect()
}

fn int8(float: &Graph) -> Graph {
    let samples = (0..64).map(|seed| inputs(float, 100 + seed)).collect();
    quantize(float, &Calibration::from_samples(samples, "test"), &mut |_, _| {}).unwrap()
}

/// What the whole int8 graph makes of real inputs, as real numbers.
fn whole(graph: &Graph, real: &[Tensor]) -> Vec<Vec<f32>> {
    let quantised: Vec<Tensor> = graph
        .inputs
        .iter()
        .zip(real)
        .map(|(&id, t)| match (&t.data, graph.ty(id).quant) {
            (Data::F32(v), Some(q)) => {
                let codes = v.iter().map(|&x| port::quantise(x, 1.0 / q.scale, q.zero_point).unwrap());
                Tensor::s8(&t.dims, codes.collect())
            }
            _ => t.clone(),
        })
        .collect();
    let outputs = interp::run(graph, &quantised).unwrap();
    let real = |(t, &id): (&Tensor, &flowlet_compiler::ir::ValueId)| match graph.ty(id).quant {
        Some(q) => t.as_s8().unwrap().iter().map(|&x| port::dequantise(x, q.scale, q.zero_point)).collect(),
        None => t.as_f32().unwrap().to_vec(),
    };
    outputs.iter().zip(&graph.outputs).map(real).collect()
}

/// Calls `f` with an engine of the program.
fn engine<R>(lowered: &LoweredProgram, graphs: &[Graph], f: impl FnOnce(&ProgramEngine<'_>) -> R) -> R {
    if lowered.nets.is_empty() {
        return f(&ProgramEngine::float(lowered, graphs));
    }
    let plans: Vec<OwnedPlan<'_>> = lowered.nets.iter().map(|net| net.plan()).collect();
    let borrowed: Vec<_> = plans.iter().map(|plan| plan.borrow()).collect();
    f(&ProgramEngine::plans(lowered, borrowed.iter().map(|plan| plan.check().unwrap()).collect()))
}

fn bound(program: &Program, graphs: &[Graph]) -> LoweredProgram {
    match flq::is_quantized(&graphs[0]) {
        true => lower(program, [0; 32], graphs, &Target::native()).unwrap(),
        false => float(program, graphs).unwrap(),
    }
}

/// One look at the world, then several actions; each equals the whole graph on the same inputs.
fn same_bits(graph: &Graph, slow: &[&str]) {
    let slow: Vec<String> = slow.iter().map(|s| (*s).to_owned()).collect();
    let (program, graphs) = hoist(graph, &slow).unwrap();
    let lowered = bound(&program, &graphs);
    let is_slow = |name: &str| slow.iter().any(|s| s == name);
    engine(&lowered, &graphs, |engine| {
        for look in 0..3 {
            let seen = inputs(graph, 7 * look);
            let results = engine.with(|runner, nets| {
                let mut results = Vec::new();
                for act in 0..4 {
                    let felt = inputs(graph, 7 * look + 3 * act);
                    for (number, &id) in graph.inputs.iter().enumerate() {
                        let name = graph.value(id).name.as_str();
                        let of = if is_slow(name) { &seen[number] } else { &felt[number] };
                        match (&of.data, is_slow(name) && act > 0) {
                            (_, true) => {}
                            (Data::I64(v), _) => runner.set_label(v[0] as u16)?,
                            (Data::F32(v), _) => runner.write(name, &channels_last(&of.dims, v))?,
                            _ => unreachable!(),
                        }
                    }
                    if act == 0 {
                        runner.run(nets, "encode", 0)?;
                    }
                    runner.run(nets, "act", 0)?;
                    let outputs = graph.outputs.iter().map(|&id| {
                        let lanes = runner.program().lanes.iter();
                        let name = &graph.value(id).name;
                        let output = lanes.filter(|l| l.role == flowlet::plan::program::Role::Output);
                        let lane = output.map(|l| l.name).find(|l| *l == name || *l == format!("{name}_1")).unwrap();
                        channels_first(&graph.ty(id).dims, runner.read(lane).unwrap())
                    });
                    results.push((felt, outputs.collect::<Vec<_>>()));
                }
                Ok(results)
            });
            for (act, (felt, found)) in results.unwrap().into_iter().enumerate() {
                let all: Vec<Tensor> = graph
                    .inputs
                    .iter()
                    .enumerate()
                    .map(|(n, &id)| if is_slow(&graph.value(id).name) { seen[n].clone() } else { felt[n].clone() })
                    .collect();
                assert_eq!(found, whole(graph, &all), "look {look}, action {act}");
            }
        }
    });
}

#[test]
fn held_bytes_give_the_bits_of_the_whole_graph() {
    let quantised = int8(&graph(POLICY));
    same_bits(&quantised, &["image", "task"]);
    let (program, graphs) = hoist(&quantised, &["image".to_owned(), "task".to_owned()]).unwrap();
    let held: Vec<(&str, usize)> =
        program.lanes.iter().filter(|l| l.kind == LaneKind::Held).map(|l| (l.name.as_str(), l.len)).collect();
    assert_eq!(held, [("c", 4)]);
    let names = |g: &Graph| g.nodes.iter().map(|n| n.origin.clone()).collect::<Vec<_>>();
    assert_eq!(names(&graphs[0]), ["eye/1", "eye/2"]);
    assert_eq!(names(&graphs[1]), ["feel", "join", "trunk", "head"]);
    // The weights are those of the whole graph, once.
    let lowered = bound(&program, &graphs);
    let alone = flowlet_compiler::lower::lower(&quantised, [0; 32], &Target::native()).unwrap();
    assert_eq!(lowered.weights().len(), alone.weights.len());
}

/// Without the label, the layer that reads it is not slow.
#[test]
fn a_layer_that_another_input_reaches_stays() {
    let quantised = int8(&graph(POLICY));
    same_bits(&quantised, &["image"]);
    let (_, graphs) = hoist(&quantised, &["image".to_owned()]).unwrap();
    assert_eq!(graphs[0].nodes.len(), 1);
}

/// A layer of `encode` takes no sum of `act` into its epilogue.
#[test]
fn a_sum_with_another_input_stays_outside() {
    let text = r#"graph "sum" (%image: f32[1,4,1,1], %noise: f32[1,4,1,1]) -> (%y) {
  meta "precision" = "f32"
  meta "slow" = "image"
  const @w1: f32[4,4,1,1] = random 1
  const @w2: f32[4,4,1,1] = random 2
  %seen = conv %image, @w1 : f32[1,4,1,1] from "eye"
  %s = add %noise, %seen : f32[1,4,1,1] from "sum"
  %y = conv %s, @w2 : f32[1,4,1,1] from "head"
}
"#;
    same_bits(&int8(&graph(text)), &["image"]);
    let fused = int8(&graph(&text.replace("  meta \"slow\" = \"image\"\n", "")));
    let error = hoist(&fused, &["image".to_owned()]).unwrap_err().to_string();
    assert!(error.contains("first at 'eye'"), "{error}");
}

#[test]
fn f32_graphs_are_cut_too() {
    same_bits(&graph(POLICY), &["image", "task"]);
}

/// A slow value that is an output too, and a slow input that the rest reads as well.
#[test]
fn slow_outputs_and_slow_inputs_that_are_read_twice() {
    let text = r#"graph "both" (%image: f32[1,4,1,1], %noise: f32[1,4,1,1]) -> (%seen, %y) {
  meta "precision" = "f32"
  const @w1: f32[4,4,1,1] = random 1
  const @w2: f32[4,4,1,1] = random 2
  %seen = conv %image, @w1 : f32[1,4,1,1] from "eye"
  %s = add %seen, %noise : f32[1,4,1,1] from "sum"
  %r = add %s, %image : f32[1,4,1,1] from "again"
  %y = conv %r, @w2 : f32[1,4,1,1] from "head"
}
"#;
    same_bits(&graph(text), &["image"]);
    same_bits(&int8(&graph(text)), &["image"]);
}

#[test]
fn what_cannot_be_cut_is_refused() {
    let g = graph(POLICY);
    let error = |slow: &[&str]| hoist(&g, &slow.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()).unwrap_err();
    let unknown = error(&["camera"]);
    assert!(matches!(unknown, HoistError::UnknownInput { .. }), "{unknown}");
    assert!(unknown.to_string().contains("its inputs are image, state, noise, task"), "{unknown}");
    let everything = error(&["image", "state", "noise", "task"]).to_string();
    assert!(everything.contains("decide every output"), "{everything}");
    let nothing = error(&["noise"]).to_string();
    assert!(nothing.contains("first at 'join'"), "{nothing}");
}
