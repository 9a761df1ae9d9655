//! Where the pictures come from: a model, or a file.

use super::Networks;
use crate::options::{ModelArgs, read_npy};
use anyhow::{anyhow, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use flowlet_score::Pictures;
use flowlet_score::npy::Elements;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// A number of pictures to draw, or a file of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SampleSource {
    /// So many are drawn from a model.
    Count(NonZeroUsize),
    /// A `.npy` file, samples first.
    File(PathBuf),
}

impl std::str::FromStr for SampleSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.ends_with(".npy") {
            return Ok(SampleSource::File(text.into()));
        }
        let count = text.parse().map(SampleSource::Count);
        count.map_err(|_| format!("'{text}' is neither a number above 0 nor the name of a .npy file"))
    }
}

/// [`ModelArgs`] of a command that can do without a model.
#[derive(Clone, Debug, Default)]
pub struct OptionalModel(pub Option<ModelArgs>);

impl OptionalModel {
    /// This model, as [`ModelArgs::of`].
    pub fn of(model: impl Into<PathBuf>) -> Self {
        OptionalModel(Some(ModelArgs::of(model)))
    }
}

impl FromArgMatches for OptionalModel {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = matches.contains_id("model");
        Ok(OptionalModel(given.then(|| ModelArgs::from_arg_matches(matches)).transpose()?))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for OptionalModel {
    fn augment_args(command: Command) -> Command {
        ModelArgs::augment_args(command).mut_arg("model", |arg| arg.required(false))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// The pictures of a `.npy` file [N, ...]: bytes as intensities of 255, all else as it is.
///
/// # Errors
/// When the array is no set of pictures for the feature network, or the labels are not those of so many pictures.
pub fn read_pictures(path: &Path, labels: Option<&Path>, networks: &Networks) -> anyhow::Result<Pictures> {
    let (array, shown) = (read_npy(path)?, path.display());
    let one = networks.picture_dims();
    let [count, size @ ..] = &array.shape[..] else { bail!("{shown} holds a single number, not pictures") };
    if Some(size) != one.get(1..) {
        let rest: Vec<String> = one.iter().skip(1).map(usize::to_string).collect();
        bail!("{shown} has shape {:?}; the feature network takes pictures as [N, {}]", array.shape, rest.join(", "));
    }
    let values: Vec<f32> = match &array.elements {
        Elements::U8(bytes) => bytes.iter().map(|&b| f32::from(b) / 255.0).collect(),
        Elements::I64(_) => {
            bail!("{shown} holds integers of 32 or 64 bits: save pictures as uint8, or as floats in 0..1")
        }
        Elements::F32(_) | Elements::F64(_) => array.to_f32(),
    };
    if let Some(i) = values.iter().position(|x| !x.is_finite()) {
        let width = size.iter().product::<usize>().max(1);
        bail!(
            "{shown}: picture {}, element {} is {}; only finite numbers can be scored",
            i / width,
            i % width,
            values[i]
        );
    }
    let classes = networks.labels().unwrap_or(1);
    let labels = match labels {
        Some(path) => read_labels(path, *count, classes)?,
        None => (0..*count).map(|i| i % classes).collect(),
    };
    let dims: Vec<usize> = std::iter::once(1).chain(size.iter().copied()).collect();
    Ok(Pictures::new(&dims, values, labels)?)
}

fn read_labels(path: &Path, count: usize, classes: usize) -> anyhow::Result<Vec<usize>> {
    let (array, shown) = (read_npy(path)?, path.display());
    let values = array.to_i64().ok_or_else(|| anyhow!("{shown} holds fractions; labels are integers"))?;
    if values.len() != count {
        bail!("{shown} holds {} labels for {count} pictures", values.len());
    }
    let label = |&v: &i64| usize::try_from(v).ok().filter(|&v| v < classes);
    values
        .iter()
        .map(|v| label(v).ok_or_else(|| anyhow!("{shown} holds {v}; the classifier knows 0 to {}", classes - 1)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_a_number_or_a_file() {
        assert_eq!("x/y.npy".parse(), Ok(SampleSource::File("x/y.npy".into())));
        assert_eq!("7".parse(), Ok(SampleSource::Count(NonZeroUsize::new(7).unwrap())));
        assert!("0".parse::<SampleSource>().is_err());
        assert!("many".parse::<SampleSource>().unwrap_err().contains("many"));
    }
}
