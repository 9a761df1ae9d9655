//! What real data look like in a feature network.

use crate::ScoreError;
use crate::frechet::Gaussian;
use crate::npy::{Array, Elements};
use crate::npz::{self, Npz};
use std::path::Path;

/// Statistics of the features of real data and, where precision and recall are wanted, features of single samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    gaussian: Gaussian,
    rows: Vec<f32>,
}

impl Reference {
    /// A reference of a mean and covariance alone.
    pub fn new(gaussian: Gaussian) -> Self {
        Reference { gaussian, rows: Vec::new() }
    }

    /// The reference that rows of `width` features are.
    ///
    /// # Errors
    /// As [`Gaussian::fit`].
    pub fn fit(rows: Vec<f32>, width: usize) -> Result<Self, ScoreError> {
        Ok(Reference { gaussian: Gaussian::fit(&rows, width)?, rows })
    }

    /// The arrays `mu` of D and `sigma` of D x D of an `.npz` file, as pytorch-fid and its kin write it, and `features`
    /// [N, D] if it is there.
    ///
    /// # Errors
    /// When the file is missing or its numbers are no statistics.
    pub fn from_npz(path: &Path) -> Result<Self, ScoreError> {
        let bytes = read(path)?;
        let name = || path.display().to_string();
        let fail = |error| ScoreError::Npz { path: name(), error };
        let npz = Npz::open(&bytes).map_err(fail)?;
        let (mu, sigma) = (npz.array("mu").map_err(fail)?, npz.array("sigma").map_err(fail)?);
        Self::of_arrays(mu, sigma, npz.find("features").map_err(fail)?).map_err(|e| in_file(path, e))
    }

    /// The files `reference_mu.npy` and `reference_sigma.npy` of a folder, and `reference_features.npy` if it is there.
    ///
    /// # Errors
    /// When a file is missing or its numbers are no statistics.
    pub fn from_folder(folder: &Path) -> Result<Self, ScoreError> {
        let file = |what: &str| folder.join(format!("reference_{what}.npy"));
        let load = |path: &Path| {
            let error = |error| ScoreError::Npy { path: path.display().to_string(), error };
            Array::read(&read(path)?).map_err(error)
        };
        let features = file("features");
        let rows = features.exists().then(|| load(&features)).transpose()?;
        Self::of_arrays(load(&file("mu"))?, load(&file("sigma"))?, rows).map_err(|e| in_file(folder, e))
    }

    fn of_arrays(mu: Array, sigma: Array, rows: Option<Array>) -> Result<Self, ScoreError> {
        let gaussian = Gaussian::new(&mu.to_f64(), &sigma.to_f64())?;
        match rows {
            Some(rows) if !matches!(rows.shape[..], [_, width] if width == gaussian.dims()) => {
                let message =
                    format!("features of shape {:?} do not belong to a mean of {}", rows.shape, gaussian.dims());
                Err(ScoreError::Statistics(message))
            }
            rows => Ok(Reference { gaussian, rows: rows.map_or_else(Vec::new, |rows| rows.to_f32()) }),
        }
    }

    /// The bytes of an `.npz` file that [`Reference::from_npz`] reads, and pytorch-fid too.
    ///
    /// # Errors
    /// When the features are larger than such a file can hold.
    pub fn to_npz(&self) -> Result<Vec<u8>, ScoreError> {
        let n = self.gaussian.dims();
        let f64s =
            |shape: &[usize], values: &[f64]| Array { shape: shape.to_vec(), elements: Elements::F64(values.to_vec()) };
        let (mu, sigma) = (f64s(&[n], self.gaussian.mu()), f64s(&[n, n], &self.gaussian.sigma()));
        let features = Array::f32(&[self.rows.len() / n, n], self.rows.clone());
        let mut arrays = vec![("mu", &mu), ("sigma", &sigma)];
        if !self.rows.is_empty() {
            arrays.push(("features", &features));
        }
        npz::write(&arrays).map_err(|error| ScoreError::Npz { path: "the reference".to_owned(), error })
    }

    /// Mean and covariance.
    pub fn gaussian(&self) -> &Gaussian {
        &self.gaussian
    }

    /// Features of single samples, row by row; empty when only statistics are known.
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ScoreError> {
    std::fs::read(path).map_err(|e| ScoreError::Io { path: path.display().to_string(), message: e.to_string() })
}

fn in_file(path: &Path, error: ScoreError) -> ScoreError {
    match error {
        ScoreError::Statistics(message) => ScoreError::Statistics(format!("{}: {message}", path.display())),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let rows: Vec<f32> = (0..12).map(|i| ((i * i) % 7) as f32).collect();
        let written = Reference::fit(rows, 3).unwrap();
        let path = std::env::temp_dir().join(format!("flowlet-reference-{}.npz", std::process::id()));
        std::fs::write(&path, written.to_npz().unwrap()).unwrap();
        let read = Reference::from_npz(&path);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read.unwrap(), written);
    }

    #[test]
    fn features_of_another_width_are_refused() {
        let f32s = |shape: &[usize]| Array::f32(shape, vec![0.0; shape.iter().product()]);
        let error = Reference::of_arrays(f32s(&[2]), f32s(&[2, 2]), Some(f32s(&[4, 3]))).unwrap_err();
        assert!(error.to_string().contains("[4, 3]"), "{error}");
    }
}
