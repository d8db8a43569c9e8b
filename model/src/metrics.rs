//! How good predictions are. Pure functions of probabilities, outcomes and weights, in double
//! precision and in a fixed order.

use serde::{Deserialize, Serialize};

use crate::encode::Outcome;
use crate::predict::Probabilities;
use crate::random::Random;

/// Probabilities are kept this far from 0 and 1 before a logarithm is taken.
const EDGE: f64 = 1e-7;
/// Buckets of equal width in the expected calibration error.
const BUCKETS: usize = 20;

/// How good one head is. `None` where the examples don't say: without examples, or with one class
/// only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadMetrics {
    /// Examples that count for this head.
    pub examples: u64,
    /// Those with a positive outcome.
    pub positives: u64,
    /// Weighted share of positives.
    pub base_rate: Option<f64>,
    /// Weighted mean of the predictions.
    pub mean_prediction: Option<f64>,
    /// Mean of -log of the probability given to what happened, natural.
    pub log_loss: Option<f64>,
    /// The log loss of saying the base rate of everything.
    pub base_log_loss: Option<f64>,
    /// Log loss divided by that of the base rate; below 1 is better than knowing only the rate.
    pub normalised_entropy: Option<f64>,
    /// Probability that a positive is ranked above a negative; ties count half.
    pub auc: Option<f64>,
    /// Weighted mean over 20 equal-width buckets of |mean prediction - share of positives|.
    pub calibration_error: Option<f64>,
    /// Share on the right side of 0.5.
    pub accuracy: Option<f64>,
}

/// How good each head is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Clicks, over all examples.
    pub click: HeadMetrics,
    /// Purchases given a click, over clicked examples whose label has matured.
    pub conversion: HeadMetrics,
    /// Purchases given no click, over the other examples whose label has matured.
    pub view_through: HeadMetrics,
    /// Purchases, over all examples whose label has matured.
    pub purchase: HeadMetrics,
}

/// A prediction with its outcome.
#[derive(Debug, Clone, Copy)]
pub struct Judged {
    /// Predicted probability.
    pub probability: f32,
    /// Whether it happened.
    pub positive: bool,
    /// How much it counts.
    pub weight: f32,
}

impl Metrics {
    /// Measures predictions by what came of their examples and how much each counts, in the same
    /// order (see [`Examples::outcomes`](crate::Examples::outcomes)).
    pub fn measure(
        predictions: &[Probabilities],
        outcomes: impl IntoIterator<Item = (Outcome, f32)>,
    ) -> Self {
        let mut heads: [Vec<Judged>; 4] = Default::default();
        for (prediction, (outcome, weight)) in predictions.iter().zip(outcomes) {
            let mut judge = |head: usize, probability: f32, positive: bool| {
                heads[head].push(Judged { probability, positive, weight });
            };
            judge(0, prediction.p_click, outcome.clicked);
            if outcome.matured {
                if outcome.clicked {
                    judge(1, prediction.p_conversion, outcome.purchased);
                } else {
                    judge(2, prediction.p_view_through, outcome.purchased);
                }
                judge(3, prediction.p_purchase, outcome.purchased);
            }
        }
        let [click, conversion, view_through, purchase] = heads.map(|judged| HeadMetrics::measure(&judged));
        Self { click, conversion, view_through, purchase }
    }
}

impl HeadMetrics {
    /// Measures one head.
    pub fn measure(judged: &[Judged]) -> Self {
        let total: f64 = judged.iter().map(|one| f64::from(one.weight)).sum();
        let mut metrics = Self {
            examples: judged.len() as u64,
            positives: judged.iter().filter(|one| one.positive).count() as u64,
            ..Self::default()
        };
        if total <= 0.0 {
            return metrics;
        }
        let mean = |value: &dyn Fn(&Judged) -> f64| {
            judged.iter().map(|one| value(one) * f64::from(one.weight)).sum::<f64>() / total
        };
        let base_rate = mean(&|one| f64::from(u8::from(one.positive)));
        let loss = mean(&|one| log_loss(one.probability, one.positive));
        metrics.base_rate = Some(base_rate);
        metrics.mean_prediction = Some(mean(&|one| f64::from(one.probability)));
        metrics.log_loss = Some(loss);
        metrics.accuracy = Some(mean(&|one| f64::from(u8::from((one.probability >= 0.5) == one.positive))));
        metrics.calibration_error = Some(calibration_error(judged, total));
        metrics.auc = auc(judged);
        let entropy = entropy(base_rate);
        metrics.base_log_loss = Some(entropy);
        if entropy > 0.0 {
            metrics.normalised_entropy = Some(loss / entropy);
        }
        metrics
    }
}

/// -log of the probability given to what happened.
pub fn log_loss(probability: f32, positive: bool) -> f64 {
    let probability = f64::from(probability).clamp(EDGE, 1.0 - EDGE);
    -libm::log(if positive { probability } else { 1.0 - probability })
}

/// Log loss of saying the rate of everything.
fn entropy(rate: f64) -> f64 {
    if rate <= 0.0 || rate >= 1.0 {
        return 0.0;
    }
    -(rate * libm::log(rate) + (1.0 - rate) * libm::log(1.0 - rate))
}

fn calibration_error(judged: &[Judged], total: f64) -> f64 {
    let mut buckets = [(0.0_f64, 0.0_f64); BUCKETS];
    for one in judged {
        let bucket = ((one.probability * BUCKETS as f32) as usize).min(BUCKETS - 1);
        let weight = f64::from(one.weight);
        buckets[bucket].0 += weight * f64::from(one.probability);
        buckets[bucket].1 += weight * f64::from(u8::from(one.positive));
    }
    buckets.iter().map(|(predicted, happened)| (predicted - happened).abs()).sum::<f64>() / total
}

/// Area under the ROC curve, by ranks, ties counted half; `None` with one class only.
pub fn auc(judged: &[Judged]) -> Option<f64> {
    let mut order: Vec<&Judged> = judged.iter().collect();
    order.sort_by(|a, b| a.probability.total_cmp(&b.probability));
    let (mut below, mut won, mut positives) = (0.0_f64, 0.0_f64, 0.0_f64);
    for tied in order.chunk_by(|a, b| a.probability == b.probability) {
        let weight = |positive: bool| -> f64 {
            tied.iter().filter(|one| one.positive == positive).map(|one| f64::from(one.weight)).sum()
        };
        let (up, down) = (weight(true), weight(false));
        won += up * (below + down / 2.0);
        below += down;
        positives += up;
    }
    (positives > 0.0 && below > 0.0).then(|| won / (positives * below))
}

/// A mean difference with its bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Mean of `a - b`.
    pub mean: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Paired bootstrap of the mean of `a - b`, value by value of the same examples: the interval
/// that holds `confidence` (0 to 1) of `resamples` resamples. `None` without examples.
pub fn bootstrap_difference(
    a: &[f64],
    b: &[f64],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Option<Difference> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    if differences.is_empty() || resamples == 0 {
        return None;
    }
    let count = differences.len();
    let mean = differences.iter().sum::<f64>() / count as f64;
    let mut random = Random::new(seed, "bootstrap");
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| (0..count).map(|_| differences[random.below(count)]).sum::<f64>() / count as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let tail = ((1.0 - confidence.clamp(0.0, 1.0)) / 2.0 * resamples as f64) as usize;
    let tail = tail.min((resamples - 1) / 2);
    Some(Difference { mean, low: means[tail], high: means[resamples - 1 - tail] })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn judged(pairs: &[(f32, bool)]) -> Vec<Judged> {
        pairs.iter().map(|&(probability, positive)| Judged { probability, positive, weight: 1.0 }).collect()
    }

    #[test]
    fn metrics_match_closed_forms() {
        let metrics = HeadMetrics::measure(&judged(&[(0.8, true), (0.6, false), (0.4, true), (0.2, false)]));
        let loss = -(0.8_f64.ln() + 0.4_f64.ln() + 0.4_f64.ln() + 0.8_f64.ln()) / 4.0;
        assert!((metrics.log_loss.unwrap() - loss).abs() < 1e-7);
        assert!((metrics.base_log_loss.unwrap() - 2.0_f64.ln()).abs() < 1e-12);
        assert!((metrics.normalised_entropy.unwrap() - loss / 2.0_f64.ln()).abs() < 1e-7);
        assert_eq!(metrics.auc, Some(0.75));
        assert_eq!(metrics.accuracy, Some(0.5));
        assert!((metrics.calibration_error.unwrap() - (0.2 + 0.6 + 0.6 + 0.2) / 4.0).abs() < 1e-6);
        assert_eq!((metrics.examples, metrics.positives), (4, 2));
    }

    #[test]
    fn ties_count_half() {
        assert_eq!(auc(&judged(&[(0.5, true), (0.5, false)])), Some(0.5));
        assert_eq!(auc(&judged(&[(0.5, true), (0.5, false), (0.1, false)])), Some(0.75));
    }

    #[test]
    fn auc_agrees_with_counting_pairs() {
        let mut random = Random::new(3, "pairs");
        let all: Vec<(f32, bool)> =
            (0..300).map(|_| (random.below(40) as f32 / 40.0, random.unit() < 0.3)).collect();
        let (mut won, mut pairs) = (0.0, 0.0);
        for (high, _) in all.iter().filter(|one| one.1) {
            for (low, _) in all.iter().filter(|one| !one.1) {
                pairs += 1.0;
                won += if high > low {
                    1.0
                } else if high == low {
                    0.5
                } else {
                    0.0
                };
            }
        }
        assert!((auc(&judged(&all)).unwrap() - won / pairs).abs() < 1e-12);
    }

    #[test]
    fn nothing_to_measure_gives_nothing() {
        assert_eq!(HeadMetrics::measure(&[]), HeadMetrics::default());
        let one_class = HeadMetrics::measure(&judged(&[(0.1, false)]));
        assert_eq!((one_class.auc, one_class.normalised_entropy), (None, None));
        assert!(one_class.log_loss.is_some());
        assert_eq!(bootstrap_difference(&[], &[], 100, 0.95, 1), None);
    }

    #[test]
    fn certainty_in_error_is_finite() {
        let metrics = HeadMetrics::measure(&judged(&[(1.0, false), (0.0, true)]));
        assert!(metrics.log_loss.unwrap().is_finite());
    }

    #[test]
    fn the_bootstrap_interval_is_about_two_standard_errors() {
        let mut random = Random::new(9, "normal-ish");
        let a: Vec<f64> =
            (0..2_000).map(|_| (0..12).map(|_| f64::from(random.unit())).sum::<f64>() - 6.0 + 0.1).collect();
        let b = vec![0.0; a.len()];
        let difference = bootstrap_difference(&a, &b, 1_000, 0.95, 7).unwrap();
        let half = (difference.high - difference.low) / 2.0;
        assert!((half / (1.96 / 2_000_f64.sqrt()) - 1.0).abs() < 0.12, "{difference:?}");
        assert!(difference.low < 0.1 && 0.1 < difference.high);
        assert_eq!(bootstrap_difference(&a, &b, 1_000, 0.95, 7), Some(difference));
    }
}
