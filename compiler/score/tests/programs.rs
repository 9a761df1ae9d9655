//! Samplers, inversion, steering and recorded noise on Gaussian data, where every answer is known.
#![allow(clippy::unwrap_used)]

use flowlet::RunError;
use flowlet::kernels::noise::element_f32;
use flowlet::program::Runner;
use flowlet_compiler::program::gaussian::Gaussian;
use flowlet_compiler::program::samplers::{Sampled, Sampler, generate, stream, trajectory, uniform};
use flowlet_compiler::program::steer::{Chain, Observation, Strength, crank_nicolson, flowchef, invert};
use flowlet_compiler::program::{Image, bellman::Costs, cycle, file, float, text};
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

/// The record holds everything: decoding with the same network gives the data back, at any noise level.
#[test]
fn the_recorded_noise_reconstructs() {
    let g = gaussian();
    assert!(cycle::translate("cycle", g.field(), None, &uniform(1), 1.0).is_err());
    for (steps, eta) in [(10, 1.0), (10, 0.1), (2, 1.0), (40, 0.5)] {
        let program = cycle::translate("cycle", g.field(), None, &uniform(steps), eta).unwrap();
        let data = draw(&g, 42);
        let back = with(&program, |runner, nets| {
            assert!(matches!(runner.run(nets, "decode", 0), Err(RunError::LaneNotWritten { .. })));
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
        assert!(matches!(runner.run(nets, "generate", 0), Err(RunError::LaneNotWritten { .. })));
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
}
