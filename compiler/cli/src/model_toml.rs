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
//! time_value = 0.0
//! noise_at = 0              # 0: x = z + v, 1: x = z - v
//! prediction = "v"
//! output = "image"          # name of the new output
//! pixel_range = [-1.0, 1.0] # mapped to 0..1
//!
//! [inputs.label]
//! count = 10
//! classes = ["t-shirt", "..."]
//!
//! [scoring]                 # of `flowlet score`; without it, the folder `scoring` beside the model's
//! features = "../scoring/digits-features.onnx"
//! reference = "../scoring/digits-reference.npz"
//! accuracy = "../scoring/digits-accuracy.onnx"
//!
//! [set]                     # further inputs that become constants
//! guidance = 1.5
//! ```

use anyhow::{Context, bail};
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
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FlowToml {
    /// Input that reads noise.
    pub noise: String,
    /// Input that becomes the constant `time_value`.
    pub time: Option<String>,
    /// The deployed time.
    pub time_value: Option<f32>,
    /// What the time input reads where the time is 1; 1 if not stated. Programs use it.
    pub time_scale: Option<f32>,
    /// 0 or 1: where on the time axis the noise is.
    pub noise_at: u8,
    /// What the network predicts; only the velocity `"v"` is known.
    pub prediction: Option<String>,
    /// Name of the new output.
    pub output: Option<String>,
    /// Range of the training data.
    pub pixel_range: Option<[f32; 2]>,
    /// Range of the new output; only `[0, 1]` is known.
    pub output_range: Option<[f32; 2]>,
}

/// An integer input.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct InputToml {
    /// Number of its values.
    pub count: usize,
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
            if !input.classes.is_empty() && input.classes.len() != input.count {
                bail!("[inputs.{name}] has {} values and {} class names", input.count, input.classes.len());
            }
            if input.classes.iter().any(|c| c.contains(',')) {
                bail!("[inputs.{name}]: a class name must not contain a comma");
            }
        }
        let Some(flow) = &self.flow else { return Ok(()) };
        if flow.noise_at > 1 {
            bail!("[flow] noise_at = {}: noise is at 0 or at 1", flow.noise_at);
        }
        if let Some(prediction) = flow.prediction.as_ref().filter(|p| *p != "v") {
            bail!(
                "[flow] prediction = \"{prediction}\": only the velocity \"v\" is folded into the graph; see docs/export.md"
            );
        }
        if flow.time.is_some() != flow.time_value.is_some() {
            bail!("[flow] time and time_value belong together");
        }
        match (flow.output_range, flow.pixel_range) {
            (None | Some([0.0, 1.0]), _) => Ok(()),
            (range, pixels) if range == pixels => Ok(()),
            (Some(range), _) => bail!("[flow] output_range = {range:?}: only [0.0, 1.0] is known"),
        }
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
    fn mistakes_are_named() {
        assert!(parse("[flow]\nnoise = 'z'\nnoise_att = 0").unwrap_err().contains("noise_att"));
        assert!(parse("[flow]\nnoise = 'z'\nnoise_at = 0\nprediction = 'x'").unwrap_err().contains("prediction"));
        assert!(parse("[inputs.label]\ncount = 3\nclasses = ['a']").unwrap_err().contains("3 values and 1"));
        assert!(parse("[flow]\nnoise = 'z'\nnoise_at = 2").unwrap_err().contains("noise_at = 2"));
    }
}
