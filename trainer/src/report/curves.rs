//! What a page draws of one model beyond its metrics.

use model::History;
use model::metrics::{CurvePoint, Head, Heads, Judged, pr_curve, roc_curve};
use serde::{Deserialize, Serialize};

/// Groups of a reliability diagram.
const GROUPS: usize = 10;
/// Buckets in which predictions are counted.
const BUCKETS: usize = 24;
/// Points of a ROC or precision-recall curve, at most about.
const POINTS: usize = 120;
/// Points of a curve of losses, at most.
const LOSSES: usize = 240;
/// The quantile of the normal distribution that leaves 2.5 % above it.
const NORMAL: f64 = 1.959_964;

/// Examples of about the same predicted probability.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Examples.
    pub rows: usize,
    /// Mean of what was predicted.
    pub predicted: f64,
    /// Share of which it came true.
    pub clicked: f64,
}

impl Bin {
    /// Where the true share lies with 95 % confidence (Wilson 1927).
    pub fn interval(&self) -> (f64, f64) {
        let (rows, square) = (self.rows.max(1) as f64, NORMAL * NORMAL);
        let middle = (self.clicked + square / (2.0 * rows)) / (1.0 + square / rows);
        let spread = self.clicked * (1.0 - self.clicked) / rows + square / (4.0 * rows * rows);
        let half = NORMAL * spread.sqrt() / (1.0 + square / rows);
        ((middle - half).max(0.0), (middle + half).min(1.0))
    }
}

/// Ten groups of equally many examples, by predicted probability, ascending.
pub fn reliability(judged: &[Judged]) -> Vec<Bin> {
    let mut pairs: Vec<(f32, bool)> = judged.iter().map(|one| (one.probability, one.positive)).collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    (0..GROUPS)
        .filter_map(|group| {
            let part = &pairs[group * pairs.len() / GROUPS..(group + 1) * pairs.len() / GROUPS];
            let rows = part.len();
            (rows > 0).then(|| Bin {
                rows,
                predicted: part.iter().map(|(p, _)| f64::from(*p)).sum::<f64>() / rows as f64,
                clicked: part.iter().filter(|(_, came)| *came).count() as f64 / rows as f64,
            })
        })
        .collect()
}

/// The curves of one head, thinned to what a page draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadCurves {
    /// Which.
    pub head: Head,
    /// ROC.
    pub roc: Vec<CurvePoint>,
    /// Precision and recall.
    pub pr: Vec<CurvePoint>,
    /// How often what was said came true.
    pub reliability: Vec<Bin>,
    /// How often what was said: from, to, examples.
    pub said: Vec<(f64, f64, u64)>,
}

impl HeadCurves {
    /// Of a head's predictions.
    pub fn new(head: Head, judged: &[Judged]) -> Self {
        Self {
            head,
            roc: roc_curve(judged, POINTS),
            pr: pr_curve(judged, POINTS),
            reliability: reliability(judged),
            said: said(judged),
        }
    }

    /// Of each head of which both came: what it says and its contrary.
    pub fn each(heads: &Heads) -> Vec<Self> {
        let curves = Head::ALL.map(|head| Self::new(head, heads.of(head)));
        curves.into_iter().filter(|curves| !curves.roc.is_empty()).collect()
    }
}

/// Counts predictions in buckets of equal width, up to the largest.
fn said(judged: &[Judged]) -> Vec<(f64, f64, u64)> {
    let most = judged.iter().map(|one| f64::from(one.probability)).fold(0.0, f64::max);
    if most <= 0.0 {
        return Vec::new();
    }
    let mut counts = [0_u64; BUCKETS];
    for one in judged {
        let bucket = (f64::from(one.probability) / most * BUCKETS as f64) as usize;
        counts[bucket.min(BUCKETS - 1)] += 1;
    }
    let edge = |bucket: usize| most * bucket as f64 / BUCKETS as f64;
    counts.iter().enumerate().map(|(at, &count)| (edge(at), edge(at + 1), count)).collect()
}

/// Losses while a model learned.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Losses {
    /// Training, by step; means where there were many.
    pub training: Vec<(f64, f64)>,
    /// Validation, by step.
    pub validation: Vec<(f64, f64)>,
    /// The step whose weights were kept.
    pub best: Option<f64>,
}

impl Losses {
    /// Of a history, with the training loss of single steps where that was kept.
    pub fn new(history: &History, steps: &[(i64, f32)]) -> Self {
        let mut training: Vec<(f64, f64)> =
            steps.iter().map(|&(step, loss)| (step as f64, f64::from(loss))).collect();
        if training.is_empty() {
            training = history.validations.iter().map(|v| (v.steps as f64, v.training_loss)).collect();
        }
        Self {
            training: thinned(&training, LOSSES),
            validation: history.validations.iter().map(|v| (v.steps as f64, v.validation_loss)).collect(),
            best: history.validations.get(history.best).map(|v| v.steps as f64),
        }
    }
}

/// At most `most` points: means of neighbours.
fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(most).max(1);
    let mean = |part: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        part.iter().map(of).sum::<f64>() / part.len() as f64
    };
    points.chunks(group).map(|part| (mean(part, |p| p.0), mean(part, |p| p.1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(rows: usize) -> Vec<Judged> {
        let one = |at: usize| {
            let probability = at as f32 / rows as f32;
            Judged { probability, positive: probability > 0.5, weight: 1.0 }
        };
        (0..rows).map(one).collect()
    }

    #[test]
    fn groups_hold_every_example_once() {
        let bins = reliability(&judged(105));
        assert_eq!(bins.len(), 10);
        assert_eq!(bins.iter().map(|bin| bin.rows).sum::<usize>(), 105);
        assert!(bins.is_sorted_by(|a, b| a.predicted < b.predicted));
        assert_eq!((bins[0].clicked, bins[9].clicked), (0.0, 1.0));
        assert!(reliability(&[]).is_empty());
        assert_eq!(said(&judged(105)).iter().map(|bucket| bucket.2).sum::<u64>(), 105);
    }

    #[test]
    fn wilsons_interval_is_statsmodels() {
        // statsmodels.stats.proportion.proportion_confint(10, 100, method="wilson").
        let (low, high) = Bin { rows: 100, predicted: 0.1, clicked: 0.1 }.interval();
        assert!((low - 0.055_229_1).abs() < 1e-6 && (high - 0.174_365_7).abs() < 1e-6, "{low} {high}");
        let (low, high) = Bin { rows: 20, predicted: 0.1, clicked: 0.0 }.interval();
        assert!(low == 0.0 && high > 0.1 && high < 0.2);
    }

    #[test]
    fn curves_of_many_examples_have_few_points() {
        let curves = HeadCurves::new(Head::Click, &judged(10_000));
        for curve in [&curves.roc, &curves.pr] {
            assert!((POINTS / 2..=200).contains(&curve.len()), "{}", curve.len());
        }
    }

    #[test]
    fn many_losses_become_few() {
        let points: Vec<(f64, f64)> = (0..1_000).map(|at| (f64::from(at), 2.0)).collect();
        let few = thinned(&points, 240);
        assert!(few.len() <= 240 && few.iter().all(|point| point.1 == 2.0));
        assert!(thinned(&[], 240).is_empty());
    }
}
