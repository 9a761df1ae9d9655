//! Looks for settings under which the int8 graph stays inside an error budget.
//!
//! Every choice here is one of numbers: which scale a tensor has, how weights are rounded, where biases lie. None costs an
//! instruction or a byte on the device, so the search goes from the least effort to the most and takes the first that is
//! inside.

use super::{QuantizeError, Quantizer, Ranges, Settings};
use crate::ir::Graph;

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// The settings.
    pub settings: Settings,
    /// Share of the budget used; inside is at most 1.
    pub used: f64,
    /// Which attempt it was, from 0.
    pub number: usize,
}

/// Ways to choose the range of one tensor, beside that of all.
const RANGES: [Ranges; 4] = [Ranges::MinMax, Ranges::Percentile(0.9999), Ranges::Entropy, Ranges::Mse];

/// Tries settings until one is inside the budget. `used` measures an int8 graph: the share of the budget that it uses.
/// `order` names tensors, the most suspect first, for the last stage, which chooses the range of each on its own.
/// `progress` is called with attempts made and most attempts in all. Returns the graph of the
/// best attempt, which is inside if any is, and the attempts: all for every tensor at once, of the others those that were the
/// best so far.
///
/// # Errors
/// When a layer's numbers are out of range, or what `used` found.
pub fn search(
    quantizer: &Quantizer,
    order: &[String],
    used: &mut dyn FnMut(&Graph) -> Result<f64, QuantizeError>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(Graph, Vec<Trial>), QuantizeError> {
    let most = ladder().len() + order.len() * (RANGES.len() - 1);
    let mut search = Search { quantizer, used, progress, made: 0, most, trials: Vec::new(), best: None };
    search.run(order)?;
    match search.best {
        Some((_, graph, _)) => Ok((graph, search.trials)),
        None => Err(QuantizeError::Bug("a search without settings".to_owned())),
    }
}

struct Search<'a> {
    quantizer: &'a Quantizer,
    used: &'a mut dyn FnMut(&Graph) -> Result<f64, QuantizeError>,
    progress: &'a mut dyn FnMut(usize, usize),
    made: usize,
    most: usize,
    trials: Vec<Trial>,
    best: Option<(f64, Graph, Settings)>,
}

impl Search<'_> {
    fn run(&mut self, order: &[String]) -> Result<(), QuantizeError> {
        for settings in ladder() {
            if self.attempt(settings, true)? {
                return Ok(());
            }
        }
        for tensor in order {
            let base = self.best.as_ref().map(|(_, _, settings)| settings.clone()).unwrap_or_default();
            for ranges in RANGES.into_iter().filter(|r| *r != base.ranges_of(tensor)) {
                let mut settings = base.clone();
                settings.tensors.retain(|(name, _)| name != tensor);
                settings.tensors.push((tensor.clone(), ranges));
                if self.attempt(settings, false)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether these settings are inside the budget.
    fn attempt(&mut self, settings: Settings, always_listed: bool) -> Result<bool, QuantizeError> {
        let graph = self.quantizer.quantize(&settings)?;
        let used = (self.used)(&graph)?;
        let better = self.best.as_ref().is_none_or(|(least, _, _)| used < *least);
        if better || always_listed {
            self.trials.push(Trial { settings: settings.clone(), used, number: self.made });
        }
        if better {
            self.best = Some((used, graph, settings));
        }
        self.made += 1;
        (self.progress)(self.made, self.most);
        Ok(used <= 1.0)
    }
}

/// Settings for all tensors at once, from the least effort to the most.
fn ladder() -> Vec<Settings> {
    let fitted = Settings { fit_weights: true, ..Settings::default() };
    let others = [Ranges::MinMax, Ranges::Percentile(0.9999), Ranges::Entropy];
    let others = others.map(|ranges| Settings { ranges, ..fitted.clone() });
    [Settings::default(), fitted].into_iter().chain(others).collect()
}
