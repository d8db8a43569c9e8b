//! Takes label smoothing back: from logits whose probabilities were taught to keep off 0 and 1, to
//! those of what comes true.
//!
//! A smoothed target is `t (1 - s) + s / m` over `m` outcomes, so that what is learned of a
//! probability `p` is `p' = p (1 - s) + s / m` (Szegedy et al. 2016), and `p = (p' - s / m) / (1 - s)`.
//! Weights of positives and down-sampling were learned under the smoothing, and are taken back after it.

use super::objective::{CONVERSION, VIEW_THROUGH, served_shift};
use crate::config::{Config, HeadKind, Unmatured};
use crate::network::HEADS;

/// Probabilities that the smoothing leaves no room for become this, and no less.
const LEAST: f64 = 1e-4;

/// How far the targets of each head were drawn, and how far its served logits were moved since.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Smoothing {
    head: HeadKind,
    /// Over both outcomes of a head; of a softmax, the first is over all its outcomes.
    drawn: [f64; HEADS],
    shift: [f64; HEADS],
}

impl Smoothing {
    /// That of a training by `config`.
    pub(crate) fn of(config: &Config) -> Self {
        let (head, training) = (config.network.head, &config.training);
        let smoothing = f64::from(training.label_smoothing);
        let mut of_heads = [smoothing, 0.0, 0.0];
        for (at, weight) in
            [(CONVERSION, training.conversion_weight), (VIEW_THROUGH, training.view_through_weight)]
        {
            if smooths_purchases(head, training.unmatured) && weight > 0.0 {
                of_heads[at] = smoothing;
            }
        }
        let shift =
            served_shift(head, f64::from(training.positive_weight), f64::from(training.negative_rate));
        Self { head, drawn: of_heads, shift }
    }

    /// Logits of the heads' probabilities without it. Does nothing to those of a head whose targets
    /// were not smoothed.
    pub(crate) fn take_back(&self, logits: [f32; HEADS]) -> [f32; HEADS] {
        if self.drawn == [0.0; HEADS] {
            return logits;
        }
        let taught: [f64; HEADS] = std::array::from_fn(|at| f64::from(logits[at]) - self.shift[at]);
        let plain = match self.head {
            HeadKind::Binary | HeadKind::MultiTask => std::array::from_fn(|at| {
                let [no, yes] = without(self.drawn[at], [0.0, taught[at]]);
                yes - no
            }),
            HeadKind::Softmax => {
                let [click, both, purchase] = taught;
                let [nothing, outcomes @ ..] = without(self.drawn[0], [0.0, click, both, purchase]);
                outcomes.map(|outcome| outcome - nothing)
            }
        };
        std::array::from_fn(|at| {
            if self.head != HeadKind::Softmax && self.drawn[at] <= 0.0 {
                return logits[at];
            }
            (plain[at] + self.shift[at]) as f32
        })
    }

    /// The same of rows of so many outputs, of which the heads' logits come first.
    pub(super) fn take_back_all(&self, rows: &mut [f32], outputs: usize) {
        for heads in rows.chunks_exact_mut(outputs).filter_map(|row| row.first_chunk_mut()) {
            *heads = self.take_back(*heads);
        }
    }
}

/// Whether the targets of purchases are drawn too: the likelihoods of delays know no soft target.
pub(super) const fn smooths_purchases(head: HeadKind, unmatured: Unmatured) -> bool {
    matches!(head, HeadKind::MultiTask) && matches!(unmatured, Unmatured::Mask | Unmatured::Naive)
}

/// Logarithms of the probabilities of outcomes with these logits, the smoothing taken back.
fn without<const N: usize>(smoothing: f64, logits: [f64; N]) -> [f64; N] {
    let most = logits.iter().fold(f64::NEG_INFINITY, |most, &logit| most.max(logit));
    let total: f64 = logits.iter().map(|&logit| libm::exp(logit - most)).sum();
    logits.map(|logit| {
        let drawn = libm::exp(logit - most) / total;
        libm::log(((drawn - smoothing / N as f64) / (1.0 - smoothing)).clamp(LEAST, 1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sigmoid(x: f64) -> f64 {
        1.0 / (1.0 + libm::exp(-x))
    }

    fn logit(p: f64) -> f64 {
        libm::log(p / (1.0 - p))
    }

    fn binary(shift: f64) -> Smoothing {
        Smoothing { head: HeadKind::MultiTask, drawn: [0.1, 0.1, 0.0], shift: [shift, 0.0, 0.0] }
    }

    #[test]
    fn a_smoothed_probability_comes_back() {
        for p in [0.01, 0.2, 0.5, 0.97] {
            let drawn = logit(p * 0.9 + 0.05) as f32;
            let [click, conversion, view_through] = binary(0.0).take_back([drawn; 3]);
            assert!((sigmoid(f64::from(click)) - p).abs() < 1e-6 && click == conversion);
            assert_eq!(view_through, drawn, "it was not smoothed");
        }
    }

    #[test]
    fn what_smoothing_leaves_no_room_for_is_bounded() {
        let [least, most, _] = binary(0.0).take_back([-9.0, 9.0, 0.0]).map(|x| sigmoid(f64::from(x)));
        assert!((least - LEAST).abs() < 1e-6 && (most - (1.0 - LEAST)).abs() < 1e-6, "{least} {most}");
        assert!(binary(0.0).take_back([f32::MAX, f32::MIN, 0.0]).iter().all(|logit| logit.is_finite()));
    }

    #[test]
    fn weights_were_learned_under_the_smoothing() {
        // 1 to 9, positives counted four times: 4 to 9, smoothed, then moved back in the bias.
        let taught = logit(4.0 / 13.0 * 0.9 + 0.05);
        let shift = -libm::log(4.0);
        let [click, ..] = binary(shift).take_back([(taught + shift) as f32, 0.0, 0.0]);
        assert!((sigmoid(f64::from(click)) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn all_outcomes_of_a_softmax_come_back() {
        let smoothing = Smoothing { head: HeadKind::Softmax, drawn: [0.2, 0.0, 0.0], shift: [0.0; HEADS] };
        let truth: [f64; 4] = [0.7, 0.2, 0.06, 0.04];
        let drawn = truth.map(|p| p * 0.8 + 0.05);
        let logits = [1, 2, 3].map(|at: usize| libm::log(drawn[at] / drawn[0]) as f32);
        for (at, logit) in smoothing.take_back(logits).into_iter().enumerate() {
            assert!((f64::from(logit) - libm::log(truth[at + 1] / truth[0])).abs() < 1e-5, "{at}");
        }
    }

    #[test]
    fn nothing_is_done_where_nothing_was_smoothed() {
        let logits = [0.3, -2.0, 1e9];
        assert_eq!(Smoothing::default().take_back(logits), logits);
    }
}
