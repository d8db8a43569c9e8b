//! Hourly sums over several partitions, against a naive count of all events.

use std::collections::{BTreeMap, VecDeque};

use features::{Aggregates, Config, Core, Output, Plan, merge_factory};
use proptest::prelude::*;
use runtime::processor::{InRecord, Input, Outputs, Processor, ProcessorFactory, TopicRecord, UnitId};
use schemas::duration::Millis;
use schemas::entity::{HourKey, HourRows, VALUE_PARTS};
use schemas::topic::Names;
use schemas::{Aggregate, Codec, EntitySums, EntityTiles, Entry, Event, HourBlock, Kind, Protobuf};

use crate::cluster::*;
use crate::common::*;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

type Key = (i64, String, String, String, String);

fn key(row: &Aggregate) -> Key {
    (row.hour_ms, row.campaign.clone(), row.category.clone(), row.item.clone(), row.currency.clone())
}

/// What is counted of each key: impressions, clicks, carts, purchases, refunds, revenue.
fn numbers(row: &Aggregate) -> [i64; 6] {
    let counts = [row.impressions, row.clicks, row.carts, row.purchases, row.refunds].map(|n| n as i64);
    [counts[0], counts[1], counts[2], counts[3], counts[4], row.revenue]
}

fn naive(events: &[Event]) -> BTreeMap<Key, [i64; 6]> {
    let mut all = BTreeMap::new();
    for e in events {
        let hour = e.event_time_ms.div_euclid(HOUR) * HOUR;
        let [campaign, category, item, currency] =
            [&e.campaign, &e.category, &e.item, &e.currency].map(String::clone);
        let sums: &mut [i64; 6] = all.entry((hour, campaign, category, item, currency)).or_default();
        let parts = (e.value * VALUE_PARTS).round() as i64;
        match e.kind_or_unknown() {
            Kind::View => sums[0] += 1,
            Kind::Click => sums[1] += 1,
            Kind::Cart => (sums[1], sums[2]) = (sums[1] + 1, sums[2] + 1),
            Kind::Purchase => (sums[3], sums[5]) = (sums[3] + 1, sums[5] + parts),
            Kind::Refund => (sums[4], sums[5]) = (sums[4] + 1, sums[5] - parts),
            Kind::Unknown => {}
        }
    }
    all
}

/// A stream, and the same events once more under other ids when every hour has closed: late ones.
fn with_late(moves: &[Move]) -> Vec<Entry> {
    let mut entries = stream(moves);
    let late: Vec<Entry> = entries
        .iter()
        .filter_map(|e| if let Entry::Event(event) = e { Some((**event).clone()) } else { None })
        .enumerate()
        .map(|(at, event)| entry(Event { event_id: format!("late-{at}"), ..event }))
        .collect();
    let end = START + 20 * DAY;
    entries.push(tick(end));
    for (at, event) in (1..).zip(late) {
        entries.extend([event, tick(end + at * 30_000)]);
    }
    entries.extend([tick(end + DAY), tick(end + DAY + 60_000)]);
    entries
}

fn config_of(horizon_days: i64) -> Config {
    Config { aggregate_horizon: Millis(horizon_days * DAY), ..shared_config() }
}

/// What each partition sends of hours.
fn sent(config: &Config, entries: &[Entry]) -> Vec<VecDeque<EntityTiles>> {
    let mut cluster = Cluster::new(config);
    for entry in entries {
        cluster.write(entry);
    }
    let of = |p: usize| cluster.hours.iter().filter(move |t| t.partition == p as i32).cloned().collect();
    (0..PARTITIONS).map(of).collect()
}

/// The records of all partitions in one of the orders in which they may come.
fn interleaved(mut sent: Vec<VecDeque<EntityTiles>>, takes: &[usize]) -> Vec<EntityTiles> {
    let mut all = Vec::new();
    for take in takes.iter().cycle() {
        let Some(partition) = (0..PARTITIONS).map(|p| (p + take) % PARTITIONS).find(|p| !sent[*p].is_empty())
        else {
            break;
        };
        all.extend(sent[partition].pop_front());
    }
    all
}

fn folded(plan: &Plan, records: &[EntityTiles]) -> Vec<Aggregate> {
    let mut aggregates = Aggregates::new(plan, PARTITIONS);
    let mut rows = Vec::new();
    for record in records {
        aggregates.step(record, |row| rows.push(row));
    }
    rows
}

/// Folds a record of `entity-tiles`.
fn step(merge: &mut dyn Processor, offset: i64, tiles: &EntityTiles) {
    let value = Some(Protobuf::to_vec(tiles).into());
    let record = TopicRecord { partition: 0, offset, timestamp_ms: 0, key: None, value, headers: Vec::new() };
    let records = [InRecord { topic: "t-entity-tiles".into(), record }];
    merge.step(Input::Records { records: &records, now_ms: 0 }, &mut Outputs::default()).unwrap();
}

/// A snapshot, at once.
fn state(merge: &mut dyn Processor) -> Vec<u8> {
    let image = merge.image().unwrap();
    image.begin(true);
    std::iter::from_fn(|| image.next_part(usize::MAX).unwrap()).flatten().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Images that are begun and written on while the merge folds: whole, and what has changed since.
    #[test]
    fn an_image_of_the_merge_is_of_the_moment_in_which_it_was_begun(
        moves in moves(120), takes in proptest::collection::vec(0..PARTITIONS, 1..200),
        draws in proptest::collection::vec((0..12_u8, 1..400_usize), 260),
    ) {
        let config = config_of(2);
        let factory = merge_factory(&config, &Names::new("t-"), PARTITIONS).unwrap();
        let create = |snapshot: Option<&[u8]>| factory.create(UnitId(0), snapshot).unwrap();
        let (mut merge, mut twin) = (create(None), create(None));
        let (mut whole, mut under_way) = (None::<Vec<u8>>, None::<(bool, Vec<u8>, Vec<u8>)>);
        let (records, mut checked) = (interleaved(sent(&config, &with_late(&moves)), &takes), 0);
        for ((offset, tiles), &(draw, bytes)) in (0..).zip(&records).zip(draws.iter().cycle()) {
            step(&mut *merge, offset, tiles);
            step(&mut *twin, offset, tiles);
            if draw < 2 {
                let is_whole = whole.is_none() || draw == 0;
                merge.image().unwrap().begin(is_whole);
                under_way = Some((is_whole, state(&mut *twin), Vec::new()));
                // Changes are since the last whole one was begun, and that one may be given up.
                whole = whole.filter(|_| !is_whole);
            }
            let Some((is_whole, want, image)) = &mut under_way else { continue };
            if let Some(part) = merge.image().unwrap().next_part(bytes).unwrap() {
                image.extend(part);
                continue;
            }
            let image = if *is_whole { image.clone() } else { [whole.as_deref().unwrap(), image].concat() };
            prop_assert!(state(&mut *create(Some(&image))) == *want, "at {}", offset);
            checked += 1;
            whole = if *is_whole { Some(image) } else { whole };
            under_way = None;
        }
        prop_assume!(checked > 0 || records.len() < 100);
    }

    #[test]
    fn the_last_revisions_count_all_partitions_events(
        moves in moves(120), takes in proptest::collection::vec(0..PARTITIONS, 1..200),
    ) {
        let config = config_of(60);
        let entries = with_late(&moves);
        let rows = folded(&plan(&config), &interleaved(sent(&config, &entries), &takes));
        let mut last: BTreeMap<Key, Vec<&Aggregate>> = BTreeMap::new();
        for row in &rows {
            last.entry(key(row)).or_default().push(row);
        }
        for revisions in last.values() {
            let numbered = revisions.iter().enumerate().all(|(at, row)| row.revision as usize == at);
            prop_assert!(numbered, "from 0, one by one");
            prop_assert!(revisions.windows(2).all(|pair| numbers(pair[0]) != numbers(pair[1])), "only changes");
        }
        let (kept, _) = without_repeats(&entries, config.dedupe_horizon.0);
        let events: Vec<Event> = kept.into_iter().map(|(_, event)| event).collect();
        let got: BTreeMap<Key, [i64; 6]> =
            last.into_iter().map(|(key, revisions)| (key, numbers(revisions[revisions.len() - 1]))).collect();
        prop_assert_eq!(got, naive(&events));
    }

    #[test]
    fn repeats_and_restarts_change_nothing(
        moves in moves(80), takes in proptest::collection::vec(0..PARTITIONS, 1..100), at in any::<prop::sample::Index>(),
    ) {
        let config = config_of(2);
        let plan = plan(&config);
        let records = interleaved(sent(&config, &with_late(&moves)), &takes);
        let rows = folded(&plan, &records);
        // A partition that begins again from some record, as at-least-once delivery may have it.
        let (before, after) = records.split_at(at.index(records.len()));
        let partition = before.last().map_or(0, |record| record.partition);
        let again: Vec<EntityTiles> = before.iter().filter(|r| r.partition == partition).cloned().collect();
        prop_assert_eq!(&folded(&plan, &[before, &again, after].concat()), &rows);

        let mut restarted = Aggregates::new(&plan, PARTITIONS);
        let mut straight = restarted.clone();
        let mut got = Vec::new();
        for record in &records {
            straight.step(record, |_| {});
            restarted.step(record, |row| got.push(row));
            let bytes = restarted.snapshot();
            prop_assert!(bytes == straight.snapshot(), "one state, one snapshot");
            restarted = Aggregates::restore(&plan, PARTITIONS, &bytes).unwrap();
        }
        prop_assert_eq!(got, rows);
        // Every hour lies farther back than the horizon.
        prop_assert_eq!(restarted.rows(), 0);
        let bytes = restarted.snapshot();
        prop_assert!(Aggregates::restore(&plan, PARTITIONS + 1, &bytes).is_err());
        for length in 0..bytes.len() {
            prop_assert!(Aggregates::restore(&plan, PARTITIONS, &bytes[..length]).is_err());
        }
    }
}

/// What a core alone sends, through a merge of one partition.
fn alone(config: &Config, entries: &[Entry]) -> (Core, Vec<Aggregate>) {
    let plan = plan(config);
    let mut core = Core::new(plan.clone(), 0);
    let mut aggregates = Aggregates::new(&plan, 1);
    let mut rows = Vec::new();
    for output in run(&mut core, entries) {
        if let Output::Hours(hours) = output {
            aggregates.step(&hours, |row| rows.push(row));
        }
    }
    (core, rows)
}

#[test]
fn an_event_behind_the_clock_raises_the_revision_within_a_minute_until_the_horizon() {
    let hour = START / HOUR * HOUR;
    let next = hour + HOUR;
    let late = |id: &str| entry(event(Kind::View, id, hour + 5, "u", "i", "c"));
    let entries = [
        sources(),
        tick(hour),
        entry(event(Kind::View, "v1", hour + 10, "u", "i", "c")),
        tick(next - 1),
        tick(next),
        late("v2"),
        late("v3"),
        tick(next + 59_999),
        tick(next + 60_000),
        tick(next + 2 * DAY - 1),
        late("v4"),
        tick(next + 2 * DAY),
        late("v5"),
        tick(next + 2 * DAY + 60_000),
    ];
    // Nothing is declared that users share: hours are counted all the same.
    let config = Config { aggregate_horizon: Millis(2 * DAY), ..config() };
    let (core, rows) = alone(&config, &entries);
    let got: Vec<_> = rows.iter().map(|row| (row.revision, row.impressions, row.hour_ms)).collect();
    assert_eq!(got, [(0, 1, hour), (1, 3, hour), (2, 4, hour)]);
    assert_eq!(core.counts().uncorrected, 1, "the last came after the horizon");
    // Closed by each minute that something was counted in, and by each hour that passed.
    assert_eq!(core.counts().hours, 6);
}

#[test]
fn an_hour_is_written_when_the_last_partition_has_passed_it() {
    let plan = plan(&config_of(2));
    let hour = START / HOUR * HOUR;
    let mut rows = Vec::new();
    HourRows::push(
        &mut rows,
        &HourKey { campaign: "c", category: "k", item: "i", currency: "EUR" },
        &EntitySums { counts: [3, 0, 0, 1, 0], values: [0, 5_000, 0] },
    );
    let record = |partition: usize, closed_ms: i64, part: u32, last: bool| EntityTiles {
        partition: partition as i32,
        closed_ms,
        layout: EntityTiles::HOURS,
        part,
        last,
        blocks: Vec::new(),
        hours: vec![HourBlock { hour_ms: hour, rows: rows.clone().into() }],
    };
    let mut aggregates = Aggregates::new(&plan, PARTITIONS);
    let mut step = |record: &EntityTiles| {
        let mut rows = Vec::new();
        aggregates.step(record, |row| rows.push((row.revision, row.impressions, row.revenue)));
        rows
    };
    assert_eq!(step(&record(0, hour + HOUR, 0, true)), []);
    assert_eq!(step(&record(1, hour + HOUR, 0, false)), []);
    assert_eq!(step(&record(2, hour + HOUR - 60_000, 0, true)), []);
    assert_eq!(step(&record(1, hour + HOUR, 1, true)), []);
    assert_eq!(step(&record(2, hour + HOUR, 0, true)), [(0, 15, 25_000)]);
    assert_eq!(step(&record(2, hour + HOUR, 0, true)), [], "it has come");
    assert_eq!(step(&record(0, hour + HOUR + 60_000, 0, true)), [], "others have not moved on");
    assert_eq!(step(&record(1, hour + HOUR + 60_000, 0, true)), []);
    assert_eq!(step(&record(2, hour + HOUR + 60_000, 0, true)), [(1, 24, 40_000)], "one revision for all");
}

#[test]
fn many_keys_take_records_of_a_bounded_size_and_are_written_in_steps() {
    let hour = START / HOUR * HOUR;
    let mut entries = vec![sources(), tick(hour)];
    let item = |n: usize| format!("{n:0>40}");
    for n in 0..40_000 {
        let id = format!("v{n}");
        entries.push(entry(event(Kind::View, &id, hour + 30_000, &format!("u{}", n % 97), &item(n), "c")));
    }
    entries.extend([tick(hour + HOUR), tick(hour + HOUR + 60_000)]);
    let config = Config { aggregate_horizon: Millis(2 * DAY), dedupe_events: 8, ..config() };
    let plan = plan(&config);
    let hours: Vec<EntityTiles> = run(&mut Core::new(plan.clone(), 0), &entries)
        .into_iter()
        .filter_map(|output| if let Output::Hours(hours) = output { Some(hours) } else { None })
        .collect();
    assert!(hours.len() > 5, "{} records", hours.len());
    assert!(hours.iter().all(|record| Protobuf::to_vec(record).len() < 300_000));
    let mut aggregates = Aggregates::new(&plan, 1);
    let mut rows = Vec::new();
    let mut written: Vec<usize> = Vec::new();
    for record in &hours {
        let before = rows.len();
        aggregates.step(record, |row| rows.push(row.item));
        written.push(rows.len() - before);
    }
    while rows.len() < 40_000 {
        let before = rows.len();
        // Any record takes it on, one of tiles too.
        aggregates.step(&EntityTiles { layout: 7, ..EntityTiles::default() }, |row| rows.push(row.item));
        assert!(rows.len() > before, "{before} rows, and nothing more");
        written.push(rows.len() - before);
    }
    assert!(written.iter().all(|rows| *rows <= 20_000), "{written:?}");
    assert_eq!(rows, (0..40_000).map(item).collect::<Vec<_>>(), "in the order in which they came");
}
