//! Losses of a purchase whose window is still open: its absence says "not yet" as well as "never".

use super::{sigmoid, softplus};

/// Largest |logit| of a delay's rate: beyond, e^x says no more of a delay than at it.
const RATE_LIMIT: f64 = 20.0;

/// What is known of a purchase whose window is open, times in one unit of the caller's choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Seen {
    /// It came this long after the impression.
    After(f64),
    /// It has not come in this long.
    NotWithin(f64),
}

/// Chapelle's delayed feedback model (2014): a purchase comes at all with the probability of
/// `logit`, and then after an exponential delay whose rate is e^`rate`. Gives the negative log
/// likelihood of what was seen, and its slopes at both logits.
pub(crate) fn censored(logit: f64, rate: f64, seen: Seen) -> (f64, [f64; 2]) {
    let limited = rate.clamp(-RATE_LIMIT, RATE_LIMIT);
    let per_unit = libm::exp(limited);
    let (loss, of_logit, of_rate) = match seen {
        Seen::After(delay) => {
            let passed = per_unit * delay.max(0.0);
            (softplus(-logit) - limited + passed, sigmoid(logit) - 1.0, passed - 1.0)
        }
        Seen::NotWithin(elapsed) => {
            let passed = per_unit * elapsed.max(0.0);
            // log(1 - p), and log(p e^-passed): never, and not yet.
            let never = -softplus(logit);
            let not_yet = -softplus(-logit) - passed;
            let most = never.max(not_yet);
            let log_sum = most + libm::log1p(libm::exp(-(never - not_yet).abs()));
            let still = libm::exp(not_yet - log_sum);
            (-log_sum, sigmoid(logit) - still, still * passed)
        }
    };
    // A slope that would push the rate further over its limit moves nothing.
    let outside = limited != rate && (of_rate < 0.0) == (rate > 0.0);
    (loss, [of_logit, if outside { 0.0 } else { of_rate }])
}

/// The fake-negative weighted loss (Ktena et al. 2019) of one record of a stream in which each
/// impression is a negative at first and a positive again when its purchase comes, and its slope:
/// importance weights of the model's own probability, which counts as a constant, turn the stream's
/// distribution into the true one.
pub(crate) fn fake_negative(logit: f64, positive: bool) -> (f64, f64) {
    let probability = sigmoid(logit);
    if positive {
        let weight = 1.0 + probability;
        (weight * softplus(-logit), weight * (probability - 1.0))
    } else {
        let weight = (1.0 - probability) * (1.0 + probability);
        (weight * softplus(logit), weight * probability)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Reference {
        censored: Vec<Censored>,
        fake_negative: Vec<FakeNegative>,
    }

    #[derive(Deserialize)]
    struct Censored {
        logit: f64,
        rate: f64,
        time: f64,
        purchased: bool,
        loss: f64,
        slopes: [f64; 2],
    }

    #[derive(Deserialize)]
    struct FakeNegative {
        logit: f64,
        positive: bool,
        loss: f64,
        slope: f64,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../../../tests/reference/losses.json")).unwrap()
    }

    #[test]
    fn chapelles_likelihood_is_that_of_pytorch() {
        for case in reference().censored {
            let seen = if case.purchased { Seen::After(case.time) } else { Seen::NotWithin(case.time) };
            let (loss, slopes) = censored(case.logit, case.rate, seen);
            assert!(
                (loss - case.loss).abs() < 1e-9 * case.loss.abs().max(1.0),
                "{seen:?} {loss} {}",
                case.loss
            );
            for (ours, theirs) in slopes.iter().zip(&case.slopes) {
                assert!((ours - theirs).abs() < 1e-9 * theirs.abs().max(1.0), "{seen:?} {ours} {theirs}");
            }
        }
    }

    #[test]
    fn fake_negative_weights_are_those_of_pytorch() {
        for case in reference().fake_negative {
            let (loss, slope) = fake_negative(case.logit, case.positive);
            assert!((loss - case.loss).abs() < 1e-9 * case.loss.max(1.0));
            assert!((slope - case.slope).abs() < 1e-9);
        }
    }

    #[test]
    fn after_a_long_wait_never_is_all_that_is_left() {
        let (loss, [slope, _]) = censored(0.4, 0.0, Seen::NotWithin(1e6));
        assert!((loss - softplus(0.4)).abs() < 1e-12);
        assert!((slope - sigmoid(0.4)).abs() < 1e-12);
        // And at once, nothing is known.
        let (loss, slopes) = censored(0.4, 0.0, Seen::NotWithin(0.0));
        assert!(loss.abs() < 1e-12 && slopes.iter().all(|slope| slope.abs() < 1e-12));
    }

    #[test]
    fn absurd_logits_stay_finite() {
        for logit in [-1e6, 0.0, 1e6] {
            for rate in [-1e6, 1e6] {
                for seen in [Seen::After(3.0), Seen::NotWithin(3.0)] {
                    let (loss, slopes) = censored(logit, rate, seen);
                    assert!(loss.is_finite() && slopes.iter().all(|slope| slope.is_finite()));
                }
            }
        }
    }

    #[test]
    fn a_streams_fake_negatives_leave_the_true_rate() {
        // One negative each, and the share `rate` comes again as positives: the slopes cancel at
        // the true rate, not at rate / (1 + rate).
        let rate = 0.3_f64;
        let logit = (rate / (1.0 - rate)).ln();
        let slope = fake_negative(logit, false).1 + rate * fake_negative(logit, true).1;
        assert!(slope.abs() < 1e-12, "{slope}");
    }
}
