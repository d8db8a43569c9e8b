//! The `[features]` section of the config: what is declared, before it is checked.
//!
//! Knows no state and no record; [`crate::Plan`] checks it and gives it meaning.

use std::collections::BTreeMap;

use schemas::duration::Millis;
use serde::{Deserialize, Serialize};

use crate::filters::FilterConfig;
use crate::plan::ENTITIES;
use crate::window::Window;

/// The section's commented defaults, as TOML.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The section `[features]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Windows of entities that name none of their own.
    pub windows: Vec<Window>,
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
    /// Named selections of events.
    pub filters: BTreeMap<String, FilterConfig>,
    /// Declarations by entity: `user`, `user_campaign`, `user_category`, `user_item`, `user_brand`,
    /// `user_placement`, and those that users share: `item`, `campaign`, `category`, `brand`, `placement`,
    /// `item_placement`, `campaign_placement`.
    pub entities: BTreeMap<String, EntityConfig>,
}

/// What is computed for one entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Kinds whose least value is given per window.
    pub min: Vec<String>,
    /// Kinds whose greatest value is given per window.
    pub max: Vec<String>,
    /// Kinds whose values' variance is given per window.
    pub variance: Vec<String>,
    /// Kinds whose first value is given per window.
    pub first: Vec<String>,
    /// Kinds whose last value is given per window.
    pub last: Vec<String>,
    /// Kinds whose mean time from one to the next is given per window, in seconds.
    pub mean_gap: Vec<String>,
    /// Kinds that are counted by age.
    pub decayed: Vec<String>,
    /// After how long an event counts half.
    pub half_lives: Vec<Millis>,
    /// Kinds whose rate of a window is compared with that of a longer one.
    pub trend: Vec<String>,
    /// The pairs of windows, as in `1h/1d`.
    pub trend_windows: Vec<String>,
    /// Texts of kinds that are told apart per window, as in `view.item`.
    pub distinct: Vec<String>,
    /// Kinds of whose values quantiles are given per window.
    pub quantile: Vec<String>,
    /// Which quantiles, above 0 up to 1.
    pub quantile_levels: Vec<f64>,
    /// Texts of kinds of which the most frequent are given per window, as in `view.category`.
    pub top: Vec<String>,
    /// How many of them.
    pub top_k: usize,
    /// Windows; empty means the section's.
    pub windows: Vec<Window>,
}

impl Default for EntityConfig {
    /// Nothing is computed.
    fn default() -> Self {
        Self {
            count: Vec::new(),
            sum: Vec::new(),
            mean: Vec::new(),
            rate: false,
            rate_parent: String::new(),
            rate_prior: 0.02,
            rate_weight: 20.0,
            seconds_since: Vec::new(),
            min: Vec::new(),
            max: Vec::new(),
            variance: Vec::new(),
            first: Vec::new(),
            last: Vec::new(),
            mean_gap: Vec::new(),
            decayed: Vec::new(),
            half_lives: vec![Millis(3_600_000), Millis(86_400_000)],
            trend: Vec::new(),
            trend_windows: Vec::new(),
            distinct: Vec::new(),
            quantile: Vec::new(),
            quantile_levels: vec![0.5, 0.9],
            top: Vec::new(),
            top_k: 3,
            windows: Vec::new(),
        }
    }
}

/// Every key of every entity as TOML, those that [`DEFAULTS`] does not name among them, with nothing
/// declared.
pub fn keys() -> String {
    #[derive(Serialize)]
    struct File {
        features: Section,
    }
    #[derive(Serialize)]
    struct Section {
        entities: BTreeMap<&'static str, EntityConfig>,
    }
    let entities = ENTITIES.map(|name| (name, EntityConfig::default())).into();
    #[expect(clippy::expect_used, reason = "lists, texts and finite numbers are TOML, and a test writes it")]
    toml::to_string(&File { features: Section { entities } }).expect("the keys can be written")
}

impl Config {
    /// These declarations, with what decides on labels, repeats and sums of hours as another has it.
    pub(crate) fn deciding_as(&self, other: &Self) -> Self {
        Self {
            click_window: other.click_window,
            purchase_window: other.purchase_window,
            dedupe_horizon: other.dedupe_horizon,
            dedupe_events: other.dedupe_events,
            dedupe_by_content: other.dedupe_by_content,
            timers_per_record: other.timers_per_record,
            aggregate_horizon: other.aggregate_horizon,
            ..self.clone()
        }
    }

    /// The declarations as a text that holds all of them.
    ///
    /// # Errors
    /// Numbers that JSON has no word for.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Declarations that [`Config::to_json`] wrote, by this build or by an older one: what that did not know
    /// yet is as in [`DEFAULTS`].
    ///
    /// # Errors
    /// Another text, and a key that this build does not know.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        let written: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text)?;
        let mut all = serde_json::to_value(Self::default())?;
        if let Some(all) = all.as_object_mut() {
            all.extend(written);
        }
        serde_json::from_value(all)
    }
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
