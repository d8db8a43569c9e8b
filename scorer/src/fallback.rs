//! Smoothed base rates: what is said of an impression while there is no model. A pure function of
//! the vector and the settings, the same to the bit on every machine.

use schemas::duration::Millis;
use schemas::{FeatureVector, VectorSchema};

use crate::config;

/// The version that predictions by base rates name.
pub const VERSION: &str = "fallback";

/// The kernel class that they name: plain arithmetic in f64.
pub const KERNEL: &str = "portable";

/// Base rates for vectors of one schema; for others it knows the priors only.
#[derive(Debug, Clone)]
pub struct Fallback {
    settings: config::Fallback,
    fingerprint: u64,
    views: Option<usize>,
    clicks: Option<usize>,
    purchases: Option<usize>,
    checksum: String,
}

impl Fallback {
    /// Finds the columns of the settings' families in the schema.
    pub fn new(settings: &config::Fallback, schema: &VectorSchema) -> Self {
        // A struct of numbers and texts serialises without error.
        let text = serde_json::to_vec(settings).unwrap_or_default();
        Self {
            settings: settings.clone(),
            fingerprint: schema.fingerprint(),
            views: longest(schema, &settings.views),
            clicks: longest(schema, &settings.clicks),
            purchases: longest(schema, &settings.purchases),
            checksum: blake3::hash(&text).to_hex().to_string(),
        }
    }

    /// BLAKE3 of the settings, hex: what predictions name as their model's checksum.
    pub fn checksum(&self) -> &str {
        &self.checksum
    }

    /// Whether the counts of views were found in the schema; without them there are only priors.
    pub fn counts_found(&self) -> bool {
        self.views.is_some()
    }

    /// Probabilities of a click and of a purchase.
    pub fn rates(&self, vector: &FeatureVector) -> (f32, f32) {
        let config::Fallback { click_prior, purchase_prior, prior_weight, .. } = self.settings;
        if vector.fingerprint != self.fingerprint || self.views.is_none() {
            return (click_prior as f32, purchase_prior as f32);
        }
        let count = |position: Option<usize>| {
            let number = position.and_then(|at| vector.numbers().nth(at)).map_or(0.0, f64::from);
            if number.is_finite() { number.max(0.0) } else { 0.0 }
        };
        let views = count(self.views);
        let rate = |came: f64, prior: f64| {
            ((came + prior * prior_weight) / (views + prior_weight)).clamp(0.0, 1.0) as f32
        };
        (rate(count(self.clicks), click_prior), rate(count(self.purchases), purchase_prior))
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
    use crate::testing::{schema, settings, vector};

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
        let fallback = Fallback::new(&settings(), &schema);
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
        let fallback = Fallback::new(&settings(), &ours);
        assert_eq!(fallback.rates(&vector(&other, &[80.0, 9.0])), (0.05, 0.005));
        assert!(!Fallback::new(&settings(), &schema(&["price"])).counts_found());
    }

    #[test]
    fn other_settings_have_another_checksum() {
        let schema = schema(&["user_views_7d"]);
        let other = config::Fallback { prior_weight: 21.0, ..settings() };
        assert_ne!(Fallback::new(&settings(), &schema).checksum(), Fallback::new(&other, &schema).checksum());
    }
}
