//! A table of keys against sums over all tiles that ever came.

use proptest::prelude::*;
use schemas::duration::Millis;
use schemas::entity::{EntitySums, Rows};

use super::*;
use crate::config::{Config, EntityConfig};
use crate::image::{Image, Part, record};
use crate::plan::{KindSet, Plan};
use crate::uses::Uses;
use crate::window::Window;
use crate::wire::{Reader, SnapshotError, Writer};

const TILE_MS: i64 = 60_000;
const KEYS: usize = 4;

/// Windows of one entity with tiles of a minute. At their tails are tiles of: a minute, and up; an hour
/// alone, so that no window has the narrow ones; a window that ends within a tile; hops.
const WINDOWS: [&[&str]; 6] = [
    &["1m", "10m", "1h", "1d", "7d", "30d"],
    &["2d"],
    &["90s", "150s", "200000s"],
    &["1h", "61m", "4h", "1d"],
    &["1h", "tumbling:1h", "tumbling:1d", "hopping:7d/1d", "hopping:1d/1h"],
    &["tumbling:2m", "hopping:6m/3m", "hopping:10m/2m", "hopping:12h/30m"],
];

/// The windows that nest with one another, one after the other.
fn plans(windows: &[&str], kinds: &[&str]) -> Vec<SharedPlan> {
    let names = kinds.iter().map(ToString::to_string).collect::<Vec<_>>();
    let valued = names.iter().filter(|name| matches!(name.as_str(), "view" | "purchase" | "refund"));
    let entity = EntityConfig {
        count: names.clone(),
        sum: valued.cloned().collect(),
        seconds_since: names.clone(),
        windows: windows
            .iter()
            .map(|window| Window::parse(window).unwrap_or_else(|e| panic!("{e}")))
            .collect(),
        ..EntityConfig::default()
    };
    let config = Config {
        entities: [("item".to_owned(), entity)].into(),
        shared_tile: Millis(TILE_MS),
        ..Config::default()
    };
    let plan = Plan::compile(&config).unwrap_or_else(|error| panic!("{error}"));
    plan.shared.into_iter().flatten().collect()
}

/// What one version brings: how many tiles it goes on, and rows as (tiles back, key, kind, value).
type Step = (i64, Vec<(i64, usize, usize, i16)>);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let gap = prop_oneof![6 => 1..3_i64, 3 => 1..90_i64, 1 => 1..20_000_i64];
    let row = (0..90_i64, 0..KEYS, 0..KINDS, any::<i16>());
    proptest::collection::vec((gap, proptest::collection::vec(row, 0..6)), 1..60)
}

/// Sums of a window at a version over all that came.
fn naive(
    all: &[(i64, usize, EntitySums)],
    key: usize,
    window: Window,
    size: i64,
    version: i64,
) -> EntitySums {
    let mut total = EntitySums::default();
    for (tile, _, sums) in all.iter().filter(|(_, of, _)| *of == key) {
        let after_ms = window.after_ms(version * TILE_MS).unwrap_or(i64::MIN);
        let is_in = match window {
            Window::Trailing(_) => (tile.div_euclid(size) * size + size) * TILE_MS > after_ms,
            _ => tile * TILE_MS > after_ms,
        };
        if is_in {
            total.merge(sums);
        }
    }
    total
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is read in between, and with a restart after any version.
    #[test]
    fn windows_hold_what_came_and_has_not_left(
        steps in steps(), windows in 0..WINDOWS.len(), part in 0..3_usize, alone: bool,
        reads in proptest::collection::vec((any::<u8>(), 0..10_u8), 60),
    ) {
        let apart = ["view", "click", "cart", "refund"];
        let kinds: &[&str] = if alone { &apart } else { &["view", "click", "purchase"] };
        let plans = plans(WINDOWS[windows], kinds);
        let plan = &plans[part % plans.len()];
        let mut texts = Interner::new();
        let (mut table, mut version) = (Table::default(), 29_000_000);
        let builds: Vec<Build> = Build::all().collect();
        let mut row = SharedRow::default();
        let mut all = Vec::new();
        for ((gap, rows), (read, restart)) in steps.iter().zip(&reads) {
            let mut rows: Vec<_> = rows.iter().map(|(back, key, kind, value)| {
                let mut sums = EntitySums::default();
                crate::shared::add(&mut sums, *kind, f64::from(*value));
                (version + gap - 1 - back % gap, *key, sums)
            }).collect();
            rows.sort_by_key(|(tile, key, _)| (*tile, *key));
            for (tile, key, sums) in &rows {
                let mut block = Vec::new();
                Rows::push(&mut block, &format!("k{key}"), sums);
                for row in Rows::new(&block) {
                    let perhaps = texts.find(row.key).unwrap_or(EMPTY);
                    table.add(tile * TILE_MS, (&row, perhaps), plan, &mut texts);
                }
            }
            all.extend(rows);
            version += gap;
            table.sweep(version, plan, &mut texts);
            let bytes = written(&table, version, plan);
            let back = restored(&bytes, &texts, version, plan).unwrap_or_else(|error| panic!("{error}"));
            prop_assert_eq!(&bytes, &written(&back, version, plan), "one state, one snapshot");
            if *restart == 0 {
                table = back;
            }
            for key in (0..KEYS).filter(|key| read >> key & 1 == 1) {
                let text = texts.find(&format!("k{key}")).unwrap_or(EMPTY);
                row.start(plan.declared.len() + 2);
                table.read(text, version, plan, (builds[usize::from(*read) % builds.len()], &mut row, 1));
                let got = row.lanes();
                for (at, (window, size)) in (1..).zip(plan.declared.iter().zip(&plan.sizes)) {
                    let want = naive(&all, key, *window, *size, version);
                    for kind in kinds {
                        let counted = |counts: [u64; KINDS]| match *kind {
                            "view" => counts[0],
                            "click" => counts[1] + counts[2],
                            "cart" => counts[2],
                            "purchase" => counts[3],
                            _ => counts[4],
                        };
                        let set = KindSet::parse(kind).unwrap_or_else(|| panic!("{kind}"));
                        let (got, want) = (u64::from(got.counts(set)[at]), counted(want.counts));
                        prop_assert_eq!(got, want, "{} {}", kind, window);
                    }
                    let value = |at: usize| want.values[at] as f64 / VALUE_PARTS;
                    prop_assert_eq!(got.sums(KindSet::View)[at], value(0));
                    prop_assert_eq!(got.sums(KindSet::Purchase)[at], if alone { 0.0 } else { value(1) });
                    prop_assert_eq!(got.sums(KindSet::Refund)[at], if alone { value(2) } else { 0.0 });
                }
                let of = all.iter().filter(|(_, of, sums)| *of == key && sums.counts[0] > 0);
                let last = of.map(|(tile, ..)| (tile + 1) * TILE_MS).max();
                // For as long as the longest window holds what happened just before.
                let longest = plan.declared.last().and_then(|longest| longest.after_ms(version * TILE_MS));
                let is_trailing = matches!(plan.declared.last(), Some(Window::Trailing(_)));
                let last = last.filter(|last| *last - i64::from(!is_trailing) > longest.unwrap_or(i64::MAX));
                let last = last.filter(|_| plan.lasts > 0);
                prop_assert_eq!(got.last_ms[VIEW], last.unwrap_or(NEVER));
                // It writes its own windows and no others.
                let others = [0, plan.declared.len() + 1];
                let sets = KindSet::ALL.map(|(_, set)| set);
                prop_assert!(sets.iter().all(|set| others.iter().all(|at| got.counts(*set)[*at] == 0)));
            }
        }
        // Nothing stays of what has left all windows.
        for _ in 0..KEYS {
            table.sweep(version + 1_000_000, plan, &mut texts);
        }
        prop_assert_eq!((table.len(), texts.len()), (0, 0));
    }
}

/// A snapshot of the table alone.
fn written(table: &Table, version: i64, plan: &SharedPlan) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    record(Part::Head, 0, &mut out, |out| table.write_head(out));
    table.write_all(Of { first: 7, version }, plan, &mut out);
    out.0
}

fn restored(bytes: &[u8], texts: &Interner, version: i64, plan: &SharedPlan) -> Result<Table, SnapshotError> {
    let image = Image::read(bytes, |_| Ok(true))?;
    let mut head = Reader::new(image.head().unwrap_or_default());
    let uses = &mut Uses::none_of(texts.slots());
    Table::read_from((&mut head, &image), Of { first: 7, version }, uses, plan)
}

#[test]
fn damaged_bytes_are_refused_or_read() {
    let plan = plans(WINDOWS[0], &["view", "click", "purchase"]).remove(0);
    let mut texts = Interner::new();
    let mut table = Table::default();
    for tile in 0..200 {
        let mut block = Vec::new();
        for key in ["a", "b"] {
            let sums = EntitySums { counts: [tile, 1, 0, 0, 0], values: [300, -1, 0] };
            Rows::push(&mut block, key, &sums);
        }
        for row in Rows::new(&block) {
            table.add((29_000_000 + tile as i64) * TILE_MS, (&row, EMPTY), &plan, &mut texts);
        }
    }
    let version = 29_000_200;
    let whole = written(&table, version, &plan);
    let read = |bytes: &[u8]| restored(bytes, &texts, version, &plan);
    for len in 0..whole.len() {
        assert!(read(&whole[..len]).is_err(), "{len} of {} bytes", whole.len());
    }
    // A flipped bit may leave another state; it may not stop the process.
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok(mut back) = read(&bytes) {
            let mut row = SharedRow::default();
            row.start(plan.windows.len());
            for text in 0..texts.slots() as u32 {
                back.read(text, version + 2_000, &plan, (Build::fastest(), &mut row, 0));
            }
            written(&back, version + 4_000, &plan);
        }
    }
}
