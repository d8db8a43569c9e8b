//! What changes from one set of declarations to another: which numbers stay what they are, which state
//! behind them can be kept, and how far back the log must be read for what cannot.
//!
//! Knows no state: it compares plans. A number is kept if it has its name and is made of the same events
//! in the same way; where it stands in the vector is not asked.

mod meaning;
mod state;

use schemas::duration::Millis;
use serde::Serialize;

use self::meaning::Meaning;
use crate::config::Config;
use crate::describe::{Column, Made};
use crate::plan::Plan;

/// What becomes of a number, or of a part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It is what it was.
    Kept,
    /// It goes under the same name and is something else; of the state: it is rebuilt.
    Changed,
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
}

/// One number of a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnChange {
    /// The number, as the new declarations have it; as the old ones had it where they alone do.
    pub column: Column,
    /// What becomes of it.
    pub fate: Fate,
    /// How far back from where the new declarations come into force the log must be read so that the number
    /// is what it would be after reading all of it; `None` where the state that it is read from is kept, or
    /// where it has none.
    pub reads_back: Option<Millis>,
}

/// A part of the state that declarations shape. What is not named here (open views and orders, ids against
/// repeats, sums of hours) is kept by any change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Users' events, one by one and in tiles.
    Users,
    /// Tiles of entities that users share, in each partition and in the merge.
    Tiles,
    /// Windows of one such entity.
    #[serde(untagged)]
    Shared(&'static str),
}

/// What becomes of a part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StateChange {
    /// Which part.
    pub part: Part,
    /// [`Fate::Changed`]: it is rebuilt from the log.
    pub fate: Fate,
    /// How far back the log must be read for it; `None` where it is the same, or gone.
    pub reads_back: Option<Millis>,
}

/// A setting whose value differs. It counts from where it comes into force: what was decided before stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SettingChange {
    /// The config key, below `features`.
    pub key: &'static str,
    /// Its value, as the config has it.
    pub old: String,
    /// The same.
    pub new: String,
}

/// Everything that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// Numbers, in the order of the new vector; then those that are gone, in the order of the old one.
    pub columns: Vec<ColumnChange>,
    /// Settings that differ.
    pub settings: Vec<SettingChange>,
    /// Parts of the state that either side has.
    pub state: Vec<StateChange>,
    /// Whether the numbers stand elsewhere in the vector, or others do.
    pub layout: bool,
    /// How far back the log must be read where the state is rebuilt, as it is whole or not at all; `None` where
    /// it is kept.
    pub reads_back: Option<Millis>,
}

impl Changes {
    /// From one set of declarations to another; without an old one all is added.
    pub fn between(old: Option<&Plan>, new: &Plan) -> Self {
        let state = state::parts(old, new);
        let keeps = state.iter().all(|state| state.fate == Fate::Kept);
        Self {
            columns: columns(old, new),
            settings: old.map_or_else(Vec::new, |old| settings(old.config(), new.config())),
            reads_back: (!keeps).then(|| with_repeats(state::reach_of_all(new), new)),
            state,
            layout: old.is_none_or(|old| old.schema_fingerprint() != new.schema_fingerprint()),
        }
    }

    /// Whether vectors, labels, duplicates and tiles are what they would be without the change.
    pub fn is_empty(&self) -> bool {
        !self.layout
            && self.settings.is_empty()
            && self.columns.iter().all(|column| column.fate == Fate::Kept)
            && self.keeps_state()
    }

    /// How many numbers have this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.columns.iter().filter(|column| column.fate == fate).count()
    }

    /// Whether a snapshot of the old state is one of the new.
    pub fn keeps_state(&self) -> bool {
        self.reads_back.is_none()
    }
}

fn columns(old: Option<&Plan>, new: &Plan) -> Vec<ColumnChange> {
    let of = |plan: &Plan| -> Vec<Column> { plan.columns() };
    let (before, after) = (old.map_or_else(Vec::new, of), of(new));
    let place = |columns: &[Column], name: &str| columns.iter().position(|of| of.field.name == name);
    let mut changes = Vec::with_capacity(after.len());
    for (at, column) in after.iter().enumerate() {
        let meaning = Meaning::of(new, at, &column.made);
        let fate = match old.zip(place(&before, &column.field.name)) {
            None => Fate::Added,
            Some((old, was)) if Meaning::of(old, was, &before[was].made) == meaning => Fate::Kept,
            Some(_) => Fate::Changed,
        };
        let is_kept = meaning.entities().all(|entity| state::is_kept(old, new, entity));
        let reach = meaning.reach(new.retention()).filter(|_| !is_kept);
        let reads_back = reach.map(|reach| with_repeats(reach, new));
        changes.push(ColumnChange { column: column.clone(), fate, reads_back });
    }
    let is_gone = |column: &Column| place(&after, &column.field.name).is_none();
    let gone = before.into_iter().filter(is_gone);
    changes.extend(gone.map(|column| ColumnChange { column, fate: Fate::Removed, reads_back: None }));
    changes
}

/// An event counts unless an earlier one has its id: that one may lie before the window.
fn with_repeats(reach: Millis, plan: &Plan) -> Millis {
    Millis(reach.0.saturating_add(plan.config().dedupe_horizon.0))
}

fn settings(old: &Config, new: &Config) -> Vec<SettingChange> {
    let values = |config: &Config| {
        [
            ("last_n", config.last_n.to_string()),
            ("click_window", config.click_window.to_string()),
            ("purchase_window", config.purchase_window.to_string()),
            ("dedupe_horizon", config.dedupe_horizon.to_string()),
            ("dedupe_events", config.dedupe_events.to_string()),
            ("dedupe_by_content", config.dedupe_by_content.to_string()),
            ("exact_events", config.exact_events.to_string()),
            ("timers_per_record", config.timers_per_record.to_string()),
            ("aggregate_horizon", config.aggregate_horizon.to_string()),
            ("shared_tile", config.shared_tile.to_string()),
        ]
    };
    let pairs = values(old).into_iter().zip(values(new));
    let differ = pairs.filter(|((_, old), (_, new))| old != new);
    differ.map(|((key, old), (_, new))| SettingChange { key, old, new }).collect()
}

impl Column {
    /// The aggregation's key in the config, and `context` for what is the view's own.
    pub fn key(&self) -> &'static str {
        match &self.made {
            Made::Window { aggregation, .. } => aggregation.key(),
            Made::Last { .. } => "seconds_since",
            Made::Decayed { .. } => "decayed",
            Made::View => "context",
        }
    }

    /// Its entity; none for what is the view's own.
    pub fn entity(&self) -> Option<&'static str> {
        match self.made {
            Made::Window { entity, .. } | Made::Last { entity, .. } | Made::Decayed { entity, .. } => {
                Some(entity)
            }
            Made::View => None,
        }
    }
}
