//! Streams to feed a core with, and what comes out.

use std::sync::Arc;

use features::{Config, Core, Out, Output, Plan, Window};
use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::{
    Control, Duplicate, Entry, Event, FeatureVector, Kind, Label, Origin, Place, Source, SourceSet, Tick,
    Ticks,
};

pub(crate) const START: i64 = 1_700_000_000_000;
/// How late an event may come in these streams, ms.
pub(crate) const LATENESS: i64 = 20_000;

pub(crate) fn place(offset: usize) -> Place {
    Place { partition: 3, offset: offset as i64 }
}

pub(crate) fn config() -> Config {
    let windows = ["10s", "1m", "1h", "1d", "tumbling:1m", "tumbling:1d", "hopping:1h/10m"];
    let windows = windows.map(|w| Window::parse(w).unwrap()).to_vec();
    let mut config = Config {
        windows,
        click_window: Millis(60_000),
        purchase_window: Millis(3_600_000),
        dedupe_horizon: Millis(30_000),
        exact_events: 4_096,
        numbers: vec!["discount".into()],
        context: ["hour", "hour_sin", "hour_cos", "weekday", "price"].map(String::from).to_vec(),
        ..Config::default()
    };
    // Entities that users share have tests of their own.
    config.entities.retain(|name, _| name.starts_with("user"));
    for (name, entity) in &mut config.entities {
        entity.rate_parent = if name == "user" { String::new() } else { "user".into() };
        entity.windows.clear();
        entity.count = ["view", "click", "cart", "purchase", "refund"].map(String::from).to_vec();
        entity.sum = ["purchase", "refund"].map(String::from).to_vec();
        entity.mean = ["view", "purchase"].map(String::from).to_vec();
        entity.seconds_since = ["view", "click", "purchase"].map(String::from).to_vec();
    }
    config
}

pub(crate) fn plan(config: &Config) -> Arc<Plan> {
    Arc::new(Plan::compile(config).unwrap())
}

pub(crate) fn source() -> Source {
    Source { topic: "views".into(), partition: 0 }
}

pub(crate) fn sources() -> Entry {
    Entry::Control(Control::Sources(SourceSet { sources: vec![source()] }))
}

pub(crate) fn tick(watermark_ms: i64) -> Entry {
    Entry::Control(Control::Ticks(Ticks {
        ticks: vec![Tick { source: source(), watermark_ms, idle: false }],
    }))
}

pub(crate) fn event(kind: Kind, id: &str, time_ms: i64, user: &str, item: &str, campaign: &str) -> Event {
    Event {
        origin: Origin { topic: "views".into(), partition: 0, offset: 9, line: 0, lines: 1 },
        kind: kind as i32,
        event_id: id.into(),
        event_time_ms: time_ms,
        user: user.into(),
        item: item.into(),
        campaign: campaign.into(),
        quantity: 1,
        currency: "EUR".into(),
        value: if matches!(kind, Kind::Click | Kind::Cart) { 0.0 } else { 2.5 },
        ..Event::default()
    }
}

pub(crate) fn entry(event: Event) -> Entry {
    Entry::Event(Box::new(event))
}

pub(crate) fn run(core: &mut Core, entries: &[Entry]) -> Vec<Output> {
    let mut out = Out::default();
    for (offset, entry) in entries.iter().enumerate() {
        core.step(entry, place(offset), &mut out);
    }
    out.records
}

pub(crate) fn vectors(outputs: &[Output]) -> Vec<&FeatureVector> {
    outputs.iter().filter_map(|o| if let Output::Vector(v) = o { Some(&**v) } else { None }).collect()
}

pub(crate) fn labels(outputs: &[Output]) -> Vec<&Label> {
    outputs.iter().filter_map(|o| if let Output::Label(l) = o { Some(l) } else { None }).collect()
}

pub(crate) fn duplicates(outputs: &[Output]) -> Vec<&Duplicate> {
    outputs.iter().filter_map(|o| if let Output::Duplicate(d) = o { Some(d) } else { None }).collect()
}

/// One record of a random stream, before times and ids are made.
#[derive(Debug, Clone)]
pub(crate) enum Move {
    Event {
        kind: Kind,
        user: u8,
        item: u8,
        campaign: u8,
        /// How far event time goes on before it, ms.
        gap: i64,
        /// How late it is, ms.
        late: i64,
        /// Money, in steps that add up exactly.
        value: u16,
        /// For a click: which earlier view it names, counted back.
        names: Option<u8>,
    },
    /// An earlier event comes again, counted back.
    Repeat(u8),
    Tick,
}

pub(crate) fn moves(most: usize) -> impl Strategy<Value = Vec<Move>> {
    let kind = prop_oneof![
        6 => Just(Kind::View), 3 => Just(Kind::Click), 1 => Just(Kind::Cart),
        2 => Just(Kind::Purchase), 1 => Just(Kind::Refund),
    ];
    // Small gaps make ties, large ones cross days and leave all idle.
    let gap = prop_oneof![
        4 => Just(0_i64), 8 => (0..8_i64).prop_map(|n| n * 500), 2 => 0..100_000_i64,
        1 => 0..50_000_000_i64,
    ];
    let late = prop_oneof![3 => Just(0_i64), 2 => (0..40_i64).prop_map(|n| n * 500)];
    let names = proptest::option::of(0..6_u8);
    let one = (kind, 0..3_u8, 0..4_u8, 0..3_u8, gap, late, 0..40_u16, names).prop_map(
        |(kind, user, item, campaign, gap, late, value, names)| Move::Event {
            kind,
            user,
            item,
            campaign,
            gap,
            late: late.min(LATENESS),
            value,
            names,
        },
    );
    let mv = prop_oneof![12 => one, 1 => (0..10_u8).prop_map(Move::Repeat), 3 => Just(Move::Tick)];
    proptest::collection::vec(mv, 1..most)
}

/// The stream: never behind the clock, times up to [`LATENESS`] out of order.
pub(crate) fn stream(moves: &[Move]) -> Vec<Entry> {
    let mut entries = vec![sources(), tick(START - LATENESS)];
    let mut now = START;
    let mut events: Vec<Event> = Vec::new();
    for (index, mv) in moves.iter().enumerate() {
        match mv {
            Move::Event { kind, user, item, campaign, gap, late, value, names } => {
                now += gap;
                let mut new = event(
                    *kind,
                    &format!("e{index}"),
                    now - late,
                    &format!("u{user}"),
                    &format!("i{item}"),
                    // The last campaign is "none".
                    &if *campaign == 2 { String::new() } else { format!("c{campaign}") },
                );
                new.category = format!("k{}", item % 2);
                new.numbers = vec![f32::from(*value)];
                if new.value > 0.0 {
                    new.value = f64::from(*value) / 4.0;
                }
                if let (true, Some(back)) = (kind.is_click(), names) {
                    let mut views = events.iter().rev().filter(|e| e.kind == Kind::View as i32);
                    new.view_id = views.nth(*back as usize).map_or("nowhere".into(), |v| v.event_id.clone());
                }
                events.push(new.clone());
                entries.push(entry(new));
            }
            Move::Repeat(back) => {
                // Only what is still in time: anything older ingest would have called late.
                let old = events.iter().rev().nth(*back as usize);
                if let Some(old) = old.filter(|old| old.event_time_ms >= now - LATENESS) {
                    entries.push(entry(old.clone()));
                }
            }
            Move::Tick => entries.push(tick(now - LATENESS)),
        }
    }
    entries
}

/// An event and its offset.
pub(crate) type Placed = (usize, Event);

/// The events that are no repeats, with their offsets, in order of arrival; and the repeats with
/// the offset of the first.
pub(crate) fn without_repeats(entries: &[Entry], horizon_ms: i64) -> (Vec<Placed>, Vec<(usize, usize)>) {
    let mut kept: Vec<Placed> = Vec::new();
    let mut repeats = Vec::new();
    for (offset, entry) in entries.iter().enumerate() {
        let Entry::Event(event) = entry else { continue };
        let first = kept.iter().find(|(_, e)| {
            (&e.user, &e.event_id, e.kind, e.origin.line)
                == (&event.user, &event.event_id, event.kind, event.origin.line)
                && (e.event_time_ms - event.event_time_ms).abs() <= horizon_ms
        });
        match first {
            Some((first, _)) => repeats.push((offset, *first)),
            None => kept.push((offset, (**event).clone())),
        }
    }
    (kept, repeats)
}
