//! The `[features]` section of the config: what is declared, before it is checked.
//!
//! Knows no state and no record; [`crate::Plan`] checks it and gives it meaning.

use std::collections::BTreeMap;

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

/// The section's commented defaults, as TOML.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[features]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Trailing windows of entities that name none of their own.
    pub windows: Vec<Millis>,
    /// Behaviours in a vector, newest first.
    pub last_n: usize,
    /// Context numbers: `hour`, `hour_sin`, `hour_cos`, `weekday`, `price`.
    pub context: Vec<String>,
    /// Names of the extra numbers of an event, in the order of `ingest.numbers`.
    pub numbers: Vec<String>,
    /// How long after a view a click answers it.
    pub click_window: Millis,
    /// How long before a purchase a view can be credited with it.
    pub purchase_window: Millis,
    /// How far apart in event time two events of one id are repeats.
    pub dedupe_horizon: Millis,
    /// Ids held per user to find repeats.
    pub dedupe_events: usize,
    /// Whether events without an id are told apart by a hash of their content.
    pub dedupe_by_content: bool,
    /// Events of a user held one by one before older ones go to tiles.
    pub exact_events: usize,
    /// Due labels written per record, at most.
    pub timers_per_record: usize,
    /// How long a closed hour can be corrected.
    pub aggregate_horizon: Millis,
    /// Width of the tiles that shared entities are counted in, and of the steps between versions.
    pub shared_tile: Millis,
    /// Declarations by entity: `user`, `user_campaign`, `user_category`, and those that users share:
    /// `item`, `campaign`, `category`, `brand`, `placement`.
    pub entities: BTreeMap<String, EntityConfig>,
}

/// What is computed for one entity.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EntityConfig {
    /// Kinds that are counted per window.
    pub count: Vec<String>,
    /// Kinds whose value is summed per window.
    pub sum: Vec<String>,
    /// Kinds whose value is averaged per window; missing where there was none.
    pub mean: Vec<String>,
    /// Whether there is a smoothed click rate per window.
    pub rate: bool,
    /// The entity whose rate is the prior: `campaign` for an item's. Empty: `rate_prior` is.
    pub rate_parent: String,
    /// The rate of an entity without views and without a parent, 0 to 1.
    pub rate_prior: f64,
    /// How many views the prior weighs; positive.
    pub rate_weight: f64,
    /// Kinds whose last event's age is given, in seconds.
    pub seconds_since: Vec<String>,
    /// Windows; empty means the section's.
    pub windows: Vec<Millis>,
}

impl Default for Config {
    /// What [`DEFAULTS`] says.
    fn default() -> Self {
        #[derive(Deserialize)]
        struct File {
            features: Config,
        }
        #[expect(clippy::expect_used, reason = "the text is a constant, and a test reads it")]
        toml::from_str::<File>(DEFAULTS).expect("the defaults are valid").features
    }
}
