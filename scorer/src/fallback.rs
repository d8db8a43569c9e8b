//! Smoothed base rates: what is said of an impression while there is no model. A pure function of
//! the vector and the settings, the same to the bit on every machine.

use std::collections::BTreeMap;

use schemas::duration::Millis;
use schemas::{FeatureVector, VectorSchema};

use crate::config;

/// The version that predictions by base rates name.
pub const VERSION: &str = "fallback";

/// The kernel class that they name: plain arithmetic in f64.
pub const KERNEL: &str = "portable";

/// Where the counts stand in vectors of one schema.
#[derive(Debug, Clone, Copy)]
struct Counts {
    views: Option<usize>,
    clicks: Option<usize>,
    purchases: Option<usize>,
}

/// Base rates for vectors of the schemas that it has learnt; for others it knows the priors only.
#[derive(Debug, Clone)]
pub struct Fallback {
    settings: config::Fallback,
    /// By the schema's fingerprint.
    counts: BTreeMap<u64, Counts>,
    checksum: String,
}

impl Fallback {
    /// Has learnt no schema yet.
    pub fn new(settings: &config::Fallback) -> Self {
        // A struct of numbers and texts serialises without error.
        let text = serde_json::to_vec(settings).unwrap_or_default();
        let checksum = blake3::hash(&text).to_hex().to_string();
        Self { settings: settings.clone(), counts: BTreeMap::new(), checksum }
    }

    /// Whether the schema of that fingerprint was learnt.
    pub fn knows(&self, fingerprint: u64) -> bool {
        self.counts.contains_key(&fingerprint)
    }

    /// Finds the columns of the settings' families in vectors of that fingerprint; `None`: their schema is
    /// not known. Whether the counts of views are there: without them there are only priors.
    pub fn learn(&mut self, fingerprint: u64, schema: Option<&VectorSchema>) -> bool {
        let place = |family: &str| schema.and_then(|schema| longest(schema, family));
        let config::Fallback { views, clicks, purchases, .. } = &self.settings;
        let (views, clicks, purchases) = (place(views), place(clicks), place(purchases));
        self.counts.insert(fingerprint, Counts { views, clicks, purchases });
        views.is_some()
    }

    /// BLAKE3 of the settings, hex: what predictions name as their model's checksum.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Probabilities of a click and of a purchase.
    pub fn rates(&self, vector: &FeatureVector) -> (f32, f32) {
        let config::Fallback { click_prior, purchase_prior, prior_weight, .. } = self.settings;
        let known = self.counts.get(&vector.fingerprint);
        let Some(known) = known.filter(|counts| counts.views.is_some()) else {
            return (click_prior as f32, purchase_prior as f32);
        };
        let count = |position: Option<usize>| {
            let number = position.and_then(|at| vector.numbers().nth(at)).map_or(0.0, f64::from);
            if number.is_finite() { number.max(0.0) } else { 0.0 }
        };
        let views = count(known.views);
        let rate = |came: f64, prior: f64| {
            ((came + prior * prior_weight) / (views + prior_weight)).clamp(0.0, 1.0) as f32
        };
        (rate(count(known.clicks), click_prior), rate(count(known.purchases), purchase_prior))
    }
}

/// Position of the family's column with the longest window; a column of just that name counts as
/// having no window.
fn longest(schema: &VectorSchema, family: &str) -> Option<usize> {
    schema
        .fields
        .iter()
        .enumerate()
        .filter_map(|(at, field)| {
            let rest = field.name.strip_prefix(family)?;
            let window = match rest.strip_prefix('_') {
                Some(window) => Millis::parse(window).ok()?,
                None if rest.is_empty() => Millis(0),
                None => return None,
            };
            Some((window, at))
        })
        .max()
        .map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{base_rates, schema, settings, vector};

    #[test]
    fn takes_the_longest_window_of_a_family() {
        let schema =
            schema(&["user_views_1h", "user_views_7d", "user_views_2h", "user_views_rate", "user_clicks_7d"]);
        assert_eq!(longest(&schema, "user_views"), Some(1));
        assert_eq!(longest(&schema, "user_clicks"), Some(4));
        assert_eq!(longest(&schema, "user_purchases"), None);
        assert_eq!(longest(&schema, "user_views_rate"), Some(3));
    }

    #[test]
    fn smooths_towards_the_priors() {
        let schema = schema(&["user_views_7d", "user_clicks_7d", "user_purchases_7d"]);
        let fallback = base_rates(&settings(), &schema);
        assert_eq!(fallback.rates(&vector(&schema, &[0.0, 0.0, 0.0])), (0.05, 0.005));
        assert_eq!(fallback.rates(&vector(&schema, &[80.0, 9.0, 1.0])), (0.1, 0.011));
        // Missing numbers count as none; more clicks than views is no probability above 1.
        assert_eq!(fallback.rates(&vector(&schema, &[f32::NAN, f32::NAN, f32::NAN])), (0.05, 0.005));
        assert_eq!(fallback.rates(&vector(&schema, &[0.0, 500.0, 0.0])).0, 1.0);
    }

    #[test]
    fn knows_only_priors_of_another_schema() {
        let ours = schema(&["user_views_7d", "user_clicks_7d"]);
        let other = schema(&["user_clicks_7d", "user_views_7d"]);
        let mut fallback = base_rates(&settings(), &ours);
        assert_eq!(fallback.rates(&vector(&other, &[80.0, 9.0])), (0.05, 0.005));
        // Until it has learnt it.
        assert!(fallback.learn(other.fingerprint(), Some(&other)));
        assert!(fallback.knows(other.fingerprint()) && !fallback.knows(1));
        assert_eq!(fallback.rates(&vector(&other, &[9.0, 80.0])).0, 0.1);
        assert_eq!(fallback.rates(&vector(&ours, &[80.0, 9.0])).0, 0.1);
        let without = schema(&["price"]);
        assert!(!fallback.learn(without.fingerprint(), Some(&without)) && !fallback.learn(1, None));
        assert_eq!(fallback.rates(&vector(&without, &[80.0])), (0.05, 0.005));
    }

    #[test]
    fn other_settings_have_another_checksum() {
        let other = config::Fallback { prior_weight: 21.0, ..settings() };
        assert_ne!(Fallback::new(&settings()).checksum(), Fallback::new(&other).checksum());
    }
}
