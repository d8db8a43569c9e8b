//! What a number is, whatever its name and its place in the vector.

use schemas::duration::Millis;

use crate::config::Config;
use crate::describe::{Aggregation, Made};
use crate::filters::FilterConfig;
use crate::plan::{Field, Plan};
use crate::summary::plan::Reading;
use crate::window::Window;

/// A smoothed rate: whose, over which window, its prior where that is a number, and how much it weighs.
type Rate = (usize, Window, Option<f64>, f64);

/// Everything that a number depends on beyond the events. Two of one meaning are the same number after the
/// same log, as long as no user of it has more events than are held one by one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meaning<'a> {
    made: &'a Made,
    /// The entity's place; none for what is the view's own.
    entity: Option<usize>,
    /// What the filter asks for.
    filter: Option<&'a FilterConfig>,
    /// Which number of a summary: the share of which text, the rank among how many.
    reading: Option<Reading>,
    /// A rate and its ancestors.
    rates: Vec<Rate>,
    /// Width of the tile at the tail of the farthest window.
    tail: Millis,
    /// Of what has no end of its own: how long a user's events are remembered.
    within: Option<Millis>,
}

impl<'a> Meaning<'a> {
    /// Of the number at that place of the plan's vector.
    pub(super) fn of(plan: &'a Plan, at: usize, made: &'a Made) -> Self {
        let field = plan.fields[at];
        let mut meaning = Self {
            made,
            entity: entity(&field),
            filter: filter(plan.config(), made),
            reading: None,
            rates: Vec::new(),
            tail: Millis(0),
            within: None,
        };
        match field {
            Field::Rate { rate, .. } => {
                let window = |(entity, window, prior, weight)| {
                    let (window, tile) = plan.kept(entity, window);
                    (tile, (entity, window, prior, weight))
                };
                let (tiles, rates): (Vec<Millis>, Vec<Rate>) =
                    plan.rates.chain(rate).into_iter().map(window).unzip();
                meaning.tail = tiles.into_iter().max().unwrap_or_default();
                meaning.rates = rates;
            }
            Field::Summary { entity, at } => {
                let reading = plan.numbers_of(entity).numbers[at].reading;
                let is_placed = matches!(reading, Reading::Share(_) | Reading::Rank(_));
                meaning.reading = Some(reading).filter(|_| is_placed);
            }
            _ => {}
        }
        match *made {
            Made::Window { window, tile, .. } => {
                meaning.tail = meaning.tail.max(tile);
                let has_end = window.span_ms().is_some();
                meaning.within = Some(plan.retention()).filter(|_| !has_end);
            }
            Made::Decayed { .. } | Made::Last { shared: false, .. } => {
                meaning.within = meaning.entity.map(|entity| plan.longest_of(entity));
                meaning.tail = meaning.entity.map(|entity| plan.widest_of(entity)).unwrap_or_default();
            }
            Made::Last { .. } | Made::View => {}
        }
        meaning
    }

    /// Places of the entities whose state it is read from.
    pub(super) fn entities(&self) -> impl Iterator<Item = usize> {
        self.entity.into_iter().chain(self.rates.iter().map(|(entity, ..)| *entity))
    }

    /// How old an event can be that it is made of; none for what is the view's own.
    pub(super) fn reach(&self, retention: Millis) -> Option<Millis> {
        let span = |window: Window| Millis(window.span_ms().unwrap_or(retention.0));
        let rates = self.rates.iter().map(|(_, window, ..)| span(*window)).max().unwrap_or_default();
        let farthest = match *self.made {
            Made::Window { aggregation: Aggregation::Trend { against }, window, .. } => {
                span(window).max(span(against))
            }
            Made::Window { window, .. } => span(window),
            Made::Last { within, .. } => within,
            Made::Decayed { .. } => self.within.unwrap_or(retention),
            Made::View => return None,
        };
        // Less than a tile more is in it where it is rounded.
        Some(Millis(farthest.max(rates).0.saturating_add(self.tail.0)))
    }
}

fn entity(field: &Field) -> Option<usize> {
    match *field {
        Field::Count { entity, .. }
        | Field::Sum { entity, .. }
        | Field::Mean { entity, .. }
        | Field::Rate { entity, .. }
        | Field::Since { entity, .. }
        | Field::Trend { entity, .. }
        | Field::Summary { entity, .. } => Some(entity),
        Field::Context(_) | Field::Number(_) => None,
    }
}

fn filter<'a>(config: &'a Config, made: &Made) -> Option<&'a FilterConfig> {
    let (Made::Window { filter, .. } | Made::Last { filter, .. } | Made::Decayed { filter, .. }) = made
    else {
        return None;
    };
    filter.as_ref().and_then(|name| config.filters.get(name))
}
