//! Choices of int8 numbers, budgets and frozen norms: each does what it is for, and refuses what it cannot do.
#![allow(clippy::unwrap_used)]

use flowlet_compiler::ir::{Graph, Op, Tensor, parse};
use flowlet_compiler::quantize::{
    Calibration, Measured, Quantizer, Ranges, Reference, Settings, freeze_norms, measure, search,
};

/// Two layers whose inputs are correlated: upsampled noise looks alike from pixel to pixel.
const NET: &str = r#"graph "net" (%z: f32[1,2,4,4]) -> (%y) {
  meta "noise" = "z"
  const @w0: f32[8,2,3,3] = random 1
  const @w1: f32[8,8,3,3] = random 2
  const @w2: f32[2,8,3,3] = random 3
  %u = upsample %z {factor=2} : f32[1,2,8,8] from "up"
  %a = conv %u, @w0 {pad=[1,1,1,1]} : f32[1,8,8,8] from "first"
  %s = silu %a : f32[1,8,8,8] from "act"
  %b = conv %s, @w1 {pad=[1,1,1,1]} : f32[1,8,8,8] from "second"
  %t = silu %b : f32[1,8,8,8] from "act2"
  %y = conv %t, @w2 {pad=[1,1,1,1]} : f32[1,2,8,8] from "last"
}
"#;

fn graph(text: &str) -> Graph {
    parse(text, &[]).unwrap()
}

fn calibrated(graph: &Graph) -> Quantizer {
    let calibration = Calibration::from_noise(graph, 32).unwrap();
    let settings = Settings { fit_weights: true, ..Settings::default() };
    Quantizer::new(graph, &calibration, &settings, &mut |_, _| {}).unwrap()
}

fn held_out(graph: &Graph) -> Vec<Vec<Tensor>> {
    Calibration::held_out(graph, 16).unwrap()
}

fn error(graph: &Graph, settings: &Settings) -> Measured {
    let int8 = calibrated(graph).quantize(settings).unwrap();
    measure(graph, &int8, &held_out(graph), &mut |_, _| {}).unwrap()
}

#[test]
fn every_layer_and_the_output_are_measured() {
    let found = error(&graph(NET), &Settings::default());
    let names: Vec<&str> = found.layers.iter().map(|l| l.tensor.as_str()).collect();
    assert_eq!(names, ["u", "s", "t", "y"]);
    let output = &found.outputs[0];
    assert!(output.worst_db <= output.snr_db && output.snr_db > 20.0, "{found:?}");
    assert!(output.worst_linf >= output.linf && output.linf > 0.0, "{found:?}");
    // The output alone, as the search measures it, is the same number.
    let g = graph(NET);
    let (samples, int8) = (held_out(&g), calibrated(&g).quantize(&Settings::default()).unwrap());
    let reference = Reference::new(&g, &samples, &mut |_, _| {}).unwrap();
    assert_eq!(reference.error(&int8).unwrap().outputs, found.outputs);
    assert_eq!(reference.error(&g).unwrap().outputs[0].snr_db, f64::INFINITY);
}

#[test]
fn fitted_weights_err_less() {
    let plain = error(&graph(NET), &Settings { correct_bias: false, ..Settings::default() });
    let fitted = error(&graph(NET), &Settings { fit_weights: true, correct_bias: false, ..Settings::default() });
    let (plain, fitted) = (plain.outputs[0].snr_db, fitted.outputs[0].snr_db);
    assert!(fitted > plain + 0.3, "{plain} dB became {fitted} dB");
}

/// Weights just below half a step all round down, so that the output is too low by what their inputs sum to.
#[test]
fn a_corrected_bias_takes_the_mean_error_away() {
    let mut g = graph(
        r#"graph "biased" (%z: f32[1,1,8,8]) -> (%y) {
  meta "noise" = "z"
  const @w: f32[1,1,3,3] = [1.27, 0.0149, 0.0149, 0.0149, 0.0149, 0.0149, 0.0149, 0.0149, 0.0149]
  %s = sigmoid %z : f32[1,1,8,8] from "act"
  %y = conv %s, @w : f32[1,1,6,6] from "conv"
}
"#,
    );
    g.set_meta("noise", "z");
    let mean_error = |settings: &Settings| {
        let int8 = calibrated(&g).quantize(settings).unwrap();
        let quant = int8.ty(int8.outputs[0]).quant.unwrap();
        let input = int8.ty(int8.inputs[0]).quant.unwrap();
        let (mut sum, mut count) = (0.0, 0);
        for sample in held_out(&g) {
            let want = flowlet_compiler::interp::run(&g, &sample).unwrap().remove(0);
            let z = sample[0].as_f32().unwrap();
            let codes = z.iter().map(|&x| flowlet_kernels::port::quantise(x, 1.0 / input.scale, 0).unwrap()).collect();
            let got = flowlet_compiler::interp::run(&int8, &[Tensor::s8(&sample[0].dims, codes)]).unwrap().remove(0);
            for (w, q) in want.as_f32().unwrap().iter().zip(got.as_s8().unwrap()) {
                sum += f64::from(w - flowlet_kernels::port::dequantise(*q, quant.scale, quant.zero_point));
                count += 1;
            }
        }
        sum / f64::from(count)
    };
    let plain = mean_error(&Settings { correct_bias: false, ..Settings::default() });
    let corrected = mean_error(&Settings::default());
    assert!(plain > 0.01, "{plain}");
    assert!(corrected.abs() < 0.2 * plain, "{plain} became {corrected}");
}

#[test]
fn the_default_settings_leave_no_trace_and_others_are_named() {
    let quantizer = calibrated(&graph(NET));
    assert_eq!(quantizer.quantize(&Settings::default()).unwrap().meta("quantisation"), None);
    let settings =
        Settings { ranges: Ranges::Entropy, tensors: vec![("s".to_owned(), Ranges::MinMax)], ..Settings::default() };
    let named = quantizer.quantize(&settings).unwrap();
    assert_eq!(named.meta("quantisation"), Some("entropy ranges (s: min-max)"));
}

/// Share of a budget in dB.
fn share(measured: &Measured, db: f64) -> f64 {
    10f64.powf((db - measured.outputs[0].snr_db) / 10.0)
}

#[test]
fn the_search_stops_at_the_first_settings_inside_and_never_pretends() {
    let g = graph(NET);
    let (quantizer, samples) = (calibrated(&g), held_out(&g));
    let reference = Reference::new(&g, &samples, &mut |_, _| {}).unwrap();
    let order: Vec<String> = quantizer.tensors().into_iter().map(str::to_owned).collect();
    let plain = error(&g, &Settings::default()).outputs[0].snr_db;
    let run = |db: f64| {
        let mut used = |trial: &Graph| Ok(share(&reference.error(trial)?, db));
        search(&quantizer, &order, &mut used, &mut |_, _| {}).unwrap()
    };
    let (_, trials) = run(plain - 1.0);
    assert_eq!(trials.len(), 1);
    assert_eq!(trials[0].settings, Settings::default());
    let (graph, trials) = run(plain + 0.1);
    assert!(trials.len() > 1 && trials.last().unwrap().used <= 1.0, "{trials:?}");
    assert!(reference.error(&graph).unwrap().outputs[0].snr_db >= plain + 0.1);
    let (graph, trials) = run(200.0);
    let best = trials.iter().map(|t| t.used).fold(f64::INFINITY, f64::min);
    assert!(best > 1.0);
    assert!((share(&reference.error(&graph).unwrap(), 200.0) / best - 1.0).abs() < 1e-9, "the graph is not the best");
}

/// Over 32x32 pixels of noise the statistics of a group hardly vary; with a gain for each sample they do.
fn normed(gain: &str) -> String {
    format!(
        r#"graph "normed" (%z: f32[1,2,32,32]) -> (%y) {{
  meta "noise" = "z"
  const @w0: f32[4,2,3,3] = random 1
  const @w1: f32[2,4,3,3] = random 2
  const @gamma: f32[4] = random 3
  const @beta: f32[4] = random 4
  {gain}
  %n = norm %a, @gamma, @beta {{kind=group, axis=1, groups=2, eps=1e-5}} : f32[1,4,32,32] from "norm"
  %s = silu %n : f32[1,4,32,32] from "act"
  %y = conv %s, @w1 {{pad=[1,1,1,1]}} : f32[1,2,32,32] from "last"
}}
"#
    )
}

const STEADY: &str = r#"%a = conv %z, @w0 {pad=[1,1,1,1]} : f32[1,4,32,32] from "first""#;
/// The sample's own first value scales all of it.
const VARYING: &str = r#"%c = conv %z, @w0 {pad=[1,1,1,1]} : f32[1,4,32,32] from "first"
  %p = max_pool %c {kernel=[4,4], stride=[32,32]} : f32[1,4,1,1] from "loudness"
  %q = square %p : f32[1,4,1,1] from "square"
  %a = mul %c, %q : f32[1,4,32,32] from "gain""#;

fn frozen(text: &str, db: f64) -> (Graph, Vec<flowlet_compiler::quantize::Freeze>, f64) {
    let g = graph(text);
    let (calibration, samples) = (Calibration::from_noise(&g, 32).unwrap(), held_out(&g));
    let reference = Reference::new(&g, &samples, &mut |_, _| {}).unwrap();
    let mut used = |trial: &Graph| Ok(share(&reference.error(trial)?, db));
    let (frozen, list) = freeze_norms(&g, &calibration, &mut used, &mut |_, _| {}).unwrap();
    let after = reference.error(&frozen).unwrap().outputs[0].snr_db;
    (frozen, list, after)
}

#[test]
fn a_norm_whose_statistics_hardly_vary_becomes_weights() {
    let (graph, list, after) = frozen(&normed(STEADY), 20.0);
    assert!(list.len() == 1 && list[0].frozen, "{list:?}");
    assert!(!graph.nodes.iter().any(|n| matches!(n.op, Op::Norm { .. } | Op::Affine)), "it did not fold");
    assert!(after >= 20.0, "{after} dB");
    assert!(graph.remarks.iter().any(|r| r.pass == "freeze_norm" && r.message.starts_with("its statistics became")));
}

#[test]
fn a_norm_is_kept_where_freezing_it_costs_more_than_the_budget() {
    let (_, list, _) = frozen(&normed(STEADY), 80.0);
    assert!(!list[0].frozen && list[0].used > 1.0, "{list:?}");
    let (graph, list, after) = frozen(&normed(VARYING), 20.0);
    assert!(!list[0].frozen && list[0].fit_db < 20.0, "{list:?}");
    assert!(graph.nodes.iter().any(|n| matches!(n.op, Op::Norm { .. })));
    assert_eq!(after, f64::INFINITY);
    assert!(graph.remarks.iter().any(|r| r.pass == "freeze_norm" && r.message.starts_with("kept")));
}
