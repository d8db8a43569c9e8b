//! `salience features as-of`: a vector of the past, and which events made each of its values.
//!
//! The user's partition is folded again: its control records and the user's own events, which are all
//! that the user's vectors depend on. A vector that was made comes out as it was made.

mod explain;
mod replay;
mod show;

use anyhow::{Result, bail};
use features::Plan;
use schemas::{Event, Kind, Place};
use serde::Serialize;

use self::explain::explain;
use self::replay::{Replay, replay};
use crate::context::Context;
use crate::time;

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Pseudonym of the user.
    pub pseudonym: String,
    /// As of when, ms since 1970 UTC.
    pub at_ms: i64,
    /// Of a view at that time that never was: its item ...
    pub item: Option<String>,
    /// ... its campaign ...
    pub campaign: Option<String>,
    /// ... and its category; what is not given is the last view's.
    pub category: Option<String>,
}

impl Options {
    /// Whether the vector is that of a view that never was.
    fn supposes(&self) -> bool {
        self.item.is_some() || self.campaign.is_some() || self.category.is_some()
    }
}

/// An event of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Maker {
    /// Where it stands in `events`: `partition@offset`.
    pub place: String,
    /// When it happened, ms since 1970 UTC.
    pub event_time_ms: i64,
    /// What happened.
    pub kind: &'static str,
    /// To which item.
    pub item: String,
}

/// What a value was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The user's events that are named.
    Events,
    /// What all users together did, as of the version.
    Version,
    /// The view itself.
    View,
    /// Nothing: the view names no such entity, or no version could be read.
    Nothing,
}

/// One number of the vector.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Value {
    /// Its column.
    pub column: String,
    /// The number; none where it is missing.
    pub value: Option<f32>,
    /// What it was made of.
    pub of: Of,
    /// Whether the window was rounded at its tail: some of the events are older than it is long.
    pub rounded: bool,
    /// The events that made it, newest first.
    pub events: Vec<Maker>,
}

/// The view that the vector is of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewOf {
    /// Where it stands in `events`; none for a view that never was.
    pub place: Option<String>,
    /// When it happened, ms since 1970 UTC.
    pub event_time_ms: i64,
    /// What was shown, and where.
    pub item: String,
    /// For which campaign.
    pub campaign: String,
    /// Category of the item.
    pub category: String,
    /// Brand of the item.
    pub brand: String,
    /// The slot.
    pub placement: String,
}

/// A vector of the past.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Pseudonym of the user.
    pub user: String,
    /// Partition of `events` that holds the user.
    pub partition: i32,
    /// As of when it was asked for, ms since 1970 UTC.
    pub at_ms: i64,
    /// The view.
    pub view: ViewOf,
    /// The event clock when the vector was made, ms; none before it had started.
    pub clock_ms: Option<i64>,
    /// The version of shared entities that it read, ms; none where it read none.
    pub entity_version_ms: Option<i64>,
    /// Where the version stands in `events`.
    pub entity_version_place: Option<String>,
    /// Fingerprint of the vector schema, hex.
    pub fingerprint: String,
    /// The numbers, in the schema's order.
    pub values: Vec<Value>,
    /// The user's behaviours before the view, newest first.
    pub behaviours: Vec<Maker>,
}

/// Folds the user's past again.
///
/// # Errors
/// A history whose beginning is gone; a user without a view by then.
pub fn run(context: &Context, options: &Options) -> Result<Report> {
    let replay = replay(context, options)?;
    let Some(seen) = &replay.seen else { bail!("{}", missing(options, &replay)) };
    let vector = &seen.vector;
    let event = &seen.view;
    let supposed = options.supposes();
    let plan = replay.core().plan();
    let arrived = &replay.journal[..seen.arrived];
    let version = (vector.entity_version > 0).then_some(vector.entity_version as i64);
    Ok(Report {
        user: options.pseudonym.clone(),
        partition: vector.place.partition,
        at_ms: options.at_ms,
        view: ViewOf {
            place: (!supposed).then(|| vector.place.to_string()),
            event_time_ms: event.event_time_ms,
            item: event.item.clone(),
            campaign: event.campaign.clone(),
            category: event.category.clone(),
            brand: event.brand.clone(),
            placement: event.placement.clone(),
        },
        clock_ms: Some(vector.clock_ms).filter(|clock| *clock != i64::MIN),
        entity_version_ms: version,
        entity_version_place: version.and(seen.version).map(|place| place.to_string()),
        fingerprint: format!("{:016x}", vector.fingerprint),
        values: explain(plan, vector, event, arrived),
        behaviours: explain::behaviours(plan, vector, arrived),
    })
}

fn missing(options: &Options, replay: &Replay) -> String {
    let Options { pseudonym, at_ms, .. } = options;
    let partition = replay.core().partition();
    let views = replay.journal.iter().filter(|past| past.kind == Kind::View).count();
    match replay.journal.first() {
        None => format!(
            "there is no event of {pseudonym} in events[{partition}] by {}: check the id, the key of pseudonyms \
             (ingest.pseudonym_key_id) and --at",
            time::show(*at_ms)
        ),
        Some(first) => format!(
            "{pseudonym} has no view at or before {} ({} events by then, {views} of them views, the first at {}): \
             a vector is of a view; name --item to suppose one",
            time::show(*at_ms),
            replay.journal.len(),
            time::show(first.time_ms)
        ),
    }
}

/// An event of the user, as far as values depend on it.
#[derive(Debug, Clone, PartialEq)]
struct Past {
    place: Place,
    time_ms: i64,
    kind: Kind,
    item: String,
    campaign: String,
    category: String,
    brand: String,
    placement: String,
    /// A bit for each filter that takes it.
    filters: u32,
    /// As the core holds it.
    value: f32,
}

impl Past {
    fn of(place: Place, event: &Event, plan: &Plan) -> Self {
        Self {
            place,
            time_ms: event.event_time_ms,
            kind: event.kind_or_unknown(),
            item: event.item.clone(),
            campaign: event.campaign.clone(),
            category: event.category.clone(),
            brand: event.brand.clone(),
            placement: event.placement.clone(),
            filters: plan.filters_of(event),
            value: event.value as f32,
        }
    }

    fn maker(&self) -> Maker {
        Maker {
            place: self.place.to_string(),
            event_time_ms: self.time_ms,
            kind: self.kind.as_str(),
            item: self.item.clone(),
        }
    }
}
