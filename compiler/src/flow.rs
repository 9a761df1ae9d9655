//! Flow conventions: what a network reads and predicts, and the one step that its output makes of noise.
//!
//! Noise is `z`, standard normal; data are `x`; the network is `F`. Whatever the convention, one step is
//! `x = skip * z + output * F(input * z)` ([`Step`]), which `fold_sampler` writes into the graph.
//!
//! | prediction | one step | who |
//! |---|---|---|
//! | `v` | `z + sigma F(z)`, or `z - sigma F(z)` with noise at time 1 | rectified flow, SlimFlow, InstaFlow, RF++ |
//! | `x0` | `F(s z)` | consistency models and denoisers that hold their preconditioning |
//! | `eps` | `(s z - sigma F(s z)) / alpha` | Rectified Diffusion (DDIM) |
//! | `edm` | `c_skip sigma z + c_out F(c_in sigma z)` | networks under the preconditioning of EDM |
//!
//! with `s` the scale of the noise, and, for the noise level `sigma` and the data's deviation `d` (Karras et al., "Elucidating
//! the Design Space of Diffusion-Based Generative Models" (2022), table 1; with a boundary `e`, Song et al., "Consistency
//! Models" (2023), appendix C): `c_skip = d^2 / ((sigma - e)^2 + d^2)`, `c_out = (sigma - e) d / sqrt(sigma^2 + d^2)`,
//! `c_in = 1 / sqrt(sigma^2 + d^2)`; the time input reads `ln(sigma) / 4`.

mod check;

pub use check::{Candidate, DirectionCheck, check_direction};

/// What a network predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prediction {
    /// The velocity in the direction of the network's own time: `x - z` with noise at time 0, `z - x` with noise at time 1.
    #[default]
    Velocity,
    /// The data.
    Data,
    /// The noise.
    Noise,
    /// What EDM's preconditioning makes the data of.
    Preconditioned,
}

impl Prediction {
    /// All of them with their names in `model.toml` and on the command line.
    pub const ALL: [(Prediction, &'static str); 4] = [
        (Prediction::Velocity, "v"),
        (Prediction::Data, "x0"),
        (Prediction::Noise, "eps"),
        (Prediction::Preconditioned, "edm"),
    ];

    /// The name in `model.toml`.
    pub fn name(self) -> &'static str {
        Prediction::ALL.iter().find(|(p, _)| *p == self).map_or("", |(_, n)| n)
    }
}

impl std::str::FromStr for Prediction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Prediction::ALL.iter().find(|(_, name)| *name == text).map(|(p, _)| *p).ok_or_else(|| {
            format!(
                "'{text}' is not a prediction: v (velocity), x0 (data), eps (noise) and edm (preconditioned data) are known"
            )
        })
    }
}

/// The convention of a network, and the step that it is deployed with.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// ONNX name of the noise input.
    pub noise: String,
    /// Name of the new output.
    pub output: String,
    /// Range of the data the network was trained on; it is mapped to intensity in [0, 1].
    pub range: Option<(f32, f32)>,
    /// `true` when noise is at time 0, `false` when it is at time 1.
    pub noise_at_zero: bool,
    /// What the time input reads where the time is 1; where the noise level is e with [`Prediction::Preconditioned`], four
    /// times that.
    pub time_scale: f64,
    /// What the network predicts.
    pub prediction: Prediction,
    /// Share of the data in what the network reads, with [`Prediction::Noise`].
    pub alpha: f64,
    /// Share of the noise in what the network reads with [`Prediction::Noise`]; the noise level with
    /// [`Prediction::Preconditioned`]; the length of the step with [`Prediction::Velocity`].
    pub sigma: f64,
    /// Standard deviation of the noise that the network reads, with [`Prediction::Data`] and [`Prediction::Noise`].
    pub noise_scale: f64,
    /// Standard deviation of the data, with [`Prediction::Preconditioned`].
    pub sigma_data: f64,
    /// The noise level at which the network is the identity, with [`Prediction::Preconditioned`]: 0 for EDM.
    pub sigma_min: f64,
}

/// One step: `x = skip * z + output * F(input * z)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Factor of what the network reads.
    pub input: f64,
    /// Factor of the same in the result.
    pub skip: f64,
    /// Factor of the network's output.
    pub output: f64,
}

/// A network somewhere on the straight path `x_tau = tau * x + (1 - tau) * z`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// What its time input reads.
    pub time: f64,
    /// How the data estimate comes of `x_tau` (in the place of `z`).
    pub step: Step,
}

impl Flow {
    /// A velocity network with everything else at its default.
    pub fn new(noise: &str, noise_at_zero: bool, output: &str) -> Flow {
        Flow {
            noise: noise.to_owned(),
            output: output.to_owned(),
            range: None,
            noise_at_zero,
            time_scale: 1.0,
            prediction: Prediction::Velocity,
            alpha: 0.0,
            sigma: 1.0,
            noise_scale: 1.0,
            sigma_data: 0.5,
            sigma_min: 0.0,
        }
    }

    /// What the time input reads in the one step.
    pub fn time(&self) -> f64 {
        match self.prediction {
            Prediction::Preconditioned => self.noise_time(self.sigma),
            Prediction::Velocity | Prediction::Data | Prediction::Noise => self.path_time(0.0),
        }
    }

    fn noise_time(&self, sigma: f64) -> f64 {
        self.time_scale * 0.25 * libm::log(sigma)
    }

    fn path_time(&self, tau: f64) -> f64 {
        self.time_scale * if self.noise_at_zero { tau } else { 1.0 - tau }
    }

    fn sign(&self) -> f64 {
        if self.noise_at_zero { 1.0 } else { -1.0 }
    }

    /// The one step from noise to data.
    ///
    /// # Errors
    /// Which number makes no step, and what to state instead.
    pub fn step(&self) -> Result<Step, String> {
        for (name, value) in [
            ("alpha", self.alpha),
            ("sigma", self.sigma),
            ("noise_scale", self.noise_scale),
            ("sigma_data", self.sigma_data),
            ("sigma_min", self.sigma_min),
            ("time_scale", self.time_scale),
        ] {
            let may_be_zero = name == "alpha" || name == "sigma_min";
            if !value.is_finite() || value < 0.0 || (value == 0.0 && !may_be_zero) {
                return Err(format!("{name} = {value}: give a number above 0"));
            }
        }
        let step = match self.prediction {
            Prediction::Velocity => Step { input: 1.0, skip: 1.0, output: self.sign() * self.sigma },
            Prediction::Data => Step { input: self.noise_scale, skip: 0.0, output: 1.0 },
            Prediction::Noise if self.alpha == 0.0 => {
                return Err(
                    "a prediction of the noise says nothing about data where there is none: state alpha and sigma, \
                     the shares of data and noise at the deployed time"
                        .to_owned(),
                );
            }
            Prediction::Noise => {
                Step { input: self.noise_scale, skip: self.noise_scale / self.alpha, output: -self.sigma / self.alpha }
            }
            Prediction::Preconditioned => self.preconditioned(self.sigma, self.sigma)?,
        };
        Ok(step)
    }

    /// EDM's step at noise level `sigma` from a value that `factor` makes the noisy data of.
    fn preconditioned(&self, sigma: f64, factor: f64) -> Result<Step, String> {
        let (data, distance) = (self.sigma_data, sigma - self.sigma_min);
        if distance < 0.0 {
            return Err(format!("sigma = {sigma} lies below sigma_min = {}", self.sigma_min));
        }
        let all = libm::sqrt(sigma * sigma + data * data);
        Ok(Step {
            input: factor / all,
            skip: factor * data * data / (distance * distance + data * data),
            output: distance * data / all,
        })
    }

    /// The network at flow time `tau`, 0 at the noise and 1 at the data.
    ///
    /// # Errors
    /// A time at which its output says nothing about the data.
    pub fn at(&self, tau: f64) -> Result<Evaluation, String> {
        if !(0.0..=1.0).contains(&tau) {
            return Err(format!("flow time {tau} does not lie in 0 to 1"));
        }
        let time = self.path_time(tau);
        let step = match self.prediction {
            Prediction::Velocity => Step { input: 1.0, skip: 1.0, output: self.sign() * (1.0 - tau) },
            Prediction::Data => Step { input: 1.0, skip: 0.0, output: 1.0 },
            Prediction::Noise if tau == 0.0 => {
                return Err(
                    "a prediction of the noise says nothing about data at flow time 0: leave that time out".to_owned()
                );
            }
            Prediction::Noise => Step { input: 1.0, skip: 1.0 / tau, output: -(1.0 - tau) / tau },
            Prediction::Preconditioned => {
                // The noisy data are x + sigma z: x_tau / tau, or as much noise as the network knows.
                let first = 1.0 / (1.0 + self.sigma);
                let (sigma, factor) = match tau < first {
                    true => (self.sigma, self.sigma / (1.0 - tau)),
                    false => ((1.0 - tau) / tau, 1.0 / tau),
                };
                if sigma == 0.0 {
                    return Err("the preconditioned network has no time at flow time 1: leave that time out".to_owned());
                }
                return Ok(Evaluation { time: self.noise_time(sigma), step: self.preconditioned(sigma, factor)? });
            }
        };
        Ok(Evaluation { time, step })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * (1.0 + b.abs())
    }

    /// The rows of `papers/core.md` table 1 as their authors write them.
    #[test]
    fn published_conventions_in_one_step() {
        let step = |flow: &Flow| flow.step().unwrap();
        let rectified = Flow::new("z", true, "x");
        assert_eq!(step(&rectified), Step { input: 1.0, skip: 1.0, output: 1.0 });
        let paper = Flow::new("z", false, "x");
        assert_eq!((step(&paper).output, paper.time()), (-1.0, 1.0));
        let instaflow = Flow { time_scale: 1000.0, ..Flow::new("z", true, "x") };
        assert_eq!(instaflow.time(), 0.0);
        // RF++ as an EDM denoiser: sigma = t / (1 - t) at t = 1 - 1e-5, c_noise = 2.878, x = 0.5 F(z).
        let rfpp =
            Flow { prediction: Prediction::Preconditioned, sigma: (1.0 - 1e-5) / 1e-5, ..Flow::new("z", false, "x") };
        let s = step(&rfpp);
        assert!((rfpp.time() - 2.878).abs() < 1e-3 && (s.input - 1.0).abs() < 1e-9 && (s.output - 0.5).abs() < 1e-9);
        assert!(s.skip.abs() < 1e-5, "{s:?}");
        // Rectified Diffusion: x = (z - sigma eps) / alpha.
        let rectified_diffusion =
            Flow { prediction: Prediction::Noise, alpha: 0.068, sigma: 0.9977, ..rectified.clone() };
        let s = step(&rectified_diffusion);
        assert!(near(s.skip, 1.0 / 0.068) && near(s.output, -0.9977 / 0.068) && s.input == 1.0);
    }

    /// A network that knows the answer gives it back under every convention, at every time.
    #[test]
    fn a_perfect_network_gives_the_data_back() {
        let (x, z) = (0.7, -1.3);
        for (prediction, _) in Prediction::ALL {
            for noise_at_zero in [true, false] {
                let flow = Flow { prediction, sigma: 80.0, ..Flow::new("z", noise_at_zero, "x") };
                for tau in [0.1, 0.5, 0.9] {
                    let Evaluation { step, .. } = flow.at(tau).unwrap();
                    let state = tau * x + (1.0 - tau) * z;
                    let f = match prediction {
                        Prediction::Velocity => flow.sign() * (x - z),
                        Prediction::Data => x,
                        Prediction::Noise => z,
                        Prediction::Preconditioned => (x - step.skip * state) / step.output,
                    };
                    assert!(near(step.skip * state + step.output * f, x), "{prediction:?} at {tau}");
                }
            }
        }
        let edm = Flow { prediction: Prediction::Preconditioned, sigma: 80.0, ..Flow::new("z", false, "x") };
        // c_in makes what the network reads of deviation 1, for data of deviation sigma_data.
        let deviation = |tau: f64| ((tau * 0.5).powi(2) + (1.0 - tau).powi(2)).sqrt() * edm.at(tau).unwrap().step.input;
        assert!(near(deviation(0.5), 1.0) && near(deviation(0.9), 1.0));
        assert_eq!(edm.at(0.0).unwrap().step, edm.step().unwrap());
        // At sigma_min a consistency model is the identity.
        let consistency = Flow { sigma: 0.002, sigma_min: 0.002, ..edm };
        let step = consistency.step().unwrap();
        assert!(near(step.skip, 0.002) && step.output == 0.0);
    }

    #[test]
    fn what_makes_no_step_is_refused() {
        let flow = Flow { prediction: Prediction::Noise, ..Flow::new("z", true, "x") };
        assert!(flow.step().unwrap_err().contains("state alpha and sigma"));
        assert!(flow.at(0.0).unwrap_err().contains("flow time 0"));
        assert!(Flow { sigma: 0.0, ..Flow::new("z", true, "x") }.step().unwrap_err().contains("sigma = 0"));
        assert!(Flow { sigma: f64::NAN, ..Flow::new("z", true, "x") }.step().is_err());
        let below = Flow { prediction: Prediction::Preconditioned, sigma: 0.1, sigma_min: 0.2, ..flow };
        assert!(below.step().unwrap_err().contains("below sigma_min"));
        assert!(below.at(1.5).is_err());
        assert!("score".parse::<Prediction>().unwrap_err().contains("x0 (data)"));
    }
}
