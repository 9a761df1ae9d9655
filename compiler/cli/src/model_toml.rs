//! `model.toml`: what an exported network cannot say about itself.
//!
//! ```toml
//! name = "fashion"
//! onnx = "fashion.onnx"     # the file that it describes
//! tolerance = 1e-3          # of `flowlet verify`
//!
//! [flow]
//! noise = "noise"           # input that reads noise
//! time = "t"                # input that becomes the constant `time_value`
//! time_value = 0.0          # by default where the noise is
//! time_scale = 1.0          # what the time input reads at time 1
//! noise_at = 0              # 0: x = z + v, 1: x = z - v
//! prediction = "v"          # "v", "x0", "eps" or "edm"; the conventions: `flowlet_compiler::flow`
//! # sigma = 80.0            # noise level of "edm", share of noise of "eps", length of the step of "v"
//! # alpha = 0.068           # share of data of "eps"
//! # noise_scale = 1.0       # deviation of the noise that "x0" and "eps" read
//! # sigma_data = 0.5        # deviation of the data of "edm"
//! # sigma_min = 0.002       # where "edm" is the identity (consistency models)
//! output = "image"          # name of the new output
//! pixel_range = [-1.0, 1.0] # mapped to 0..1
//!
//! [inputs.label]
//! count = 10
//! classes = ["t-shirt", "..."]
//!
//! [inputs.image]            # of a policy: `flowlet quantize -o policy.flp` computes ahead what it alone decides
//! slow = true
//!
//! [scoring]                 # of `flowlet score`; without it, the folder `scoring` beside the model's
//! features = "../scoring/digits-features.onnx"
//! reference = "../scoring/digits-reference.npz"
//! accuracy = "../scoring/digits-accuracy.onnx"
//!
//! [set]                     # further inputs that become constants
//! guidance = 1.5
//! ```

use anyhow::{Context, anyhow, bail};
use flowlet_compiler::flow::{Flow, Prediction};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The file; entries that this program does not read belong to others.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct ModelToml {
    /// Name of the model.
    pub name: Option<String>,
    /// Name of the file that it describes.
    pub onnx: Option<String>,
    /// Largest difference that `flowlet verify` accepts between the golden outputs and the imported graph.
    pub tolerance: Option<f64>,
    /// How the network's output becomes a sample.
    pub flow: Option<FlowToml>,
    /// Integer inputs.
    #[serde(default)]
    pub inputs: BTreeMap<String, InputToml>,
    /// Programs around the model.
    #[serde(default)]
    pub programs: BTreeMap<String, crate::program::ProgramToml>,
    /// Inputs that become constants.
    #[serde(default)]
    pub set: BTreeMap<String, f32>,
    /// What its samples are scored with.
    pub scoring: Option<ScoringToml>,
}

/// The networks that score a model's samples; files relative to this one.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ScoringToml {
    /// The feature network.
    pub features: String,
    /// What real data look like in it, as `.npz`.
    pub reference: String,
    /// A classifier.
    pub accuracy: Option<String>,
}

/// The flow convention.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FlowToml {
    /// Input that reads noise.
    pub noise: String,
    /// Input that becomes the constant `time_value`.
    pub time: Option<String>,
    /// The deployed time; where the noise is if not stated.
    pub time_value: Option<f32>,
    /// What the time input reads where the time is 1; 1 if not stated.
    pub time_scale: Option<f32>,
    /// 0 or 1: where on the time axis the noise is. Only a velocity needs it.
    pub noise_at: Option<u8>,
    /// What the network predicts: `v`, `x0`, `eps` or `edm`.
    pub prediction: Option<String>,
    /// Share of the data at the deployed time, of `eps`.
    pub alpha: Option<f64>,
    /// Share of the noise, of `eps`; the noise level, of `edm`; the length of the step, of `v`.
    pub sigma: Option<f64>,
    /// Standard deviation of the noise that the network reads, of `x0` and `eps`.
    pub noise_scale: Option<f64>,
    /// Standard deviation of the data, of `edm`.
    pub sigma_data: Option<f64>,
    /// The noise level at which an `edm` network is the identity.
    pub sigma_min: Option<f64>,
    /// Name of the new output.
    pub output: Option<String>,
    /// Range of the training data.
    pub pixel_range: Option<[f32; 2]>,
    /// Range of the new output; only `[0, 1]` is known.
    pub output_range: Option<[f32; 2]>,
}

/// An integer input, or one that changes more slowly than the others.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct InputToml {
    /// Number of its values; 0 of what is no integer.
    #[serde(default)]
    pub count: usize,
    /// Whether what it alone decides is computed ahead, by the entry point `encode`.
    #[serde(default)]
    pub slow: bool,
    /// Their names, in order.
    #[serde(default)]
    pub classes: Vec<String>,
}

impl ModelToml {
    /// Reads the text of a file; `path` is for messages.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(text: &str, path: &Path) -> anyhow::Result<Self> {
        let parsed: ModelToml = toml::from_str(text).with_context(|| format!("{} is not usable", path.display()))?;
        parsed.check().with_context(|| format!("{} is not usable", path.display()))?;
        Ok(parsed)
    }

    /// The file for a model: the one given, or `model.toml` beside the model if it describes it.
    ///
    /// # Errors
    /// When a file that must be there is not, or is not usable.
    pub fn find(model: &Path, given: Option<&Path>) -> anyhow::Result<Option<Self>> {
        if let Some(path) = given {
            let bytes = crate::options::read(path)?;
            return Ok(Some(Self::parse(&String::from_utf8_lossy(&bytes), path)?));
        }
        let path = model.with_file_name("model.toml");
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        let parsed = Self::parse(&text, &path)?;
        let describes = |name: &String| model.file_name().is_some_and(|f| f.to_string_lossy() == name.as_str());
        Ok(parsed.onnx.as_ref().is_none_or(describes).then_some(parsed))
    }

    fn check(&self) -> anyhow::Result<()> {
        for (name, input) in &self.inputs {
            if input.count == 0 && !input.slow {
                bail!("[inputs.{name}] must state count = N, its number of values, or slow = true");
            }
            if !input.classes.is_empty() && input.classes.len() != input.count {
                bail!("[inputs.{name}] has {} values and {} class names", input.count, input.classes.len());
            }
            if input.classes.iter().any(|c| c.contains(',')) {
                bail!("[inputs.{name}]: a class name must not contain a comma");
            }
        }
        match &self.flow {
            Some(flow) => flow.convention("[flow] ").map(|_| ()),
            None => Ok(()),
        }
    }
}

impl FlowToml {
    /// The convention; `place` goes before the names of numbers in messages.
    ///
    /// # Errors
    /// Which number is missing, belongs to another prediction, or makes no step.
    pub fn convention(&self, place: &str) -> anyhow::Result<Flow> {
        let prediction: Prediction = match &self.prediction {
            Some(text) => text.parse().map_err(|e| anyhow!("{place}prediction: {e}"))?,
            None => Prediction::Velocity,
        };
        let noise_at_zero = match (self.noise_at, prediction) {
            (Some(at @ 0..=1), _) => at == 0,
            (Some(at), _) => bail!("{place}noise_at = {at}: noise is at 0 or at 1"),
            (None, Prediction::Velocity) => {
                bail!("{place}noise_at is missing: a velocity points to the data (0) or to the noise (1)")
            }
            (None, _) => true,
        };
        let (v, x0, eps, edm) = (Prediction::Velocity, Prediction::Data, Prediction::Noise, Prediction::Preconditioned);
        for (name, value, readers) in [
            ("alpha", self.alpha, &[eps][..]),
            ("sigma", self.sigma, &[v, eps, edm]),
            ("noise_scale", self.noise_scale, &[x0, eps]),
            ("sigma_data", self.sigma_data, &[edm]),
            ("sigma_min", self.sigma_min, &[edm]),
        ] {
            if let Some(value) = value.filter(|_| !readers.contains(&prediction)) {
                bail!("{place}{name} = {value} says nothing about prediction = \"{}\"", prediction.name());
            }
        }
        if self.time.is_none() && self.time_value.is_some() {
            bail!("{place}time_value needs time, the name of its input");
        }
        match (self.output_range, self.pixel_range) {
            (None | Some([0.0, 1.0]), _) => {}
            (range, pixels) if range == pixels => {}
            (Some(range), _) => bail!("{place}output_range = {range:?}: only [0.0, 1.0] is known"),
        }
        if prediction == edm && self.sigma.is_none() {
            bail!("{place}sigma is missing: the noise level that an edm network starts from");
        }
        let range = self.pixel_range.filter(|_| self.output_range != self.pixel_range).map(|[lo, hi]| (lo, hi));
        let output = self.output.as_deref().unwrap_or(if range.is_some() { "image" } else { "sample" });
        let mut flow = Flow { prediction, range, ..Flow::new(&self.noise, noise_at_zero, output) };
        flow.time_scale = self.time_scale.map_or(flow.time_scale, f64::from);
        // On the straight path the deployed time says how much there is of each.
        if let (eps, None, Some(value)) = (prediction, self.alpha, self.time_value)
            && eps == Prediction::Noise
        {
            let share = f64::from(value) / flow.time_scale;
            flow.alpha = if noise_at_zero { share } else { 1.0 - share };
            flow.sigma = 1.0 - flow.alpha;
        }
        flow.alpha = self.alpha.unwrap_or(flow.alpha);
        flow.sigma = self.sigma.unwrap_or(flow.sigma);
        flow.noise_scale = self.noise_scale.unwrap_or(flow.noise_scale);
        flow.sigma_data = self.sigma_data.unwrap_or(flow.sigma_data);
        flow.sigma_min = self.sigma_min.unwrap_or(flow.sigma_min);
        flow.step().map_err(|e| anyhow!("{place}{e}"))?;
        Ok(flow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ModelToml, String> {
        ModelToml::parse(text, Path::new("model.toml")).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn a_full_file() {
        let parsed = parse(
            "name = 'm'\ntargets = []\n[flow]\nnoise = 'z'\ntime = 't'\ntime_value = 0.0\nnoise_at = 0\n\
             pixel_range = [-1.0, 1.0]\n[inputs.label]\ncount = 2\nclasses = ['a', 'b']\n[golden]\nx = 'y'",
        );
        let parsed = parsed.unwrap();
        assert_eq!(parsed.flow.unwrap().pixel_range, Some([-1.0, 1.0]));
        assert_eq!(parsed.inputs["label"].count, 2);
    }

    #[test]
    fn conventions_are_built_from_what_is_stated() {
        let flow = |text: &str| {
            let parsed = parse(&format!("[flow]\nnoise = 'z'\n{text}"))?;
            parsed.flow.unwrap().convention("").map_err(|e| e.to_string())
        };
        let edm = flow("prediction = 'edm'\nsigma = 80.0\ntime = 's'").unwrap();
        assert_eq!((edm.sigma, edm.sigma_data, edm.time()), (80.0, 0.5, 0.25 * 80.0f64.ln()));
        let eps =
            flow("prediction = 'eps'\ntime = 't'\ntime_value = 900.0\ntime_scale = 1000.0\nnoise_at = 1").unwrap();
        assert!((eps.alpha - 0.1).abs() < 1e-9 && (eps.sigma - 0.9).abs() < 1e-9, "{eps:?}");
        assert_eq!(flow("prediction = 'x0'\nnoise_scale = 80.0").unwrap().step().unwrap().input, 80.0);
        for (text, wanted) in [
            ("", "noise_at is missing"),
            ("prediction = 'edm'", "sigma is missing"),
            ("prediction = 'eps'", "state alpha and sigma"),
            ("prediction = 'x0'\nalpha = 0.5", "alpha = 0.5 says nothing about prediction = \"x0\""),
            ("noise_at = 0\ntime_value = 0.5", "time_value needs time"),
            ("noise_at = 0\nsigma = -1.0", "sigma = -1"),
        ] {
            let error = flow(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("[flow]\nnoise = 'z'\nnoise_att = 0").unwrap_err().contains("noise_att"));
        assert!(parse("[flow]\nnoise = 'z'\nnoise_at = 0\nprediction = 'x'").unwrap_err().contains("prediction"));
        assert!(parse("[inputs.label]\ncount = 3\nclasses = ['a']").unwrap_err().contains("3 values and 1"));
        assert!(parse("[flow]\nnoise = 'z'\nnoise_at = 2").unwrap_err().contains("noise_at = 2"));
    }
}
