//! The `[market]` section.

use crate::kind::MarketKind;
use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

/// The section with its defaults, commented.
pub const DEFAULTS: &str = include_str!("default.toml");

/// What kind of market is simulated. The comments in [`DEFAULTS`] say what each setting means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The law of a click.
    pub kind: MarketKind,
    /// Consumers.
    pub users: u32,
    /// Items.
    pub items: u32,
    /// Campaigns.
    pub campaigns: u32,
    /// Categories.
    pub categories: u32,
    /// Brands.
    pub brands: u32,
    /// Numbers in an embedding.
    pub embedding: u32,
    /// Opening, ms since 1970 UTC.
    pub start_ms: i64,
    /// Mean impressions of a consumer in a day.
    pub views_per_user_day: f64,
    /// Clicks per impression, about.
    pub click_rate: f64,
    /// Purchases per impression, about.
    pub purchase_rate: f64,
    /// Share of purchases without a click.
    pub view_through: f64,
    /// Share of purchases taken back.
    pub refund_rate: f64,
    /// Depth of the day's rhythm, 0 to 1.
    pub day_rhythm: f64,
    /// Drift of campaigns' appeal, logits.
    pub drift: f64,
    /// ISO 4217 code.
    pub currency: String,
    /// Whether views and clicks name category and price.
    pub describe_items: bool,
    /// Most that a record out of order is behind.
    pub disorder: Millis,
    /// What ingest allows.
    pub allowed_lateness: Millis,
    /// Share of good records that come twice.
    pub duplicates: f64,
    /// Share of good records out of order.
    pub out_of_order: f64,
    /// Share of views that are late.
    pub late: f64,
    /// Records with times far ahead, per good record.
    pub future: f64,
    /// Records that are no JSON, per good record.
    pub garbage: f64,
    /// Records with wrong fields, per good record.
    pub wrong_type: f64,
    /// Records with values beyond all limits, per good record.
    pub huge: f64,
}

/// A market that cannot be simulated. Fatal: mend the config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("market.{key} {what}")]
pub struct ConfigError {
    /// The setting.
    pub key: &'static str,
    /// What it must be.
    pub what: &'static str,
}

impl Config {
    /// Whether it describes a market.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let at_least_one = [
            ("users", self.users),
            ("items", self.items),
            ("campaigns", self.campaigns),
            ("categories", self.categories),
            ("brands", self.brands),
        ];
        let shares = [
            ("view_through", self.view_through),
            ("refund_rate", self.refund_rate),
            ("day_rhythm", self.day_rhythm),
            ("duplicates", self.duplicates),
            ("out_of_order", self.out_of_order),
            ("late", self.late),
            ("future", self.future),
            ("garbage", self.garbage),
            ("wrong_type", self.wrong_type),
            ("huge", self.huge),
        ];
        let inner = [("click_rate", self.click_rate), ("purchase_rate", self.purchase_rate)];
        let wrong = |key, what| Err(ConfigError { key, what });
        if let Some((key, _)) = at_least_one.into_iter().find(|(_, n)| *n == 0) {
            return wrong(key, "must be at least 1");
        }
        if self.items < self.categories {
            return wrong("items", "must be at least as many as the categories");
        }
        if let Some((key, _)) = shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            return wrong(key, "must be between 0 and 1");
        }
        if let Some((key, _)) = inner.into_iter().find(|(_, rate)| !(1e-4..=0.5).contains(rate)) {
            return wrong(key, "must be between 0.0001 and 0.5");
        }
        if self.purchase_rate > self.click_rate {
            return wrong("purchase_rate", "must not be above the click rate");
        }
        if !(1e-3..=10_000.0).contains(&self.views_per_user_day) {
            return wrong("views_per_user_day", "must be between 0.001 and 10000");
        }
        if !(0.0..=5.0).contains(&self.drift) {
            return wrong("drift", "must be between 0 and 5 logits");
        }
        // Ingest takes times of this century; the market is given half of it to run.
        if !(946_684_800_000..2_524_608_000_000).contains(&self.start_ms) {
            return wrong("start_ms", "must be in the years 2000 to 2049, in ms since 1970 UTC");
        }
        if self.disorder.0 < 0 || self.disorder.0.saturating_mul(2) >= self.allowed_lateness.0 {
            return wrong("disorder", "must be less than half of the allowed lateness");
        }
        if self.allowed_lateness.0 > 30 * 86_400_000 {
            return wrong("allowed_lateness", "must be at most 30d");
        }
        Ok(())
    }
}
