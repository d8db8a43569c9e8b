//! What early stopping compares.

use crate::config::{StopHead, StopMetric, TrainingConfig};
use crate::encode::Outcome;
use crate::metrics::Metrics;
use crate::predict::Probabilities;

/// The score of predictions, of which lower is better, and the metric as people read it. `None`
/// where the loss decides, or where the examples don't say: without a positive there is no AUC.
pub(super) fn score(
    config: &TrainingConfig,
    predictions: &[Probabilities],
    outcomes: &[(Outcome, f32)],
) -> Option<(f64, f64)> {
    if config.stop_metric == StopMetric::Loss {
        return None;
    }
    let metrics = Metrics::measure(predictions, outcomes.iter().copied());
    let head = match config.stop_head {
        StopHead::Click => metrics.click,
        StopHead::Conversion => metrics.conversion,
        StopHead::ViewThrough => metrics.view_through,
        StopHead::Purchase => metrics.purchase,
    };
    match config.stop_metric {
        StopMetric::Loss => None,
        StopMetric::LogLoss => head.log_loss.map(|loss| (loss, loss)),
        StopMetric::NormalisedEntropy => head.normalised_entropy.map(|entropy| (entropy, entropy)),
        StopMetric::Auc => head.auc.map(|auc| (-auc, auc)),
    }
}
