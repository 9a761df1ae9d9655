//! What an int8 model is calibrated on.

use crate::feeds::Samples;
use anyhow::{anyhow, bail};
use flowlet_compiler::ir::{Graph, Tensor};
use flowlet_compiler::quantize::Calibration;
use flowlet_score::engine::input_tensors;
use std::path::PathBuf;

/// `--calibrate`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Calibrate {
    /// So many samples of the noise that the model is deployed with.
    Noise(usize),
    /// A folder with one `.npy` for each input, samples first.
    Folder(PathBuf),
}

impl Default for Calibrate {
    fn default() -> Self {
        Calibrate::Noise(64)
    }
}

impl std::str::FromStr for Calibrate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(0) => Err("calibration needs at least one sample".to_owned()),
            Ok(n) => Ok(Calibrate::Noise(n)),
            Err(_) => Ok(Calibrate::Folder(text.into())),
        }
    }
}

/// The samples for a static f32 graph.
///
/// # Errors
/// When an input reads something that neither noise nor the folder gives.
pub fn calibration(graph: &Graph, calibrate: &Calibrate) -> anyhow::Result<Calibration> {
    match calibrate {
        Calibrate::Noise(n) => Calibration::from_noise(graph, *n).map_err(|input| {
            anyhow!(
                "input '{input}' does not read noise, so that its range must be measured: give samples with \
                 --calibrate DIR (DIR/{input}.npy, samples first), or say --noise {input} if it does read noise"
            )
        }),
        Calibrate::Folder(folder) => {
            if !folder.is_dir() {
                bail!("--calibrate {}: neither a number of samples nor a folder", folder.display());
            }
            let samples = Samples::from_folder(graph, folder)?;
            let tensors: Result<Vec<_>, _> =
                (0..samples.count()).map(|i| input_tensors(graph, &samples.feeds(i))).collect();
            // The name of a folder says nothing on another machine, and must not change the bytes of a .flq.
            Ok(Calibration::from_samples(tensors?, "recorded inputs"))
        }
    }
}

/// `n` samples to measure errors on: noise that calibration does not use, or the first of the folder that it does use.
///
/// # Errors
/// As [`calibration`].
pub fn held_out(graph: &Graph, calibrate: Option<&Calibrate>, n: usize) -> anyhow::Result<Vec<Vec<Tensor>>> {
    match calibrate {
        Some(folder @ Calibrate::Folder(_)) => {
            let mut samples = calibration(graph, folder)?.samples;
            samples.truncate(n);
            Ok(samples)
        }
        Some(Calibrate::Noise(_)) | None => Calibration::held_out(graph, n)
            .map_err(|input| anyhow!("input '{input}' does not read noise: give samples with --calibrate DIR")),
    }
}
