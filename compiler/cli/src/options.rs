//! Arguments that several commands share, and how their values are spelled.

use crate::model_toml::FlowToml;
use anyhow::bail;
use clap::ValueEnum;
use flowlet_compiler::flow::Prediction;
use flowlet_compiler::ir::Tensor;
use flowlet_float::Weights;
use flowlet_score::npy::Array;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// Which arithmetic runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 32-bit floating point
    F32,
    /// 8-bit integers, in the executor that devices run
    Int8,
}

impl Precision {
    /// The name in reports and in `.flq` files.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Int8 => "int8",
        }
    }
}

/// Arithmetic of a command that only runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunPrecision {
    /// 32-bit floating point
    F32,
    /// 32-bit floating point with weights of 16 bits
    F16,
    /// 8-bit integers, in the executor that devices run
    Int8,
}

impl RunPrecision {
    /// What a file must hold or give.
    pub fn held(self) -> Precision {
        match self {
            RunPrecision::F32 | RunPrecision::F16 => Precision::F32,
            RunPrecision::Int8 => Precision::Int8,
        }
    }

    /// How an f32 graph stores its weights.
    pub fn weights(self) -> Weights {
        match self {
            RunPrecision::F16 => Weights::F16,
            RunPrecision::F32 | RunPrecision::Int8 => Weights::F32,
        }
    }

    /// The name in reports, of a graph of this precision.
    pub fn name(self) -> &'static str {
        match self {
            RunPrecision::F32 => "f32",
            RunPrecision::F16 => "f16",
            RunPrecision::Int8 => "int8",
        }
    }
}

/// A model and what its file does not say.
#[derive(Clone, Debug, clap::Args)]
pub struct ModelArgs {
    /// An .onnx file, or a .flq that 'flowlet quantize' wrote
    #[arg(value_name = "MODEL")]
    pub model: PathBuf,
    /// What the .onnx cannot say [default: model.toml beside the model, if there is one]
    #[arg(long, value_name = "FILE", help_heading = "Import")]
    pub config: Option<PathBuf>,
    /// Make an input constant: --set t=0, --set state=0.5,1.5 or --set state=state.npy
    #[arg(long, value_name = "NAME=VALUE", value_parser = named::<SetValue>, help_heading = "Import")]
    pub set: Vec<(String, SetValue)>,
    /// How many values an integer input takes: --index label=10
    #[arg(long, value_name = "NAME=COUNT", value_parser = named::<usize>, help_heading = "Import")]
    pub index: Vec<(String, usize)>,
    /// The size of an input with open dimensions: --shape image=1x3x32x32
    #[arg(long, value_name = "NAME=DIMS", value_parser = named::<Dims>, help_heading = "Import")]
    pub shape: Vec<(String, Dims)>,
    /// What the network reads and predicts.
    #[command(flatten)]
    pub flow: FlowArgs,
}

/// The flow convention, where `model.toml` does not state it or states another.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct FlowArgs {
    /// The input that reads standard normal noise
    #[arg(long, value_name = "NAME", help_heading = "Import")]
    pub noise: Option<String>,
    /// Where on the time axis the noise is: 0 makes the sample z + v, 1 makes it z - v. Without it, and without
    /// --prediction, the network's output is the sample
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1), help_heading = "Import")]
    pub noise_at: Option<u8>,
    /// What the network predicts: the velocity (v), the data (x0), the noise (eps), or data under EDM's preconditioning
    /// (edm) [default: v]
    #[arg(long, value_name = "v|x0|eps|edm", help_heading = "Import")]
    pub prediction: Option<Prediction>,
    /// The input that reads the time; it becomes the constant of the one step
    #[arg(long, value_name = "NAME", help_heading = "Import")]
    pub time: Option<String>,
    /// What the time input reads in the one step [default: where the noise is; of edm a quarter of the logarithm of
    /// --sigma; both times --time-scale]
    #[arg(long, value_name = "X", allow_hyphen_values = true, help_heading = "Import")]
    pub time_value: Option<f32>,
    /// What the time input reads where the time is 1 [default: 1]
    #[arg(long, value_name = "X", help_heading = "Import")]
    pub time_scale: Option<f32>,
    /// The noise level of edm, the share of noise of eps, the length of the step of v
    #[arg(long, value_name = "X", help_heading = "Import")]
    pub sigma: Option<f64>,
    /// The share of data of eps at the deployed time
    #[arg(long, value_name = "X", help_heading = "Import")]
    pub alpha: Option<f64>,
    /// The standard deviation of the noise that x0 and eps read [default: 1]
    #[arg(long, value_name = "X", help_heading = "Import")]
    pub noise_scale: Option<f64>,
    /// The standard deviation of the data of edm [default: 0.5]
    #[arg(long, value_name = "X", help_heading = "Import")]
    pub sigma_data: Option<f64>,
    /// The noise level at which an edm network is the identity, of consistency models [default: 0]
    #[arg(long, value_name = "X", help_heading = "Import")]
    pub sigma_min: Option<f64>,
    /// The range of the training data, mapped to intensity 0..1: --range -1,1
    #[arg(long, value_name = "LO,HI", value_parser = range, allow_hyphen_values = true, help_heading = "Import")]
    pub range: Option<(f32, f32)>,
}

impl FlowArgs {
    /// The convention, with what is given here before what `model.toml` states. `None` when the network's output is the
    /// sample.
    ///
    /// # Errors
    /// An option that says nothing without another, or what is wrong with the convention.
    pub fn over(&self, stated: Option<&FlowToml>) -> anyhow::Result<Option<FlowToml>> {
        let mut flow = stated.cloned().unwrap_or_default();
        if let Some(noise) = &self.noise {
            flow.noise.clone_from(noise);
        }
        if let Some((lo, hi)) = self.range {
            (flow.pixel_range, flow.output_range) = (Some([lo, hi]), None);
        }
        flow.noise_at = self.noise_at.or(flow.noise_at);
        flow.prediction = self.prediction.map(|p| p.name().to_owned()).or(flow.prediction);
        flow.time = self.time.clone().or(flow.time);
        flow.time_value = self.time_value.or(flow.time_value);
        flow.time_scale = self.time_scale.or(flow.time_scale);
        flow.alpha = self.alpha.or(flow.alpha);
        flow.sigma = self.sigma.or(flow.sigma);
        flow.noise_scale = self.noise_scale.or(flow.noise_scale);
        flow.sigma_data = self.sigma_data.or(flow.sigma_data);
        flow.sigma_min = self.sigma_min.or(flow.sigma_min);
        let says_step = flow.noise_at.is_some() || flow.prediction.is_some();
        match (flow.noise.is_empty(), says_step) {
            (false, true) => Ok(Some(flow)),
            (true, true) => {
                let option = if self.noise_at.is_some() { "--noise-at" } else { "--prediction" };
                bail!("{option} says how noise becomes a sample: add --noise NAME, the input that reads it")
            }
            (_, false) => match self.given().find(|option| *option != "--noise") {
                Some(option) => {
                    bail!(
                        "{option} says how noise becomes a sample: add --noise NAME, and --noise-at 0 or 1, or --prediction"
                    )
                }
                None => Ok(None),
            },
        }
    }

    /// The options that are given.
    fn given(&self) -> impl Iterator<Item = &'static str> {
        [
            ("--noise", self.noise.is_some()),
            ("--noise-at", self.noise_at.is_some()),
            ("--prediction", self.prediction.is_some()),
            ("--time", self.time.is_some()),
            ("--time-value", self.time_value.is_some()),
            ("--time-scale", self.time_scale.is_some()),
            ("--sigma", self.sigma.is_some()),
            ("--alpha", self.alpha.is_some()),
            ("--noise-scale", self.noise_scale.is_some()),
            ("--sigma-data", self.sigma_data.is_some()),
            ("--sigma-min", self.sigma_min.is_some()),
            ("--range", self.range.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
    }
}

impl ModelArgs {
    /// A model without any option: `model.toml` beside it says what the file does not.
    pub fn of(model: impl Into<PathBuf>) -> Self {
        ModelArgs {
            model: model.into(),
            config: None,
            set: Vec::new(),
            index: Vec::new(),
            shape: Vec::new(),
            flow: FlowArgs::default(),
        }
    }

    /// The first option that only an import reads, if one is given.
    pub fn import_option(&self) -> Option<&'static str> {
        [
            ("--config", self.config.is_some()),
            ("--set", !self.set.is_empty()),
            ("--index", !self.index.is_empty()),
            ("--shape", !self.shape.is_empty()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
        .or_else(|| self.flow.given().next())
    }
}

/// `NAME=VALUE`, as the value of a repeated option.
pub fn named<T>(text: &str) -> Result<(String, T), String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    let (name, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not of the form NAME=VALUE"))?;
    if name.is_empty() {
        return Err(format!("'{text}' names no input"));
    }
    Ok((name.to_owned(), value.parse().map_err(|e: T::Err| e.to_string())?))
}

/// Dimensions spelled `1x3x32x32`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dims(pub Vec<usize>);

impl std::str::FromStr for Dims {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let dims = text.split(['x', ',']).map(|d| d.trim().parse().ok().filter(|&d| d > 0));
        let dims: Option<Vec<usize>> = dims.collect();
        dims.map(Dims).ok_or_else(|| format!("'{text}' is not a shape: write it as 1x3x32x32"))
    }
}

/// A constant spelled as a number, a list, or the name of a `.npy` file.
#[derive(Clone, Debug, PartialEq)]
pub enum SetValue {
    /// Numbers; a single one fills the whole input.
    Numbers(Vec<f32>),
    /// A file that holds them.
    File(PathBuf),
}

impl std::str::FromStr for SetValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.ends_with(".npy") {
            return Ok(SetValue::File(text.into()));
        }
        let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse::<f32>()).collect();
        match numbers {
            Ok(numbers) if numbers.iter().all(|n| n.is_finite()) => Ok(SetValue::Numbers(numbers)),
            Ok(_) => Err(format!("'{text}' is not finite")),
            Err(_) => Err(format!("'{text}' is not a number, a list of numbers or the name of a .npy file")),
        }
    }
}

impl SetValue {
    /// The constant.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn tensor(&self) -> anyhow::Result<Tensor> {
        match self {
            SetValue::Numbers(numbers) => Ok(Tensor::f32(&[numbers.len()], numbers.clone())),
            SetValue::File(path) => {
                let array = read_npy(path)?;
                Ok(Tensor::f32(&array.shape, array.to_f32()))
            }
        }
    }
}

fn range(text: &str) -> Result<(f32, f32), String> {
    let parts = text.split_once(',').and_then(|(lo, hi)| Some((lo.trim().parse().ok()?, hi.trim().parse().ok()?)));
    match parts {
        Some((lo, hi)) if lo < hi && f32::is_finite(lo) && f32::is_finite(hi) => Ok((lo, hi)),
        Some(_) | None => Err(format!("'{text}' is not a range: write it as -1,1")),
    }
}

/// Reads a `.npy` file.
///
/// # Errors
/// When it cannot be read or is not one; the message names it.
pub fn read_npy(path: &Path) -> anyhow::Result<Array> {
    let bytes = read(path)?;
    Array::read(&bytes).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read; the message names it.
pub fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| anyhow::anyhow!("cannot read {}: {e}", path.display()))
}

/// Writes a file and the folders above it.
///
/// # Errors
/// When it cannot be written; the message names it.
pub fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fail = |e: std::io::Error| anyhow::anyhow!("cannot write {}: {e}", path.display());
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    std::fs::write(path, bytes).map_err(fail)
}

/// `--threads`, or what the command takes without it.
pub fn threads(given: Option<NonZeroUsize>, default: NonZeroUsize) -> NonZeroUsize {
    given.unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbers_lists_or_files() {
        assert_eq!(named::<SetValue>("t=0"), Ok(("t".to_owned(), SetValue::Numbers(vec![0.0]))));
        assert_eq!("1, -2.5".parse(), Ok(SetValue::Numbers(vec![1.0, -2.5])));
        assert_eq!("a/b.npy".parse(), Ok(SetValue::File("a/b.npy".into())));
        assert!("nan".parse::<SetValue>().is_err());
        assert!(named::<SetValue>("t").is_err());
        assert!(named::<usize>("=3").is_err());
    }

    #[test]
    fn shapes_and_ranges() {
        assert_eq!("1x3x32x32".parse(), Ok(Dims(vec![1, 3, 32, 32])));
        assert!("1x0".parse::<Dims>().is_err());
        assert_eq!(range("-1,1"), Ok((-1.0, 1.0)));
        assert!(range("1,-1").is_err());
    }
}
