//! Which events made a value: the user's journal gone through anew for every column. Pure.
//!
//! What was counted is computed again from the events named. Where that is not the value, the window
//! was rounded: then the events of the tile at its tail are named, too.

use features::{Aggregation, Column, Made, Plan, Window};
use schemas::duration::Millis;
use schemas::{Event, FeatureVector, Kind};

use super::{Maker, Of, Past, Value};

/// What a column's events must be.
struct Wanted<'a> {
    entity: &'a str,
    kinds: &'a [Kind],
    /// The bit of a filter; 0 for none.
    filter: u32,
    view: &'a Event,
}

impl Wanted<'_> {
    fn takes(&self, past: &Past) -> bool {
        let of_entity = match self.entity {
            "user_campaign" => past.campaign == self.view.campaign,
            "user_category" => past.category == self.view.category,
            "user_item" => past.item == self.view.item,
            "user_brand" => past.brand == self.view.brand,
            "user_placement" => past.placement == self.view.placement,
            _ => true,
        };
        of_entity && self.kinds.contains(&past.kind) && past.filters & self.filter == self.filter
    }

    /// Whether the view names the entity.
    fn known(&self) -> bool {
        match self.entity {
            "user_campaign" => !self.view.campaign.is_empty(),
            "user_category" => !self.view.category.is_empty(),
            "user_item" => !self.view.item.is_empty(),
            "user_brand" => !self.view.brand.is_empty(),
            "user_placement" => !self.view.placement.is_empty(),
            _ => true,
        }
    }
}

/// The values of a vector, each with what made it; `arrived` is what came before the view.
pub(super) fn explain(plan: &Plan, vector: &FeatureVector, view: &Event, arrived: &[Past]) -> Vec<Value> {
    let bit = |filter: &Option<String>| filter.as_ref().map_or(0, |name| plan.filter(name));
    let explained = |(column, number): (Column, f32)| {
        let (of, rounded, events) = match &column.made {
            Made::View => (Of::View, false, Vec::new()),
            Made::Window { shared: true, .. }
            | Made::Last { shared: true, .. }
            | Made::Decayed { shared: true, .. } => {
                let read = vector.entity_version > 0 && !number.is_nan();
                (if read { Of::Version } else { Of::Nothing }, false, Vec::new())
            }
            Made::Last { entity, kinds, filter, .. } => {
                let wanted = Wanted { entity, kinds, filter: bit(filter), view };
                let from = forgotten(plan, vector);
                let past = arrived.iter().filter(|past| wanted.takes(past) && inside(past, from, vector));
                let last = past.max_by_key(|past| (past.time_ms, past.place));
                let of = if wanted.known() { Of::Events } else { Of::Nothing };
                (of, false, last.filter(|_| wanted.known()).into_iter().collect())
            }
            Made::Decayed { entity, kinds, filter, .. } => {
                let wanted = Wanted { entity, kinds, filter: bit(filter), view };
                let from = forgotten(plan, vector);
                let is_in = |past: &&Past| wanted.known() && wanted.takes(past) && inside(past, from, vector);
                let of = if wanted.known() { Of::Events } else { Of::Nothing };
                (of, false, arrived.iter().filter(is_in).collect())
            }
            Made::Window { entity, aggregation, kinds, filter, window, tile, rounded, .. } => {
                let wanted = Wanted { entity, kinds, filter: bit(filter), view };
                if wanted.known() {
                    let from = after(*window, plan, vector, arrived);
                    let tile = rounded.then_some(*tile);
                    let (rounded, events) =
                        in_window(&wanted, *aggregation, from, tile, number, vector, arrived);
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
    let from = forgotten(plan, vector);
    let events = arrived.iter().filter(|past| inside(past, from, vector)).collect();
    newest_first(events).iter().take(vector.behaviours.len()).map(|past| past.maker()).collect()
}

/// The clock has forgotten what happened at this time or before: it lies behind the longest window.
fn forgotten(plan: &Plan, vector: &FeatureVector) -> i64 {
    vector.event_time_ms.max(vector.clock_ms).saturating_sub(plan.retention().0)
}

/// A window holds what happened after this time.
fn after(window: Window, plan: &Plan, vector: &FeatureVector, arrived: &[Past]) -> i64 {
    let (at_ms, forgotten) = (vector.event_time_ms, forgotten(plan, vector));
    let Window::Session(gap) = window else {
        return forgotten.max(window.after_ms(at_ms).unwrap_or(at_ms));
    };
    let mut times: Vec<i64> =
        arrived.iter().filter(|past| inside(past, forgotten, vector)).map(|past| past.time_ms).collect();
    times.sort_unstable();
    let mut first = None;
    for time_ms in times.into_iter().rev() {
        if first.unwrap_or(at_ms) - time_ms > gap.0 {
            break;
        }
        first = Some(time_ms);
    }
    first.map_or(at_ms, |first| first - 1)
}

fn inside(past: &Past, from: i64, vector: &FeatureVector) -> bool {
    past.time_ms > from && past.time_ms <= vector.event_time_ms
}

/// The events of a window, and whether it was rounded.
fn in_window<'a>(
    wanted: &Wanted<'_>,
    aggregation: Aggregation,
    from: i64,
    tile: Option<Millis>,
    number: f32,
    vector: &FeatureVector,
    arrived: &'a [Past],
) -> (bool, Vec<&'a Past>) {
    let since = |from: i64| -> Vec<&Past> {
        arrived.iter().filter(|past| wanted.takes(past) && inside(past, from, vector)).collect()
    };
    let exact = since(from);
    let is_exact = computed(aggregation, &exact).is_none_or(|computed| same(computed, number));
    let Some(tile) = tile.filter(|_| !is_exact) else { return (false, exact) };
    // A tile is inside the window if its newest event is: all of it then.
    let start = from.div_euclid(tile.0.max(1)) * tile.0;
    (true, since(start - 1))
}

/// The value that these events make; none where it takes others, too, or is not made again here.
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
        Aggregation::Min => values(events).fold(f64::NAN, f64::min),
        Aggregation::Max => values(events).fold(f64::NAN, f64::max),
        Aggregation::First => values(&by_time(events)).next().unwrap_or(f64::NAN),
        Aggregation::Last => values(&by_time(events)).last().unwrap_or(f64::NAN),
        Aggregation::MeanGap => {
            let of = by_time(events);
            let span_ms = of.first().zip(of.last()).map_or(0, |(first, last)| last.time_ms - first.time_ms);
            span_ms as f64 / 1_000.0 / (of.len() as f64 - 1.0).max(0.0)
        }
        // Of values in ten-thousandths.
        Aggregation::Variance
        | Aggregation::Trend { .. }
        | Aggregation::Distinct { .. }
        | Aggregation::Quantile { .. }
        | Aggregation::Top { .. } => return None,
    })
}

/// Values of the events that have one.
fn values(events: &[&Past]) -> impl Iterator<Item = f64> {
    events.iter().map(|past| f64::from(past.value)).filter(|value| *value != 0.0)
}

fn by_time<'a>(events: &[&'a Past]) -> Vec<&'a Past> {
    let mut events = events.to_vec();
    events.sort_by_key(|past| (past.time_ms, past.place));
    events
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
