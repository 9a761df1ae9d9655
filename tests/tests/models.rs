//! The committed models, whole: exported network, folded graph, `.flq`, executor and generated code.
#![allow(clippy::unwrap_used)]

use flowlet::{Arena, Executor};
use flowlet_cli::model::{Model, quantise_with};
use flowlet_cli::options::{FlowArgs, ModelArgs};
use flowlet_compiler::interp::Interpreter;
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::quantize::{Settings, noise_tensor};
use flowlet_compiler::{flq, lower, target};
use flowlet_onnx::ImportOptions;
use flowlet_score::all_threads;
use flowlet_tests::generated::{fashion, fashion_tiny};
use flowlet_tests::models::{LATENT, NAMES, OTHERS, file};
use std::num::NonZeroUsize;
use std::path::Path;

/// How the command line names a model.
fn arguments(name: &str) -> ModelArgs {
    let noise = (name == LATENT).then(|| "noise".to_owned());
    ModelArgs { flow: FlowArgs { noise, ..FlowArgs::default() }, ..ModelArgs::of(file(name, "onnx")) }
}

fn committed(name: &str) -> (Vec<u8>, Graph) {
    let bytes = std::fs::read(file(name, "flq")).unwrap();
    let graph = flq::read(&bytes).unwrap();
    (bytes, graph)
}

/// Runs `work` on the seeds `0..64`, shared among the threads of this host.
fn on_64_seeds(work: impl Fn(u64) + Sync) {
    let threads = all_threads().get() as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            let work = &work;
            scope.spawn(move || (first..64).step_by(threads as usize).for_each(work));
        }
    });
}

/// The interpreter against the generated code and against the executor of the same plan, 640 pictures, no tolerance.
macro_rules! same_bits {
    ($name:expr, $generated:ident) => {{
        let (_, graph) = committed($name);
        let interpreter = Interpreter::new(&graph);
        on_64_seeds(|seed| {
            let mut arena = Box::new(Arena::<{ $generated::ARENA_BYTES }>::new());
            let mut other = Box::new(Arena::<{ $generated::ARENA_BYTES }>::new());
            let mut model = $generated::Model::new(&mut arena);
            let mut executor = Executor::new($generated::PLAN.check().unwrap(), other.bytes()).unwrap();
            for label in (0..$generated::Label::COUNT).map(|k| $generated::Label::new(k).unwrap()) {
                model.fill_noise(seed);
                let noise = Tensor::s8(&[1, 1, 28, 28], model.noise().to_vec());
                let image = *model.generate(label);
                let inputs = [noise, Tensor::i64(&[1], vec![label.number().into()])];
                let expected = interpreter.run(&inputs).unwrap().remove(0);
                assert_eq!(expected.as_s8().unwrap(), image, "generated code, seed {seed} label {}", label.number());
                executor.fill_noise("noise", seed).unwrap();
                executor.set_index("label", label.number()).unwrap();
                executor.run("generate").unwrap();
                assert_eq!(executor.output("image").unwrap(), image, "executor, seed {seed} label {}", label.number());
            }
        });
    }};
}

#[test]
fn fashion_tiny_gives_the_same_bits_in_every_form() {
    same_bits!("fashion-tiny", fashion_tiny);
}

#[test]
fn fashion_gives_the_same_bits_in_every_form() {
    same_bits!("fashion", fashion);
}

/// Folding time, norms and sampler changes no pixel by more than 1e-4 of the range, borders included.
#[test]
fn the_folded_graph_equals_the_exported_network() {
    for name in NAMES {
        let exported =
            flowlet_onnx::import(&std::fs::read(file(name, "onnx")).unwrap(), &ImportOptions::default()).unwrap();
        let model = Model::load(&ModelArgs::of(file(name, "onnx"))).unwrap();
        let folded = model.float().unwrap();
        assert_eq!([folded.meta("norm_ops_after"), folded.meta("time_ops_after")], [Some("0"), Some("0")]);
        assert_ne!(folded.meta("norm_ops_before"), Some("0"));
        let (before, after) = (Interpreter::new(&exported), Interpreter::new(folded));
        on_64_seeds(|seed| {
            let noise = noise_tensor(folded.ty(folded.inputs[0]), seed, 0);
            let label = Tensor::i64(&[1], vec![seed as i64 % 10]);
            let time = Tensor::f32(&[1], vec![0.0]);
            let velocity = before.run(&[noise.clone(), time, label.clone()]).unwrap().remove(0);
            let image = after.run(&[noise.clone(), label]).unwrap().remove(0);
            let (z, v, x) = (noise.as_f32().unwrap(), velocity.as_f32().unwrap(), image.as_f32().unwrap());
            for (i, ((z, v), x)) in z.iter().zip(v).zip(x).enumerate() {
                let expected = ((z + v + 1.0) / 2.0).clamp(0.0, 1.0);
                assert!((expected - x).abs() <= 1e-4, "{name}, seed {seed}, pixel {i}: {expected} became {x}");
            }
        });
    }
}

#[test]
fn quantising_again_gives_the_committed_bytes() {
    for name in NAMES.into_iter().chain(OTHERS).chain([LATENT]) {
        let model = Model::load(&arguments(name)).unwrap();
        let settings = Settings { fit_weights: name == "fashion-matched", ..Settings::default() };
        let fresh = flq::write(&quantise_with(model.float().unwrap(), None, &settings).unwrap());
        assert!(fresh == committed(name).0, "{name}.flq is stale: run 'flowlet quantize' and commit its file");
    }
}

/// Each form of a network equals the one before it, from its author's outputs to the executor.
#[test]
fn the_other_networks_are_verified_against_their_authors() {
    for name in OTHERS.into_iter().chain([LATENT]) {
        let args = flowlet_cli::verify::Args {
            model: arguments(name),
            golden: file(name, "onnx").with_file_name("golden"),
            tolerance: None,
            precision: None,
            calibrate: None,
            json: true,
        };
        let report = flowlet_cli::verify::run(&args).unwrap();
        assert!(!report.failed, "{name}: {}", report.text);
        assert_eq!(report.json.get("mismatches"), Some(&0.into()), "{name}: int8 was not compared");
    }
}

/// Every target places and packs the same graph; none changes a rounding. The definitions of the steps read any packing.
#[test]
fn lowering_for_another_target_changes_no_bit() {
    let (bytes, graph) = committed("fashion-tiny");
    let mut images = Vec::new();
    for target in target::TARGETS {
        let lowered = match lower::lower(&graph, flq::hash(&bytes), target) {
            Ok(lowered) => lowered,
            Err(lower::LowerError::Budget { .. }) => continue,
            Err(error) => panic!("{}: {error}", target.name),
        };
        lowered.with_plan(|plan| {
            let mut arena = vec![0; plan.arena_bytes as usize];
            flowlet::port::fill_noise(&mut arena, &plan.inputs[0], 5, 0).unwrap();
            for step in plan.steps {
                let before = arena.clone();
                flowlet::kernels::step::run_reference(&before, &mut arena, step, 5);
            }
            images.push(flowlet::port::borrow(&arena, &plan.outputs[0]).unwrap().to_vec());
        });
    }
    assert!(images.len() >= 2, "one target alone proves nothing");
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
}

/// CRC-32 of IEEE 802.3, to make damaged files that pass the checksum.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xEDB8_8320 } else { c >> 1 })
    })
}

/// A changed byte behind a valid checksum is refused, or gives a graph that lowers and runs: never a panic.
#[test]
fn no_byte_of_a_flq_can_cause_a_panic() {
    let (bytes, _) = committed("fashion-tiny");
    let text_len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
    let (mut refused, mut state) = (0, 0x9E37_79B9_7F4A_7C15u64);
    let tried = 400;
    for i in 0..tried {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Three of four changes hit the text, where the structure is.
        let span = if i % 4 == 0 { bytes.len() - 16 } else { text_len };
        let at = 16 + (state >> 33) as usize % span;
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (state >> 29 & 7);
        let crc = crc32(&damaged[16..]);
        damaged[12..16].copy_from_slice(&crc.to_le_bytes());
        let outcome = flq::read(&damaged).map_err(|e| e.to_string()).and_then(|graph| {
            let lowered = lower::lower(&graph, [0; 32], &target::Target::native()).map_err(|e| e.to_string())?;
            let mut arena = Box::new(Arena::<131_072>::new());
            lowered.with_plan(|plan| {
                let checked = plan.check().map_err(|e| e.to_string())?;
                let mut executor = Executor::new(checked, arena.bytes()).map_err(|e| e.to_string())?;
                executor.fill_noise(0, 1).map_err(|e| e.to_string())?;
                executor.run(0).map_err(|e| e.to_string())
            })
        });
        refused += usize::from(outcome.is_err());
    }
    println!("{tried} damaged files: {refused} refused, {} harmless", tried - refused);
    assert!(refused > tried / 4, "only {refused} of {tried} were refused");
}

/// The scores in the model cards are those of 10,000 samples drawn now, and they are good enough.
#[test]
fn model_cards_state_what_10000_samples_give() {
    for name in NAMES {
        let args = flowlet_cli::score::Args {
            against: Some(file(name, "onnx")),
            ..flowlet_cli::score::Args::of(file(name, "flq"), NonZeroUsize::new(10_000).unwrap())
        };
        let found = flowlet_cli::score::run(&args).unwrap().json;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models").join(name);
        let read = |file: &str| -> serde_json::Value {
            serde_json::from_slice(&std::fs::read(folder.join(file)).unwrap()).unwrap()
        };
        let (card, teacher) = (read("student.json"), read("scores.json"));
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap();
        for precision in ["f32", "int8"] {
            for (field, digits) in [("fd", 3), ("accuracy", 4), ("psnr_median_db", 2), ("psnr_p5_db", 2)] {
                let Some(now) = found["scores"][precision][field].as_f64() else { continue };
                let stated = card["scores"][precision][field].as_f64().unwrap();
                // Pictures in int8 have the same bits everywhere; the last bits of f32 are the processor's.
                let is_exact = precision == "int8" && !field.starts_with("psnr");
                let slack = if is_exact { 1e-6 } else { 1e-3 };
                assert!(
                    (now - stated).abs() < slack,
                    "{name}, {precision}, {field}: the card says {stated}, this is {now}"
                );
                let figure = format!("{stated:.digits$}");
                assert!(readme.contains(&figure), "{name}/README.md does not state {precision} {field} {figure}");
            }
        }
        let get = |precision: &str, field: &str| found["scores"][precision][field].as_f64().unwrap();
        assert!(get("f32", "accuracy") >= 0.80);
        assert!(get("f32", "fd") <= 0.5 * teacher["teacher_one_euler"]["fd"].as_f64().unwrap());
        assert!(get("int8", "fd") <= 1.10 * get("f32", "fd"));
        assert!((get("int8", "accuracy") - get("f32", "accuracy")).abs() <= 0.02);
    }
}

/// A model that does not fit says by how much and what is large.
#[test]
fn a_part_that_is_too_small_is_named() {
    let (bytes, graph) = committed("fashion");
    let mut small = target::Target::named("qemu-mps2-an386").unwrap();
    small.ram_bytes = Some(16 * 1024);
    let error = lower::lower(&graph, flq::hash(&bytes), &small).unwrap_err().to_string();
    assert!(error.contains("RAM") && error.contains("16") && error.contains("qemu-mps2-an386"), "{error}");
}
