//! What the network is taught of an example: which loss each of its logits has, given the outcome.
//!
//! A click's label is final. What a purchase whose window is still open teaches is the config's
//! choice ([`Unmatured`]). With "mask", purchases are learned from matured labels only, present ones
//! as absent ones: taking early purchases without the early absences would teach too high a rate.
//! Given these masks, the sum of the three heads' losses is the exact log likelihood of what happened.

use super::losses::{Seen, binary, censored, fake_negative, gamma, smoothed, softmax};
use super::smoothing::smooths_purchases;
use super::survey::Survey;
use crate::config::{Config, HeadKind, Unmatured};
use crate::encode::Outcome;
use crate::network::HEADS;

/// Logits of the delays of purchases, one for each head that purchases are learned by.
pub(crate) const DELAYS: usize = 2;

/// The heads that purchases are learned by.
pub(super) const CONVERSION: usize = 1;
pub(super) const VIEW_THROUGH: usize = 2;
/// The output for the value of a purchase, where there is one.
const VALUE: usize = HEADS;

/// How examples of a batch are mixed: row `i` is shown with `shares[i]` of itself and the rest of
/// the row `shift` further on, and learns both outcomes in these shares.
#[derive(Debug, Clone)]
pub(crate) struct Mixing {
    pub(crate) shift: usize,
    pub(crate) shares: Vec<f32>,
}

impl Mixing {
    /// The row that row `row` is mixed with.
    pub(crate) const fn partner(&self, row: usize) -> usize {
        (row + self.shift) % self.shares.len()
    }
}

/// What one logit is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Binary(bool),
    FakeNegative(bool),
    Censored(Seen),
    /// Softmax over nothing (0), a click alone (1), a click and a purchase (2), a purchase without a
    /// click (3): one of these. A purchase that may still come leaves two of them possible.
    OneOf(&'static [usize]),
    /// The output is the logarithm of this value's mean.
    Worth(f32),
}

/// What is added to the heads' logits when serving, so that their probabilities are those of all
/// impressions alike: training on a share `r` of the negatives (He et al. 2014, equation 7) or
/// weighting positives by `w` teaches odds that are 1 / `r` and `w` times the true ones.
pub(super) fn served_shift(head: HeadKind, positive_weight: f64, negative_rate: f64) -> [f64; HEADS] {
    let weight = -libm::log(positive_weight);
    let click = weight + libm::log(negative_rate);
    match head {
        HeadKind::Binary | HeadKind::MultiTask => [click, weight, weight],
        // Every outcome with a click is as many times too likely beside those without.
        HeadKind::Softmax => [click, click, 0.0],
    }
}

/// Losses of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judged {
    /// Sum of the weighted losses.
    pub(crate) sum: f64,
    /// Sum of the examples' weights.
    pub(crate) count: f64,
    /// Slope of `sum / count` at each logit.
    pub(crate) slopes: Vec<f32>,
}

/// The loss of a training.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Objective {
    head: HeadKind,
    conversion: f64,
    view_through: f64,
    /// Above 0: the heads are followed by an output for the value of a purchase.
    value: f64,
    smoothing: f64,
    positive_weight: f64,
    negative_rate: f64,
    unmatured: Unmatured,
    /// Delays are counted in this, s.
    delay_unit: f64,
    /// How long a purchase window stays open, s.
    window: f64,
}

impl Objective {
    pub(crate) fn new(config: &Config, survey: &Survey) -> Self {
        let head = config.network.head;
        let config = &config.training;
        let purchases = |weight: f32| if head == HeadKind::Binary { 0.0 } else { f64::from(weight) };
        Self {
            head,
            conversion: purchases(config.conversion_weight),
            view_through: purchases(config.view_through_weight),
            value: f64::from(config.value_weight),
            smoothing: f64::from(config.label_smoothing),
            positive_weight: f64::from(config.positive_weight),
            negative_rate: f64::from(config.negative_rate),
            unmatured: config.unmatured,
            delay_unit: survey.mean_delay_s,
            window: survey.window_s,
        }
    }

    /// The same without what only helps to learn: what validation measures.
    pub(crate) const fn plain(&self) -> Self {
        let mut plain = Self { smoothing: 0.0, positive_weight: 1.0, negative_rate: 1.0, ..*self };
        // Its weights follow the model's own probability: two models' losses don't compare.
        if matches!(plain.unmatured, Unmatured::FakeNegativeWeighted) {
            plain.unmatured = Unmatured::Mask;
        }
        plain
    }

    /// Outputs that serve: the heads' logits, and the logarithm of a purchase's mean value where it is
    /// learned.
    pub(crate) fn outputs(&self) -> usize {
        HEADS + usize::from(self.value > 0.0)
    }

    /// Logits behind those that serve, that only training reads: rates of the delays of purchases.
    pub(crate) const fn extra(&self) -> usize {
        if matches!(self.unmatured, Unmatured::Delayed) { DELAYS } else { 0 }
    }

    /// The heads' logits that give the base rates: of a click, of a purchase given one, given none, of
    /// which these are the logits.
    pub(crate) fn base(&self, logits: [f32; HEADS]) -> [f32; HEADS] {
        if self.head != HeadKind::Softmax {
            return logits;
        }
        let [click, conversion, view_through] =
            logits.map(|logit| 1.0 / (1.0 + libm::exp(-f64::from(logit))));
        let nothing = (1.0 - click) * (1.0 - view_through);
        let outcomes = [click * (1.0 - conversion), click * conversion, (1.0 - click) * view_through];
        outcomes.map(|probability| libm::log(probability / nothing) as f32)
    }

    /// What is added to the heads' logits when serving: [`served_shift`].
    pub(crate) fn served_shift(&self) -> [f64; HEADS] {
        served_shift(self.head, self.positive_weight, self.negative_rate)
    }

    /// Tells `term` the head, the weight and the target of each loss of an outcome.
    fn terms(&self, outcome: Outcome, mut term: impl FnMut(usize, f64, Target)) {
        let positive = |positive: bool| if positive { self.positive_weight } else { 1.0 };
        if self.head == HeadKind::Softmax {
            let known = outcome.matured || self.unmatured == Unmatured::Naive;
            let possible: &[usize] = match (known, outcome.clicked, outcome.purchased) {
                (true, false, false) => &[0],
                (true, true, false) => &[1],
                (true, true, true) => &[2],
                (true, false, true) => &[3],
                (false, true, _) => &[1, 2],
                (false, false, _) => &[0, 3],
            };
            term(0, positive(outcome.clicked), Target::OneOf(possible));
            return;
        }
        term(0, positive(outcome.clicked), Target::Binary(outcome.clicked));
        if self.value > 0.0
            && let Some(value) = outcome.final_value()
        {
            // Purchases without a click were thinned out with the negatives.
            let share = if outcome.clicked { 1.0 } else { self.negative_rate };
            term(VALUE, self.value / share, Target::Worth(value));
        }
        let (head, weight) =
            if outcome.clicked { (CONVERSION, self.conversion) } else { (VIEW_THROUGH, self.view_through) };
        if weight <= 0.0 {
            return;
        }
        let purchased = outcome.purchased;
        let known = outcome.matured || self.unmatured == Unmatured::Naive;
        match self.unmatured {
            // A purchase says when it came, matured or not.
            Unmatured::Delayed if purchased => {
                let delay = f64::from(outcome.delay_s) / self.delay_unit;
                term(head, weight, Target::Censored(Seen::After(delay)));
            }
            Unmatured::Delayed if !outcome.matured => {
                let elapsed = f64::from(outcome.elapsed_s) / self.delay_unit;
                term(head, weight, Target::Censored(Seen::NotWithin(elapsed)));
            }
            Unmatured::FakeNegativeWeighted => {
                // The stream of the last window: its impressions, each a negative, and the
                // purchases that came within it, of its impressions or of earlier ones.
                if !outcome.matured {
                    term(head, weight, Target::FakeNegative(false));
                }
                if purchased && f64::from(outcome.elapsed_s - outcome.delay_s) <= self.window {
                    term(head, weight, Target::FakeNegative(true));
                }
                if known {
                    term(head, weight, Target::Binary(purchased));
                }
            }
            _ if known => term(head, weight * positive(purchased), Target::Binary(purchased)),
            _ => {}
        }
    }

    /// Adds an outcome's loss times `weight` to `sum`, and its slopes to `slopes`.
    fn add(&self, logits: &[f32], outcome: Outcome, weight: f64, sum: &mut f64, slopes: &mut [f64]) {
        self.terms(outcome, |head, share, target| {
            let weight = weight * share;
            let logit = f64::from(logits[head]);
            let (loss, slope) = match target {
                Target::Binary(positive) => {
                    let smooths = head == 0 || smooths_purchases(self.head, self.unmatured);
                    let smoothing = if smooths { self.smoothing } else { 0.0 };
                    binary(logit, smoothed(f64::from(u8::from(positive)), smoothing))
                }
                Target::OneOf(possible) => {
                    // The logit of nothing is 0, and has no slope of its own.
                    let all = [0.0, f64::from(logits[0]), f64::from(logits[1]), f64::from(logits[2])];
                    let mut of_all = [0.0; HEADS + 1];
                    *sum += softmax(&all, possible, self.smoothing, weight, &mut of_all);
                    for (slope, of) in slopes.iter_mut().zip(&of_all[1..]) {
                        *slope += of;
                    }
                    return;
                }
                Target::FakeNegative(positive) => fake_negative(logit, positive),
                Target::Worth(value) => gamma(logit, f64::from(value)),
                Target::Censored(seen) => {
                    let rate = self.outputs() + head - CONVERSION;
                    let (loss, [of_logit, of_rate]) = censored(logit, f64::from(logits[rate]), seen);
                    slopes[rate] += weight * of_rate;
                    (loss, of_logit)
                }
            };
            *sum += weight * loss;
            slopes[head] += weight * slope;
        });
    }

    /// Judges rows of [`Self::outputs`] + [`Self::extra`] logits by the outcomes and weights of their
    /// examples. Of mixed rows the losses are mixed: of values that is the loss of the mixed value, as it
    /// is linear in it.
    pub(crate) fn judge(
        &self,
        logits: &[f32],
        examples: &[(Outcome, f32)],
        mixing: Option<&Mixing>,
    ) -> Judged {
        let stride = logits.len() / examples.len().max(1);
        let (mut sum, mut count) = (0.0, 0.0);
        let mut slopes = vec![0.0_f64; logits.len()];
        for (row, (logits, slopes)) in
            logits.chunks_exact(stride.max(1)).zip(slopes.chunks_exact_mut(stride.max(1))).enumerate()
        {
            let mut add = |(outcome, weight): (Outcome, f32), share: f32| {
                let weight = f64::from(weight) * f64::from(share);
                count += weight;
                if weight > 0.0 {
                    self.add(logits, outcome, weight, &mut sum, slopes);
                }
            };
            match mixing {
                None => add(examples[row], 1.0),
                Some(mixing) => {
                    let share = mixing.shares[row];
                    add(examples[row], share);
                    add(examples[mixing.partner(row)], 1.0 - share);
                }
            }
        }
        let scale = if count > 0.0 { 1.0 / count } else { 0.0 };
        Judged { sum, count, slopes: slopes.into_iter().map(|slope| (slope * scale) as f32).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(unmatured: Unmatured) -> Objective {
        Objective {
            head: HeadKind::MultiTask,
            conversion: 1.0,
            view_through: 0.5,
            value: 0.0,
            smoothing: 0.1,
            positive_weight: 1.0,
            negative_rate: 1.0,
            unmatured,
            delay_unit: 3.0,
            window: 10.0,
        }
    }

    fn examples() -> Vec<(Outcome, f32)> {
        let mut all = Vec::new();
        for clicked in [false, true] {
            for purchased in [false, true] {
                for matured in [false, true] {
                    let (elapsed_s, delay_s) =
                        (if matured { 14.0 } else { 6.0 }, if purchased { 5.0 } else { 0.0 });
                    let value = if purchased { 7.0 } else { 0.0 };
                    all.push((Outcome { clicked, purchased, matured, elapsed_s, delay_s, value }, 2.0));
                }
            }
        }
        all
    }

    #[test]
    fn slopes_are_those_of_the_loss() {
        let examples = examples();
        let mixing = Mixing { shift: 3, shares: vec![0.7; examples.len()] };
        // The weights of the fake-negative weighted loss are constants to its slope: its own test
        // compares it with PyTorch.
        for unmatured in [Unmatured::Mask, Unmatured::Naive, Unmatured::Delayed] {
            for (mixing, value) in [(None, 0.0), (None, 0.6), (Some(&mixing), 0.6)] {
                let objective = Objective { value, negative_rate: 0.5, ..objective(unmatured) };
                let stride = objective.outputs() + objective.extra();
                let logits: Vec<f32> =
                    (0..examples.len() * stride).map(|at| ((at * 7) % 11) as f32 / 4.0 - 1.2).collect();
                let judged = objective.judge(&logits, &examples, mixing);
                let loss = |logits: &[f32]| objective.judge(logits, &examples, mixing).sum / judged.count;
                for at in 0..logits.len() {
                    let (mut up, mut down) = (logits.clone(), logits.clone());
                    up[at] += 1e-2;
                    down[at] -= 1e-2;
                    let slope = (loss(&up) - loss(&down)) / f64::from(up[at] - down[at]);
                    let ours = f64::from(judged.slopes[at]);
                    assert!((slope - ours).abs() < 3e-5, "{unmatured:?} {at}: {slope} {ours}");
                }
            }
        }
    }

    #[test]
    fn slopes_of_a_softmax_are_those_of_its_loss() {
        let examples = examples();
        let objective = Objective { head: HeadKind::Softmax, ..objective(Unmatured::Mask) };
        let logits: Vec<f32> =
            (0..examples.len() * HEADS).map(|at| ((at * 7) % 11) as f32 / 4.0 - 1.2).collect();
        let judged = objective.judge(&logits, &examples, None);
        let loss = |logits: &[f32]| objective.judge(logits, &examples, None).sum / judged.count;
        for at in 0..logits.len() {
            let (mut up, mut down) = (logits.clone(), logits.clone());
            up[at] += 1e-2;
            down[at] -= 1e-2;
            let slope = (loss(&up) - loss(&down)) / f64::from(up[at] - down[at]);
            assert!((slope - f64::from(judged.slopes[at])).abs() < 1e-5, "{at}");
        }
    }

    #[test]
    fn a_binary_head_learns_clicks_alone() {
        let objective = Objective { conversion: 0.0, view_through: 0.0, ..objective(Unmatured::Mask) };
        let slopes = objective.judge(&[0.3; 8 * HEADS], &examples(), None).slopes;
        assert!(slopes.as_chunks::<HEADS>().0.iter().all(|row| row[0] != 0.0 && row[1..] == [0.0; 2]));
    }

    #[test]
    fn an_open_window_teaches_purchases_only_where_told_to() {
        let open = Outcome { clicked: true, elapsed_s: 6.0, ..Outcome::default() };
        let slopes = |unmatured| {
            let objective = objective(unmatured);
            objective.judge(&vec![0.3; HEADS + objective.extra()], &[(open, 1.0)], None).slopes
        };
        assert_eq!(slopes(Unmatured::Mask)[1..], [0.0, 0.0]);
        let naive = slopes(Unmatured::Naive)[1];
        let delayed = slopes(Unmatured::Delayed);
        assert!(naive > 0.0 && delayed[1] > 0.0 && delayed[1] < naive);
        assert!(delayed[3] > 0.0, "a purchase that does not come says that delays are long");
        let weighted = slopes(Unmatured::FakeNegativeWeighted)[1];
        assert!(weighted > 0.0);
        assert!(slopes(Unmatured::Delayed)[0] != 0.0, "clicks are always final");
    }

    #[test]
    fn values_are_learned_from_final_purchases_alone() {
        let objective = Objective { value: 2.0, negative_rate: 0.25, ..objective(Unmatured::Mask) };
        let mut examples = examples();
        examples.push((Outcome { value: 0.0, ..examples[7].0 }, 2.0));
        let logits = vec![1.0_f32; examples.len() * 4];
        let judged = objective.judge(&logits, &examples, None);
        for ((outcome, weight), slopes) in examples.iter().zip(judged.slopes.chunks_exact(4)) {
            let scale = 2.0 * f64::from(*weight) / judged.count;
            let expected = match outcome.final_value() {
                // Without a click, each stands for the four that it was drawn from.
                Some(value) => {
                    let stands_for = if outcome.clicked { 1.0 } else { 4.0 };
                    scale * stands_for * (1.0 - f64::from(value) * (-1.0_f64).exp())
                }
                None => 0.0,
            };
            assert!((f64::from(slopes[3]) - expected).abs() < 1e-6, "{outcome:?}: {slopes:?} {expected}");
        }
        assert_eq!(examples.iter().filter(|one| one.0.final_value().is_some()).count(), 2);
    }

    #[test]
    fn what_serves_takes_the_shifts_back() {
        let objective = Objective { positive_weight: 4.0, negative_rate: 0.1, ..objective(Unmatured::Mask) };
        // Odds of 1 to 9, taught with a tenth of the negatives and positives counted four times.
        let taught = (4.0 * 1.0_f64 / 0.9).ln();
        let served = 1.0 / (1.0 + (-(taught + objective.served_shift()[0])).exp());
        assert!((served - 0.1).abs() < 1e-12, "{served}");
    }
}
