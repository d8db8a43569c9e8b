//! How good the values predicted of purchases are.

use serde::{Deserialize, Serialize};

use crate::encode::Outcome;
use crate::predict::Probabilities;

/// How good predicted values are, over purchases whose label has matured with a value, beside what
/// saying their mean of all of them would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ValueMetrics {
    /// Purchases that count.
    pub examples: u64,
    /// Weighted mean of the values.
    pub mean: f64,
    /// Weighted mean of the predictions.
    pub mean_prediction: f64,
    /// Weighted mean of |prediction - value|.
    pub mean_absolute_error: f64,
    /// That of the mean.
    pub base_mean_absolute_error: f64,
    /// Gamma deviance: weighted mean of 2 (log(prediction / value) + value / prediction - 1);
    /// scikit-learn's `mean_gamma_deviance`.
    pub deviance: f64,
    /// That of the mean.
    pub base_deviance: f64,
}

impl ValueMetrics {
    /// Measures predictions by what came of their examples and how much each counts, in the same order;
    /// `None` without a value that was predicted.
    pub fn measure(
        predictions: &[Probabilities],
        outcomes: impl IntoIterator<Item = (Outcome, f32)>,
    ) -> Option<Self> {
        // Said, came, counts.
        let judged: Vec<[f64; 3]> = predictions
            .iter()
            .zip(outcomes)
            .filter_map(|(said, (outcome, weight))| Some([said.value?, outcome.final_value()?, weight]))
            .filter(|[.., weight]| *weight > 0.0)
            .map(|one| one.map(f64::from))
            .collect();
        let total: f64 = judged.iter().map(|[.., weight]| weight).sum();
        if total <= 0.0 {
            return None;
        }
        let mean_of = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
            judged.iter().map(|&[said, came, weight]| weight * of(said, came)).sum::<f64>() / total
        };
        let deviance = |said: f64, came: f64| 2.0 * (libm::log(said / came) + came / said - 1.0);
        let mean = mean_of(&|_, came| came);
        Some(Self {
            examples: judged.len() as u64,
            mean,
            mean_prediction: mean_of(&|said, _| said),
            mean_absolute_error: mean_of(&|said, came| (said - came).abs()),
            base_mean_absolute_error: mean_of(&|_, came| (mean - came).abs()),
            deviance: mean_of(&deviance),
            base_deviance: mean_of(&|_, came| deviance(mean, came)),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_scikit_learns_deviance_and_counts_final_purchases_alone() {
        let said = |value| Probabilities { value, ..Probabilities::from_logits([0.0; 3]) };
        let bought = |value| {
            let outcome = Outcome { purchased: true, matured: true, value, ..Outcome::default() };
            (outcome, 1.0)
        };
        // The example of its documentation: 1.0568...
        let predictions = [0.5, 0.5, 2.0, 2.0, 9.0].map(|value| said(Some(value)));
        let mut outcomes = [2.0, 0.5, 1.0, 4.0, 7.0].map(bought);
        outcomes[4].0.matured = false;
        let metrics = ValueMetrics::measure(&predictions, outcomes).unwrap();
        assert_eq!(metrics.examples, 4);
        assert!((metrics.deviance - 1.0568).abs() < 1e-4, "{metrics:?}");
        assert!((metrics.mean_absolute_error - 4.5 / 4.0).abs() < 1e-9);
        assert!((metrics.base_mean_absolute_error - (0.125 + 1.375 + 0.875 + 2.125) / 4.0).abs() < 1e-9);
        outcomes[0].1 = 2.0;
        let weighted = ValueMetrics::measure(&predictions, outcomes).unwrap();
        assert!((weighted.mean - (2.0 * 2.0 + 0.5 + 1.0 + 4.0) / 5.0).abs() < 1e-9);
        assert_eq!(ValueMetrics::measure(&[said(None)], [bought(3.0)]), None);
    }
}
