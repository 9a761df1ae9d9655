//! Interpreter, executor and generated code give the same bytes, at once and step by step.

use flowlet::{Arena, Executor, Progress};
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Graph, Tensor, parse};
use flowlet_compiler::lower::lower;
use flowlet_compiler::target::Target;
use flowlet_tests::generated::{tiny, unet, unet_split};

fn graph(text: &str) -> Graph {
    parse(text, &[]).expect("a graph")
}

/// `[1, 1, H, W]` is the same order in NCHW and NHWC.
fn interpreted(model: &Interpreter<'_>, side: usize, noise: &[i8], indices: &[u16]) -> Vec<i8> {
    let mut inputs = vec![Tensor::s8(&[1, 1, side, side], noise.to_vec())];
    inputs.extend(indices.iter().map(|&k| Tensor::i64(&[1], vec![k.into()])));
    model.run(&inputs).expect("inputs of the right type").remove(0).as_s8().expect("an s8 image").to_vec()
}

#[test]
fn one_of_every_kernel() {
    let graph = graph(include_str!("../../compiler/src/codegen/tests/tiny.ir"));
    let interpreter = Interpreter::new(&graph);
    let mut arena = Arena::<{ tiny::ARENA_BYTES }>::new();
    let mut other = Arena::<{ tiny::ARENA_BYTES }>::new();
    let mut executor = Executor::new(tiny::PLAN.check().unwrap(), other.bytes()).unwrap();
    let mut model = tiny::Model::new(&mut arena);
    for seed in 0..64 {
        for label in 0..tiny::Label::COUNT {
            let (name, style) = (tiny::Label::new(label).unwrap(), tiny::Style::new(299 - label).unwrap());
            model.fill_noise(seed);
            let noise = *model.noise();
            let image = *model.generate(name, style);
            assert_eq!(image[..], interpreted(&interpreter, 4, &noise, &[label, 299 - label]), "seed {seed}");
            model.noise().copy_from_slice(&noise);
            model.start(name, style);
            let mut steps = 1;
            while model.step() == Progress::Pending {
                steps += 1;
            }
            assert_eq!((model.step(), steps), (Progress::Done, tiny::PLAN.steps.len()));
            assert_eq!(model.image(), &image);
            executor.fill_noise("noise", seed).unwrap();
            executor.set_index("label", label).unwrap();
            executor.set_index("style", 299 - label).unwrap();
            executor.run("generate").unwrap();
            assert_eq!(executor.output("image").unwrap(), image);
        }
    }
}

/// Weights in two memories change no byte.
#[test]
fn weights_in_two_memories() {
    let interpreter_graph = graph(include_str!("../codegen/unet.ir"));
    let interpreter = Interpreter::new(&interpreter_graph);
    let mut arena = Arena::<{ unet_split::ARENA_BYTES }>::new();
    let mut model = unet_split::Model::new(&mut arena);
    for label in 0..unet_split::Label::COUNT {
        model.fill_noise(label.into());
        let noise = *model.noise();
        let side = noise.len().isqrt();
        let image = *model.generate(unet_split::Label::new(label).unwrap());
        assert_eq!(image[..], interpreted(&interpreter, side, &noise, &[label]), "label {label}");
    }
}

#[test]
fn a_network_with_skips() {
    let graph = graph(include_str!("../codegen/unet.ir"));
    let interpreter = Interpreter::new(&graph);
    // The first bytes of an arena that others use too.
    let mut arena = Arena::<{ unet::ARENA_BYTES + 100 }>::new();
    let mut other = Arena::<{ unet::ARENA_BYTES }>::new();
    let mut executor = Executor::new(unet::PLAN.check().unwrap(), other.bytes()).unwrap();
    for seed in 0..2 {
        for label in 0..unet::Label::COUNT {
            let mut model = unet::Model::new(&mut arena);
            model.fill_noise(seed);
            let noise = *model.noise();
            let image = *model.generate(unet::Label::new(label).unwrap());
            assert_eq!(image[..], interpreted(&interpreter, 28, &noise, &[label]), "seed {seed}, label {label}");
            executor.fill_noise(0, seed).unwrap();
            executor.set_index(0, label).unwrap();
            executor.run(0).unwrap();
            assert_eq!(executor.output(0).unwrap(), image);
        }
    }
}

#[test]
fn the_printed_plan_is_the_lowered_one() {
    let same = |text: &str, plan: &flowlet::plan::Plan<'_>| {
        let graph = graph(text);
        let lowered = lower(&graph, plan.model_hash, &Target::host()).unwrap();
        assert_eq!(lowered.plan().borrow(), *plan);
    };
    same(include_str!("../../compiler/src/codegen/tests/tiny.ir"), &tiny::PLAN);
    same(include_str!("../codegen/unet.ir"), &unet::PLAN);
}

#[test]
fn ports_are_typed_and_refuse_what_is_no_number() {
    let mut arena = Arena::<{ tiny::ARENA_BYTES }>::new();
    let mut model = tiny::Model::new(&mut arena);
    assert_eq!(model.step(), Progress::Done, "nothing was started");
    assert_eq!(tiny::Label::new(3), None);
    assert_eq!((tiny::Label::TROUSER.number(), tiny::Label::TROUSER.name()), (1, "trouser"));
    let mut values = [0.5; 16];
    model.write_noise(&values).unwrap();
    assert_eq!(model.noise(), &[16; 16]);
    values[9] = f32::NAN;
    let refused = model.write_noise(&values).unwrap_err().to_string();
    assert!(refused.starts_with("element 9 of \"noise\" is NaN or infinite"), "{refused}");
    assert_eq!(model.noise(), &[16; 16], "nothing was written");
    let image = *model.generate(tiny::Label::new(0).unwrap(), tiny::Style::new(0).unwrap());
    let pixels: Vec<u8> = model.image_pixels().collect();
    let mut reals = [0.0; 16];
    model.read_image(&mut reals);
    for ((q, pixel), real) in image.iter().zip(pixels).zip(reals) {
        assert_eq!(i32::from(pixel), i32::from(*q) + 128);
        assert!((real - f32::from(pixel) / 255.0).abs() < 1e-6);
    }
}
