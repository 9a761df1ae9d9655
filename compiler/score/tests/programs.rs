//! Samplers, inversion, steering and recorded noise on Gaussian data, where every answer is known.
#![allow(clippy::unwrap_used)]

use flowlet::RunError;
use flowlet::kernels::noise::element_f32;
use flowlet::program::Runner;
use flowlet_compiler::compile;
use flowlet_compiler::ir::{self, Graph, Quant};
use flowlet_compiler::passes::{Options, Schedule};
use flowlet_compiler::program::gaussian::Gaussian;
use flowlet_compiler::program::samplers::{
    Field, Guidance, Network, Prediction, Sampled, Sampler, generate, stream, trajectory, uniform,
};
use flowlet_compiler::program::steer::{
    Cache, Chain, Critic, Observation, Strength, crank_nicolson, edit, flowchef, invert,
};
use flowlet_compiler::program::{
    Builder, Code, Image, LaneKind, Program, Row, bellman::Costs, cycle, derived, file, float, lower, text,
};
use flowlet_compiler::target::Target;
use flowlet_score::{HostNets, ProgramEngine};

fn with<R>(sampled: &Sampled, f: impl FnOnce(&mut Runner<'_, '_>, &mut HostNets<'_, '_>) -> Result<R, RunError>) -> R {
    let lowered = float(&sampled.program, &[]).unwrap();
    ProgramEngine::float(&lowered, &[]).with(f).unwrap()
}

fn sample(program: &Sampled, noise: &[f32]) -> Vec<f32> {
    with(program, |runner, nets| {
        runner.write("noise", noise)?;
        runner.run(nets, "generate", 5)?;
        Ok(runner.read("sample")?.to_vec())
    })
}

fn noise(seed: u64, n: usize) -> Vec<f32> {
    (0..n).map(|i| element_f32(seed, 0, i as u32)).collect()
}

fn rms(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

/// A line that `cargo xtask programs` reads.
fn row(program: &str, evaluations: usize, measured: f64, expected: &str) {
    println!("row {program} | {evaluations} | {measured:.3e} | {expected}");
}

const N: usize = 16;

fn gaussian() -> Gaussian {
    Gaussian::random(N, 11, 0.05)
}

/// A data sample.
fn draw(g: &Gaussian, seed: u64) -> Vec<f32> {
    let (l, z) = (g.factor(), noise(seed, g.n));
    (0..g.n).map(|i| (0..=i).map(|k| l[i * g.n + k] * f64::from(z[k])).sum::<f64>() as f32).collect()
}

fn round_trip(sampler: Sampler, steps: usize) -> f64 {
    let g = gaussian();
    let program = invert("trip", g.field(), sampler, &uniform(steps)).unwrap();
    let miss = (0..50).map(|seed| {
        let data = draw(&g, 100 + seed);
        let back = with(&program, |runner, nets| {
            runner.write("data", &data)?;
            runner.run(nets, "invert", 0)?;
            runner.run(nets, "edit", 0)?;
            Ok(runner.read("sample")?.to_vec())
        });
        rms(&data, &back).powi(2)
    });
    (miss.sum::<f64>() / 50.0).sqrt()
}

/// Round trips at 8 evaluations each way: the figures of others.md row 1 are 0.017 and 0.528.
#[test]
fn midpoint_returns_where_euler_does_not() {
    let (midpoint, euler) = (round_trip(Sampler::Midpoint, 4), round_trip(Sampler::Euler, 8));
    row("round trip, midpoint", 8, midpoint, "at most 0.02");
    row("round trip, Euler", 8, euler, "about 0.53 (others.md row 1)");
    assert!(midpoint <= 0.02, "{midpoint}");
    assert!(euler >= 0.2, "{euler}");
}

#[test]
fn rf_solver_is_the_midpoint_rule() {
    let g = gaussian();
    let z = noise(1, N);
    let [a, b] = [Sampler::Midpoint, Sampler::RfSolver]
        .map(|sampler| sample(&generate("s", g.field(), sampler, &uniform(5)).unwrap(), &z));
    assert!(rms(&a, &b) < 1e-5, "{}", rms(&a, &b));
    assert_ne!(a, sample(&generate("s", g.field(), Sampler::Euler, &uniform(5)).unwrap(), &z));
}

/// Every sampler reaches the data's covariance with many steps.
#[test]
fn samplers_converge_to_the_distribution() {
    let g = Gaussian { n: 2, covariance: vec![1.0, 0.8, 0.8, 2.0] };
    for sampler in [Sampler::Euler, Sampler::Heun, Sampler::Midpoint, Sampler::Stochastic { eta: 1.0 }] {
        let program = generate("s", g.field(), sampler, &uniform(60)).unwrap();
        let lowered = float(&program.program, &[]).unwrap();
        let engine = ProgramEngine::float(&lowered, &[]);
        let mut sums = [0.0f64; 3];
        let count = 4000;
        for seed in 0..count {
            let x = engine
                .with(|runner, nets| {
                    runner.fill_noise("noise", seed, 0)?;
                    runner.run(nets, "generate", seed)?;
                    Ok(runner.read("sample")?.to_vec())
                })
                .unwrap();
            let (a, b) = (f64::from(x[0]), f64::from(x[1]));
            sums[0] += a * a;
            sums[1] += a * b;
            sums[2] += b * b;
        }
        for (sum, wanted) in sums.iter().zip([1.0, 0.8, 2.0]) {
            let found = sum / count as f64;
            assert!((found - wanted).abs() < 0.12 * wanted, "{sampler:?}: {found} for {wanted}");
        }
    }
}

/// Re-anchoring on the first noise: one step is Euler's; two are the data estimate of the first, mixed with the noise
/// again, then its data estimate.
#[test]
fn reanchoring_returns_to_the_first_noise() {
    let g = Gaussian { n: 1, covariance: vec![4.0] };
    let [one, euler] =
        [Sampler::Reanchor, Sampler::Euler].map(|s| sample(&generate("s", g.field(), s, &uniform(1)).unwrap(), &[0.7]));
    assert_eq!(one, euler);
    let z = 0.7f64;
    let half = 0.5 * (z + g.velocity(0.0)[0] * z) + 0.5 * z;
    let wanted = half + 0.5 * g.velocity(0.5)[0] * half;
    let two = sample(&generate("s", g.field(), Sampler::Reanchor, &uniform(2)).unwrap(), &[0.7]);
    assert!((f64::from(two[0]) - wanted).abs() < 1e-6, "{two:?} {wanted}");
}

/// FlowChef with half of the coordinates observed reaches the exact posterior (others.md row 2: spread 0.805 of 0.815, and
/// 0.001 off on the observed half, at 50 steps).
#[test]
fn flowchef_reaches_the_posterior() {
    let g = gaussian();
    let seen: Vec<usize> = (0..N / 2).collect();
    let mask: Vec<f32> = (0..N).map(|i| if i < N / 2 { 1.0 } else { 0.0 }).collect();
    let steered = flowchef("inpaint", g.field(), &uniform(50), &Observation::Masked, Strength::Constant(1.0)).unwrap();
    let (mut hidden, mut observed, mut deviation, mut unsteered) = (0.0, 0.0, 0.0, 0.0);
    let plain = generate("plain", g.field(), Sampler::Euler, &uniform(50)).unwrap();
    let runs = 300;
    for seed in 0..runs {
        let truth = draw(&g, 5000 + seed);
        let known: Vec<(usize, f64)> = seen.iter().map(|&i| (i, f64::from(truth[i]))).collect();
        let (mean, spread) = g.posterior(&known);
        let z = noise(seed, N);
        let x = with(&steered, |runner, nets| {
            runner.write("noise", &z)?;
            runner.write("mask", &mask)?;
            runner.write("observed", &truth)?;
            runner.run(nets, "generate", 0)?;
            Ok(runner.read("sample")?.to_vec())
        });
        let off = |x: &[f32]| {
            let miss = x[N / 2..].iter().zip(&mean).map(|(x, m)| (f64::from(*x) - m).powi(2));
            miss.sum::<f64>() / (N / 2) as f64
        };
        hidden += off(&x);
        unsteered += off(&sample(&plain, &z));
        observed += rms(&x[..N / 2], &truth[..N / 2]).powi(2);
        deviation += spread.iter().map(|s| s * s).sum::<f64>() / (N / 2) as f64;
    }
    let root = |sum: f64| (sum / runs as f64).sqrt();
    let (hidden, observed, deviation, unsteered) = (root(hidden), root(observed), root(deviation), root(unsteered));
    row("FlowChef, hidden half", 50, hidden, &format!("posterior {deviation:.3}; unsteered {unsteered:.3}"));
    row("FlowChef, observed half", 50, observed, "0.001 (others.md row 2)");
    assert!((hidden / deviation - 1.0).abs() < 0.1, "{hidden} {deviation}");
    assert!(observed < 0.01 && unsteered > 1.3 * hidden, "{observed} {unsteered}");
}

/// Way-points of a trajectory: a Gaussian process over 16 times, four of which are clamped. They are met, and the rest lies
/// where the exact posterior has it, as smooth as the process itself.
#[test]
fn clamped_way_points_are_met() {
    let near = |i: usize| (-((i / N).abs_diff(i % N) as f64).powi(2) / 8.0).exp();
    let g = Gaussian {
        n: N,
        covariance: (0..N * N).map(|i| near(i) + if i.is_multiple_of(N + 1) { 0.05 } else { 0.0 }).collect(),
    };
    let points = [0, 5, 10, 15];
    let mask: Vec<f32> = (0..N).map(|i| f32::from(u8::from(points.contains(&i)))).collect();
    let steps = 50;
    let program = flowchef("way", g.field(), &uniform(steps), &Observation::Masked, Strength::Constant(1.0)).unwrap();
    let bend = |x: &dyn Fn(usize) -> f64| (1..N - 1).map(|i| (x(i - 1) - 2.0 * x(i) + x(i + 1)).powi(2)).sum::<f64>();
    let (mut off, mut met, mut deviation, mut rough, mut smooth) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let runs = 300;
    for seed in 0..runs {
        let truth = draw(&g, 9000 + seed);
        let known: Vec<(usize, f64)> = points.iter().map(|&i| (i, f64::from(truth[i]))).collect();
        let (mean, spread) = g.posterior(&known);
        let x = with(&program, |runner, nets| {
            runner.write("noise", &noise(seed, N))?;
            runner.write("mask", &mask)?;
            runner.write("observed", &truth)?;
            runner.run(nets, "generate", 0)?;
            Ok(runner.read("sample")?.to_vec())
        });
        met += points.iter().map(|&i| f64::from(x[i] - truth[i]).powi(2)).sum::<f64>() / points.len() as f64;
        let free = (0..N).filter(|i| !points.contains(i));
        off += free.zip(&mean).map(|(i, m)| (f64::from(x[i]) - m).powi(2)).sum::<f64>() / mean.len() as f64;
        deviation += spread.iter().map(|s| s * s).sum::<f64>() / mean.len() as f64;
        rough += bend(&|i| f64::from(x[i]));
        smooth += bend(&|i| f64::from(truth[i]));
    }
    let root = |sum: f64| (sum / runs as f64).sqrt();
    let (off, met, deviation, bend) = (root(off), root(met), root(deviation), root(rough) / root(smooth));
    row("clamped way-points", steps, met, "at most 0.01");
    row("the way between them", steps, off, &format!("posterior {deviation:.3}"));
    row("its bends, of a free way's", steps, bend, "0.9 to 1.1");
    assert!(met < 0.01 && (off / deviation - 1.0).abs() < 0.15 && (bend - 1.0).abs() < 0.1, "{met} {off} {bend}");
}

/// The record holds everything: decoding with the same network gives the data back, at any noise level.
#[test]
fn the_recorded_noise_reconstructs() {
    let g = gaussian();
    assert!(cycle::translate("cycle", g.field(), None, &uniform(1), 1.0).is_err());
    for (steps, eta) in [(10, 1.0), (10, 0.1), (2, 1.0), (40, 0.5)] {
        let program = cycle::translate("cycle", g.field(), None, &uniform(steps), eta).unwrap();
        let data = draw(&g, 42);
        let back = with(&program, |runner, nets| {
            assert!(matches!(runner.run(nets, "decode", 0), Err(RunError::LaneMissing { .. })));
            runner.write("data", &data)?;
            runner.run(nets, "encode", 3)?;
            runner.run(nets, "decode", 99)?;
            Ok(runner.read("sample")?.to_vec())
        });
        let worst = data.iter().zip(&back).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        row(&format!("DPM-Encoder, eta {eta}"), steps, f64::from(worst), "at most 1e-5");
        assert!(worst <= 1e-5, "{steps} {eta}: {worst}");
    }
}

/// The translation between two Gaussians moves a sample of one to where the other lies.
#[test]
fn another_network_decodes_to_its_own_distribution() {
    let (a, b) = (Gaussian { n: 1, covariance: vec![1.0] }, Gaussian { n: 1, covariance: vec![9.0] });
    let program = cycle::translate("cycle", a.field(), Some(b.field()), &uniform(50), 1.0).unwrap();
    let mut sum = 0.0;
    for seed in 0..2000 {
        let data = draw(&a, seed);
        let x = with(&program, |runner, nets| {
            runner.write("data", &data)?;
            runner.run(nets, "encode", seed)?;
            runner.run(nets, "decode", 0)?;
            Ok(runner.read("sample")?[0])
        });
        sum += f64::from(x).powi(2);
    }
    let found = (sum / 2000.0).sqrt();
    assert!((found - 3.0).abs() < 0.3, "{found}");
}

/// The chain's target is N(z; 0, I) exp(-lambda |A G(z) - y|^2): for a linear map it is Gaussian with known moments.
#[test]
fn crank_nicolson_samples_the_guided_density() {
    let g = Gaussian { n: 2, covariance: vec![1.0, 0.0, 0.0, 1.0] };
    // One Euler step of unit Gaussian data is x = z + (-z) = 0; two steps give x = a z with a known a.
    let times = uniform(2);
    let plain = generate("plain", g.field(), Sampler::Euler, &times).unwrap();
    let a = f64::from(sample(&plain, &[1.0, 0.0])[0]);
    let (lambda, y) = (4.0, 0.5);
    let chain = Chain { lambda, beta: 0.6, rounds: 4000 };
    let program = crank_nicolson("chain", g.field(), &times, &Observation::Masked, chain).unwrap();
    // Precision of z0: 1 + 2 lambda a^2; mean 2 lambda a y / precision. z1 is not observed.
    let precision = 1.0 + 2.0 * lambda * a * a;
    let (mut mean, mut free, calls) = (0.0, 0.0, 60);
    with(&program, |runner, nets| {
        runner.write("noise", &[0.1, 0.2])?;
        runner.write("mask", &[1.0, 0.0])?;
        runner.write("observed", &[y as f32, 0.0])?;
        assert!(matches!(runner.run(nets, "generate", 0), Err(RunError::LaneMissing { .. })));
        runner.run(nets, "start", 0)?;
        for call in 0..calls {
            // Every call draws its own proposals and continues the chain.
            runner.run(nets, "generate", call)?;
            let z = runner.read("latent")?;
            mean += f64::from(z[0]) / calls as f64;
            free += f64::from(z[1]).powi(2) / calls as f64;
        }
        Ok(())
    });
    let wanted = 2.0 * lambda * a * y / precision;
    let error = (1.0 / precision / calls as f64).sqrt();
    assert!((mean - wanted).abs() < 4.0 * error, "{mean} for {wanted} (error {error})");
    assert!((free - 1.0).abs() < 0.8, "{free}");
}

#[test]
fn carried_state_survives_and_resets() {
    let g = gaussian();
    let program = stream("stream", g.field(), &uniform(4), 0.8).unwrap();
    with(&program, |runner, nets| {
        let once = |runner: &mut Runner<'_, '_>, nets: &mut HostNets<'_, '_>| {
            runner.fill_noise("noise", 1, 0)?;
            runner.run(nets, "generate", 0)?;
            Ok::<_, RunError>(runner.read("sample")?.to_vec())
        };
        let first = once(runner, nets)?;
        let second = once(runner, nets)?;
        runner.reset();
        let again = once(runner, nets)?;
        assert_ne!(first, second);
        assert_eq!(first, again);
        Ok(())
    });
}

/// The Bellman table on recorded runs is never worse than equal steps, by its own cost.
#[test]
fn bellman_schedule_of_recorded_runs() {
    let g = Gaussian { n: 4, covariance: (0..16).map(|i| if i % 5 == 0 { 0.01 } else { 0.0 }).collect() };
    let times = uniform(24);
    let program = trajectory("trace", g.field(), &times).unwrap();
    let mut costs = Costs::new(times.len());
    for seed in 0..8 {
        let (states, velocities) = with(&program, |runner, nets| {
            runner.fill_noise("noise", seed, 0)?;
            runner.run(nets, "generate", 0)?;
            Ok((runner.read("states")?.to_vec(), runner.read("velocities")?.to_vec()))
        });
        costs.add(&times, &states, &velocities);
    }
    for steps in [2, 3, 4, 6] {
        let best = costs.schedule(steps).unwrap();
        let even: Vec<usize> = (0..=steps).map(|i| i * 24 / steps).collect();
        assert!(costs.sum(&best) <= costs.sum(&even), "{best:?}");
    }
}

#[test]
fn steering_by_means_and_blur() {
    let image = Image { height: 4, width: 4, channels: 1 };
    let g = gaussian();
    let truth = draw(&g, 9);
    let averaged =
        flowchef("sr", g.field(), &uniform(60), &Observation::Averaged { image, factor: 2 }, Strength::Constant(1.0))
            .unwrap();
    let means: Vec<f32> = (0..4usize)
        .map(|i| {
            let at = |dy: usize, dx: usize| truth[(i / 2 * 2 + dy) * 4 + i % 2 * 2 + dx];
            (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0
        })
        .collect();
    let x = with(&averaged, |runner, nets| {
        runner.fill_noise("noise", 0, 0)?;
        runner.write("observed", &means)?;
        runner.run(nets, "generate", 0)?;
        Ok(runner.read("sample")?.to_vec())
    });
    for i in 0..4 {
        let at = |dy: usize, dx: usize| x[(i / 2 * 2 + dy) * 4 + i % 2 * 2 + dx];
        let mean = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1)) / 4.0;
        assert!((mean - means[i]).abs() < 0.05, "{i}: {mean} for {}", means[i]);
    }
    let blurred = Observation::gaussian_blur(image, 0.8, 1);
    let program = flowchef("deblur", g.field(), &uniform(60), &blurred, Strength::Constant(1.0)).unwrap();
    let y = with(&program, |runner, nets| {
        runner.fill_noise("noise", 0, 0)?;
        runner.write("observed", &[0.0; N])?;
        runner.run(nets, "generate", 0)?;
        Ok(runner.read("sample")?.to_vec())
    });
    assert!(y.iter().all(|v| v.is_finite()));
}

#[test]
fn a_program_file_reads_back_and_damage_is_refused() {
    let program = generate("s", gaussian().field(), Sampler::Heun, &uniform(3)).unwrap().program;
    let bytes = file::write(&program, &[]);
    let (read, graphs) = file::read(&bytes).unwrap();
    assert_eq!(read, program);
    assert_eq!((text::print(&read), graphs.len()), (text::print(&program), 0));
    for i in (0..bytes.len()).step_by(7) {
        let mut bad = bytes.clone();
        bad[i] ^= 0x10;
        assert!(file::read(&bad).is_err(), "byte {i}");
    }
    for cut in (0..bytes.len()).step_by(11) {
        assert!(file::read(&bytes[..cut]).is_err(), "cut {cut}");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let refused = |text: &str| text::parse(text).unwrap_err().to_string();
    let head = "program \"p\" labels 0\nbank k[1] = [1.0]\nlane a[2] input \"\"\nlane b[3] output \"\"\nlane s[2] state \"\"\n";
    let entry = |code: &str| format!("{head}entry generate {{\n  repeat 2 {{\n    {code}\n  }}\n}}\n");
    assert!(refused(&entry("b = 1.0*a")).contains("'b' has 3 elements and 'a' has 2"));
    assert!(refused(&entry("b = 1.0*c")).contains("no lane 'c'"));
    assert!(refused(&entry("s = 1.0*a")).contains("lane 'b': it is an output and no entry point writes"));
    assert!(refused(&entry("s = 1.0*a[0+1*r]")).contains("lane 'a' has 1 frames"));
    assert!(refused("program \"p\" labels 0\n").contains("no entry point"));
    assert!(refused(&entry("call net (\"x\" = a) row 0+0*r -> ()")).contains("no network 'net'"));
    let local = format!("{head}lane l[3] local \"\"\nentry generate {{\n  repeat 1 {{\n    b = 1.0*l\n  }}\n}}\n");
    assert!(refused(&local).contains("reads lane 'l', before it writes it"));
    let never = format!("{head}entry generate {{\n  repeat 1 {{\n    a = 1.0*s\n  }}\n}}\n")
        .replace("lane b[3] output \"\"\n", "");
    assert!(
        refused(&never).contains("lane 's': it is carried state and no entry point writes it"),
        "{}",
        refused(&never)
    );
    let base = "net a (\"x\"[2]) -> (\"y\"[2]) rows 4\n";
    let derived = |line: &str| refused(&format!("program \"p\" labels 0\n{base}{line}\n"));
    for (line, sides) in [
        ("net b (\"x\"[2]) -> (\"y\"[2]) rows 3 of a", ["network 'b'", "it has 3 rows and 'a' has 4"]),
        (
            "net b (\"x\"[2]) -> (\"y\"[2]) rows 4 of c",
            ["network 'b'", "derived from 'c', which is no network before it"],
        ),
        ("net b (\"z\"[2]) -> (\"y\"[2]) rows 4 of a", ["input 0 is 'z' of 2", "'a' has 'x' of 2"]),
        ("net b (\"x\"[2]) -> () rows 4 twin of a", ["output 0 is none", "'a' has 'y' of 2"]),
    ] {
        let message = derived(line);
        assert!(sides.iter().all(|side| message.contains(side)), "{line}: {message}");
    }
}

/// A network of isotropic Gaussian data of variance 4, `E[target | x_t] = x_t * part / (4 t^2 + (1 - t)^2)`.
fn isotropic(prediction: Prediction, noise_at_zero: bool, time_scale: f64) -> (Network, Graph) {
    let network = Network {
        name: "net".to_owned(),
        input: "x".to_owned(),
        output: "y".to_owned(),
        len: 2,
        labels: 1,
        noise_at_zero,
        time_scale,
        prediction,
        guidance: None,
        velocity_input: None,
    };
    let part = match (prediction, noise_at_zero) {
        (Prediction::Velocity, true) => "alpha=4.0, beta=-1.0",
        (Prediction::Velocity, false) => "alpha=-4.0",
        (Prediction::Data, _) => "alpha=4.0, beta=0.0",
        (Prediction::Noise, _) => "alpha=0.0",
        (Prediction::Preconditioned, _) => panic!("programs do not know it"),
    };
    let (slope, offset) = if noise_at_zero { (1.0 / time_scale, 0.0) } else { (-1.0 / time_scale, 1.0) };
    let text = format!(
        r#"graph "net" (%x: f32[1,2], %time: f32[1]) -> (%y) {{
  %t = add %time, %time {{alpha={slope:?}, beta=0.0, gamma={offset:?}}} : f32[1] from "t"
  %u = add %t, %t {{alpha=-1.0, beta=0.0, gamma=1.0}} : f32[1] from "u"
  %tt = mul %t, %t : f32[1] from "tt"
  %uu = mul %u, %u : f32[1] from "uu"
  %c = add %tt, %uu {{alpha=4.0}} : f32[1] from "c"
  %part = add %t, %u {{{part}}} : f32[1] from "part"
  %f = div %part, %c : f32[1] from "f"
  %y = mul %x, %f : f32[1,2] from "y"
}}
"#
    );
    (network, ir::parse(&text, &[]).unwrap())
}

/// The velocity, the data and the noise are one prediction: whatever a network gives of it, and whatever its time is, the
/// sampler takes the same way.
#[test]
fn three_predictions_of_one_field_take_one_way() {
    let times: Vec<f64> = (0..=9).map(|i| 0.1 + 0.1 * f64::from(i)).collect();
    let way = |prediction, noise_at_zero, scale| {
        let (network, graph) = isotropic(prediction, noise_at_zero, scale);
        let sampled = generate("s", Field::Network(network), Sampler::Midpoint, &times).unwrap();
        let values = sampled.networks[0].1.iter().map(|&t| t as f32).collect();
        let schedule = Some(Schedule { time: "time".to_owned(), values });
        let graph = compile::optimise(graph, &Options { schedule, ..Options::default() }).unwrap();
        let graphs = [graph];
        let lowered = float(&sampled.program, &graphs).unwrap();
        let run = ProgramEngine::float(&lowered, &graphs).with(|runner, nets| {
            runner.write("noise", &[0.8, -1.3])?;
            runner.run(nets, "generate", 0)?;
            Ok(runner.read("sample")?.to_vec())
        });
        run.unwrap()
    };
    let velocity = way(Prediction::Velocity, true, 1.0);
    let g = Gaussian { n: 2, covariance: vec![4.0, 0.0, 0.0, 4.0] };
    let exact = sample(&generate("s", g.field(), Sampler::Midpoint, &times).unwrap(), &[0.8, -1.3]);
    for (prediction, noise_at_zero, scale) in [
        (Prediction::Velocity, true, 1.0),
        (Prediction::Velocity, false, 1000.0),
        (Prediction::Data, true, 1.0),
        (Prediction::Data, false, 1000.0),
        (Prediction::Noise, true, 1.0),
        (Prediction::Noise, false, 1000.0),
    ] {
        let found = way(prediction, noise_at_zero, scale);
        let off = rms(&found, &exact);
        row(&format!("{prediction:?} prediction, noise at {}", u8::from(!noise_at_zero)), 18, off, "at most 1e-5");
        assert!(off <= 1e-5 && rms(&found, &velocity) <= 1e-5, "{prediction:?} {noise_at_zero}: {found:?} {exact:?}");
    }
    // At the noise itself, an estimate of the noise says nothing.
    let (network, _) = isotropic(Prediction::Noise, true, 1.0);
    let edm = Network { prediction: Prediction::Preconditioned, ..network.clone() };
    let refused = generate("s", Field::Network(network), Sampler::Euler, &uniform(4)).unwrap_err().to_string();
    assert!(refused.contains("network 'net'") && refused.contains("leave that time out"), "{refused}");
    let refused = generate("s", Field::Network(edm), Sampler::Euler, &uniform(4)).unwrap_err().to_string();
    assert!(refused.contains("network 'net'") && refused.contains("edm"), "{refused}");
}

/// The program file of RF-Edit and its networks: `digits`, and what stores and injects its value tensors.
fn rf_edit() -> (Program, Vec<Graph>) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/digits/programs/rfedit_4.flp");
    file::read(&std::fs::read(path).unwrap()).unwrap()
}

/// Lowers a program over int8 networks and calls `f` with its engine.
fn with_plans<R>(program: &Program, graphs: &[Graph], f: impl FnOnce(&ProgramEngine<'_>) -> R) -> R {
    let lowered = lower(program, [0; 32], graphs, &Target::host()).unwrap();
    let plans: Vec<_> = lowered.nets.iter().map(|net| net.plan()).collect();
    let checked = plans.iter().map(|plan| plan.borrow().check().unwrap()).collect();
    f(&ProgramEngine::plans(&lowered, checked))
}

/// Value tensors that a pass is given back are its own, so nothing changes; those of another pass change its velocity.
#[test]
fn injecting_what_a_pass_computed_changes_nothing() {
    let (program, graphs) = rf_edit();
    let mut b = Builder::new("identity");
    let nets: Vec<usize> = program.nets.iter().map(|net| b.net(net.clone())).collect();
    let [x, y] = ["x", "y"].map(|name| b.lane(name, 64, LaneKind::Input, ""));
    let [plain, stored, injected, other] =
        ["plain", "stored", "injected", "other"].map(|name| b.lane(name, 64, LaneKind::Output, ""));
    let held: Vec<_> = program.nets[1].outputs[1..].iter().enumerate().collect();
    let held: Vec<_> = held.iter().map(|(i, (_, len))| b.lane(&format!("v{i}"), *len, LaneKind::Held, "")).collect();
    let values: Vec<_> = held.iter().enumerate().map(|(i, at)| (1 + i, *at)).collect();
    let row = Row { base: 14, step: 0, label: false };
    b.entry("run");
    let mut code = Code::new();
    code.call(nets[0], &[(0, x)], row, &[(0, plain)]);
    code.call(nets[1], &[(0, x)], row, &[vec![(0, stored)], values.clone()].concat());
    code.call(nets[2], &[vec![(0, x)], values.clone()].concat(), row, &[(0, injected)]);
    code.call(nets[1], &[(0, y)], row, &[vec![(0, other)], values.clone()].concat());
    code.call(nets[2], &[vec![(0, x)], values].concat(), row, &[(0, other)]);
    b.block(1, code);
    let identity = b.finish().unwrap();
    with_plans(&identity, &graphs, |engine| {
        engine
            .with(|runner, nets| {
                runner.fill_noise("x", 3, 0)?;
                runner.fill_noise("y", 4, 0)?;
                runner.run(nets, "run", 0)?;
                let plain = runner.read("plain")?.to_vec();
                assert_eq!(runner.read("stored")?, plain);
                assert_eq!(runner.read("injected")?, plain);
                assert_ne!(runner.read("other")?, plain);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn networks_that_do_not_fit_are_refused_by_both_names() {
    let (program, mut graphs) = rf_edit();
    let refused =
        |program: &Program, graphs: &[Graph]| lower(program, [0; 32], graphs, &Target::host()).unwrap_err().to_string();
    let value = program.nets[1].outputs[1].0.clone();
    // Weights once: the derived networks add descriptors, no constants.
    let lowered = lower(&program, [0; 32], &graphs, &Target::host()).unwrap();
    assert!(lowered.nets.iter().all(|net| net.weights == lowered.nets[0].weights));

    let renamed = |net: usize, name: &str| {
        let mut program = program.clone();
        program.nets[net].outputs.last_mut().unwrap().0 = name.to_owned();
        program
    };
    let own = vec![graphs[0].clone()];
    let message = derived(&renamed(1, "blocks.9.attention.value.Add"), own.clone()).unwrap_err().to_string();
    assert!(message.contains("network 'digits_store'") && message.contains("of 'digits' is not there"), "{message}");
    assert!(message.contains("blocks.0.attention.value.Add"), "{message}");
    let message = derived(&program, [own.clone(), own].concat()).unwrap_err().to_string();
    assert!(message.contains("calls no network 'digits'"), "{message}");
    let message = refused(&renamed(0, "speed"), &graphs);
    assert!(message.contains("network 'digits_store'") && message.contains("'digits' has 'speed'"), "{message}");
    let message = refused(&program, &graphs[..2]);
    assert!(
        message.contains("digits_store, digits_inject]") && message.contains("[digits, digits_store]"),
        "{message}"
    );

    let id = graphs[2].find(&value).unwrap();
    let quant = graphs[2].ty(id).quant.unwrap();
    graphs[2].value_mut(id).ty.quant = Some(Quant { scale: 2.0 * quant.scale, ..quant });
    let message = refused(&program, &graphs);
    let sides = [format!("'{value}' of 'digits_store'"), format!("'{value}' of 'digits_inject'")];
    assert!(message.contains("lane 'cache_0'") && sides.iter().all(|side| message.contains(side)), "{message}");
}

#[test]
fn entry_points_and_lanes_that_are_missing_are_named() {
    let program = invert("trip", gaussian().field(), Sampler::Euler, &uniform(2)).unwrap();
    with(&program, |runner, nets| {
        let refused = runner.run(nets, "remix", 0).unwrap_err().to_string();
        assert!(refused.contains("\"trip\"") && refused.contains("\"remix\""), "{refused}");
        let refused = runner.run(nets, "edit", 0).unwrap_err().to_string();
        assert!(refused.contains("\"edit\"") && refused.contains("\"latent\""), "{refused}");
        Ok(())
    });
    let cached = Cache { tensors: vec![("v".to_owned(), 1)], steps: 1 };
    let refused = edit("e", gaussian().field(), &uniform(2), &cached).unwrap_err().to_string();
    assert!(refused.contains("linear field"), "{refused}");
    let seen = Critic { name: "critic".to_owned(), input: ("x".to_owned(), N), output: ("p".to_owned(), 2) };
    let refused = flowchef("f", gaussian().field(), &uniform(2), &Observation::Critic(seen), Strength::Constant(1.0))
        .unwrap_err();
    assert!(refused.to_string().contains("critic 'critic'"), "{refused}");
}

/// The energy of a critic: of a linear one the chain's target is Gaussian with known moments, as without a network.
#[test]
fn a_chain_follows_its_critic() {
    let g = Gaussian { n: 2, covariance: vec![1.0, 0.0, 0.0, 1.0] };
    let times = uniform(2);
    let a = f64::from(sample(&generate("plain", g.field(), Sampler::Euler, &times).unwrap(), &[1.0, 0.0])[0]);
    let text = r#"graph "critic" (%x: f32[1,2]) -> (%p) {
  const @k: f32[1,2] = [1.5, -0.5]
  %kx = mul %x, @k : f32[1,2] from "kx"
  %p = reduce_sum %kx {axes=[1]} : f32[1,1] from "p"
}
"#;
    let graphs = [ir::parse(text, &[]).unwrap()];
    let seen = Critic { name: "critic".to_owned(), input: ("x".to_owned(), 2), output: ("p".to_owned(), 1) };
    let (lambda, wanted) = (2.0, 0.8);
    let chain = Chain { lambda, beta: 0.5, rounds: 400 };
    let program = crank_nicolson("chain", g.field(), &times, &Observation::Critic(seen), chain).unwrap();
    let lowered = float(&program.program, &graphs).unwrap();
    let calls = 200;
    let (mut mean, mut square) = (0.0, 0.0);
    ProgramEngine::float(&lowered, &graphs)
        .with(|runner, nets| {
            runner.write("noise", &[0.1, 0.2])?;
            runner.write("observed", &[wanted as f32])?;
            runner.run(nets, "start", 0)?;
            for call in 0..calls {
                runner.run(nets, "generate", call)?;
                let x = runner.read("sample")?;
                let seen = 1.5 * f64::from(x[0]) - 0.5 * f64::from(x[1]);
                mean += seen / calls as f64;
                square += seen * seen / calls as f64;
            }
            Ok(())
        })
        .unwrap();
    // What is seen, s = k . a z, is N(0, |k|^2 a^2) before the energy lambda (s - wanted)^2.
    let prior = (1.5f64.powi(2) + 0.5f64.powi(2)) * a * a;
    let variance = 1.0 / (1.0 / prior + 2.0 * lambda);
    let expected = 2.0 * lambda * wanted * variance;
    let deviation = (square - mean * mean).sqrt();
    let error = (variance / calls as f64).sqrt();
    row("chain with a critic, mean", 800, mean, &format!("{expected:.3} (standard error {error:.3})"));
    row("chain with a critic, deviation", 800, deviation, &format!("{:.3}", variance.sqrt()));
    assert!((mean - expected).abs() < 4.0 * error, "{mean} for {expected}");
    assert!((deviation / variance.sqrt() - 1.0).abs() < 0.25, "{deviation} for {}", variance.sqrt());
}

/// Guidance in one pass gives the bits of guidance in two, in half as many calls.
#[test]
fn guidance_in_one_pass_changes_no_bit() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/digits/programs/euler_4.flp");
    let (program, graphs) = file::read(&std::fs::read(path).unwrap()).unwrap();
    let guided = |one_pass| {
        let network = Network {
            name: "digits".to_owned(),
            input: "noise".to_owned(),
            output: "velocity".to_owned(),
            len: 64,
            labels: 11,
            noise_at_zero: true,
            time_scale: 1.0,
            prediction: Prediction::Velocity,
            guidance: Some(Guidance { weight: 2.0, none: 10, one_pass }),
            velocity_input: None,
        };
        let sampled = generate("euler_4", Field::Network(network), Sampler::Euler, &uniform(4)).unwrap();
        let graphs = derived(&sampled.program, graphs.clone()).unwrap();
        let read = text::parse(&text::print(&sampled.program)).unwrap();
        assert_eq!(read, sampled.program);
        let samples = with_plans(&sampled.program, &graphs, |engine| {
            engine
                .with(|runner, nets| {
                    runner.set_label(3)?;
                    runner.fill_noise("noise", 7, 0)?;
                    runner.run(nets, "generate", 7)?;
                    Ok(runner.read("sample")?.to_vec())
                })
                .unwrap()
        });
        (samples, sampled.program.evaluations("generate"))
    };
    let (two, one) = (guided(false), guided(true));
    assert_eq!(two.0, one.0);
    assert_eq!((two.1, one.1, program.evaluations("generate")), (8, 4, 8));
}
