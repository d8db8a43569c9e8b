//! Binary and softmax cross-entropy, in forms that no logit overflows.

use super::{sigmoid, softplus};

/// A hard target (0 or 1) drawn by `smoothing` (0 to less than 1) towards one half: label smoothing
/// (Szegedy et al. 2016) over two outcomes.
pub(crate) fn smoothed(target: f64, smoothing: f64) -> f64 {
    target * (1.0 - smoothing) + smoothing / 2.0
}

/// Loss of a logit against a target in 0 to 1, and its slope at the logit.
pub(crate) fn binary(logit: f64, target: f64) -> (f64, f64) {
    (softplus(-logit.abs()) + logit.max(0.0) - logit * target, sigmoid(logit) - target)
}

/// Loss of logits when it is known that one of the outcomes `possible` came, and the slope at each
/// logit, added to `slopes` times `weight`. Where these are several, the loss is that of their sum, and
/// teaches nothing of their proportions. The target is drawn by `smoothing` towards all outcomes alike.
/// Gives the loss times `weight`.
pub(crate) fn softmax(
    logits: &[f64],
    possible: &[usize],
    smoothing: f64,
    weight: f64,
    slopes: &mut [f64],
) -> f64 {
    let log_sum_of = |some: &mut dyn Iterator<Item = f64>| {
        let some: Vec<f64> = some.collect();
        let most = some.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(logit));
        most + libm::log(some.iter().map(|&logit| libm::exp(logit - most)).sum::<f64>())
    };
    let log_sum = log_sum_of(&mut logits.iter().copied());
    let of_possible = log_sum_of(&mut possible.iter().map(|&at| logits[at]));
    let share = smoothing / logits.len() as f64;
    let of_these = 1.0 - smoothing + share * possible.len() as f64;
    let mut loss = of_these * (log_sum - of_possible);
    for (at, (&logit, slope)) in logits.iter().zip(slopes).enumerate() {
        let target = if possible.contains(&at) {
            of_these * libm::exp(logit - of_possible)
        } else {
            loss += share * (log_sum - logit);
            share
        };
        *slope += weight * (libm::exp(logit - log_sum) - target);
    }
    weight * loss
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        binary: Vec<Binary>,
        softmax: Vec<Softmax>,
    }

    #[derive(Deserialize)]
    struct Binary {
        logit: f64,
        target: f64,
        smoothing: f64,
        loss: f64,
        slope: f64,
    }

    #[derive(Deserialize)]
    struct Softmax {
        logits: Vec<f64>,
        class: usize,
        smoothing: f64,
        loss: f64,
        slopes: Vec<f64>,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../../../tests/reference/losses.json")).unwrap()
    }

    #[test]
    fn binary_cross_entropy_is_that_of_pytorch() {
        for case in reference().binary {
            let (loss, slope) = binary(case.logit, smoothed(case.target, case.smoothing));
            assert!((loss - case.loss).abs() < 1e-9 * case.loss.max(1.0), "{loss} {}", case.loss);
            assert!((slope - case.slope).abs() < 1e-12, "{slope} {}", case.slope);
        }
    }

    #[test]
    fn softmax_cross_entropy_is_that_of_pytorch() {
        for case in reference().softmax {
            let mut slopes = vec![0.0; case.logits.len()];
            let loss = softmax(&case.logits, &[case.class], case.smoothing, 1.0, &mut slopes);
            assert!((loss - case.loss).abs() < 1e-9 * case.loss.max(1.0), "{loss} {}", case.loss);
            for (ours, theirs) in slopes.iter().zip(&case.slopes) {
                assert!((ours - theirs).abs() < 1e-12, "{ours} {theirs}");
            }
        }
    }

    #[test]
    fn what_may_still_come_is_left_open() {
        let logits = [0.0, 0.4, -1.0, 2.0];
        let loss = |logits: &[f64]| softmax(logits, &[1, 2], 0.1, 2.0, &mut [0.0; 4]);
        let total: f64 = logits.iter().map(|logit: &f64| logit.exp()).sum();
        let of_two = (0.4_f64.exp() + (-1.0_f64).exp()) / total;
        // Of a tenth, each of the other two has a quarter.
        let of_others = (0.0_f64.exp() / total).ln() + (2.0_f64.exp() / total).ln();
        assert!((loss(&logits) + 2.0 * (0.95 * of_two.ln() + 0.025 * of_others)).abs() < 1e-12);
        let mut slopes = [0.0; 4];
        softmax(&logits, &[1, 2], 0.1, 2.0, &mut slopes);
        for at in 0..4 {
            let (mut up, mut down) = (logits, logits);
            up[at] += 1e-5;
            down[at] -= 1e-5;
            assert!(((loss(&up) - loss(&down)) / 2e-5 - slopes[at]).abs() < 1e-8);
        }
    }

    #[test]
    fn huge_logits_keep_losses_finite() {
        assert!(binary(1e300, 0.0).0.is_finite());
        assert_eq!(binary(-1e300, 0.0).0, 0.0);
        let mut slopes = [0.0; 2];
        assert!(softmax(&[1e30, -1e30], &[1], 0.1, 2.0, &mut slopes).is_finite());
        assert!(slopes.iter().all(|slope| slope.is_finite()));
    }
}
