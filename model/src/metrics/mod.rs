//! How good predictions are. Pure functions of probabilities, outcomes and weights, in double
//! precision and in a fixed order. Checked against scikit-learn in `tests/metrics.rs`.

mod bootstrap;
mod campaigns;
mod curves;
mod heads;
mod ordered;
mod paired;
mod values;

use serde::{Deserialize, Serialize};

pub use bootstrap::{Bootstrap, Difference, Interval, bootstrap_difference};
pub use campaigns::{CampaignMetrics, CampaignsMetrics, by_campaign};
pub use curves::{CurvePoint, pr_curve, roc_curve};
pub use heads::{Head, Heads, Metrics, MetricsLess};
use ordered::Ordered;
pub use paired::less;
pub use values::ValueMetrics;

/// Probabilities are kept this far from 0 and 1 before a logarithm is taken.
const EDGE: f64 = 1e-7;
/// Buckets in the expected calibration error.
pub const BUCKETS: usize = 20;

/// Declares [`Figures`] and, field by field the same, [`Intervals`] and [`Differences`].
macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The figures of one head.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Figures {
            $($(#[$doc])* pub $name: Option<f64>,)*
        }

        /// A bootstrap interval of each of [`Figures`].
        #[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Intervals {
            $(
                #[doc = concat!("Of `", stringify!($name), "`.")]
                pub $name: Option<Interval>,
            )*
        }

        /// How much larger each of [`Figures`] is than another model's on the same examples.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Differences {
            $(
                #[doc = concat!("Of `", stringify!($name), "`.")]
                pub $name: Option<Difference>,
            )*
        }

        impl Differences {
            fn of(a: &Figures, b: &Figures, resampled: &[[Figures; 2]], bootstrap: &Bootstrap) -> Self {
                Self {
                    $($name: {
                        let less = resampled.iter().filter_map(|[a, b]| Some(a.$name? - b.$name?));
                        a.$name.zip(b.$name).zip(bootstrap.interval(less)).map(|((a, b), interval)| {
                            Difference { mean: a - b, low: interval.low, high: interval.high }
                        })
                    },)*
                }
            }
        }

        impl Intervals {
            fn of(resampled: &[Figures], bootstrap: &Bootstrap) -> Self {
                Self {
                    $($name: bootstrap.interval(resampled.iter().filter_map(|one| one.$name)),)*
                }
            }
        }
    };
}

/// How good one head is. `None` where the examples don't say: without examples, or with one class
/// only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadMetrics {
    /// Examples that count for this head.
    pub examples: u64,
    /// Those with a positive outcome.
    pub positives: u64,
    /// What is at least as likely is taken as said to happen in accuracy, precision, recall and
    /// F1: the base rate, because nothing rare reaches one half.
    pub threshold: Option<f64>,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Their bootstrap intervals, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<Box<Intervals>>,
    /// The same within campaigns, where they were told apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaigns: Option<Box<CampaignsMetrics>>,
}

figures! {
    /// Weighted share of positives.
    base_rate,
    /// Weighted mean of the predictions.
    mean_prediction,
    /// Mean of -log of the probability given to what happened, natural.
    log_loss,
    /// The log loss of saying the base rate of everything.
    base_log_loss,
    /// Log loss divided by that of the base rate; below 1 is better than knowing only the rate
    /// (He et al. 2014).
    normalised_entropy,
    /// Probability that a positive is ranked above a negative; ties count half.
    auc,
    /// Average precision, scikit-learn's: mean over the positives of the precision among all that
    /// are ranked at least as high.
    pr_auc,
    /// Weighted mean over 20 buckets of equal width of |mean prediction - share of positives|.
    calibration_error,
    /// The same over 20 buckets of about equal weight, equal predictions kept together: finer where
    /// most predictions are, as they are near 0 for what is rare.
    calibration_error_equal_mass,
    /// Share on the right side of the threshold.
    accuracy,
    /// Share of positives among what is said to happen; none where nothing is.
    precision,
    /// Share of what is said to happen among the positives.
    recall,
    /// Harmonic mean of both.
    f1,
}

impl std::ops::Deref for HeadMetrics {
    type Target = Figures;

    fn deref(&self) -> &Figures {
        &self.figures
    }
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

impl HeadMetrics {
    /// Measures one head.
    pub fn measure(judged: &[Judged]) -> Self {
        Self::measure_ordered(judged, &Ordered::new(judged))
    }

    /// The same with bootstrap intervals. The threshold and the buckets of equal weight are those of
    /// the examples themselves in every resample.
    pub fn measure_with_intervals(judged: &[Judged], bootstrap: &Bootstrap) -> Self {
        let ordered = Ordered::new(judged);
        let mut metrics = Self::measure_ordered(judged, &ordered);
        if let Some(threshold) = metrics.threshold {
            let resampled = bootstrap
                .resample(ordered.len(), |times| ordered.figures(threshold, |at| f64::from(times[at])));
            metrics.intervals =
                (!resampled.is_empty()).then(|| Box::new(Intervals::of(&resampled, bootstrap)));
        }
        metrics
    }

    fn measure_ordered(judged: &[Judged], ordered: &Ordered) -> Self {
        let threshold = ordered.base_rate();
        Self {
            examples: judged.len() as u64,
            positives: judged.iter().filter(|one| one.positive).count() as u64,
            threshold,
            figures: threshold.map_or_else(Figures::default, |threshold| ordered.figures(threshold, |_| 1.0)),
            intervals: None,
            campaigns: None,
        }
    }
}

/// The figures of one head at a threshold of one's own.
pub fn figures_at(judged: &[Judged], threshold: f64) -> Figures {
    Ordered::new(judged).figures(threshold, |_| 1.0)
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

/// Area under the ROC curve, by ranks, ties counted half; `None` with one class only.
pub fn auc(judged: &[Judged]) -> Option<f64> {
    figures_at(judged, 0.5).auc
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::random::Random;

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
        assert_eq!((metrics.threshold, metrics.accuracy), (Some(0.5), Some(0.5)));
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
