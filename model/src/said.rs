//! What the network's outputs stand for: logits of the heads, probabilities, what a purchase is worth.

use crate::config::HeadKind;
use crate::network::HEADS;
use crate::network::kernel::{exp, sigmoid};
use crate::train::Smoothing;
use crate::values::Values;

/// What the heads say, and what follows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probabilities {
    /// Of a click.
    pub p_click: f32,
    /// Of a purchase, given a click.
    pub p_conversion: f32,
    /// Of a purchase, given no click.
    pub p_view_through: f32,
    /// Of a purchase.
    pub p_purchase: f32,
    /// Mean value of a purchase, given that one follows, in the currency of [`Model::values`](crate::Model::values); none where
    /// the model predicts none.
    pub value: Option<f32>,
}

impl Probabilities {
    /// From the heads' logits, as they are; [`Model`]s calibrate theirs.
    pub fn from_logits(logits: [f32; HEADS]) -> Self {
        Self::of_heads(logits.map(sigmoid))
    }

    /// From what the heads say of a click, of a purchase given it, and of one given none.
    pub(crate) fn of_heads([p_click, p_conversion, p_view_through]: [f32; HEADS]) -> Self {
        let p_purchase = p_click * p_conversion + (1.0 - p_click) * p_view_through;
        Self { p_click, p_conversion, p_view_through, p_purchase, value: None }
    }
}

/// What the network gives of a row, as it is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outputs {
    /// Logits of a click, of a purchase given it, and of one given none.
    pub(crate) heads: [f32; HEADS],
    /// Logarithm of a purchase's mean value; none where there is no output for it.
    pub(crate) log_value: Option<f32>,
}

impl Outputs {
    /// Reads a row of the network's outputs, `smoothing` taken back; `values` says whether one is for
    /// values.
    pub(crate) fn read(head: HeadKind, smoothing: Smoothing, values: bool, row: &[f32]) -> Self {
        let heads = smoothing.take_back(row.first_chunk().copied().unwrap_or([0.0; HEADS]));
        Self { heads: separate(head, heads), log_value: row.get(HEADS).copied().filter(|_| values) }
    }

    /// The probabilities with what a purchase is worth.
    pub(crate) fn with_value(self, said: Probabilities, values: Option<&Values>) -> Probabilities {
        let value = values.zip(self.log_value).map(|(values, log_value)| values.mean(log_value));
        Probabilities { value, ..said }
    }
}

/// What `head` gives, as the logits of a click, of a purchase given it, and of one given none. Of a
/// softmax over nothing (whose logit is 0), a click alone, a click and a purchase, and a purchase
/// without a click, these are the log odds.
pub(crate) fn separate(head: HeadKind, logits: [f32; HEADS]) -> [f32; HEADS] {
    // ln(e^a + e^b)
    let either = |a: f32, b: f32| a.max(b) + libm::log1pf(exp(-(a - b).abs()));
    match head {
        HeadKind::Binary | HeadKind::MultiTask => logits,
        HeadKind::Softmax => {
            let [click, both, purchase] = logits;
            [either(click, both) - either(0.0, purchase), both - click, purchase]
        }
    }
}
