//! `bench features`: what one core folds a second, what a user takes, and how long a snapshot and a
//! restore last, for a declared set like that of the peers; beside these, where they are at hand.

mod engines;
mod log;
mod show;
mod state;
mod stop;
pub(super) mod workload;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use features::{AHEAD, Aggregates, Config, Declarations, Declared, Merge, Sink, VectorView};
use schemas::duration::Millis;
use schemas::{Codec as _, Control, Duplicate, EntityTiles, Entry, Label, Place, Protobuf};
use serde::{Deserialize, Serialize};

use self::engines::{Engine, FLINK, KAFKA_STREAMS};
use self::state::State;
use self::workload::{Counted, DAY_MS, Oracle, Row, Users};
use super::backfill;
use super::peers::Peers;
use super::watch::Watch;

const REFERENCE: &str = include_str!("reference.toml");
/// Rows made into entries at a time: making them is not measured, and they lie in the cache as
/// records do that have just been decoded.
const BATCH: usize = 1_000;
const SEED: u64 = 42;
/// Users among which the events of the throughput are drawn: 20 events each, as in the peers' runs.
const EVENTS_PER_USER: usize = 20;
/// Days over which the events are spread: those of the throughput, those of the state.
const DAYS: (i64, i64) = (7, 30);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events folded to measure the throughput.
    pub events: usize,
    /// Users, of 20 events each, of which the state is measured.
    pub users: u32,
    /// Items of which a snapshot's stop is measured.
    pub items: u32,
    /// Events of the history that is backfilled.
    pub history: u64,
    /// What to compare with.
    pub peers: Option<Peers>,
}

/// What was measured, on one thread.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Events folded a second of a core's time, what users share merged on the same thread, vectors made
    /// and handed over in memory.
    pub events_per_s: f64,
    /// The same without the merge's time: it is a service of its own.
    pub unmerged_events_per_s: f64,
    /// The same as the service does it: records decoded, vectors and labels encoded, events with ids.
    pub wire_events_per_s: f64,
    /// Memory a user by what the state holds, bytes.
    pub bytes_per_user: f64,
    /// The same by what the process grew while it was filled, bytes; null where the system does not say.
    pub resident_bytes_per_user: Option<f64>,
    /// Bytes of a snapshot a user.
    pub snapshot_bytes_per_user: f64,
    /// Time to write a snapshot.
    pub snapshot_s_per_million_users: f64,
    /// The longest that the fold stood still while a snapshot was written part by part beside it, ms of
    /// processor time.
    pub snapshot_longest_stop_ms: f64,
    /// The same where users are few, and so many items have windows, as many orders wait for the clock, and what
    /// was counted of them by tile and hour, too.
    pub snapshot_longest_stop_for_items_ms: f64,
    /// Bytes of what had changed when every fourth user had one event more, in % of the whole snapshot.
    pub snapshot_changes_percent: f64,
    /// Time to read it back.
    pub restore_s_per_million_users: f64,
    /// Time to come to the same state without a snapshot, from the log alone: of a million users with 20 events
    /// each, records decoded and replayed. Of users with more it is as much more.
    pub restore_from_log_s_per_million_users: f64,
    /// Records that `backfill` folds a second of a core's time, from table to table, as `bench backfill`
    /// measures it.
    pub backfill_rows_per_s: f64,
    /// `events_per_s` over that of Kafka Streams' best variant.
    pub ratio_to_kafka_streams: Option<f64>,
    /// The same over Flink's.
    pub ratio_to_flink: Option<f64>,
    /// Records that `backfill` folds to the user's windows alone a second of a core's time, over `DuckDB`'s.
    pub backfill_ratio_to_duckdb: Option<f64>,
    /// The stream engines, each way that they were run.
    pub engines: Vec<Engine>,
    /// What was measured of `backfill`, and of `DuckDB` beside it.
    pub backfill: backfill::Measured,
    /// Why there is nothing to compare with.
    pub without_peers: Vec<String>,
    /// Events behind `events_per_s`.
    pub events: usize,
    /// Events behind `wire_events_per_s`.
    pub wire_events: usize,
    /// Users behind the figures per user.
    pub users: u32,
    /// Items behind `snapshot_longest_stop_for_items_ms`.
    pub items: u32,
    /// Numbers of a vector.
    pub numbers: usize,
    /// Vectors compared with a count made one by one.
    pub checked: Checked,
}

/// The user's views within a day, as vectors have them and as counted one by one.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Checked {
    /// Vectors compared.
    pub vectors: u64,
    /// Sum of the number over the vectors.
    pub sum: u64,
    /// Sum as counted one by one.
    pub exact_sum: u64,
    /// Vectors of users with so many events that they are tiled.
    pub tiled: u64,
    /// Of these, vectors that differ, by less than a tile; others may not.
    pub rounded: u64,
    /// Least and most that the sum of the stream engines may be, whose program counts in seconds and in
    /// tiles of 24 minutes.
    pub bounds: [u64; 2],
}

/// Runs it: the state, the throughput, the backfill.
///
/// # Errors
/// A vector that says something else than a count one by one; a peer that fails.
pub fn run(ours: crate::config::Config, options: &Options) -> Result<Measured> {
    ensure!(
        options.events > 0 && options.users > 0 && options.items > 0,
        "--events, --users and --items must be at least 1"
    );
    let config = reference()?;
    let declarations = Declarations::of(&config)?;
    let plan = declarations.plan();
    let state = State::measure(config.clone(), options.users)?;
    let stop_s = stop::longest(&declarations, options.items)?;
    let users = Users::Drawn((options.events / EVENTS_PER_USER).max(1) as u32);
    let rows = workload::rows(options.events, DAYS.0, users, SEED)?;
    let mut turns = vec![fold(&declarations, config.exact_events, &rows)?];
    // Decoding and encoding cost the same whatever the state: a part of the events tells as much.
    let wire_events = rows.len().div_ceil(4);
    let wire_seconds = fold_wire(&declarations, &rows[..wire_events])?;

    let mut without_peers: Vec<String> = Vec::new();
    let mut engines = Vec::new();
    let checked = turns[0].checked;
    if let Some(peers) = &options.peers {
        if let Some(why) = peers.without_engines() {
            without_peers.push(format!("Kafka Streams, Flink: {why}"));
        } else {
            engines = engines::run(peers, &rows, &checked, || {
                turns.push(fold(&declarations, config.exact_events, &rows)?);
                Ok(())
            })?;
        }
    } else {
        without_peers.push("none is asked for (--peers)".to_owned());
    }
    drop(rows);
    let history = backfill::Options {
        events: options.history,
        days: DAYS.1 as u32,
        partitions: 2,
        threads: 1,
        sample: 0,
        peers: options.peers.clone(),
    };
    let backfill = backfill::run(crate::config::Config { features: config, ..ours }, &history)?;
    let without_duckdb = backfill.without_peers.as_ref().filter(|_| options.peers.is_some());
    without_peers.extend(without_duckdb.map(|why| format!("DuckDB: {why}")));

    turns.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let Turn { seconds, merge_seconds, .. } = turns[turns.len() / 2];
    let events_per_s = options.events as f64 / seconds;
    let ratio = |name| engines::best(&engines, name).map(|theirs| events_per_s / theirs);
    let million = |seconds: f64| seconds * 1e6 / f64::from(options.users);
    let each = |bytes: usize| bytes as f64 / f64::from(options.users);
    Ok(Measured {
        events_per_s,
        unmerged_events_per_s: options.events as f64 / (seconds - merge_seconds),
        wire_events_per_s: wire_events as f64 / wire_seconds,
        bytes_per_user: each(state.bytes),
        resident_bytes_per_user: state.resident.map(each),
        snapshot_bytes_per_user: each(state.snapshot_bytes),
        snapshot_s_per_million_users: million(state.snapshot_s),
        snapshot_longest_stop_ms: state.longest_stop_s * 1e3,
        snapshot_longest_stop_for_items_ms: stop_s * 1e3,
        snapshot_changes_percent: 100.0 * state.changes_bytes as f64 / state.snapshot_bytes as f64,
        restore_s_per_million_users: million(state.restore_s),
        restore_from_log_s_per_million_users: million(state.replay_s),
        backfill_rows_per_s: backfill.rows_per_core_s,
        ratio_to_kafka_streams: ratio(KAFKA_STREAMS),
        ratio_to_flink: ratio(FLINK),
        backfill_ratio_to_duckdb: backfill.ratio_to_duckdb,
        engines,
        backfill,
        without_peers,
        events: options.events,
        wire_events,
        users: options.users,
        items: options.items,
        numbers: plan.vector_schema().fields.len(),
        checked,
    })
}

/// The defaults with the reference set's declarations in their place.
pub(super) fn reference() -> Result<Config> {
    #[derive(Deserialize)]
    struct File {
        features: toml::Table,
    }
    let file: File = toml::from_str(REFERENCE).context("the reference set")?;
    let mut table = toml::Table::try_from(Config::default())?;
    table.extend(file.features);
    Ok(table.try_into()?)
}

/// Takes the outputs as a reader in the same process would.
#[derive(Default)]
struct InMemory {
    /// Where the checked number stands in a vector.
    position: usize,
    checked: Vec<f32>,
    behaviours: u64,
    labels: u64,
    tiles: Vec<EntityTiles>,
}

impl Sink for InMemory {
    fn vector(&mut self, vector: &VectorView<'_>) {
        self.checked.push(vector.values[self.position]);
        self.behaviours += vector.behaviours().len() as u64;
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.tiles.push(tiles);
    }

    fn label(&mut self, _: &Label) {
        self.labels += 1;
    }

    fn duplicate(&mut self, _: Duplicate) {}

    fn hours(&mut self, hours: EntityTiles) {
        self.tiles.push(hours);
    }
}

/// Takes the outputs as the service does, and drops their bytes.
#[derive(Default)]
struct Encoded(Vec<u8>, Vec<EntityTiles>);

impl Sink for Encoded {
    fn vector(&mut self, vector: &VectorView<'_>) {
        self.0.clear();
        vector.encode(&mut self.0);
    }

    fn label(&mut self, label: &Label) {
        self.0.clear();
        Protobuf::encode(label, &mut self.0);
    }

    fn duplicate(&mut self, duplicate: Duplicate) {
        self.0.clear();
        Protobuf::encode(&duplicate, &mut self.0);
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.1.push(tiles);
    }

    fn hours(&mut self, hours: EntityTiles) {
        self.1.push(hours);
    }
}

/// A sink whose tiles and hours are taken to the merge.
trait Merged: Sink {
    fn take_tiles(&mut self) -> Vec<EntityTiles>;
}

impl Merged for InMemory {
    fn take_tiles(&mut self) -> Vec<EntityTiles> {
        std::mem::take(&mut self.tiles)
    }
}

impl Merged for Encoded {
    fn take_tiles(&mut self) -> Vec<EntityTiles> {
        std::mem::take(&mut self.1)
    }
}

/// Gives entries their places, a fold and a merge on the same thread.
struct Feed {
    declared: Declared,
    merge: Merge,
    aggregates: Aggregates,
    merge_seconds: f64,
    next: i64,
}

impl Feed {
    fn new(declarations: &Declarations, out: &mut impl Merged) -> Result<Self> {
        let (declared, plan) = (Declared::new(declarations, &BTreeMap::new(), 0, None)?, declarations.plan());
        let (merge, aggregates) = (Merge::new(Arc::clone(plan), 1), Aggregates::new(plan, 1));
        let mut feed = Self { declared, merge, aggregates, merge_seconds: 0.0, next: 0 };
        feed.step(&workload::sources(), out)?;
        Ok(feed)
    }

    fn steps(&mut self, entries: &[Entry], out: &mut impl Merged) -> Result<()> {
        for entries in entries.chunks(AHEAD) {
            if let Ok(entries) = entries.try_into() {
                self.declared.look_ahead(entries);
            }
            for entry in entries {
                self.step(entry, out)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, entry: &Entry, out: &mut impl Merged) -> Result<()> {
        self.declared.step(entry, Place { partition: 0, offset: self.next }, out)?;
        self.next += 1;
        let tiles = out.take_tiles();
        if tiles.is_empty() {
            return Ok(());
        }
        let watch = Watch::start();
        let mut versions = Vec::new();
        for tiles in tiles {
            if tiles.layout == EntityTiles::HOURS {
                self.aggregates.step(&tiles, |row| drop(black_box(row)));
            } else {
                versions.extend(self.merge.step(&tiles));
            }
        }
        self.merge_seconds += watch.seconds();
        for version in versions {
            self.step(&Entry::Control(Control::Entities(version)), out)?;
        }
        Ok(())
    }
}

/// The rows folded once.
struct Turn {
    seconds: f64,
    /// Of these, the merge's.
    merge_seconds: f64,
    checked: Checked,
}

/// Folds the rows and checks their vectors: up to `most_exact` events of a user they are exact.
fn fold(declarations: &Declarations, most_exact: usize, rows: &[Row]) -> Result<Turn> {
    let plan = declarations.plan();
    let name = "user_views_1d";
    let position = plan.vector_schema().position(name).context("the reference set counts views")?;
    let tile = plan.tiles().into_iter().find(|(window, ..)| *window == Millis(DAY_MS).into());
    let (_, tile, _) = tile.context("the reference set has a window of a day")?;
    let mut sink = InMemory { position, ..InMemory::default() };
    let mut feed = Feed::new(declarations, &mut sink)?;
    let mut oracle = Oracle::default();
    let (mut seconds, mut checked) = (0.0, Checked::default());
    for (number, rows) in rows.chunks(BATCH).enumerate() {
        let entries = workload::entries(rows, number * BATCH, false);
        sink.checked.clear();
        let watch = Watch::start();
        feed.steps(&entries, &mut sink)?;
        seconds += watch.seconds();
        let counted = rows.iter().filter_map(|row| oracle.fold(row, tile.0));
        for (Counted { exact, rounded, events, bounds }, &got) in counted.zip(&sink.checked) {
            let is_tiled = events > most_exact;
            let got = got as usize;
            ensure!(
                got == exact || is_tiled && (exact..=rounded).contains(&got),
                "a vector has {name} {got}, counted one by one it is {exact} (a tile more: {rounded}) after \
                 {events} events"
            );
            checked.vectors += 1;
            checked.sum += got as u64;
            checked.exact_sum += exact as u64;
            checked.tiled += u64::from(is_tiled);
            checked.rounded += u64::from(got != exact);
            checked.bounds[0] += bounds[0] as u64;
            checked.bounds[1] += bounds[1] as u64;
        }
    }
    Ok(Turn { seconds, merge_seconds: feed.merge_seconds, checked })
}

/// Seconds of decoding the rows' records, folding them, and encoding what follows.
fn fold_wire(declarations: &Declarations, rows: &[Row]) -> Result<f64> {
    let mut sink = Encoded::default();
    let mut feed = Feed::new(declarations, &mut sink)?;
    let mut seconds = 0.0;
    for (number, rows) in rows.chunks(BATCH).enumerate() {
        let entries = workload::entries(rows, number * BATCH, true);
        let records: Vec<bytes::Bytes> = entries.iter().map(|entry| Protobuf::to_vec(entry).into()).collect();
        let watch = Watch::start();
        for records in records.chunks(AHEAD) {
            let entries = records.iter().map(Protobuf::decode).collect::<Result<Vec<Entry>, _>>()?;
            feed.steps(&entries, &mut sink)?;
        }
        seconds += watch.seconds();
    }
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;
    use crate::config::Sources;

    #[test]
    fn a_small_run_measures_and_agrees_with_the_count_one_by_one() {
        let options = Options { events: 20_000, users: 500, items: 2_000, history: 2_000, peers: None };
        let config = Sources::default().resolve().unwrap().extract().unwrap();
        let measured = run(config, &options).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(measured.events_per_s > 0.0 && measured.wire_events_per_s > 0.0);
        assert_eq!(measured.numbers, 132);
        assert!(measured.checked.vectors > 15_000, "{:?}", measured.checked);
        assert!(measured.checked.sum >= measured.checked.exact_sum);
        assert!(measured.bytes_per_user > 0.0 && measured.snapshot_bytes_per_user > 0.0);
        assert!(measured.snapshot_longest_stop_for_items_ms > 0.0);
        assert!(measured.backfill_rows_per_s > 0.0);
        assert!(measured.restore_from_log_s_per_million_users > measured.restore_s_per_million_users);
        let [least, most] = measured.checked.bounds;
        assert!((least..=most).contains(&measured.checked.exact_sum));
        assert!(measured.ratio_to_flink.is_none() && measured.without_peers[0].contains("--peers"));
    }
}
