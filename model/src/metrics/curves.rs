//! ROC and precision-recall curves, thinned out to a number of points that a page can draw.

use serde::{Deserialize, Serialize};

use super::Judged;
use super::ordered::Ordered;

/// A point of a curve: what taking all at least as likely as `threshold` for positive gives.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Least probability taken for positive.
    pub threshold: f64,
    /// ROC: false positive rate; precision-recall: recall.
    pub x: f64,
    /// ROC: true positive rate; precision-recall: precision.
    pub y: f64,
}

/// The ROC curve from (0, 0) to (1, 1), at most about `most` points and two; empty with one class
/// only. As scikit-learn's `roc_curve`, of whose points it is a part.
pub fn roc_curve(judged: &[Judged], most: usize) -> Vec<CurvePoint> {
    let mut curve = walk(judged, most, |true_rate, false_rate, _| (false_rate, true_rate));
    if !curve.is_empty() {
        curve.insert(0, CurvePoint { threshold: 1.0, x: 0.0, y: 0.0 });
    }
    curve
}

/// The precision-recall curve by rising recall, at most about `most` points and one; empty with one
/// class only. As scikit-learn's `precision_recall_curve`, of whose points it is a part.
pub fn pr_curve(judged: &[Judged], most: usize) -> Vec<CurvePoint> {
    walk(judged, most, |true_rate, _, precision| (true_rate, precision))
}

/// Points where the ROC curve has come another `most`th part of its way, so that steep and flat
/// parts get as many; `point` is given true positive rate, false positive rate and precision.
fn walk(judged: &[Judged], most: usize, point: impl Fn(f64, f64, f64) -> (f64, f64)) -> Vec<CurvePoint> {
    let ordered = Ordered::new(judged);
    let (mut positives, mut negatives) = (0.0, 0.0);
    ordered.thresholds(|_, positive, negative| (positives, negatives) = (positive, negative));
    if positives <= 0.0 || negatives <= 0.0 {
        return Vec::new();
    }
    let step = 2.0 / most.max(1) as f64;
    let (mut curve, mut drawn) = (Vec::new(), 0.0);
    ordered.thresholds(|threshold, positive, negative| {
        let (true_rate, false_rate) = (positive / positives, negative / negatives);
        let way = true_rate + false_rate;
        if way - drawn >= step || (positive >= positives && negative >= negatives) || curve.is_empty() {
            drawn = way;
            let (x, y) = point(true_rate, false_rate, positive / (positive + negative));
            curve.push(CurvePoint { threshold, x, y });
        }
    });
    curve
}
