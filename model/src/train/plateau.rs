//! When training goes on with smaller steps and when it ends (`ReduceLROnPlateau`, with a way back to
//! the best weights): a function of the validations' scores alone.

use serde::{Deserialize, Serialize};

/// A smaller gain than this is none.
const GAIN: f64 = 1e-6;

/// Where the validations stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Plateau {
    /// The best score, of which lower is better.
    pub(super) best: Option<f64>,
    /// Validations since, or since the step sizes last fell.
    pub(super) without_gain: usize,
    /// Times that the step sizes have fallen.
    pub(super) decays: usize,
}

/// What follows from a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the best so far.
    Best,
    /// It is not; nothing changes yet.
    Wait,
    /// Back to the best weights, and on with smaller steps.
    Decay,
    /// Training ends.
    Stop,
}

impl Plateau {
    /// Takes in a validation's score: the step sizes fall, at most `decays` times, after `patience`
    /// validations in a row without a better one.
    pub(super) fn judge(&mut self, score: f64, patience: usize, decays: usize) -> Verdict {
        if self.best.is_none_or(|best| score < best - GAIN) {
            self.best = Some(score);
            self.without_gain = 0;
            return Verdict::Best;
        }
        self.without_gain += 1;
        if self.without_gain < patience {
            return Verdict::Wait;
        }
        if self.decays == decays {
            return Verdict::Stop;
        }
        self.decays += 1;
        self.without_gain = 0;
        Verdict::Decay
    }

    /// What is left of the step sizes, if each time `factor` of them is.
    pub(super) fn share(&self, factor: f32) -> f32 {
        // Multiplied one by one: the same bits everywhere.
        (0..self.decays).fold(1.0, |share, _| share * factor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn steps_shrink_at_each_plateau_and_training_ends_at_the_last() {
        let mut plateau = Plateau::default();
        let scores = [3.0, 2.0, 2.5, 2.0, 1.5, 1.5, 1.6, 1.5, 1.4, 1.5, 1.4];
        let verdicts = scores.map(|score| plateau.judge(score, 2, 2));
        let (best, wait, decay, stop) = (Verdict::Best, Verdict::Wait, Verdict::Decay, Verdict::Stop);
        assert_eq!(verdicts, [best, best, wait, decay, best, wait, decay, wait, best, wait, stop]);
        assert_eq!(plateau, Plateau { best: Some(1.4), without_gain: 2, decays: 2 });
        assert_eq!(plateau.share(0.5), 0.25);
    }

    proptest! {
        /// Against the definition read off the whole list of scores.
        #[test]
        fn verdicts_are_those_of_the_definition(
            scores in prop::collection::vec(0_u8..20, 0..80),
            patience in 1_usize..5,
            decays in 0_usize..4,
        ) {
            let mut plateau = Plateau::default();
            let (mut since, mut fallen) = (0, 0);
            for (at, &score) in scores.iter().enumerate() {
                let verdict = plateau.judge(f64::from(score), patience, decays);
                let best = scores[..at].iter().all(|&before| score < before);
                since = if best { 0 } else { since + 1 };
                let expected = match (best, since == patience, fallen == decays) {
                    (true, _, _) => Verdict::Best,
                    (_, false, _) => Verdict::Wait,
                    (_, true, true) => Verdict::Stop,
                    (_, true, false) => Verdict::Decay,
                };
                prop_assert_eq!(verdict, expected);
                if verdict == Verdict::Stop {
                    break;
                }
                if verdict == Verdict::Decay {
                    (since, fallen) = (0, fallen + 1);
                }
                prop_assert_eq!(plateau.best, scores[..=at].iter().min().map(|&score| f64::from(score)));
                prop_assert_eq!(plateau.share(0.5), 0.5_f32.powi(fallen as i32));
            }
        }
    }
}
