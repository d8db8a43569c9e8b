//! Entries of `events` as ingest and the merge write them, and the declarations that they are folded by.

use std::sync::{Arc, LazyLock};

use features::{Config, Core, EntityConfig, FilterConfig, Merge, Out, Output, Plan, Window};
use schemas::duration::Millis;
use schemas::{Control, EntityTiles, Entry, Event, Kind, Origin, Place, Source, SourceSet, Tick, Ticks};

use crate::dice::Dice;

/// When streams begin, ms since 1970 UTC.
pub const START_MS: i64 = 1_700_000_000_000;
/// The partition of `events` that they stand in.
pub const PARTITION: i32 = 1;

/// The default declarations, and one of everything; users have tiles from 64 events on.
pub static PLANS: LazyLock<[Arc<Plan>; 2]> = LazyLock::new(|| {
    let default = Config { exact_events: 64, last_n: 4, ..Config::default() };
    [default, everything()].map(|config| Arc::new(Plan::compile(&config).unwrap()))
});

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn windows(names: &[&str]) -> Vec<Window> {
    names.iter().map(|name| Window::parse(name).unwrap()).collect()
}

/// Every aggregation, of entities of the user and of shared ones.
pub fn everything() -> Config {
    let all = ["view", "click", "dear"];
    let texts = ["view.item", "click.category", "dear.placement"];
    let own = EntityConfig {
        count: strings(&all),
        sum: strings(&["purchase", "dear"]),
        mean: strings(&["view"]),
        rate: true,
        seconds_since: strings(&all),
        min: strings(&["dear"]),
        max: strings(&["view"]),
        variance: strings(&["view"]),
        first: strings(&["purchase"]),
        last: strings(&["dear"]),
        mean_gap: strings(&["click"]),
        decayed: strings(&["view"]),
        trend: strings(&["view"]),
        trend_windows: strings(&["10s/1h"]),
        distinct: strings(&texts),
        quantile: strings(&["purchase"]),
        top: strings(&texts),
        windows: windows(&["10s", "1h", "tumbling:1h", "hopping:1h/10m", "session:2m"]),
        ..EntityConfig::default()
    };
    let shared = EntityConfig {
        windows: windows(&["1m", "1h", "tumbling:1d", "hopping:1h/10m"]),
        trend_windows: strings(&["1m/1h"]),
        ..own.clone()
    };
    let dear =
        FilterConfig { kinds: strings(&["view", "purchase"]), min: Some(4.0), ..FilterConfig::default() };
    let own = ["user", "user_campaign", "user_category", "user_item", "user_placement"]
        .map(|name| (name, own.clone()));
    let shared = ["item", "brand", "campaign_placement"].map(|name| (name, shared.clone()));
    let entities = own.into_iter().chain(shared).map(|(name, entity)| (name.to_owned(), entity));
    Config {
        entities: entities.collect(),
        filters: [("dear".to_owned(), dear)].into(),
        windows: windows(&["1h", "1d"]),
        exact_events: 64,
        last_n: 4,
        click_window: Millis(60_000),
        purchase_window: Millis(3_600_000),
        dedupe_events: 16,
        dedupe_by_content: true,
        ..Config::default()
    }
}

fn source(partition: i32) -> Source {
    Source { topic: "views".into(), partition }
}

/// The clock of all sources goes on to a time.
pub fn tick(watermark_ms: i64) -> Entry {
    let ticks = (0..2).map(|at| Tick { source: source(at), watermark_ms, idle: false }).collect();
    Entry::Control(Control::Ticks(Ticks { ticks }))
}

fn event(dice: &mut Dice, at_ms: i64, number: usize) -> Entry {
    let kinds = [
        Kind::View,
        Kind::View,
        Kind::View,
        Kind::Click,
        Kind::Click,
        Kind::Cart,
        Kind::Purchase,
        Kind::Refund,
    ];
    let kind = *dice.of(&kinds);
    let user = dice.below(4);
    // Half of the users bear names as ingest makes them.
    let user = if user < 2 { format!("k1-{user:032x}") } else { format!("u{user}") };
    let item = dice.below(5);
    let named = |dice: &mut Dice, names: &[&str]| (*dice.of(names)).to_owned();
    let event = Event {
        origin: Origin { topic: "views".into(), partition: 0, offset: number as i64, line: 0, lines: 1 },
        kind: kind as i32,
        event_id: if dice.below(4) > 0 {
            format!("e{}", number - number.min(dice.below(40) / 38))
        } else {
            String::new()
        },
        event_time_ms: at_ms - dice.below(20_000) as i64,
        user,
        item: format!("i{item}"),
        campaign: named(dice, &["", "c0", "c1"]),
        category: format!("k{}", item % 2),
        brand: named(dice, &["", "b0", "b1"]),
        placement: named(dice, &["p0", "p1"]),
        device: named(dice, &["", "tv"]),
        channel: named(dice, &["app", "web"]),
        view_id: if kind.is_click() {
            format!("e{}", number.saturating_sub(dice.below(8)))
        } else {
            String::new()
        },
        value: if kind.is_click() { 0.0 } else { dice.below(80) as f64 / 8.0 },
        currency: named(dice, &["EUR", "EUR", "USD"]),
        quantity: 1,
        received_ms: at_ms + 50,
        ..Event::default()
    };
    Entry::Event(Box::new(event))
}

/// So many entries from [`START_MS`] and `after_ms` more on: sources, events, ticks.
pub fn entries(dice: &mut Dice, count: usize, after_ms: i64) -> Vec<Entry> {
    let mut now = START_MS + after_ms;
    let sources = (0..2).map(source).collect();
    let mut all = vec![Entry::Control(Control::Sources(SourceSet { sources })), tick(now - 20_000)];
    while all.len() < count {
        now += [0, 500, 3_000, 70_000][dice.below(4)];
        let entry = if dice.below(6) == 0 { tick(now - 20_000) } else { event(dice, now, all.len()) };
        all.push(entry);
    }
    all
}

/// Folds them, and what `merge` makes of the tiles in between; what came out.
pub fn fold(core: &mut Core, merge: &mut Merge, entries: &[Entry], from_offset: i64) -> Out {
    let mut all = Out::default();
    let mut offset = from_offset;
    for entry in entries {
        let mut step = |entry: &Entry| {
            let mut out = Out::default();
            core.step(entry, Place { partition: PARTITION, offset }, &mut out);
            offset += 1;
            out
        };
        let out = step(entry);
        let tiles = out.records.iter().filter_map(|output| match output {
            Output::Tiles(tiles) => Some(tiles),
            _ => None,
        });
        // The merge of one partition, whatever its number.
        let tiles = tiles.map(|tiles| EntityTiles { partition: 0, ..tiles.clone() });
        let versions: Vec<_> = tiles.flat_map(|tiles| merge.step(&tiles)).collect();
        all.records.extend(out.records);
        for version in versions {
            all.records.extend(step(&Entry::Control(Control::Entities(version))).records);
        }
    }
    all
}

/// A merge over one partition.
pub fn merge(plan: &Arc<Plan>) -> Merge {
    Merge::new(Arc::clone(plan), 1)
}
