//! The section `[scorer]` of the configuration. Knows no other section.

use model::explain::Method;
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
    /// How predictions are explained.
    pub explanation: Explanation,
    /// Event time from an impression until its prediction is stale.
    pub valid_for: Millis,
    /// What is said without a model.
    pub fallback: Fallback,
}

/// How predictions are explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explanation {
    /// By the method that the trainer measured and chose.
    #[default]
    Auto,
    /// The weights by which attention pools the fields.
    Attention,
    /// Attention through all layers.
    Rollout,
    /// Gradients on the way from an empty vector to this one.
    IntegratedGradients,
    /// What the logit loses without each column.
    Ablation,
}

impl Explanation {
    /// The method asked for; none: the model's own.
    pub const fn method(self) -> Option<Method> {
        match self {
            Self::Auto => None,
            Self::Attention => Some(Method::Attention),
            Self::Rollout => Some(Method::Rollout),
            Self::IntegratedGradients => Some(Method::IntegratedGradients),
            Self::Ablation => Some(Method::Ablation),
        }
    }
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
