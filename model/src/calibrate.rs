//! Calibration: monotone functions from what the heads say to probabilities that come true, fitted on
//! the validation examples after training, head by head. `p_purchase` is composed of calibrated parts.
//!
//! Platt's scaling: J. Platt, "Probabilistic outputs for support vector machines" (1999), with his
//! smoothed targets, by Newton's method (Lin, Lin, Weng 2007). Isotonic regression: pool adjacent
//! violators, linear between the knots, as scikit-learn's. Both are checked against scikit-learn.

use serde::{Deserialize, Serialize};

use crate::config::Calibrate;
use crate::encode::Outcome;
use crate::metrics::log_loss;
use crate::network::HEADS;
use crate::network::kernel::sigmoid;
use crate::predict::Probabilities;

/// A head with fewer positives or fewer negatives is left as it is.
const FEWEST: usize = 20;
/// Newton's steps, at most; about six are needed.
const STEPS: usize = 100;
/// Parts that a calibration is tried out on: fitted on all but one, judged on that one.
const FOLDS: usize = 5;

/// What turns a head's logit into a probability.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "method")]
pub enum Calibrator {
    /// The sigmoid alone.
    #[default]
    None,
    /// Sigmoid of `slope * logit + intercept`, `slope` above 0.
    Platt {
        /// Above 0.
        slope: f32,
        /// In logits.
        intercept: f32,
    },
    /// Linear between knots, flat beyond them.
    Isotonic {
        /// Probabilities that the network says, rising.
        said: Vec<f32>,
        /// What becomes of them, not falling.
        means: Vec<f32>,
    },
}

/// The calibrators of all heads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Of a click.
    pub click: Calibrator,
    /// Of a purchase, given a click.
    pub conversion: Calibrator,
    /// Of a purchase, given no click.
    pub view_through: Calibrator,
}

/// One example of one head.
#[derive(Debug, Clone, Copy)]
pub struct Said {
    /// The head's logit.
    pub logit: f32,
    /// Whether it happened.
    pub positive: bool,
    /// How much it counts.
    pub weight: f32,
}

impl Calibrator {
    /// The probability of a logit.
    pub fn probability(&self, logit: f32) -> f32 {
        match self {
            Self::None => sigmoid(logit),
            Self::Platt { slope, intercept } => sigmoid(slope * logit + intercept),
            Self::Isotonic { said, means } => interpolate(said, means, sigmoid(logit)),
        }
    }

    /// Whether a model can serve with it: finite, monotone, within 0 and 1.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::None => true,
            Self::Platt { slope, intercept } => *slope > 0.0 && slope.is_finite() && intercept.is_finite(),
            Self::Isotonic { said, means } => {
                said.len() == means.len()
                    && !said.is_empty()
                    && said.is_sorted_by(|a, b| a < b)
                    && means.is_sorted_by(|a, b| a <= b)
                    && said.iter().chain(means).all(|value| (0.0..=1.0).contains(value))
            }
        }
    }

    /// Fits one head, and keeps it as it is unless the calibrated log loss on examples that were not
    /// fitted on (five folds) is lower by more than a standard error: what is calibrated already
    /// only gets noise.
    pub fn fit(method: Calibrate, said: &[Said]) -> Self {
        if method == Calibrate::None {
            return Self::None;
        }
        let mut gains = Vec::with_capacity(said.len());
        for fold in 0..FOLDS {
            let inside = |(at, _): &(usize, &Said)| at % FOLDS == fold;
            let rest: Vec<Said> =
                said.iter().enumerate().filter(|one| !inside(one)).map(|(_, one)| *one).collect();
            let tried = Self::fit_all(method, &rest);
            if tried == Self::None {
                return Self::None;
            }
            for (_, one) in said.iter().enumerate().filter(inside) {
                let loss = |probability| f64::from(one.weight) * log_loss(probability, one.positive);
                gains.push(loss(sigmoid(one.logit)) - loss(tried.probability(one.logit)));
            }
        }
        let count = gains.len() as f64;
        let mean = gains.iter().sum::<f64>() / count;
        let variance = gains.iter().map(|gain| (gain - mean) * (gain - mean)).sum::<f64>() / count;
        if mean > (variance / count).sqrt() { Self::fit_all(method, said) } else { Self::None }
    }

    fn fit_all(method: Calibrate, said: &[Said]) -> Self {
        let positives = said.iter().filter(|one| one.positive).count();
        if positives < FEWEST || said.len() - positives < FEWEST {
            return Self::None;
        }
        let fitted = match method {
            Calibrate::None => Self::None,
            Calibrate::Platt => platt(said).map_or(Self::None, |(slope, intercept)| Self::Platt {
                slope: slope as f32,
                intercept: intercept as f32,
            }),
            Calibrate::Isotonic => {
                let (knots, means) = isotonic(said.iter().map(|one| Point {
                    x: f64::from(sigmoid(one.logit)),
                    y: f64::from(u8::from(one.positive)),
                    weight: f64::from(one.weight),
                }));
                // Nothing is certain after `n` examples (Laplace's rule at both ends).
                let total: f64 = said.iter().map(|one| f64::from(one.weight)).sum();
                let least = 1.0 / (total + 2.0);
                Self::Isotonic {
                    said: knots.into_iter().map(|x| x as f32).collect(),
                    means: means.into_iter().map(|y| y.clamp(least, 1.0 - least) as f32).collect(),
                }
            }
        };
        if fitted.is_sound() { fitted } else { Self::None }
    }
}

impl Calibration {
    /// Fits each head on what it counts for: clicks on all examples, purchases on those whose label
    /// has matured, given a click or given none.
    pub(crate) fn fit(
        method: Calibrate,
        logits: &[[f32; HEADS]],
        outcomes: impl IntoIterator<Item = (Outcome, f32)>,
    ) -> Self {
        if method == Calibrate::None {
            return Self::default();
        }
        let mut heads: [Vec<Said>; HEADS] = Default::default();
        for (logits, (outcome, weight)) in logits.iter().zip(outcomes) {
            let [click, conversion, view_through] =
                logits.map(|logit| Said { logit, positive: false, weight });
            heads[0].push(Said { positive: outcome.clicked, ..click });
            if outcome.matured {
                let (head, said) = if outcome.clicked { (1, conversion) } else { (2, view_through) };
                heads[head].push(Said { positive: outcome.purchased, ..said });
            }
        }
        let [click, conversion, view_through] = heads.map(|said| Calibrator::fit(method, &said));
        Self { click, conversion, view_through }
    }

    /// Probabilities of the heads' logits.
    pub(crate) fn probabilities(&self, logits: [f32; HEADS]) -> Probabilities {
        let [click, conversion, view_through] = logits;
        Probabilities::of_heads([
            self.click.probability(click),
            self.conversion.probability(conversion),
            self.view_through.probability(view_through),
        ])
    }

    /// Whether a model can serve with it.
    pub(crate) fn is_sound(&self) -> bool {
        [&self.click, &self.conversion, &self.view_through].into_iter().all(Calibrator::is_sound)
    }
}

/// Slope and intercept that make Platt's smoothed targets most likely; `None` where Newton's method
/// finds none, and where the slope is not above 0.
pub fn platt(said: &[Said]) -> Option<(f64, f64)> {
    let weight = |positive: bool| -> f64 {
        said.iter().filter(|one| one.positive == positive).map(|one| f64::from(one.weight)).sum()
    };
    let (positives, negatives) = (weight(true), weight(false));
    let targets = [1.0 / (negatives + 2.0), (positives + 1.0) / (positives + 2.0)];
    let rows =
        || said.iter().map(|one| (f64::from(one.logit), targets[usize::from(one.positive)], one.weight));
    // -log of the likelihood, as softplus(z) - target * z.
    let loss = |slope: f64, intercept: f64| -> f64 {
        rows()
            .map(|(logit, target, weight)| {
                let z = slope * logit + intercept;
                f64::from(weight) * (z.max(0.0) + libm::log1p(libm::exp(-z.abs())) - target * z)
            })
            .sum()
    };
    let (mut slope, mut intercept) = (1.0, 0.0);
    let mut lowest = loss(slope, intercept);
    for _ in 0..STEPS {
        let (mut by_slope, mut by_intercept) = (0.0, 0.0);
        let (mut curve, mut mixed, mut flat) = (0.0, 0.0, 0.0);
        for (logit, target, weight) in rows() {
            let p = 1.0 / (1.0 + libm::exp(-(slope * logit + intercept)));
            let weight = f64::from(weight);
            by_slope += weight * (p - target) * logit;
            by_intercept += weight * (p - target);
            curve += weight * p * (1.0 - p) * logit * logit;
            mixed += weight * p * (1.0 - p) * logit;
            flat += weight * p * (1.0 - p);
        }
        let determinant = curve * flat - mixed * mixed;
        if !determinant.is_finite() || determinant <= 0.0 {
            return None;
        }
        let steps = (
            (flat * by_slope - mixed * by_intercept) / determinant,
            (curve * by_intercept - mixed * by_slope) / determinant,
        );
        let mut share = 1.0;
        loop {
            let next = (slope - share * steps.0, intercept - share * steps.1);
            let found = loss(next.0, next.1);
            if found <= lowest {
                (slope, intercept) = next;
                lowest = found;
                break;
            }
            share /= 2.0;
            // No way down is left: this is the bottom, as far as doubles tell.
            if share < 1e-6 {
                return (slope > 0.0).then_some((slope, intercept));
            }
        }
        if (share * steps.0).abs().max((share * steps.1).abs()) < 1e-13 {
            break;
        }
    }
    (slope > 0.0).then_some((slope, intercept))
}

/// A point to fit.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// How much it counts; above 0.
    pub weight: f64,
}

/// The non-falling function that is nearest to the points in weighted squares: its knots and their
/// values. Points of one `x` become one first; of a flat stretch only both ends are kept.
pub fn isotonic(points: impl IntoIterator<Item = Point>) -> (Vec<f64>, Vec<f64>) {
    struct Pool {
        first: f64,
        last: f64,
        sum: f64,
        weight: f64,
    }
    let mut points: Vec<Point> = points.into_iter().filter(|point| point.weight > 0.0).collect();
    points.sort_by(|a, b| a.x.total_cmp(&b.x));
    let mut pools: Vec<Pool> = Vec::new();
    for same in points.chunk_by(|a, b| a.x == b.x) {
        let mut pool = Pool {
            first: same[0].x,
            last: same[0].x,
            sum: same.iter().map(|point| point.weight * point.y).sum(),
            weight: same.iter().map(|point| point.weight).sum(),
        };
        while let Some(before) = pools.pop_if(|before| before.sum * pool.weight >= pool.sum * before.weight) {
            pool.first = before.first;
            pool.sum += before.sum;
            pool.weight += before.weight;
        }
        pools.push(pool);
    }
    let (mut knots, mut means) = (Vec::new(), Vec::new());
    for pool in pools {
        let mean = pool.sum / pool.weight;
        knots.push(pool.first);
        means.push(mean);
        if pool.last > pool.first {
            knots.push(pool.last);
            means.push(mean);
        }
    }
    (knots, means)
}

/// Linear between the knots, flat beyond them; there is at least one.
fn interpolate(knots: &[f32], means: &[f32], x: f32) -> f32 {
    let right = knots.partition_point(|&knot| knot <= x);
    if right == 0 {
        return means[0];
    }
    if right == knots.len() {
        return means[right - 1];
    }
    let (left, share) = (right - 1, (x - knots[right - 1]) / (knots[right] - knots[right - 1]));
    // Rounding must not leave the stretch: the function would not be monotone.
    (means[left] + share * (means[right] - means[left])).min(means[right])
}

#[cfg(test)]
mod tests;
