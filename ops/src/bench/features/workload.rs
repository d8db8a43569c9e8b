//! The benchmark's events, made by a seed, in arrival order; and what a vector of them must say.
//!
//! Users follow Zipf's law with exponent 0.8, items with 1.1; an item has one campaign. 80 % are
//! views, 17 % clicks, 3 % purchases; 2 % come up to a minute late.

use std::collections::HashMap;
use std::fmt::Write as _;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp, LogNormal, Zipf};
use schemas::{Control, Entry, Event, Kind, Origin, Source, SourceSet, Tick, Ticks};

use anyhow::Result;

/// When the first event happens, ms.
const START_MS: i64 = 1_760_000_000_000;
pub(super) const DAY_MS: i64 = 86_400_000;
/// Nothing comes later than this, ms.
const LATENESS_MS: i64 = 60_000;
const ITEMS: u32 = 20_000;
const CAMPAIGNS: u32 = 200;
/// Tiles of a day in the stream engines' program, ms.
const PEER_TILE_MS: i64 = 1_440_000;
/// Events between two ticks of the clock.
const TICK_EVERY: usize = 100;

/// One event.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) struct Row {
    pub(super) time_ms: i64,
    arrives_ms: i64,
    value: f32,
    pub(super) user: u32,
    item: u32,
    pub(in crate::bench) kind: Kind,
}

/// Who the events are of.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench) enum Users {
    /// Drawn by Zipf's law among so many.
    Drawn(u32),
    /// So many, in turn, so that all have the same number of events.
    InTurn(u32),
}

/// So many events over so many days, in the order of their arrival.
pub(in crate::bench) fn rows(count: usize, days: i64, users: Users, seed: u64) -> Result<Vec<Row>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let drawn = match users {
        Users::Drawn(users) | Users::InTurn(users) => Zipf::new(f64::from(users), 0.8)?,
    };
    let item = Zipf::new(f64::from(ITEMS), 1.1)?;
    let (late, value) = (Exp::new(1.0 / 15_000.0)?, LogNormal::new(3.0, 1.0)?);
    let mut rows: Vec<Row> = (0..count)
        .map(|index| {
            let time_ms = START_MS + (random.random::<f64>() * (days * DAY_MS) as f64) as i64;
            let kind = match random.random::<f64>() {
                share if share < 0.80 => Kind::View,
                share if share < 0.97 => Kind::Click,
                _ => Kind::Purchase,
            };
            let is_late = random.random::<f64>() < 0.02;
            let late_ms = if is_late { (late.sample(&mut random) as i64).min(LATENESS_MS) } else { 0 };
            Row {
                time_ms,
                arrives_ms: time_ms + late_ms,
                value: if kind == Kind::Purchase { value.sample(&mut random) as f32 } else { 0.0 },
                user: match users {
                    Users::Drawn(_) => drawn.sample(&mut random) as u32,
                    Users::InTurn(users) => index as u32 % users,
                },
                item: item.sample(&mut random) as u32,
                kind,
            }
        })
        .collect();
    rows.sort_by_key(|row| row.arrives_ms);
    Ok(rows)
}

fn source() -> Source {
    Source { topic: "views".to_owned(), partition: 0 }
}

/// The control record that starts the log.
pub(in crate::bench) fn sources() -> Entry {
    Entry::Control(Control::Sources(SourceSet { sources: vec![source()] }))
}

/// Entries of these rows, a tick before every hundredth; `first` is the number of the first row.
/// `ids` gives events ids of their own.
pub(in crate::bench) fn entries(rows: &[Row], first: usize, ids: bool) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(rows.len() + rows.len() / TICK_EVERY + 1);
    for (at, row) in rows.iter().enumerate() {
        let number = first + at;
        if number.is_multiple_of(TICK_EVERY) {
            let tick = Tick { source: source(), watermark_ms: row.arrives_ms - LATENESS_MS, idle: false };
            entries.push(Entry::Control(Control::Ticks(Ticks { ticks: vec![tick] })));
        }
        entries.push(Entry::Event(Box::new(event(row, number, ids))));
    }
    entries
}

fn event(row: &Row, number: usize, ids: bool) -> Event {
    // What ingest makes of a user's name: a key's id and 128 bits in hex.
    let mut user = String::with_capacity(35);
    let spread = u128::from(row.user).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) ^ 7;
    // Writing to a string does not fail.
    let _ = write!(user, "k1-{spread:032x}");
    Event {
        origin: Origin { topic: "views".to_owned(), partition: 0, offset: number as i64, line: 0, lines: 1 },
        kind: row.kind as i32,
        event_id: if ids { format!("event-{number:012}") } else { String::new() },
        event_time_ms: row.time_ms,
        user,
        item: format!("item-{}", row.item),
        campaign: format!("campaign-{}", row.item % CAMPAIGNS),
        value: f64::from(row.value),
        ..Event::default()
    }
}

impl Row {
    /// The same of another item and kind.
    pub(super) fn of(self, item: u32, kind: Kind) -> Self {
        Self { item, kind, ..self }
    }

    /// The same, so many days later.
    pub(in crate::bench) fn later(self, days: i64) -> Self {
        let ms = days * DAY_MS;
        Self { time_ms: self.time_ms + ms, arrives_ms: self.arrives_ms + ms, ..self }
    }

    /// As the stream engines read it: event time, user, item, campaign, kind, nothing, value.
    pub(super) fn record(&self) -> [u8; 28] {
        let user = u64::from(self.user).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(7);
        let kind = match self.kind {
            Kind::View => 0,
            Kind::Click => 1,
            _ => 2,
        };
        let mut record = [0; 28];
        record[..8].copy_from_slice(&self.time_ms.to_le_bytes());
        record[8..16].copy_from_slice(&user.to_le_bytes());
        record[16..20].copy_from_slice(&self.item.to_le_bytes());
        record[20..22].copy_from_slice(&((self.item % CAMPAIGNS) as u16).to_le_bytes());
        record[22] = kind;
        record[24..].copy_from_slice(&self.value.to_le_bytes());
        record
    }
}

/// Of a view: how many of the user's views that came before it lie within a day of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) exact: usize,
    /// Within a day and a tile.
    pub(super) rounded: usize,
    /// Events of the user before it.
    pub(super) events: usize,
    /// Least and most by the stream engines' program: it counts in seconds, and in tiles of 24 minutes, of
    /// which the newest may hold what came before a late view and lies behind it.
    pub(super) bounds: [usize; 2],
}

/// How many views a user had within a day before each of the views, counted one by one.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    views: HashMap<u32, Vec<i64>>,
    events: HashMap<u32, usize>,
}

impl Oracle {
    /// For a view, what was counted before it.
    pub(super) fn fold(&mut self, row: &Row, tile_ms: i64) -> Option<Counted> {
        let events = self.events.entry(row.user).or_default();
        let before = *events;
        *events += 1;
        if row.kind != Kind::View {
            return None;
        }
        let views = self.views.entry(row.user).or_default();
        let to = |time_ms: i64| views.partition_point(|time| *time <= time_ms);
        let (end, start) = (to(row.time_ms), row.time_ms - DAY_MS);
        let counted = Counted {
            exact: end - to(start),
            rounded: end - to(start - tile_ms),
            events: before,
            bounds: [
                end - to(start + PEER_TILE_MS).min(end),
                to(row.time_ms + LATENESS_MS) - to(start - 1_000),
            ],
        };
        views.insert(end, row.time_ms);
        Some(counted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_the_order_of_arrival_and_some_are_late() {
        let rows = rows(20_000, 7, Users::Drawn(1_000), 1).unwrap_or_else(|error| panic!("{error}"));
        assert!(rows.is_sorted_by_key(|row| row.arrives_ms));
        let late = rows.windows(2).filter(|pair| pair[1].time_ms < pair[0].time_ms).count();
        assert!(late > 0, "some are out of order");
        assert!(rows.iter().all(|row| row.arrives_ms - row.time_ms <= LATENESS_MS));
        let views = rows.iter().filter(|row| row.kind == Kind::View).count();
        assert!((15_500..16_500).contains(&views), "{views} views of 20000 events");
    }

    #[test]
    fn the_oracle_counts_what_came_before_within_a_day() {
        let mut oracle = Oracle::default();
        let mut fold = |kind, time_ms| {
            let row = Row { time_ms, arrives_ms: time_ms, value: 0.0, user: 1, item: 1, kind };
            oracle.fold(&row, 1_000)
        };
        let exact = |counted: Option<Counted>| counted.map(|it| (it.exact, it.rounded, it.events));
        assert_eq!(exact(fold(Kind::View, 0)), Some((0, 0, 0)));
        assert_eq!(exact(fold(Kind::Click, 1)), None);
        assert_eq!(exact(fold(Kind::View, DAY_MS - 1)), Some((1, 1, 2)));
        let last = fold(Kind::View, DAY_MS);
        assert_eq!(last.as_ref().map(|it| it.bounds), Some([1, 2]), "a tile less, a second more");
        assert_eq!(exact(last), Some((1, 2, 3)), "the window is open at its old end");
        assert_eq!(exact(fold(Kind::View, 5)), Some((1, 1, 4)), "what is later is not seen");
    }
}
