//! Which events made a value: the user's journal gone through anew for every column. Pure.
//!
//! What was counted is computed again from the events named. Where that is not the value, the window
//! was rounded: then the events of the tile at its tail are named, too.

use features::{Aggregation, Column, Made, Plan};
use schemas::duration::Millis;
use schemas::{Event, FeatureVector, Kind};

use super::{Maker, Of, Past, Value};

/// What a column's events must be.
struct Wanted<'a> {
    entity: &'a str,
    kinds: &'a [Kind],
    view: &'a Event,
}

impl Wanted<'_> {
    fn takes(&self, past: &Past) -> bool {
        let of_entity = match self.entity {
            "user_campaign" => past.campaign == self.view.campaign,
            "user_category" => past.category == self.view.category,
            _ => true,
        };
        of_entity && self.kinds.contains(&past.kind)
    }

    /// Whether the view names the entity.
    fn known(&self) -> bool {
        match self.entity {
            "user_campaign" => !self.view.campaign.is_empty(),
            "user_category" => !self.view.category.is_empty(),
            _ => true,
        }
    }
}

/// The values of a vector, each with what made it; `arrived` is what came before the view.
pub(super) fn explain(plan: &Plan, vector: &FeatureVector, view: &Event, arrived: &[Past]) -> Vec<Value> {
    let explained = |(column, number): (Column, f32)| {
        let (of, rounded, events) = match &column.made {
            Made::View => (Of::View, false, Vec::new()),
            Made::Window { shared: true, .. } | Made::Last { shared: true, .. } => {
                let read = vector.entity_version > 0 && !number.is_nan();
                (if read { Of::Version } else { Of::Nothing }, false, Vec::new())
            }
            Made::Last { entity, kinds, within, .. } => {
                let wanted = Wanted { entity, kinds, view };
                let from = after(*within, plan, vector);
                let past = arrived.iter().filter(|past| wanted.takes(past) && inside(past, from, vector));
                let last = past.max_by_key(|past| (past.time_ms, past.place));
                let of = if wanted.known() { Of::Events } else { Of::Nothing };
                (of, false, last.filter(|_| wanted.known()).into_iter().collect())
            }
            Made::Window { entity, aggregation, kinds, window, tile, .. } => {
                let wanted = Wanted { entity, kinds, view };
                if wanted.known() {
                    let from = after(*window, plan, vector);
                    let (rounded, events) =
                        in_window(&wanted, *aggregation, from, *tile, number, vector, arrived);
                    (Of::Events, rounded, events)
                } else {
                    (Of::Nothing, false, Vec::new())
                }
            }
        };
        let value = Some(number).filter(|number| !number.is_nan());
        let events = newest_first(events).iter().map(|past| past.maker()).collect();
        Value { column: column.field.name, value, of, rounded, events }
    };
    plan.columns().into_iter().zip(vector.numbers()).map(explained).collect()
}

/// The user's behaviours before the view, newest first, with their places.
pub(super) fn behaviours(plan: &Plan, vector: &FeatureVector, arrived: &[Past]) -> Vec<Maker> {
    let longest = plan.tiles().last().map(|(window, _)| *window).unwrap_or_default();
    let from = after(longest, plan, vector);
    let events = arrived.iter().filter(|past| inside(past, from, vector)).collect();
    newest_first(events).iter().take(vector.behaviours.len()).map(|past| past.maker()).collect()
}

/// A window of that length holds what happened after this time. The clock has forgotten what lies
/// behind the longest window.
fn after(window: Millis, plan: &Plan, vector: &FeatureVector) -> i64 {
    let longest = plan.tiles().last().map(|(window, _)| window.0).unwrap_or_default();
    let forgotten = vector.event_time_ms.max(vector.clock_ms).saturating_sub(longest);
    forgotten.max(vector.event_time_ms.saturating_sub(window.0))
}

fn inside(past: &Past, from: i64, vector: &FeatureVector) -> bool {
    past.time_ms > from && past.time_ms <= vector.event_time_ms
}

/// The events of a window, and whether it was rounded.
fn in_window<'a>(
    wanted: &Wanted<'_>,
    aggregation: Aggregation,
    from: i64,
    tile: Millis,
    number: f32,
    vector: &FeatureVector,
    arrived: &'a [Past],
) -> (bool, Vec<&'a Past>) {
    let since = |from: i64| -> Vec<&Past> {
        arrived.iter().filter(|past| wanted.takes(past) && inside(past, from, vector)).collect()
    };
    let exact = since(from);
    if computed(aggregation, &exact).is_none_or(|computed| same(computed, number)) {
        return (false, exact);
    }
    // A tile is inside the window if its newest event is: all of it then.
    let start = from.div_euclid(tile.0.max(1)) * tile.0;
    (true, since(start - 1))
}

/// The value that these events make; none where it takes another entity's, too.
fn computed(aggregation: Aggregation, events: &[&Past]) -> Option<f64> {
    let sum = || events.iter().map(|past| f64::from(past.value)).sum::<f64>();
    Some(match aggregation {
        Aggregation::Count => events.len() as f64,
        Aggregation::Sum => sum(),
        Aggregation::Mean => sum() / events.len() as f64,
        Aggregation::Rate { prior, weight } => {
            let views = events.iter().filter(|past| past.kind == Kind::View).count() as f64;
            (events.len() as f64 - views + prior? * weight) / (views + weight)
        }
    })
}

/// Sums are taken in another order than the core's.
fn same(computed: f64, value: f32) -> bool {
    let value = f64::from(value);
    (computed.is_nan() && value.is_nan()) || (computed - value).abs() <= 1e-6 * value.abs().max(1.0)
}

fn newest_first(mut events: Vec<&Past>) -> Vec<&Past> {
    events.sort_by_key(|past| std::cmp::Reverse((past.time_ms, past.place)));
    events
}
