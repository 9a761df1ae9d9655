//! The exact velocity of Gaussian data: every sampler has a known answer and needs no training.
//!
//! For data `x ~ N(0, S)` and `x_tau = tau x + (1 - tau) z` the velocity is linear, `v = (tau S - (1 - tau) I) C^-1 x_tau`
//! with `C = tau^2 S + (1 - tau)^2 I` (others.md, finding 9, in flow time).

use super::samplers::Field;

/// A covariance matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    /// Number of dimensions.
    pub n: usize,
    /// Row-major, symmetric and positive definite.
    pub covariance: Vec<f64>,
}

impl Gaussian {
    /// A covariance `A A-transpose / n + floor I` with a matrix of standard normal numbers from `seed`.
    pub fn random(n: usize, seed: u64, floor: f64) -> Gaussian {
        let a: Vec<f64> =
            (0..n * n).map(|i| f64::from(flowlet_kernels::noise::element_f32(seed, 7, i as u32))).collect();
        let mut covariance = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                let sum: f64 = (0..n).map(|k| a[i * n + k] * a[j * n + k]).sum();
                covariance[i * n + j] = sum / n as f64 + if i == j { floor } else { 0.0 };
            }
        }
        Gaussian { n, covariance }
    }

    /// The matrix of the velocity at a flow time.
    pub fn velocity(&self, tau: f64) -> Vec<f64> {
        let n = self.n;
        let eye = |i: usize| if i / n == i % n { 1.0 } else { 0.0 };
        let c: Vec<f64> =
            (0..n * n).map(|i| tau * tau * self.covariance[i] + (1.0 - tau) * (1.0 - tau) * eye(i)).collect();
        let d: Vec<f64> = (0..n * n).map(|i| tau * self.covariance[i] - (1.0 - tau) * eye(i)).collect();
        // Both are functions of S and commute: C^-1 D is symmetric.
        solve(&c, &d, n)
    }

    /// The lower factor `L` of `S = L L-transpose`: `L z` is a sample.
    pub fn factor(&self) -> Vec<f64> {
        cholesky(&self.covariance, self.n)
    }

    /// Mean of the unobserved dimensions given the observed ones, and their standard deviations.
    pub fn posterior(&self, observed: &[(usize, f64)]) -> (Vec<f64>, Vec<f64>) {
        let n = self.n;
        let seen: Vec<usize> = observed.iter().map(|(i, _)| *i).collect();
        let hidden: Vec<usize> = (0..n).filter(|i| !seen.contains(i)).collect();
        let part = |rows: &[usize], columns: &[usize]| -> Vec<f64> {
            rows.iter().flat_map(|&i| columns.iter().map(move |&j| self.covariance[i * n + j])).collect()
        };
        let (k, h) = (seen.len(), hidden.len());
        // S_oo^-1 S_oh, k x h.
        let gain = solve(&part(&seen, &seen), &part(&seen, &hidden), k);
        let mean = (0..h).map(|j| (0..k).map(|i| gain[i * h + j] * observed[i].1).sum()).collect();
        let deviation = (0..h)
            .map(|j| {
                let known: f64 = (0..k).map(|i| gain[i * h + j] * self.covariance[seen[i] * n + hidden[j]]).sum();
                libm::sqrt((self.covariance[hidden[j] * n + hidden[j]] - known).max(0.0))
            })
            .collect();
        (mean, deviation)
    }

    /// The field of velocities.
    pub fn field(&self) -> Field {
        let own = self.clone();
        Field::Linear { len: self.n, matrix: Box::new(move |tau| own.velocity(tau)) }
    }
}

/// The lower Cholesky factor of a positive definite matrix.
fn cholesky(a: &[f64], n: usize) -> Vec<f64> {
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            let rest = a[i * n + j] - sum;
            l[i * n + j] = if i == j { libm::sqrt(rest.max(0.0)) } else { rest / l[j * n + j] };
        }
    }
    l
}

/// `A^-1 B` for a positive definite `A` of `n` rows and a `B` of `n` rows.
fn solve(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let columns = b.len() / n.max(1);
    let l = cholesky(a, n);
    let mut x = b.to_vec();
    for c in 0..columns {
        for i in 0..n {
            let sum: f64 = (0..i).map(|k| l[i * n + k] * x[k * columns + c]).sum();
            x[i * columns + c] = (x[i * columns + c] - sum) / l[i * n + i];
        }
        for i in (0..n).rev() {
            let sum: f64 = (i + 1..n).map(|k| l[k * n + i] * x[k * columns + c]).sum();
            x[i * columns + c] = (x[i * columns + c] - sum) / l[i * n + i];
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn velocity_ends_are_noise_and_data() {
        let g = Gaussian::random(5, 3, 0.1);
        // At the noise the data estimate is the mean, 0, so v = -x; at the data the noise estimate is 0, so v = x.
        for (tau, sign) in [(0.0, -1.0), (1.0, 1.0)] {
            for (i, m) in g.velocity(tau).iter().enumerate() {
                let wanted = if i / 5 == i % 5 { sign } else { 0.0 };
                assert!((m - wanted).abs() < 1e-12, "{tau} {i} {m}");
            }
        }
    }

    #[test]
    fn posterior_of_a_known_pair() {
        let g = Gaussian { n: 2, covariance: vec![1.0, 0.6, 0.6, 1.0] };
        let (mean, deviation) = g.posterior(&[(0, 2.0)]);
        assert!((mean[0] - 1.2).abs() < 1e-12 && (deviation[0] - 0.8).abs() < 1e-12);
    }
}
