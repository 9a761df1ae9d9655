//! The Frechet distance between two Gaussians (Dowson and Landau, 1982; Heusel et al., 2017).

use crate::ScoreError;
use nalgebra::{DMatrix, DVector, SymmetricEigen};

/// A mean and a covariance.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    mu: DVector<f64>,
    sigma: DMatrix<f64>,
}

impl Gaussian {
    /// A Gaussian of `mu.len()` dimensions; `sigma` is its covariance, row by row.
    ///
    /// # Errors
    /// When the lengths disagree, a number is not finite, or the covariance is not symmetric.
    pub fn new(mu: &[f64], sigma: &[f64]) -> Result<Self, ScoreError> {
        let n = mu.len();
        let fail = |m: &str| Err(ScoreError::Statistics(m.to_owned()));
        if n == 0 || sigma.len() != n * n {
            return fail(&format!("a mean of {n} and a covariance of {} numbers do not belong together", sigma.len()));
        }
        if mu.iter().chain(sigma).any(|x| !x.is_finite()) {
            return fail("a mean or covariance is not finite");
        }
        let sigma = DMatrix::from_row_slice(n, n, sigma);
        if (&sigma - sigma.transpose()).amax() > 1e-6 * sigma.amax().max(f64::MIN_POSITIVE) {
            return fail("the covariance is not symmetric");
        }
        Ok(Gaussian { mu: DVector::from_column_slice(mu), sigma })
    }

    /// Mean and unbiased covariance of `rows` of `width` features, summed in f64 in the order of the rows.
    ///
    /// # Errors
    /// When there are fewer than two rows, or a feature is not finite.
    pub fn fit(rows: &[f32], width: usize) -> Result<Self, ScoreError> {
        let count = rows.len().checked_div(width).unwrap_or(0);
        if count < 2 || count * width != rows.len() {
            return Err(ScoreError::Statistics(format!("{} features make no two rows of {width}", rows.len())));
        }
        let mut mu = vec![0.0f64; width];
        for row in rows.chunks_exact(width) {
            for (sum, &x) in mu.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
        }
        for sum in &mut mu {
            *sum /= count as f64;
        }
        let mut sigma = vec![0.0f64; width * width];
        let mut centred = vec![0.0f64; width];
        for row in rows.chunks_exact(width) {
            for ((c, &x), m) in centred.iter_mut().zip(row).zip(&mu) {
                *c = f64::from(x) - m;
            }
            for (a, sums) in centred.iter().zip(sigma.chunks_exact_mut(width)) {
                for (sum, b) in sums.iter_mut().zip(&centred) {
                    *sum += a * b;
                }
            }
        }
        for sum in &mut sigma {
            *sum /= (count - 1) as f64;
        }
        Gaussian::new(&mu, &sigma)
    }

    /// The mean.
    pub fn mu(&self) -> &[f64] {
        self.mu.as_slice()
    }

    /// The covariance, row by row.
    pub fn sigma(&self) -> Vec<f64> {
        self.sigma.transpose().as_slice().to_vec()
    }

    /// Number of dimensions.
    pub fn dims(&self) -> usize {
        self.mu.len()
    }
}

/// `|mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 sum sqrt(eig(S1^1/2 S2 S1^1/2))`.
///
/// The product under the root is symmetric, so that its eigenvalues are real also when a covariance is singular; those
/// that rounding makes negative count as zero.
///
/// # Errors
/// When the dimensions differ or a decomposition does not converge.
pub fn frechet(a: &Gaussian, b: &Gaussian) -> Result<f64, ScoreError> {
    if a.dims() != b.dims() {
        let message = format!("features of {} and of {} dimensions cannot be compared", a.dims(), b.dims());
        return Err(ScoreError::Statistics(message));
    }
    let own = eigen(&a.sigma)?;
    let roots = DMatrix::from_diagonal(&own.eigenvalues.map(|v| v.max(0.0).sqrt()));
    let root = &own.eigenvectors * roots * own.eigenvectors.transpose();
    let product = &root * &b.sigma * &root;
    let symmetric = (&product + product.transpose()) * 0.5;
    let cross: f64 = eigen(&symmetric)?.eigenvalues.iter().map(|v| v.max(0.0).sqrt()).sum();
    Ok((&a.mu - &b.mu).norm_squared() + a.sigma.trace() + b.sigma.trace() - 2.0 * cross)
}

fn eigen(matrix: &DMatrix<f64>) -> Result<SymmetricEigen<f64, nalgebra::Dyn>, ScoreError> {
    SymmetricEigen::try_new(matrix.clone(), f64::EPSILON, 100_000)
        .ok_or_else(|| ScoreError::Statistics("an eigen decomposition did not converge".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn distance(mu1: &[f64], s1: &[f64], mu2: &[f64], s2: &[f64]) -> f64 {
        frechet(&Gaussian::new(mu1, s1).unwrap(), &Gaussian::new(mu2, s2).unwrap()).unwrap()
    }

    #[test]
    fn a_gaussian_is_at_no_distance_from_itself() {
        let sigma = [2.0, 0.5, 0.1, 0.5, 1.0, -0.3, 0.1, -0.3, 0.7];
        assert!(distance(&[1.0, 2.0, 3.0], &sigma, &[1.0, 2.0, 3.0], &sigma).abs() < 1e-12);
    }

    #[test]
    fn commuting_covariances_have_a_closed_form() {
        // |mu|^2 + sum (s1 - s2)^2 over standard deviations.
        let d = distance(&[0.0, 0.0], &[4.0, 0.0, 0.0, 9.0], &[3.0, -4.0], &[1.0, 0.0, 0.0, 25.0]);
        assert!((d - (25.0 + 1.0 + 4.0)).abs() < 1e-12, "{d}");
    }

    #[test]
    fn covariances_that_do_not_commute_agree_with_the_trace_of_the_root() {
        // For 2x2: tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)), M = S1 S2.
        let (s1, s2) = ([2.0, 1.0, 1.0, 3.0], [1.0, -0.4, -0.4, 0.5]);
        let (tr, det): (f64, f64) = (2.0 - 0.4 - 0.4 + 1.5, 5.0 * (0.5 - 0.16));
        let expected = 5.0 + 1.5 - 2.0 * (tr + 2.0 * det.sqrt()).sqrt();
        let d = distance(&[0.0; 2], &s1, &[0.0; 2], &s2);
        assert!((d - expected).abs() < 1e-12, "{d} {expected}");
        assert!((distance(&[0.0; 2], &s2, &[0.0; 2], &s1) - d).abs() < 1e-12);
    }

    #[test]
    fn singular_covariances_have_a_distance() {
        let (flat, zero) = ([1.0, 1.0, 1.0, 1.0], [0.0; 4]);
        assert!((distance(&[0.0; 2], &flat, &[0.0; 2], &zero) - 2.0).abs() < 1e-12);
        assert!(distance(&[0.0; 2], &flat, &[0.0; 2], &flat).abs() < 1e-7);
    }

    #[test]
    fn statistics_of_rows_are_the_unbiased_ones() {
        let fitted = Gaussian::fit(&[1.0, 2.0, 3.0, 6.0, 5.0, 1.0], 2).unwrap();
        let known = Gaussian::new(&[3.0, 3.0], &[4.0, -1.0, -1.0, 7.0]).unwrap();
        assert!(frechet(&fitted, &known).unwrap().abs() < 1e-12);
    }

    #[test]
    fn unusable_numbers_are_refused() {
        assert!(Gaussian::new(&[f64::NAN], &[1.0]).is_err());
        assert!(Gaussian::new(&[0.0, 0.0], &[1.0, 2.0, 0.0, 1.0]).is_err());
        assert!(Gaussian::new(&[0.0], &[1.0, 2.0]).is_err());
        assert!(Gaussian::fit(&[1.0, 2.0], 2).is_err());
        assert!(Gaussian::fit(&[1.0, f32::INFINITY, 2.0, 3.0], 2).is_err());
    }
}
