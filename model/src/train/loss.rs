//! Losses of the three heads and their gradients at the logits, in double precision.
//!
//! A click's label is final. Purchases are learned from matured labels only, present ones as
//! absent ones: taking early purchases without the early absences would teach too high a rate.
//! Given these masks, the sum of the three is the exact log likelihood of what happened.

use crate::encode::Outcome;
use crate::network::HEADS;

/// How much a purchase counts beside a click.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadWeights {
    pub(crate) conversion: f64,
    pub(crate) view_through: f64,
}

/// Weights of the heads' losses for an outcome, and their targets.
fn targets(outcome: Outcome, weights: HeadWeights) -> [(f64, f64); HEADS] {
    let purchased = f64::from(u8::from(outcome.purchased));
    let clicked = f64::from(u8::from(outcome.clicked));
    let matured = f64::from(u8::from(outcome.matured));
    [
        (1.0, clicked),
        (weights.conversion * matured * clicked, purchased),
        (weights.view_through * matured * (1.0 - clicked), purchased),
    ]
}

/// log(1 + e^-|x|) + max(x, 0) - x y: finite for every finite logit.
fn cross_entropy(logit: f64, target: f64) -> f64 {
    libm::log1p(libm::exp(-logit.abs())) + logit.max(0.0) - logit * target
}

/// Sum of the weighted losses of some examples, and the sum of their weights.
pub(crate) fn total(
    logits: &[[f32; HEADS]],
    outcomes: impl Iterator<Item = (Outcome, f32)>,
    weights: HeadWeights,
) -> (f64, f64) {
    let (mut sum, mut count) = (0.0, 0.0);
    for (logits, (outcome, weight)) in logits.iter().zip(outcomes) {
        let weight = f64::from(weight);
        count += weight;
        for (logit, (share, target)) in logits.iter().zip(targets(outcome, weights)) {
            if share > 0.0 {
                sum += weight * share * cross_entropy(f64::from(*logit), target);
            }
        }
    }
    (sum, count)
}

/// Gradient of the weighted mean loss at each logit.
pub(crate) fn gradient(
    logits: &[[f32; HEADS]],
    outcomes: impl Iterator<Item = (Outcome, f32)>,
    weights: HeadWeights,
    count: f64,
) -> Vec<f32> {
    let mut out = Vec::with_capacity(logits.len() * HEADS);
    for (logits, (outcome, weight)) in logits.iter().zip(outcomes) {
        for (logit, (share, target)) in logits.iter().zip(targets(outcome, weights)) {
            let probability = 1.0 / (1.0 + libm::exp(-f64::from(*logit)));
            out.push((f64::from(weight) * share * (probability - target) / count) as f32);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: HeadWeights = HeadWeights { conversion: 1.0, view_through: 0.5 };

    fn outcome(clicked: bool, purchased: bool, matured: bool) -> (Outcome, f32) {
        (Outcome { clicked, purchased, matured }, 2.0)
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let outcomes = [outcome(true, true, true), outcome(false, true, true), outcome(true, true, false)];
        let logits = [[0.3, -1.2, 2.0], [-0.7, 0.1, -3.0], [1.5, 0.4, 0.2]];
        let count = 6.0;
        let slopes = gradient(&logits, outcomes.into_iter(), WEIGHTS, count);
        let loss = |logits: &[[f32; HEADS]]| total(logits, outcomes.into_iter(), WEIGHTS).0 / count;
        for at in 0..9 {
            let (mut up, mut down) = (logits, logits);
            up[at / 3][at % 3] += 1e-2;
            down[at / 3][at % 3] -= 1e-2;
            let slope = (loss(&up) - loss(&down)) / 2e-2;
            assert!((slope - f64::from(slopes[at])).abs() < 1e-5, "{at}: {slope} {}", slopes[at]);
        }
        // A purchase whose label has not matured teaches nothing; clicks always do.
        assert_eq!(slopes[7..9], [0.0, 0.0]);
        assert!(slopes[6] != 0.0);
    }

    #[test]
    fn huge_logits_keep_the_loss_finite() {
        let outcomes = [outcome(false, false, true)];
        let (sum, _) = total(&[[1e30, -1e30, 1e4]], outcomes.into_iter(), WEIGHTS);
        assert!(sum.is_finite());
    }
}
