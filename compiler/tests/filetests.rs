//! Runs `filetests/<pass>/*.ir`: the graph above `---` goes through the pass, and the graph and remarks must be the text
//! below. Each file is also parsed and reprinted, verified, and evaluated before and after on seeded inputs: a snapshot
//! can be blessed wrongly, the interpreter cannot. `BLESS=1 cargo test -p flowlet-compiler --test filetests` rewrites
//! everything below `---`.
//!
//! Comment lines above the graph set options: `; set t = 0.5`, `; index label = 4`, `; schedule t = 0.0, 0.5`,
//! `; flow noise=z noise_at=0 range=-1,1 output=image`, `; keep_factors`, and `; tolerance 1e-5` (default 0: equal bits).
#![allow(clippy::unwrap_used)]

use flowlet_compiler::interp;
use flowlet_compiler::ir::{ConstStyle, DType, Def, Graph, InputKind, Stage, Tensor, ValueId, parse, print, verify};
use flowlet_compiler::passes::{Flow, Options, PIPELINE, Prediction, Schedule, run_pass};
use flowlet_compiler::quantize::{self, Calibration, quantize};
use std::path::{Path, PathBuf};

struct Case {
    options: Options,
    tolerance: f32,
}

fn directives(text: &str) -> Case {
    let mut case = Case { options: Options::default(), tolerance: 0.0 };
    for line in text.lines().filter_map(|l| l.strip_prefix("; ")) {
        if let Some((name, value)) = line.strip_prefix("set ").and_then(|l| l.split_once(" = ")) {
            case.options.set.push((name.to_owned(), Tensor::f32(&[], vec![value.parse().unwrap()])));
        } else if let Some((name, value)) = line.strip_prefix("index ").and_then(|l| l.split_once(" = ")) {
            case.options.indices.push((name.to_owned(), value.parse().unwrap()));
        } else if let Some((name, values)) = line.strip_prefix("schedule ").and_then(|l| l.split_once(" = ")) {
            let values = values.split(", ").map(|v| v.parse().unwrap()).collect();
            case.options.schedule = Some(Schedule { time: name.to_owned(), values });
        } else if let Some(words) = line.strip_prefix("flow ") {
            let get = |key: &str| words.split(' ').find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
            let range =
                get("range").and_then(|r| r.split_once(',')).map(|(a, b)| (a.parse().unwrap(), b.parse().unwrap()));
            let mut flow = Flow::new(get("noise").unwrap(), get("noise_at") != Some("1"), get("output").unwrap());
            flow.range = range;
            flow.prediction = get("prediction").map_or(Ok(flow.prediction), str::parse).unwrap();
            for (key, number) in [
                ("alpha", &mut flow.alpha),
                ("sigma", &mut flow.sigma),
                ("noise_scale", &mut flow.noise_scale),
                ("sigma_data", &mut flow.sigma_data),
                ("sigma_min", &mut flow.sigma_min),
            ] {
                *number = get(key).map_or(Ok(*number), str::parse).unwrap();
            }
            case.options.flow = Some(flow);
        } else if line == "keep_factors" {
            case.options.keep_factors = true;
        } else if let Some(t) = line.strip_prefix("tolerance ") {
            case.tolerance = t.parse().unwrap();
        }
    }
    case
}

/// The time of a schedule at which graphs are compared.
const SCHEDULED: usize = 1;

/// A deterministic input for the graph's input `i`; `set` inputs take their constant.
fn input(graph: &Graph, i: usize, options: &Options, index: i64) -> Tensor {
    let value = graph.value(graph.inputs[i]);
    let n = value.ty.elements();
    if let Some(schedule) = options.schedule.as_ref().filter(|s| s.time == value.name) {
        return Tensor::f32(&value.ty.dims, vec![schedule.values[SCHEDULED]; n]);
    }
    if let Some((_, t)) = options.set.iter().find(|(name, _)| *name == value.name) {
        return Tensor::f32(&value.ty.dims, vec![t.as_f32().unwrap()[0]; n]);
    }
    match value.ty.dtype {
        DType::I64 => Tensor::i64(&value.ty.dims, vec![index; n]),
        _ => Tensor::f32(&value.ty.dims, (0..n).map(|k| ((k * 37 + i * 11) % 41) as f32 / 20.0 - 1.0).collect()),
    }
}

/// What the sampler makes of a graph's output, written out independently of the pass, as the authors of each convention do.
fn expected(before: &Graph, inputs: &[Tensor], flow: Option<&Flow>) -> Vec<f32> {
    let run = |inputs: &[Tensor]| interp::run(before, inputs).unwrap()[0].as_f32().unwrap().to_vec();
    let Some(flow) = flow else { return run(inputs) };
    let at = before.inputs.iter().position(|&id| before.value(id).name == flow.noise).unwrap();
    let z = inputs[at].as_f32().unwrap();
    let network = |factor: f64| {
        let mut inputs = inputs.to_vec();
        inputs[at] = Tensor::f32(&inputs[at].dims.clone(), z.iter().map(|z| (f64::from(*z) * factor) as f32).collect());
        run(&inputs)
    };
    let (sigma, data) = (flow.sigma, flow.sigma_data);
    let both = sigma.powi(2) + data.powi(2);
    let distance = sigma - flow.sigma_min;
    let out = match flow.prediction {
        Prediction::Velocity => network(1.0),
        Prediction::Data | Prediction::Noise => network(flow.noise_scale),
        Prediction::Preconditioned => network(sigma / both.sqrt()),
    };
    let x = z.iter().zip(&out).map(|(&z, &f)| {
        let (z, f) = (f64::from(z), f64::from(f));
        let x = match flow.prediction {
            Prediction::Velocity if flow.noise_at_zero => z + sigma * f,
            Prediction::Velocity => z - sigma * f,
            Prediction::Data => f,
            Prediction::Noise => (flow.noise_scale * z - sigma * f) / flow.alpha,
            Prediction::Preconditioned => {
                let skip = data.powi(2) / (distance.powi(2) + data.powi(2));
                skip * sigma * z + distance * data / both.sqrt() * f
            }
        };
        x as f32
    });
    match flow.range {
        Some((lo, hi)) => x.map(|x| ((x - lo) / (hi - lo)).clamp(0.0, 1.0)).collect(),
        None => x.collect(),
    }
}

fn compare(before: &Graph, after: &Graph, case: &Case, path: &Path) {
    let index_count = before.inputs.iter().any(|&id| before.ty(id).dtype == DType::I64);
    for index in 0..if index_count { 3 } else { 1 } {
        let all: Vec<Tensor> = (0..before.inputs.len()).map(|i| input(before, i, &case.options, index)).collect();
        let kept: Vec<Tensor> = after
            .inputs
            .iter()
            .map(|&id| {
                let name = &after.value(id).name;
                if name == Schedule::ROW {
                    let labels = before.inputs.iter().any(|&id| before.ty(id).dtype == DType::I64);
                    let InputKind::Index { count } = input_kind(after, id) else { panic!("{name} is no index") };
                    let times = case.options.schedule.as_ref().unwrap().values.len();
                    let labels = if labels { count / times } else { 1 };
                    return Tensor::i64(&[1], vec![(SCHEDULED * labels) as i64 + index]);
                }
                all[before.inputs.iter().position(|&b| before.value(b).name == *name).unwrap()].clone()
            })
            .collect();
        let want = expected(before, &all, case.options.flow.as_ref());
        let got = interp::run(after, &kept).unwrap();
        let range = want.iter().fold(1e-6f32, |m, x| m.max(x.abs()));
        for (k, (w, g)) in want.iter().zip(got[0].as_f32().unwrap()).enumerate() {
            assert!((w - g).abs() <= case.tolerance * range, "{}: element {k}: {w} became {g}", path.display());
        }
    }
}

fn input_kind(graph: &Graph, id: ValueId) -> InputKind {
    match graph.value(id).def {
        Def::Input(kind) => kind,
        Def::Const(_) | Def::Node => panic!("{} is no input", graph.value(id).name),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("filetests")
}

#[test]
fn every_pass_has_a_basic_and_a_near_miss_file() {
    for pass in PIPELINE {
        let names: Vec<String> = files(&root().join(pass.name))
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(names.iter().any(|n| n.starts_with("basic")), "{}: no basic file", pass.name);
        assert!(names.iter().any(|n| n.starts_with("near-miss")), "{}: no near-miss file", pass.name);
    }
}

/// Compares the text below `---` with what `transform` prints; with BLESS, rewrites it.
fn check_snapshots(folder: &str, transform: impl Fn(&Graph, &Case, &Path) -> String) {
    let bless = std::env::var_os("BLESS").is_some();
    let mut stale = Vec::new();
    for path in files(&root().join(folder)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let (source, snapshot) = text.split_once("---\n").unwrap_or((&text, ""));
        let before = parse(source, &[]).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let full = print(&before, ConstStyle::Full);
        assert_eq!(parse(&full, &[]).unwrap(), before, "{}: not reprinted", path.display());
        verify(&before, Stage::Float).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let printed = transform(&before, &directives(source), &path);
        if printed != snapshot {
            stale.push(path.display().to_string());
            if bless {
                std::fs::write(&path, format!("{source}---\n{printed}")).unwrap();
            } else {
                println!("=== {}\n--- expected\n{snapshot}--- found\n{printed}", path.display());
            }
        }
    }
    assert!(bless || stale.is_empty(), "stale snapshots (BLESS=1 rewrites them): {stale:#?}");
}

#[test]
fn float_passes() {
    for pass in PIPELINE {
        check_snapshots(pass.name, |before, case, path| {
            let mut after = before.clone();
            match run_pass(pass, &mut after, &case.options) {
                Ok(()) => {
                    compare(before, &after, case, path);
                    print(&after, ConstStyle::Short)
                }
                Err(e) => format!("error: {e}\n"),
            }
        });
    }
}

/// int8 stays within the stated part of the output's range of the f32 graph, on noise it was not calibrated on.
#[test]
fn quantisation() {
    check_snapshots("quantize", |before, case, path| {
        let calibration = Calibration::from_noise(before, 512).unwrap();
        let after = match quantize(before, &calibration, &mut |_, _| {}) {
            Ok(after) => after,
            Err(e) => return format!("error: {e}\n"),
        };
        for index in 0..3 {
            let noise = quantize::noise_tensor(before.ty(before.inputs[0]), 1000 + index as u64, 0);
            let label = || Tensor::i64(&[1], vec![index]);
            let q = after.ty(after.inputs[0]).quant.unwrap();
            let codes = noise
                .as_f32()
                .unwrap()
                .iter()
                .map(|&x| flowlet_kernels::port::quantise(x, 1.0 / q.scale, q.zero_point).unwrap());
            let mut quantised = vec![Tensor::s8(&noise.dims, codes.collect())];
            let mut real = vec![noise];
            if before.inputs.len() > 1 {
                quantised.push(label());
                real.push(label());
            }
            let want = interp::run(before, &real).unwrap().remove(0);
            let got = interp::run(&after, &quantised).unwrap().remove(0);
            let out = after.ty(after.outputs[0]).quant.unwrap();
            let range = want.as_f32().unwrap().iter().fold(1e-6f32, |m, x| m.max(x.abs()));
            let pairs = want.as_f32().unwrap().iter().zip(got.as_s8().unwrap());
            let square =
                |(w, g): (&f32, &i8)| (w - flowlet_kernels::port::dequantise(*g, out.scale, out.zero_point)).powi(2);
            let rms = (pairs.map(square).sum::<f32>() / want.elements() as f32).sqrt();
            assert!(rms <= case.tolerance * range, "{}: rms {rms} of range {range}", path.display());
        }
        print(&after, ConstStyle::Short)
    });
}

/// A fold that is wrong in one number is caught by evaluation, whatever the snapshot says.
#[test]
#[should_panic(expected = "became")]
fn a_wrong_fold_is_caught() {
    let path = root().join("fold_norm/basic-after-conv.ir");
    let text = std::fs::read_to_string(&path).unwrap();
    let (source, _) = text.split_once("---\n").unwrap();
    let before = parse(source, &[]).unwrap();
    let mut after = before.clone();
    let pass = PIPELINE.iter().find(|p| p.name == "fold_norm").unwrap();
    run_pass(pass, &mut after, &Options::default()).unwrap();
    for value in &mut after.values {
        if let Def::Const(tensor) = &mut value.def
            && value.name.ends_with(".bias")
            && let flowlet_compiler::ir::Data::F32(v) = &mut tensor.data
        {
            v[0] += 0.01;
        }
    }
    compare(&before, &after, &directives(source), &path);
}

/// An index input that is not fixed is announced as one.
#[test]
fn an_index_input_knows_its_number_of_values() {
    let text = std::fs::read_to_string(root().join("specialize/basic-label.ir")).unwrap();
    let (source, _) = text.split_once("---\n").unwrap();
    let mut graph = parse(source, &[]).unwrap();
    let pass = PIPELINE.iter().find(|p| p.name == "specialize").unwrap();
    run_pass(pass, &mut graph, &directives(source).options).unwrap();
    let label = graph.find("label").unwrap();
    assert_eq!(graph.value(label).def, Def::Input(InputKind::Index { count: 3 }));
}
