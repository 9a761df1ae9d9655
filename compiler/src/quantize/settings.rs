//! How a quantised graph's numbers are chosen.

use std::fmt;

/// How the range of a tensor is chosen from its values on the calibration samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Ranges {
    /// The least mean square error, measured after the function that follows.
    #[default]
    Mse,
    /// The extremes.
    MinMax,
    /// The quantiles `share` and `1 - share`, as 0.9999.
    Percentile(f64),
    /// The least Kullback-Leibler divergence between the values' histogram and that of their quantised form
    /// (Migacz, "8-bit inference with TensorRT", 2017).
    Entropy,
}

impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ranges::Mse => f.write_str("mse"),
            Ranges::MinMax => f.write_str("min-max"),
            Ranges::Percentile(share) => write!(f, "percentile={share}"),
            Ranges::Entropy => f.write_str("entropy"),
        }
    }
}

impl std::str::FromStr for Ranges {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = |t: &str| t.parse().ok().filter(|s| (0.5..=1.0).contains(s));
        match text {
            "mse" => Ok(Ranges::Mse),
            "min-max" => Ok(Ranges::MinMax),
            "entropy" => Ok(Ranges::Entropy),
            "percentile" => Ok(Ranges::Percentile(0.9999)),
            _ => text.strip_prefix("percentile=").and_then(share).map(Ranges::Percentile).ok_or_else(|| {
                format!(
                    "'{text}' is none of mse, min-max, entropy, percentile or percentile=SHARE with SHARE from 0.5 to 1"
                )
            }),
        }
    }
}

/// Choices of [`Quantizer::quantize`](super::Quantizer::quantize).
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// For every tensor that `tensors` does not name.
    pub ranges: Ranges,
    /// Single tensors by name.
    pub tensors: Vec<(String, Ranges)>,
    /// Rounds the weights of a layer one after the other and makes up for each error in the weights that follow, so that
    /// the layer's output changes least on the calibration samples (Frantar et al., "GPTQ", 2023). Layers with more than
    /// 1,200 weights a channel, grouped and transposed ones round to nearest.
    pub fit_weights: bool,
    /// Moves each bias by the mean error that the rounded weights leave on the calibration samples (Nagel et al.,
    /// "Data-free quantization through weight equalization and bias correction", 2019, section 4.2). On by default.
    pub correct_bias: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { ranges: Ranges::Mse, tensors: Vec::new(), fit_weights: false, correct_bias: true }
    }
}

impl Settings {
    pub(super) fn ranges_of(&self, tensor: &str) -> Ranges {
        self.tensors.iter().find(|(name, _)| name == tensor).map_or(self.ranges, |(_, ranges)| *ranges)
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ranges", self.ranges)?;
        if !self.tensors.is_empty() {
            let own: Vec<String> = self.tensors.iter().map(|(name, ranges)| format!("{name}: {ranges}")).collect();
            write!(f, " ({})", own.join(", "))?;
        }
        if self.fit_weights {
            f.write_str(", fitted weights")?;
        }
        if !self.correct_bias {
            f.write_str(", biases as rounded")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_spelled_as_they_are_printed() {
        for ranges in [Ranges::Mse, Ranges::MinMax, Ranges::Entropy, Ranges::Percentile(0.999)] {
            assert_eq!(ranges.to_string().parse(), Ok(ranges));
        }
        assert!("percentile=2".parse::<Ranges>().is_err());
        assert!("max".parse::<Ranges>().is_err());
    }
}
