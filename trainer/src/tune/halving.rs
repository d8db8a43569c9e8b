//! How many settings each round has, and with what budget.

/// A round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Settings in it.
    pub trials: usize,
    /// Budget of each.
    pub budget: u64,
}

/// The rounds: `trials` settings with `min`, then `1 / eta` of them with `eta` times the budget,
/// until the budget is `max` or one is left; that one is given `max` in any case.
pub fn rungs(trials: usize, eta: usize, min: u64, max: u64) -> Vec<Rung> {
    let mut rungs = vec![Rung { trials, budget: min.min(max) }];
    let (mut trials, mut budget) = (trials, min);
    while budget < max {
        trials = (trials / eta).max(1);
        budget = budget.saturating_mul(eta as u64).min(max);
        if trials == 1 {
            budget = max;
        }
        rungs.push(Rung { trials, budget });
    }
    rungs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_divided_and_budgets_multiplied() {
        let rung = |trials, budget| Rung { trials, budget };
        assert_eq!(rungs(27, 3, 1, 27), [rung(27, 1), rung(9, 3), rung(3, 9), rung(1, 27)]);
        assert_eq!(rungs(9, 3, 1, 9), [rung(9, 1), rung(3, 3), rung(1, 9)]);
        assert_eq!(rungs(16, 4, 2, 10), [rung(16, 2), rung(4, 8), rung(1, 10)]);
        assert_eq!(rungs(4, 2, 5, 5), [rung(4, 5)]);
        assert_eq!(rungs(2, 3, 1, 81), [rung(2, 1), rung(1, 81)]);
    }
}
