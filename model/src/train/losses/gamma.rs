//! The loss of a mean whose spread grows with it: gamma, as values of purchases are (P. `McCullagh`,
//! J. A. Nelder, "Generalized Linear Models", 1989, chapter 8, with the logarithm as link).

/// A value that is more than so many times the mean counts as so many times: beyond, the loss goes on
/// along its tangent, so that one purchase in a thousand does not move all weights.
const RATIO_LIMIT: f64 = 50.0;

/// Half the deviance of a value above 0 from the mean whose logarithm is `log_mean`, and its slope there:
/// the negative log likelihood of a gamma distribution of shape 1 (`log_mean` + `value` e^-`log_mean`)
/// less what it is at best, so that it does not depend on the currency's unit.
pub(crate) fn gamma(log_mean: f64, value: f64) -> (f64, f64) {
    // log of value over mean.
    let over = libm::log(value) - log_mean;
    let limit = libm::log(RATIO_LIMIT);
    if over > limit {
        let at_limit = RATIO_LIMIT - limit - 1.0;
        return (at_limit + (RATIO_LIMIT - 1.0) * (over - limit), 1.0 - RATIO_LIMIT);
    }
    let ratio = libm::exp(over);
    (ratio - over - 1.0, 1.0 - ratio)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_likelihood_of_an_exponential_but_for_a_constant() {
        // Shape 1: -log(e^(-y / m) / m) = log m + y / m.
        for value in [0.3, 1.0, 19.9, 2_500.0_f64] {
            for log_mean in [-1.0, 0.0, 3.5, 9.0] {
                let likelihood = |log_mean: f64| log_mean + value * (-log_mean).exp();
                let (loss, slope) = gamma(log_mean, value);
                if value * (-log_mean).exp() < RATIO_LIMIT {
                    let expected = likelihood(log_mean) - likelihood(value.ln());
                    assert!((loss - expected).abs() < 1e-9 * expected.max(1.0), "{loss} {expected}");
                    assert!((slope - (1.0 - value * (-log_mean).exp())).abs() < 1e-9);
                }
            }
        }
        assert!(gamma(5.0_f64.ln(), 5.0).0.abs() < 1e-12);
    }

    #[test]
    fn the_best_constant_is_the_mean() {
        let values = [1.0, 4.0, 4.0, 30.0, 61.0];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let slope: f64 = values.iter().map(|&value| gamma(mean.ln(), value).1).sum();
        assert!(slope.abs() < 1e-12, "{slope}");
    }

    #[test]
    fn it_is_smooth_and_finite_everywhere() {
        for value in [1e-6, 3.0, 1e9_f64] {
            for step in -400..400 {
                let at = f64::from(step) * 0.05 + value.ln();
                let numeric = (gamma(at + 1e-6, value).0 - gamma(at - 1e-6, value).0) / 2e-6;
                let (loss, slope) = gamma(at, value);
                assert!(loss >= 0.0 && (numeric - slope).abs() < 1e-4 * slope.abs().max(1.0), "{at} {value}");
                assert!((1.0 - RATIO_LIMIT..=1.0).contains(&slope));
            }
            assert!(gamma(1e9, value).0.is_finite() && gamma(-1e9, value).0.is_finite());
        }
    }
}
