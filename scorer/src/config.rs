//! The section `[scorer]` of the configuration. Knows no other section.

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

/// The commented defaults of the section.
pub const DEFAULTS: &str = include_str!("default.toml");

/// How vectors are scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the model.
    pub model: String,
    /// Most vectors in one forward pass.
    pub micro_batch: usize,
    /// Fields and behaviours named in a prediction, at most.
    pub top_k: usize,
    /// Event time from an impression until its prediction is stale.
    pub valid_for: Millis,
    /// What is said without a model.
    pub fallback: Fallback,
}

/// `[scorer.fallback]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Expected share of impressions clicked.
    pub click_prior: f64,
    /// Expected share of impressions followed by a purchase.
    pub purchase_prior: f64,
    /// Impressions that the priors weigh.
    pub prior_weight: f64,
    /// Family of columns that count views.
    pub views: String,
    /// Family of columns that count clicks.
    pub clicks: String,
    /// Family of columns that count purchases.
    pub purchases: String,
}

impl Config {
    /// Refuses settings that make no sense.
    ///
    /// # Errors
    /// What is wrong, naming the key and what is allowed.
    pub fn check(&self) -> Result<(), crate::Error> {
        let bad = |key: &str, what: &str| {
            Err(crate::Error::Config { key: format!("scorer.{key}"), what: what.to_owned() })
        };
        let Fallback { click_prior, purchase_prior, prior_weight, .. } = self.fallback;
        if self.model.is_empty() {
            return bad("model", "must not be empty");
        }
        if self.micro_batch == 0 {
            return bad("micro_batch", "must be at least 1");
        }
        if !(0.0..=1.0).contains(&click_prior) {
            return bad("fallback.click_prior", "must lie from 0 to 1");
        }
        if !(0.0..=1.0).contains(&purchase_prior) {
            return bad("fallback.purchase_prior", "must lie from 0 to 1");
        }
        if !(prior_weight > 0.0 && prior_weight.is_finite()) {
            return bad("fallback.prior_weight", "must be more than 0");
        }
        Ok(())
    }
}
