//! One pass over the training examples before the first step: what has to be known of all of them.

use super::sampler::kept;
use super::source::{Source, SourceError};
use crate::config::{Config, TrainingConfig};
use crate::encode::{Fitting, Statistics};
use crate::network::HEADS;
use crate::predict::Model;
use crate::values::Values;

/// A day: what delays are counted in where no purchase says how long they are.
const DAY_S: f64 = 86_400.0;

/// What all training examples say together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Survey {
    /// Of the numbers.
    pub(crate) statistics: Statistics,
    /// Examples.
    pub(crate) examples: u64,
    /// Examples that an epoch learns from.
    pub(crate) kept: u64,
    /// Logits of the base rates, drawn towards what is usual where there are few examples.
    pub(crate) base: [f32; HEADS],
    /// Mean time from impression to purchase, s.
    pub(crate) mean_delay_s: f64,
    /// The longest that an impression has been watched whose purchase window is still open, s.
    pub(crate) window_s: f64,
    /// Values of purchases; none where no purchase has one.
    pub(crate) seen: Option<Seen>,
}

/// Values of purchases.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Seen {
    pub(crate) mean: f64,
    pub(crate) least: f32,
    pub(crate) most: f32,
}

impl Survey {
    /// Reads every block once.
    pub(crate) fn take(source: &dyn Source, config: &TrainingConfig, seed: u64) -> Result<Self, SourceError> {
        let mut fitting = Fitting::new(source.encoder().number_names().len());
        // (positives, examples), as if some had been seen before.
        let mut counts = [(0.5, 10.0), (1.0, 20.0), (1.0, 1_000.0)];
        let (mut examples, mut learned) = (0, 0);
        let (mut value, mut values, mut least, mut most) = (0.0, 0.0, f32::INFINITY, 0.0_f32);
        let (mut delay, mut delays, mut window_s) = (0.0, 0.0, 0.0_f64);
        for number in 0..source.blocks() {
            let block = source.block(number)?;
            for position in 0..block.len() {
                fitting.push(&block.row(position));
                let (outcome, weight) = block.outcome(position);
                examples += 1;
                learned +=
                    u64::from(kept(outcome, seed, number as u32, position as u32, config.negative_rate));
                let weight = f64::from(weight);
                let mut count = |head: usize, positive: bool| {
                    counts[head].0 += weight * f64::from(u8::from(positive));
                    counts[head].1 += weight;
                };
                count(0, outcome.clicked);
                if outcome.matured {
                    count(if outcome.clicked { 1 } else { 2 }, outcome.purchased);
                } else {
                    window_s = window_s.max(f64::from(outcome.elapsed_s));
                }
                if let Some(found) = outcome.final_value().filter(|_| weight > 0.0) {
                    value += weight * f64::from(found);
                    values += weight;
                    (least, most) = (least.min(found), most.max(found));
                }
                if outcome.purchased && outcome.delay_s > 0.0 {
                    delay += f64::from(outcome.delay_s);
                    delays += 1.0;
                }
            }
        }
        let base = counts.map(|(positives, examples)| {
            let rate: f64 = positives / examples;
            libm::log(rate / (1.0 - rate).max(1e-6)) as f32
        });
        let mean_delay_s = if delays > 0.0 { (delay / delays).max(1.0) } else { DAY_S };
        Ok(Self {
            statistics: fitting.finish(),
            examples,
            kept: learned,
            base,
            mean_delay_s,
            window_s,
            seen: (values > 0.0).then(|| Seen { mean: value / values, least, most }),
        })
    }

    /// The values that a model will predict, and the logarithm that the output for them starts from, if not
    /// from the parent's: that is on another scale where the parent has learned another currency.
    pub(crate) fn values(
        &self,
        config: &Config,
        currency: &str,
        parent: Option<&Model>,
    ) -> (Option<Values>, Option<f32>) {
        if !config.predicts_values() {
            return (None, None);
        }
        let ours =
            self.seen.map(|Seen { least, most, .. }| Values { currency: currency.to_owned(), least, most });
        let parents = parent.and_then(Model::values);
        // Examples without a value have no currency either.
        let same = parents.filter(|parents| ours.is_none() || parents.currency == currency);
        match (ours, same) {
            (Some(ours), Some(parents)) => (Some(ours.with(parents)), None),
            (None, Some(parents)) => (Some(parents.clone()), None),
            (ours, None) => (ours, Some(self.seen.map_or(0.0, |seen| libm::log(seen.mean) as f32))),
        }
    }
}
