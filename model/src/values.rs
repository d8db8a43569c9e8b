//! What purchases are worth: the range of values that a model has learned from, in one currency, and
//! what its output for them says within it.

use serde::{Deserialize, Serialize};

/// The values that a model predicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Values {
    /// ISO 4217 code; empty where the examples came without one.
    pub currency: String,
    /// The least that was learned from.
    pub least: f32,
    /// The largest that was learned from.
    pub most: f32,
}

impl Values {
    /// The mean value of which an output says the logarithm. A mean lies between the least and the
    /// largest: without that bound the exponential would make anything of an input like no other.
    pub fn mean(&self, log_mean: f32) -> f32 {
        // Written so that no number becomes none.
        libm::expf(log_mean).min(self.most).max(self.least)
    }

    /// The range of both.
    #[must_use]
    pub(crate) fn with(self, other: &Self) -> Self {
        Self { least: self.least.min(other.least), most: self.most.max(other.most), ..self }
    }

    /// Whether a model can serve with it.
    pub(crate) fn is_sound(&self) -> bool {
        self.least > 0.0 && self.least <= self.most && self.most.is_finite()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_stays_within_what_was_seen() {
        let values = Values { currency: "EUR".to_owned(), least: 2.0, most: 50.0 };
        assert!((values.mean(3.0) - 3.0_f32.exp()).abs() < 1e-5);
        assert_eq!([values.mean(-200.0), values.mean(200.0)], [2.0, 50.0]);
        let wider = values.with(&Values { currency: "EUR".to_owned(), least: 1.0, most: 9.0 });
        assert_eq!((wider.least, wider.most), (1.0, 50.0));
        assert!(wider.is_sound() && !Values { least: f32::NAN, ..wider }.is_sound());
    }
}
