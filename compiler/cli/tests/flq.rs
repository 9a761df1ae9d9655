//! The command on `.flq` files: nothing here needs the importer.
#![allow(clippy::unwrap_used)]

mod common;

use common::{PICTURE, POLICY, flowlet, folder, wave, write_flq, write_npy};
use flowlet_compiler::flq;
use flowlet_compiler::ir::parse;
use flowlet_compiler::quantize::{Calibration, quantize};
use flowlet_score::npy::Array;
use std::path::Path;

/// The picture model in int8 as `FOLDER/q.flq`.
fn quantised(folder: &Path) {
    let graph = parse(PICTURE, &[]).unwrap();
    let samples = Calibration::from_noise(&graph, 8).unwrap();
    let int8 = quantize(&graph, &samples, &mut |_, _| {}).unwrap();
    std::fs::write(folder.join("q.flq"), flq::write(&int8)).unwrap();
}

#[test]
fn pictures_do_not_depend_on_threads_and_int8_has_a_digest() {
    let f = folder("pictures");
    quantised(&f);
    let one = flowlet(&f, "run {}/q.flq --seed 3 --count 4 --out {}/a.png --json").ok().json();
    let two = flowlet(&f, "run {}/q.flq --seed 3 --count 4 --threads 3 --out {}/b.png --json").ok().json();
    assert_eq!(one["digest"], two["digest"]);
    assert_eq!(one["digest"].as_str().unwrap().len(), 64);
    assert_eq!((&one["samples"], &one["precision"]), (&12.into(), &"int8".into()));
    assert_eq!(std::fs::read(f.join("a.png")).unwrap(), std::fs::read(f.join("b.png")).unwrap());
    write_flq(&f, "m", PICTURE);
    let float = flowlet(&f, "run {}/m.flq --seed 3 --label shirt --json").ok().json();
    assert!(float.get("digest").is_none());
    let here = flowlet(&f, "run {}/m.flq --seed 3 --count 4 --precision int8 --calibrate 8 --json").ok().json();
    assert_eq!(here["digest"], one["digest"]);
}

#[test]
fn arrays_in_and_arrays_out_in_both_arithmetics() {
    let f = folder("arrays");
    write_flq(&f, "p", POLICY);
    write_npy(&f, "obs", &[5, 4], wave(20));
    flowlet(&f, "run {}/p.flq --input obs={}/obs.npy --out {}/float").ok();
    flowlet(&f, "run {}/p.flq --input obs={}/obs.npy --out {}/int --precision int8 --calibrate {} --threads 2").ok();
    let read = |name: &str| Array::read(&std::fs::read(f.join(name)).unwrap()).unwrap();
    let (float, int) = (read("float/action.npy"), read("int/action.npy"));
    assert_eq!((&float.shape, &int.shape), (&vec![5, 2], &vec![5, 2]));
    let range = float.to_f32().iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (a, b) in float.to_f32().iter().zip(int.to_f32()) {
        assert!((a - b).abs() < 0.05 * range, "{a} {b}");
    }
    let printed = flowlet(&f, "run {}/p.flq --input obs={}/obs.npy").ok();
    assert!(printed.stdout.contains("sample 4 action:"), "{}", printed.stdout);
}

#[test]
fn quantize_writes_the_same_bytes_twice_and_says_what_changed() {
    let f = folder("quantize");
    write_flq(&f, "m", PICTURE);
    let told = flowlet(&f, "quantize {}/m.flq -o {}/a.flq --calibrate 8 --json").ok().json();
    flowlet(&f, "quantize {}/m.flq -o {}/b.flq --calibrate 8").ok();
    assert_eq!(std::fs::read(f.join("a.flq")).unwrap(), std::fs::read(f.join("b.flq")).unwrap());
    assert_eq!(told["calibration"], "8 samples, deployed noise, stream 1");
    flowlet(&f, "quantize {}/a.flq -o {}/c.flq --calibrate 8").refused(&["already quantised"]);
    flowlet(&f, "quantize {}/m.flq --calibrate 8").refused(&["overwritten", "-o FILE"]);
}

#[test]
fn quantize_measures_what_int8_costs_and_searches_until_it_is_inside_a_budget() {
    let f = folder("numbers");
    write_flq(&f, "m", PICTURE);
    let plain = flowlet(&f, "quantize {}/m.flq -o {}/a.flq --calibrate 8 --json").ok().json();
    let output = &plain["error"]["outputs"][0];
    assert_eq!((&output["name"], &plain["error"]["samples"]), (&"image".into(), &16.into()));
    let (mean, worst) = (output["snr_db"].as_f64().unwrap(), output["worst_snr_db"].as_f64().unwrap());
    assert!(worst <= mean && mean > 10.0, "{output}");
    assert!(!plain["error"]["layers"].as_array().unwrap().is_empty());
    let none = flowlet(&f, "quantize {}/m.flq -o {}/b.flq --calibrate 8 --measure 0 --json").ok().json();
    assert!(none.get("error").is_none());
    assert_eq!(std::fs::read(f.join("a.flq")).unwrap(), std::fs::read(f.join("b.flq")).unwrap());

    let call = "quantize {}/m.flq -o {}/c.flq --calibrate 8 --json --plot {}/c.svg --budget";
    let met = flowlet(&f, &format!("{call} snr={:.1}dB", mean - 1.0)).ok().json();
    assert_eq!(met["budget"]["met"], true);
    assert_eq!(std::fs::read(f.join("a.flq")).unwrap(), std::fs::read(f.join("c.flq")).unwrap());
    assert!(std::fs::read_to_string(f.join("c.svg")).unwrap().ends_with("</svg>\n"));
    std::fs::remove_file(f.join("c.flq")).unwrap();
    let refused = flowlet(&f, &format!("{call} image_linf=0.000001"));
    assert_eq!((refused.code, &refused.json()["budget"]["met"]), (1, &false.into()));
    assert!(!f.join("c.flq").exists(), "a model outside the budget was written");
    flowlet(&f, &format!("{call} torque_linf=0.1")).refused(&["torque_linf=0.1", "there are image"]);
    flowlet(&f, &format!("{call} fast")).refused(&["is not a budget", "snr=25dB"]);
    flowlet(&f, "quantize {}/a.flq -o {}/d.flq --budget snr=20dB").refused(&["already quantised", "--budget"]);
    flowlet(&f, "quantize {}/m.flq -o {}/d.flq --calibrate 8 --freeze-norm snr=20dB").refused(&["no norm"]);
}

#[test]
fn training_gets_the_scales_of_every_layer() {
    let f = folder("scales");
    write_flq(&f, "m", PICTURE);
    flowlet(&f, "quantize {}/m.flq -o {}/a.flq --calibrate 8 --qat-scales {}/s.json").ok();
    let scales: serde_json::Value = serde_json::from_slice(&std::fs::read(f.join("s.json")).unwrap()).unwrap();
    let (activations, weights) = (scales["activations"].as_object().unwrap(), scales["weights"].as_object().unwrap());
    assert!(!weights.is_empty() && activations.keys().eq(weights.keys()), "{scales}");
    assert!(activations.values().all(|s| s.as_f64().unwrap() > 0.0));
    assert!(weights.values().flat_map(|w| w.as_array().unwrap()).all(|s| s.as_f64().unwrap() > 0.0));
}

#[test]
fn build_writes_a_module_and_check_holds_it_current() {
    let f = folder("build");
    quantised(&f);
    let call = "build {}/q.flq --target qemu-mps2-an386 -o {}/model";
    flowlet(&f, call).ok();
    assert!(f.join("model/mod.rs").exists() && f.join("model/weights.bin").exists());
    flowlet(&f, &format!("{call} --check")).ok();
    std::fs::write(f.join("model/mod.rs"), "edited").unwrap();
    let stale = flowlet(&f, &format!("{call} --check --json"));
    assert_eq!((stale.code, &stale.json()["current"]), (1, &false.into()));
    flowlet(&f, "build {}/q.flq --target toaster -o {}/x").refused(&["toaster", "known are host"]);
    write_flq(&f, "m", PICTURE);
    flowlet(&f, "build {}/m.flq --target host -o {}/x").refused(&["only a quantised graph"]);
    flowlet(&f, "build {}/m.onnx --target host -o {}/x").refused(&["flowlet quantize"]);
}

#[test]
fn a_model_that_does_not_fit_says_by_how_much_and_which_tensors() {
    let f = folder("budget");
    quantised(&f);
    flowlet(&f, "build {}/q.flq --target qemu-mps2-an386 -o {}/x --ram 100").refused(&[
        "does not fit qemu-mps2-an386",
        "of RAM",
        "the part has 100",
        "too few",
        "the largest are",
    ]);
    flowlet(&f, "build {}/q.flq --target qemu-mps2-an386 -o {}/x --flash 100").refused(&[
        "of flash",
        "too few",
        "the largest are",
    ]);
}

#[test]
fn a_file_describes_the_memories_of_a_part() {
    let f = folder("memories");
    quantised(&f);
    let board = |ram: usize| {
        let text = format!(
            "name = \"board\"\nisa = \"scalar\"\n[[memory]]\nname = \"tcm\"\nkind = \"ram\"\nbytes = {ram}\n\
             [[memory]]\nname = \"sram\"\nkind = \"ram\"\nbytes = 4096\nsection = \".sram\"\n\
             [[memory]]\nname = \"rom\"\nkind = \"flash\"\nbytes = 65536\n"
        );
        std::fs::write(f.join("board.toml"), text).unwrap();
    };
    board(100);
    let told = flowlet(&f, "explain {}/q.flq --target {}/board.toml --json").ok().json();
    let taken = |i: usize| told["memories"][i]["taken"].as_u64().unwrap();
    assert!(taken(0) == 0 && taken(1) > 100 && taken(2) > 0, "{told}");
    let text = flowlet(&f, "explain {}/q.flq --target {}/board.toml").ok().stdout;
    assert!(text.contains("sram") && text.contains("arena"), "{text}");
    flowlet(&f, "build {}/q.flq --target {}/board.toml -o {}/model").ok();
    let source = std::fs::read_to_string(f.join("model/mod.rs")).unwrap();
    assert!(source.contains("// place the arena in sram: #[unsafe(link_section = \".sram\")]"), "{source}");
    std::fs::write(f.join("board.toml"), "name = \"board\"\nisa = \"scalar\"\nram = 4\n").unwrap();
    flowlet(&f, "build {}/q.flq --target {}/board.toml -o {}/x").refused(&["describes no target", "line 3", "'ram'"]);
    flowlet(&f, "build {}/q.flq --target {}/none.toml -o {}/x").refused(&["none.toml"]);
}

#[test]
fn explain_says_what_each_layer_costs_and_draws_the_arena() {
    let f = folder("explain");
    quantised(&f);
    let text = flowlet(&f, "explain {}/q.flq --svg {}/m.svg --png {}/m.png").ok().stdout;
    for word in ["stem/Conv", "1x4x6x6", "arena ", "calibration", "weights"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(std::fs::read_to_string(f.join("m.svg")).unwrap().starts_with("<svg"));
    assert!(f.join("m.png").exists());
    let json = flowlet(&f, "explain {}/q.flq --json").ok().json();
    // 6*6 pixels, 3x3 taps, 4 channels, two layers.
    assert_eq!(json["macs"], 2 * 36 * 9 * 4);
    let ir = flowlet(&f, "explain {}/q.flq --text").ok().stdout;
    assert!(ir.starts_with("graph \"picture\""), "{ir}");
    write_flq(&f, "p", POLICY);
    let float = flowlet(&f, "explain {}/p.flq").ok().stdout;
    assert!(float.contains("not int8") && float.contains("--calibrate DIR (DIR/obs.npy"), "{float}");
}

#[test]
fn verify_accepts_the_authors_outputs_and_fails_on_others() {
    let f = folder("verify");
    write_flq(&f, "m", PICTURE);
    quantised(&f);
    std::fs::create_dir(f.join("golden")).unwrap();
    write_npy(&f, "golden/noise", &[2, 1, 6, 6], wave(72));
    write_npy(&f, "golden/label", &[2], vec![1.0, 2.0]);
    flowlet(&f, "run {}/m.flq --input noise={}/golden/noise.npy --input label={}/golden/label.npy --out {}/golden")
        .ok();
    let good = flowlet(&f, "verify {}/m.flq --golden {}/golden --json").ok().json();
    assert_eq!((&good["passed"], &good["mismatches"]), (&true.into(), &0.into()));
    let int8 = flowlet(&f, "verify {}/q.flq --golden {}/golden --json").ok().json();
    assert!(int8["snr_db"].as_f64().unwrap() > 20.0, "{int8}");
    write_npy(&f, "golden/image", &[2, 1, 6, 6], wave(72));
    let bad = flowlet(&f, "verify {}/m.flq --golden {}/golden");
    assert_eq!(bad.code, 1, "{}", bad.stderr);
    assert!(bad.stdout.contains("DIFFERS") && bad.stdout.contains("FAILED"), "{}", bad.stdout);
    flowlet(&f, "verify {}/m.flq --golden {}/nowhere").refused(&["no such folder"]);
}

#[test]
fn bench_prints_times_memory_and_load() {
    let f = folder("bench");
    quantised(&f);
    let json = flowlet(&f, "bench {}/q.flq --runs 5 --threads 2 --streams 2 --layers --json").ok().json();
    let layers = json["layers"].as_array().expect("layers");
    assert!(layers.iter().any(|layer| layer["op"] == "conv" && layer["macs"].as_u64() > Some(0)), "{json}");
    assert!(layers.iter().all(|layer| layer["us"].as_f64() > Some(0.0)), "{json}");
    for key in ["median_ms", "min_ms", "max_ms", "spread", "peak_rss_bytes", "load_average"] {
        assert!(json[key].is_number(), "{key}: {json}");
    }
    let text = flowlet(&f, "bench {}/q.flq --runs 5").ok().stdout;
    assert!(text.contains("load average") && text.contains("peak"), "{text}");
    write_flq(&f, "m", PICTURE);
    let json = flowlet(&f, "bench {}/m.flq --runs 5 --layers --json").ok().json();
    let layers = json["layers"].as_array().expect("layers");
    assert!(layers.iter().any(|layer| layer["op"] == "conv" && layer["macs"].as_u64() > Some(0)), "{json}");
}

#[test]
fn score_of_a_model_against_itself() {
    let f = folder("score");
    write_flq(&f, "m", PICTURE);
    quantised(&f);
    let network = |name: &str, outputs: usize| {
        let text = format!(
            "graph \"{name}\" (%image: f32[1,1,6,6]) -> (%y) {{\n  meta \"precision\" = \"f32\"\n  const @w: \
             f32[{outputs},36] = random 5\n  %f = reshape %image {{dims=[1,36]}} : f32[1,36] from \"flat\"\n  %y = \
             linear %f, @w : f32[1,{outputs}] from \"fc\"\n}}\n"
        );
        write_flq(&f, name, &text);
    };
    network("features", 2);
    network("accuracy", 3);
    write_npy(&f, "reference_mu", &[2], vec![0.0, 0.0]);
    write_npy(&f, "reference_sigma", &[2, 2], vec![1.0, 0.0, 0.0, 1.0]);
    let call = "score {}/q.flq --against {}/m.flq --scoring {} --samples 24 --json";
    let one = flowlet(&f, &format!("{call} --threads 1")).ok();
    let three = flowlet(&f, &format!("{call} --threads 3")).ok();
    assert_eq!(one.stdout, three.stdout, "scores depend on the number of threads");
    let scores = &one.json()["scores"];
    assert!(scores["int8"]["psnr_median_db"].as_f64().unwrap() > 20.0, "{scores}");
    assert!(scores["f32"]["fd"].is_number() && scores["int8"]["accuracy"].is_number(), "{scores}");
    assert_eq!(one.json()["bit_exact"], true);
    let first = flowlet(&f, "score {}/q.flq --scoring {} --samples 24 --json").ok().json();
    assert_eq!(first["digest"], one.json()["digest"], "the digest is that of the int8 pictures alone");

    let drawn = flowlet(&f, "score {}/q.flq --scoring {} --samples 24 --draws 3 --json").ok().json();
    let (of_draws, alone) = (&drawn["scores"]["int8"], &first["scores"]["int8"]);
    assert_eq!(of_draws["draws"].as_array().unwrap().len(), 3);
    assert_eq!(of_draws["draws"][0]["fd"], alone["fd"], "the first draw has the seeds of a single one");
    assert_ne!(of_draws["draws"][1]["fd"], alone["fd"]);
    assert!(of_draws["interval"]["fd"].as_f64().unwrap() > 0.0 && alone["interval"].is_null(), "{of_draws}");
    let text = flowlet(&f, "score {}/q.flq --scoring {} --samples 24 --draws 3").ok().stdout;
    assert!(text.contains("3 draws of 24 pictures") && text.contains(" +- ") && text.contains("bit for bit"), "{text}");

    // A model.toml beside the model names its own networks.
    flowlet(&f, "score {}/q.flq --scoring {} --samples 24 --write-reference {}/own.npz").ok();
    let named = "[scoring]\nfeatures = \"features.flq\"\nreference = \"own.npz\"\n";
    std::fs::write(f.join("model.toml"), named).unwrap();
    let own = flowlet(&f, "score {}/q.flq --samples 24 --json").ok().json();
    assert!(own["scores"]["int8"]["fd"].as_f64().unwrap().abs() < 1e-9 && own["features"] == "features", "{own}");
    assert!(own["scores"]["int8"]["accuracy"].is_null() && own["scores"]["int8"]["precision"] == 1.0, "{own}");
    std::fs::write(f.join("model.toml"), named.replace("own.npz", "none.npz")).unwrap();
    flowlet(&f, "score {}/q.flq --samples 24").refused(&["none.npz"]);
    std::fs::remove_file(f.join("model.toml")).unwrap();

    std::fs::remove_file(f.join("features.flq")).unwrap();
    flowlet(&f, call).refused(&["features.flq", "features.onnx"]);
}

#[test]
fn score_of_a_program() {
    let f = folder("score-program");
    let committed = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/digits/programs").join(name);
    std::fs::create_dir_all(f.join("programs")).unwrap();
    for name in ["euler_4.flp", "inpaint_8.flp"] {
        std::fs::copy(committed(name), f.join("programs").join(name)).unwrap();
    }
    let network = |name: &str, outputs: usize| {
        let text = format!(
            "graph \"{name}\" (%image: f32[1,1,8,8]) -> (%y) {{\n  meta \"precision\" = \"f32\"\n  const @w: \
             f32[{outputs},64] = random 5\n  %f = reshape %image {{dims=[1,64]}} : f32[1,64] from \"flat\"\n  %y = \
             linear %f, @w : f32[1,{outputs}] from \"fc\"\n}}\n"
        );
        write_flq(&f, name, &text);
    };
    network("features", 2);
    network("accuracy", 1);
    write_npy(&f, "reference_mu", &[2], vec![0.0, 0.0]);
    write_npy(&f, "reference_sigma", &[2, 2], vec![1.0, 0.0, 0.0, 1.0]);

    let call = "score {}/programs/euler_4.flp --scoring {} --samples 12 --json";
    let one = flowlet(&f, &format!("{call} --threads 1")).ok();
    assert_eq!(one.stdout, flowlet(&f, &format!("{call} --threads 3")).ok().stdout);
    let json = one.json();
    assert!(json["passes"] == 8 && json["bit_exact"] == true && json["scores"]["f32"].is_null(), "{json}");
    assert!(json["scores"]["int8"]["fd"].is_number() && json["scores"]["int8"]["accuracy"] == 1.0, "{json}");
    // The classifier knows one label, so these are the seeds and labels of this run.
    let ran = flowlet(&f, "program run {}/programs/euler_4.flp --seed 0 --count 12 --label 0 --json").ok().json();
    assert_eq!(ran["digest"], json["digest"]);

    // The model.toml that names the networks lies above the program.
    flowlet(&f, "score {}/programs/euler_4.flp --scoring {} --samples 12 --write-reference {}/own.npz").ok();
    std::fs::write(f.join("model.toml"), "[scoring]\nfeatures = \"features.flq\"\nreference = \"own.npz\"\n").unwrap();
    let own = flowlet(&f, "score {}/programs/euler_4.flp --samples 12 --json").ok().json();
    assert!(own["scores"]["int8"]["precision"] == 1.0, "{own}");

    flowlet(&f, "score {}/programs/inpaint_8.flp --scoring {} --samples 12").refused(&["inpaint_8", "noise alone"]);
    flowlet(&f, &format!("{call} --precision f32")).refused(&["int8 only", "--precision f32"]);
    flowlet(&f, &format!("{call} --noise x")).refused(&["--noise", "no effect"]);
    flowlet(&f, "score {}/model.toml --scoring {} --samples 12").refused(&["--program"]);
    flowlet(&f, "score {}/features.flq --program p --scoring {} --samples 12").refused(&["--program", "model.toml"]);
}

/// The features of these networks are the four numbers of a picture.
#[test]
fn score_of_pictures_in_a_file() {
    let f = folder("score-file");
    let network = "graph \"flat\" (%image: f32[1,1,2,2]) -> (%y) {\n  meta \"precision\" = \"f32\"\n  %y = reshape \
                   %image {dims=[1,4]} : f32[1,4] from \"flat\"\n}\n";
    write_flq(&f, "net", network);
    let pictures = |shift: f32| (0..40u32).map(|i| (i * i % 37) as f32 / 80.0 + shift).collect::<Vec<f32>>();
    write_npy(&f, "real", &[10, 1, 2, 2], pictures(0.0));
    write_npy(&f, "moved", &[10, 1, 2, 2], pictures(0.25));
    flowlet(&f, "score --samples {}/real.npy --features {}/net.flq --write-reference {}/real.npz").ok();
    let call = "score --features {}/net.flq --reference {}/real.npz --json --samples";
    let same = flowlet(&f, &format!("{call} {{}}/real.npy")).ok().json();
    let of_same = &same["scores"]["pictures"];
    assert!(of_same["fd"].as_f64().unwrap().abs() < 1e-9, "{same}");
    assert_eq!((&of_same["precision"], &of_same["recall"]), (&serde_json::json!(1.0), &serde_json::json!(1.0)));
    assert!(of_same["accuracy"].is_null() && same["bit_exact"] == false, "{same}");
    // Only the mean moves: four features by 1/4 each.
    let moved = flowlet(&f, &format!("{call} {{}}/moved.npy --against {{}}/real.npy")).ok().json();
    assert!((moved["scores"]["pictures"]["fd"].as_f64().unwrap() - 0.25).abs() < 1e-6, "{moved}");
    assert!((moved["scores"]["pictures"]["psnr_median_db"].as_f64().unwrap() - 12.04).abs() < 0.01, "{moved}");

    write_npy(&f, "labels", &[10], (0..10).map(|i| if i < 4 { 3.0 } else { 0.0 }).collect());
    let judged = format!("{call} {{}}/real.npy --accuracy {{}}/net.flq --labels {{}}/labels.npy");
    assert!(flowlet(&f, &judged).ok().json()["scores"]["pictures"]["accuracy"].is_number());
    write_npy(&f, "labels", &[10], vec![4.0; 10]);
    flowlet(&f, &judged).refused(&["labels.npy", "holds 4", "0 to 3"]);
    write_npy(&f, "wide", &[5, 1, 2, 4], pictures(0.0));
    flowlet(&f, &format!("{call} {{}}/wide.npy")).refused(&["[5, 1, 2, 4]", "[N, 1, 2, 2]"]);
    write_npy(&f, "nan", &[10, 1, 2, 2], pictures(f32::NAN));
    flowlet(&f, &format!("{call} {{}}/nan.npy")).refused(&["picture 0, element 0 is NaN"]);
    flowlet(&f, &format!("{call} {{}}/real.npy --draws 2")).refused(&["--draws", "one draw"]);
    flowlet(&f, &format!("{call} 7")).refused(&["nothing to score"]);
    flowlet(&f, "score --samples {}/real.npy --features {}/net.flq").refused(&["--reference", "--write-reference"]);
    flowlet(&f, "score --samples {}/real.npy").refused(&["--scoring DIR", "--features"]);
}

#[test]
fn values_that_no_input_takes() {
    let f = folder("values");
    quantised(&f);
    write_flq(&f, "m", PICTURE);
    write_npy(
        &f,
        "noise",
        &[1, 1, 6, 6],
        wave(36).into_iter().enumerate().map(|(i, v)| if i == 7 { f32::NAN } else { v }).collect(),
    );
    for model in ["q", "m"] {
        flowlet(&f, &format!("run {{}}/{model}.flq --input noise={{}}/noise.npy --label 0"))
            .refused(&["--input noise", "element 7 is NaN"]);
        flowlet(&f, &format!("run {{}}/{model}.flq --seed 1 --label 3")).refused(&[
            "--label 3",
            "0 to 2",
            "shoe, shirt, bag",
        ]);
        flowlet(&f, &format!("run {{}}/{model}.flq --seed 1 --label boat")).refused(&["boat", "shoe, shirt, bag"]);
        flowlet(&f, &format!("run {{}}/{model}.flq")).refused(&["'noise' reads noise", "--seed"]);
    }
    write_npy(&f, "label", &[2], vec![0.0, 7.0]);
    flowlet(&f, "run {}/q.flq --seed 1 --input label={}/label.npy").refused(&["holds 7", "0 to 2"]);
    write_npy(&f, "label", &[1], vec![0.5]);
    flowlet(&f, "run {}/q.flq --seed 1 --input label={}/label.npy").refused(&["fractions"]);
    write_npy(&f, "noise", &[6, 6], wave(36));
    flowlet(&f, "run {}/q.flq --input noise={}/noise.npy --label 0").refused(&[
        "[6, 6]",
        "[1, 1, 6, 6]",
        "[samples, 1, 6, 6]",
    ]);
    std::fs::write(f.join("noise.npy"), "no array").unwrap();
    flowlet(&f, "run {}/q.flq --input noise={}/noise.npy --label 0").refused(&["not a .npy file", "numpy.save"]);
    flowlet(&f, "run {}/q.flq --seed 1 --input other={}/noise.npy").refused(&["no such input", "noise, label"]);
}

#[test]
fn options_that_do_not_apply() {
    let f = folder("options");
    quantised(&f);
    write_flq(&f, "p", POLICY);
    flowlet(&f, "run {}/q.flq --seed 1 --set t=0").refused(&["already folded", "--set"]);
    flowlet(&f, "run {}/q.flq --seed 1 --precision f32").refused(&["int8 only", "--precision f32"]);
    flowlet(&f, "run {}/p.flq --seed 1").refused(&["'obs' has no value", "--input obs"]);
    flowlet(&f, "run {}/p.flq --precision int8").refused(&["'obs' does not read noise", "--calibrate DIR"]);
    flowlet(&f, "run {}/q.flq --seed one").refused(&["--seed"]);
    flowlet(&f, "run {}/q.flq --seed 1 --shape x=0x3").refused(&["1x3x32x32"]);
    write_npy(&f, "obs", &[1, 4], wave(4));
    flowlet(&f, "run {}/p.flq --input obs={}/obs.npy --out {}/sheet.png").refused(&["is no picture", "--out DIR"]);
    flowlet(&f, "run {}/p.flq --input obs={}/obs.npy --label 1").refused(&["--label"]);
}

#[test]
fn damaged_files() {
    let f = folder("damaged");
    quantised(&f);
    let good = std::fs::read(f.join("q.flq")).unwrap();
    let refuse = |bytes: &[u8], words: &[&str]| {
        std::fs::write(f.join("bad.flq"), bytes).unwrap();
        flowlet(&f, "run {}/bad.flq --seed 1").refused(words);
    };
    refuse(&good[..good.len() / 2], &["damaged", "announces"]);
    refuse(b"", &["not a .flq", "flowlet quantize"]);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    refuse(&flipped, &["checksum"]);
    let mut newer = good.clone();
    newer[3] = 9;
    refuse(&newer, &["format version 9", "quantize the model again"]);
    flowlet(&f, "run {}/nothing.flq --seed 1").refused(&["cannot read", "nothing.flq"]);
}

#[test]
fn a_slow_input_gets_an_entry_point_of_its_own() {
    let f = folder("slow");
    let text = r#"graph "camera" (%image: f32[1,2,4,4], %noise: f32[1,3,1,1]) -> (%action) {
  meta "precision" = "f32"
  meta "noise" = "noise"
  const @w1: f32[3,2,4,4] = random 1
  const @w2: f32[3,3,1,1] = random 2
  %seen = conv %image, @w1 : f32[1,3,1,1] from "eye"
  %sum = add %seen, %noise : f32[1,3,1,1] from "sum"
  %action = conv %sum, @w2 : f32[1,3,1,1] from "head"
}
"#;
    write_flq(&f, "c", text);
    write_npy(&f, "image", &[4, 2, 4, 4], wave(128));
    write_npy(&f, "noise", &[4, 3, 1, 1], wave(12));
    let told = flowlet(&f, "quantize {}/c.flq --calibrate {} --slow image -o {}/c.flp --json").ok().json();
    assert_eq!(told["held"][0], "seen (3 B)");
    assert_eq!((&told["entries"][0]["name"], &told["entries"][0]["macs"]), (&"encode".into(), &96.into()));
    let shown = flowlet(&f, "program show {}/c.flp").ok().stdout;
    assert!(shown.contains("encode") && shown.contains("act"), "{shown}");
    let call = "quantize {}/c.flq --calibrate {}";
    flowlet(&f, &format!("{call} --slow image -o {{}}/c2.flq")).refused(&["--slow", "-o FILE.flp"]);
    flowlet(&f, &format!("{call} -o {{}}/c2.flp")).refused(&["encode", "--slow NAME"]);
    flowlet(&f, &format!("{call} --slow camera -o {{}}/c2.flp")).refused(&["'camera'", "image, noise"]);
    flowlet(&f, &format!("{call} --slow noise -o {{}}/c2.flp")).refused(&["noise", "'eye'"]);
}

#[test]
fn packs_share_the_weights() {
    let f = folder("packs");
    let net = |factors: &str| {
        format!(
            r#"graph "net" (%z: f32[1,8,4,4]) -> (%y) {{
  meta "precision" = "f32"
  meta "noise" = "z"
  const @w1: f32[8,8,3,3] = random 1
  const @a: f32[8] = {factors}
  const @d: f32[8] = splat 0.5
  const @w2: f32[2,8,3,3] = random 2
  %c = conv %z, @w1 {{pad=[1,1,1,1]}} : f32[1,8,4,4] from "first"
  %n = affine %c, @a, @d : f32[1,8,4,4] from "norm"
  %s = silu %n : f32[1,8,4,4] from "act"
  %y = conv %s, @w2 {{pad=[1,1,1,1]}} : f32[1,2,4,4] from "last"
}}
"#
        )
    };
    write_flq(&f, "day", &net("[1.0, 2.0, 0.5, 0.25, 1.0, 1.5, 0.75, 3.0]"));
    write_flq(&f, "night", &net("[0.5, 1.0, 2.5, 0.75, 2.0, 0.5, 1.75, 1.0]"));
    write_flq(&f, "other", &net("[0.5, 1.0, 2.5, 0.75, 2.0, 0.5, 1.75, 1.0]").replace("random 2", "random 3"));
    let call = "quantize {}/day.flq --calibrate 8 -o {}/m.flp --json --pack";
    let told = flowlet(&f, &format!("{call} night={{}}/night.flq")).ok().json();
    let own = |i: usize| told["packs"][i]["own_bytes"].as_u64().unwrap();
    assert_eq!(told["packs"][1]["name"], "night");
    assert!(own(1) > 0 && own(1) * 2 < own(0), "{told}");
    flowlet(&f, &format!("{call} other={{}}/other.flq")).refused(&["other", "node 'last'", "positive factor"]);
    flowlet(&f, &format!("{call} night={{}}/night.flq --slow z")).refused(&["--slow"]);
    flowlet(&f, "quantize {}/day.flq -o {}/x.flq --pack night={}/night.flq").refused(&["--pack", "-o FILE.flp"]);
}

#[test]
fn every_help_teaches_with_an_example() {
    let f = folder("help");
    for command in ["quantize", "build", "run", "verify", "explain", "bench", "score"] {
        let help = flowlet(&f, &format!("{command} --help")).ok().stdout;
        assert!(help.contains(&format!("  flowlet {command} ")), "{help}");
        assert!(help.contains("--json"), "{help}");
    }
}

#[cfg(not(feature = "onnx"))]
#[test]
fn without_the_importer_an_onnx_file_says_how_to_get_it() {
    let f = folder("no-importer");
    std::fs::write(f.join("m.onnx"), [8, 7]).unwrap();
    flowlet(&f, "run {}/m.onnx --seed 1").refused(&["without the importer", "--features onnx"]);
}
