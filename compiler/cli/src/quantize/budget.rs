//! `--budget` and `--freeze-norm`: how much error is allowed, in the user's unit.

use anyhow::bail;
use flowlet_compiler::quantize::Measured;

/// An allowed error of the graph's output.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    /// What is measured.
    pub kind: Kind,
    /// The bound.
    pub limit: f64,
    /// As it was spelled.
    pub text: String,
}

/// What a budget bounds.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The signal-to-noise ratio of every output over all samples, in dB; a larger one is better.
    Snr,
    /// The largest absolute error over all samples, in the output's unit. Without a name, of every output.
    Linf(Option<String>),
    /// The Frechet distance over that of f32.
    Distance,
}

impl std::str::FromStr for Budget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail =
            || format!("'{text}' is not a budget: write it as snr=25dB, linf=0.01, action_linf=0.01rad or fd=1.05x");
        let (key, value) = text.split_once('=').ok_or_else(fail)?;
        let number = |unit: &[&str]| {
            let digits = unit.iter().find_map(|u| value.strip_suffix(u)).unwrap_or(value);
            digits.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0)
        };
        let (kind, limit) = match key {
            "snr" => (Kind::Snr, number(&["dB", "db"])),
            "fd" => (Kind::Distance, number(&["x"]).filter(|x| *x >= 1.0)),
            "linf" => (Kind::Linf(None), None),
            _ => (Kind::Linf(Some(key.strip_suffix("_linf").ok_or_else(fail)?.to_owned())), None),
        };
        // Any word may be the unit of an output: it is the model's own, and only the number is compared.
        let end = value.find(|c: char| c.is_ascii_alphabetic() && c != 'e').unwrap_or(value.len());
        let limit = match &kind {
            Kind::Linf(_) => value[..end].trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0),
            Kind::Snr | Kind::Distance => limit,
        };
        Ok(Budget { kind, limit: limit.ok_or_else(fail)?, text: text.to_owned() })
    }
}

impl Budget {
    /// The share of the budget that this error uses; inside is at most 1.
    ///
    /// # Errors
    /// When it names an output that the model does not have, or is a distance, which only `--budget` measures.
    pub fn used(&self, measured: &Measured) -> anyhow::Result<f64> {
        match &self.kind {
            Kind::Snr => {
                let lowest = measured.outputs.iter().map(|o| o.snr_db).fold(f64::INFINITY, f64::min);
                Ok(10f64.powf((self.limit - lowest) / 10.0))
            }
            Kind::Linf(name) => {
                let of = |o: &&flowlet_compiler::quantize::OutputError| name.as_ref().is_none_or(|n| *n == o.name);
                let found: Vec<f64> = measured.outputs.iter().filter(of).map(|o| o.worst_linf).collect();
                if found.is_empty() {
                    let known: Vec<&str> = measured.outputs.iter().map(|o| o.name.as_str()).collect();
                    bail!("the budget {} names no output of the model; there are {}", self.text, known.join(", "));
                }
                Ok(found.into_iter().fold(0.0, f64::max) / self.limit)
            }
            Kind::Distance => {
                bail!("{}: a Frechet distance can be a --budget only; give snr=30dB or linf=0.01", self.text)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowlet_compiler::quantize::OutputError;

    fn measured(snr_db: f64, worst_linf: f64) -> Measured {
        let name = "action".to_owned();
        let output = OutputError { name, snr_db, worst_db: snr_db, worst_sample: 0, linf: worst_linf, worst_linf };
        Measured { samples: 1, layers: Vec::new(), outputs: vec![output] }
    }

    #[test]
    fn budgets_are_spelled_in_the_users_unit() {
        let parse = |text: &str| text.parse::<Budget>().map(|b| (b.kind, b.limit));
        assert_eq!(parse("snr=25dB"), Ok((Kind::Snr, 25.0)));
        assert_eq!(parse("action_linf=0.01rad"), Ok((Kind::Linf(Some("action".to_owned())), 0.01)));
        assert_eq!(parse("linf=1e-3"), Ok((Kind::Linf(None), 1e-3)));
        assert_eq!(parse("fd=1.05x"), Ok((Kind::Distance, 1.05)));
        for wrong in ["snr", "snr=-1", "fd=0.5x", "speed=3", "linf=rad"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_share_is_one_at_the_limit() {
        let used = |text: &str, m: &Measured| text.parse::<Budget>().unwrap().used(m).unwrap();
        assert!((used("snr=25dB", &measured(25.0, 0.0)) - 1.0).abs() < 1e-9);
        assert!(used("snr=25dB", &measured(26.0, 0.0)) < 1.0);
        assert!((used("action_linf=0.01rad", &measured(0.0, 0.02)) - 2.0).abs() < 1e-9);
        assert!("torque_linf=0.01".parse::<Budget>().unwrap().used(&measured(0.0, 0.0)).is_err());
    }
}
