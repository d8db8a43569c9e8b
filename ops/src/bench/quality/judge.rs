//! Log loss and AUC with bootstrap intervals, and paired differences on the same resamples.

use model::random::Random;
use serde::Serialize;

/// Resamples behind every interval.
const RESAMPLES: usize = 200;
/// Probabilities are kept this far from 0 and 1 before a logarithm is taken.
const EDGE: f64 = 1e-7;

/// A value with its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// On the examples as they are.
    pub value: f64,
    /// 2.5th percentile of the resamples.
    pub low: f64,
    /// 97.5th percentile of the resamples.
    pub high: f64,
}

impl Interval {
    fn of(value: f64, mut resampled: Vec<f64>) -> Self {
        resampled.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let index = (resampled.len() as f64 * share) as usize;
            resampled.get(index.min(resampled.len().saturating_sub(1))).copied().unwrap_or(value)
        };
        Self { value, low: at(0.025), high: at(0.975) }
    }
}

/// What one predictor comes to in the examples as they are (first) and in each resample.
#[derive(Debug, Clone)]
pub struct Measured {
    log_loss: Vec<f64>,
    auc: Vec<f64>,
}

impl Measured {
    /// Mean of -log of the probability given to what happened, nats.
    pub fn log_loss(&self) -> Interval {
        Interval::of(self.log_loss[0], self.log_loss[1..].to_vec())
    }

    /// Probability that a click is ranked above none; ties count half.
    pub fn auc(&self) -> Interval {
        Interval::of(self.auc[0], self.auc[1..].to_vec())
    }

    /// This one's log loss less another's: below 0 is better.
    pub fn log_loss_less(&self, other: &Self) -> Interval {
        difference(&self.log_loss, &other.log_loss)
    }

    /// This one's AUC less another's: above 0 is better.
    pub fn auc_less(&self, other: &Self) -> Interval {
        difference(&self.auc, &other.auc)
    }

    /// The share of what the truth tells beyond the base rate that this one tells, too.
    pub fn gain_share(&self, base: &Self, truth: &Self) -> Interval {
        let shares =
            |at: usize| (base.log_loss[at] - self.log_loss[at]) / (base.log_loss[at] - truth.log_loss[at]);
        let all: Vec<f64> = (0..self.log_loss.len()).map(shares).collect();
        Interval::of(all[0], all[1..].to_vec())
    }
}

fn difference(a: &[f64], b: &[f64]) -> Interval {
    let all: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    Interval::of(all[0], all[1..].to_vec())
}

/// Judges predictors of the same clicks, all on the same resamples.
pub struct Judge<'a> {
    clicked: &'a [bool],
    seed: u64,
}

impl<'a> Judge<'a> {
    /// Of these outcomes.
    pub const fn new(clicked: &'a [bool], seed: u64) -> Self {
        Self { clicked, seed }
    }

    /// Measures predictions, one per outcome.
    pub fn measure(&self, predictions: &[f32]) -> Measured {
        let count = self.clicked.len();
        debug_assert_eq!(count, predictions.len());
        let losses: Vec<f64> = predictions
            .iter()
            .zip(self.clicked)
            .map(|(p, clicked)| {
                let p = f64::from(*p).clamp(EDGE, 1.0 - EDGE);
                if *clicked { -p.ln() } else { -(1.0 - p).ln() }
            })
            .collect();
        let mut order: Vec<u32> = (0..count as u32).collect();
        order.sort_by(|a, b| predictions[*a as usize].total_cmp(&predictions[*b as usize]));
        let mut measured = Measured { log_loss: Vec::new(), auc: Vec::new() };
        let mut random = Random::new(self.seed, "bench quality");
        let mut weights = vec![1_u32; count];
        for resample in 0..=RESAMPLES {
            if resample > 0 {
                weights.fill(0);
                for _ in 0..count {
                    weights[random.below(count)] += 1;
                }
            }
            let sum: f64 = losses.iter().zip(&weights).map(|(loss, weight)| loss * f64::from(*weight)).sum();
            measured.log_loss.push(sum / count as f64);
            measured.auc.push(self.auc(predictions, &order, &weights));
        }
        measured
    }

    /// Mann-Whitney over the order of predictions; 0.5 where there is one class only.
    fn auc(&self, predictions: &[f32], order: &[u32], weights: &[u32]) -> f64 {
        let (mut below, mut area, mut clicks) = (0.0, 0.0, 0.0);
        for tie in order.chunk_by(|a, b| predictions[*a as usize] == predictions[*b as usize]) {
            let (mut clicked, mut other) = (0.0, 0.0);
            for &at in tie {
                let weight = f64::from(weights[at as usize]);
                if self.clicked[at as usize] { clicked += weight } else { other += weight }
            }
            area += clicked * (below + other / 2.0);
            below += other;
            clicks += clicked;
        }
        if clicks * below > 0.0 { area / (clicks * below) } else { 0.5 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_closed_forms() {
        let clicked = [true, false, false, true];
        let judge = Judge::new(&clicked, 1);
        let base = judge.measure(&[0.5; 4]);
        assert!((base.log_loss().value - 2_f64.ln()).abs() < 1e-9);
        assert_eq!(base.auc().value, 0.5);
        let good = judge.measure(&[0.9, 0.2, 0.1, 0.8]);
        assert_eq!(good.auc().value, 1.0);
        let loss = -(0.9_f64.ln() + 0.8_f64.ln() + 0.9_f64.ln() + 0.8_f64.ln()) / 4.0;
        assert!((good.log_loss().value - loss).abs() < 1e-6);
        assert!((good.gain_share(&base, &good).value - 1.0).abs() < 1e-12);
        assert!((base.gain_share(&base, &good).value).abs() < 1e-12);
        assert!(good.log_loss_less(&base).high < 0.0 && good.auc_less(&base).value == 0.5);
    }

    #[test]
    fn an_interval_covers_its_value_and_narrows_with_the_examples() {
        let width = |count: usize| {
            let clicked: Vec<bool> = (0..count).map(|at| at % 7 == 0).collect();
            let predictions: Vec<f32> = (0..count).map(|at| 0.1 + (at * 13 % 50) as f32 / 100.0).collect();
            let loss = Judge::new(&clicked, 3).measure(&predictions).log_loss();
            assert!(loss.low < loss.value && loss.value < loss.high);
            loss.high - loss.low
        };
        assert!(width(6_400) < width(400) / 3.0);
    }
}
