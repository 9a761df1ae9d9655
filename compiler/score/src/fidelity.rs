//! What a cheaper arithmetic did to samples drawn from the same noise.

use crate::generate::Pictures;

/// Peak signal to noise ratio in dB of one picture, for data of range 1; infinite when both are equal.
///
/// ```
/// assert!((flowlet_score::psnr_db(&[0.0, 1.0], &[0.1, 0.9]) - 20.0).abs() < 1e-5);
/// ```
pub fn psnr_db(reference: &[f32], tested: &[f32]) -> f64 {
    let (error, _) = powers(reference, tested);
    -10.0 * (error / reference.len().max(1) as f64).log10()
}

/// Signal to noise ratio in dB: the power of the reference over that of the difference.
pub fn snr_db(reference: &[f32], tested: &[f32]) -> f64 {
    let (error, signal) = powers(reference, tested);
    10.0 * (signal / error).log10()
}

fn powers(reference: &[f32], tested: &[f32]) -> (f64, f64) {
    let pairs = reference.iter().zip(tested).map(|(&a, &b)| (f64::from(a), f64::from(b)));
    pairs.fold((0.0, 0.0), |(error, signal), (a, b)| (error + (a - b) * (a - b), signal + a * a))
}

/// Distances between two sets of pictures drawn from the same seeds and labels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fidelity {
    /// Median over pictures of their PSNR in dB.
    pub psnr_median_db: f64,
    /// 5th percentile over pictures of their PSNR in dB.
    pub psnr_p5_db: f64,
    /// SNR in dB over all pictures together.
    pub snr_db: f64,
}

/// Compares two sets picture by picture, values clamped to [0, 1].
pub fn fidelity(reference: &Pictures, tested: &Pictures) -> Fidelity {
    let clamped = |p: &Pictures| p.values().iter().map(|v| v.clamp(0.0, 1.0)).collect::<Vec<f32>>();
    let (a, b) = (clamped(reference), clamped(tested));
    let size = reference.elements().max(1);
    let mut each: Vec<f64> = a.chunks(size).zip(b.chunks(size)).map(|(a, b)| psnr_db(a, b)).collect();
    each.sort_by(f64::total_cmp);
    Fidelity { psnr_median_db: quantile(&each, 0.5), psnr_p5_db: quantile(&each, 0.05), snr_db: snr_db(&a, &b) }
}

/// The quantile of sorted values, by the lower neighbour.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * q).floor() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_pictures_have_no_noise() {
        assert_eq!(psnr_db(&[0.5, 0.25], &[0.5, 0.25]), f64::INFINITY);
        assert_eq!(snr_db(&[0.5], &[0.5]), f64::INFINITY);
    }

    #[test]
    fn snr_relates_to_the_power_of_the_reference() {
        assert!((snr_db(&[2.0, 0.0], &[2.0, 0.2]) - 20.0).abs() < 1e-5);
    }

    #[test]
    fn quantiles_take_the_lower_neighbour() {
        let v: Vec<f64> = (0..101).map(f64::from).collect();
        assert_eq!((quantile(&v, 0.05), quantile(&v, 0.5)), (5.0, 50.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
