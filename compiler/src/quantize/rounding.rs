//! Rounds the weights of a layer so that its output changes least.
//!
//! With `H` the mean of `x x^T` over the inputs, the mean square change of an output is `e H e^T` for an error `e` of its
//! weights. `H = U D U^T` with `U` upper triangular turns that into `sum_k D_k (e_k + sum_(j<k) e_j U_jk)^2`, so weight `k`
//! is rounded after adding what the errors before it ask for. This is GPTQ (Frantar et al. 2023) in the form of LDLQ
//! (Chee et al., "QuIP", 2023, theorem 6), which inverts nothing.

use super::evidence::Gram;
use flowlet_kernels::round::ties_even;

/// Share of the mean power that is added to every input's, for inputs that calibration hardly saw.
const DAMPING: f64 = 0.01;

/// The factor of a layer's `H`.
pub(super) struct Rounder {
    terms: usize,
    /// `U`, row-major, ones on its diagonal.
    factor: Vec<f64>,
}

impl Rounder {
    /// Factors the products of a layer's inputs. Rounding of the input to steps of `scale` adds noise to each.
    pub fn new(gram: &Gram, scale: f64) -> Option<Self> {
        let n = gram.terms;
        if gram.count == 0 {
            return None;
        }
        let mut u: Vec<f64> = gram.sums.iter().map(|s| s / gram.count as f64).collect();
        let power: f64 = (0..n).map(|i| u[i * n + i]).sum::<f64>() / n as f64;
        let added = DAMPING * power + scale * scale / 12.0;
        if !(added.is_finite() && added > 0.0) {
            return None;
        }
        (0..n).for_each(|i| u[i * n + i] += added);
        let mut diagonal = vec![0.0; n];
        let mut weighted = vec![0.0; n];
        for j in (0..n).rev() {
            for k in j + 1..n {
                weighted[k] = u[j * n + k] * diagonal[k];
            }
            let tail = |i: usize, u: &[f64]| -> f64 {
                u[i * n + j + 1..(i + 1) * n].iter().zip(&weighted[j + 1..]).map(|(a, b)| a * b).sum()
            };
            diagonal[j] = u[j * n + j] - tail(j, &u);
            if diagonal[j].is_nan() || diagonal[j] <= 0.0 {
                return None;
            }
            for i in 0..j {
                u[i * n + j] = (u[i * n + j] - tail(i, &u)) / diagonal[j];
            }
            u[j * n + j] = 1.0;
        }
        Some(Rounder { terms: n, factor: u })
    }

    /// The int8 weights of one output channel for this weight scale.
    pub fn round(&self, weights: &[f32], scale: f64) -> Vec<i8> {
        let n = self.terms;
        // What the errors so far ask of each weight still to come.
        let mut owed = vec![0.0; n];
        let mut out = Vec::with_capacity(n);
        for (k, &w) in weights.iter().enumerate() {
            let q = ties_even((f64::from(w) + owed[k]) / scale).clamp(-127.0, 127.0);
            out.push(q as i8);
            let error = f64::from(w) - q * scale;
            let row = &self.factor[k * n + k + 1..(k + 1) * n];
            owed[k + 1..].iter_mut().zip(row).for_each(|(o, u)| *o += error * u);
        }
        out
    }
}
