//! `bench features`: what one core folds a second, what a user takes, and how long a snapshot and a
//! restore last, for a declared set like that of the peers.

mod workload;

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use features::{AHEAD, Config, Core, Merge, Plan, Sink, VectorView};
use schemas::duration::Millis;
use schemas::{Aggregate, Codec as _, Control, Duplicate, EntityTiles, Entry, Label, Place, Protobuf};
use serde::{Deserialize, Serialize};

use workload::{DAY_MS, Oracle, Row, Users};

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
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Events folded to measure the throughput.
    pub events: usize,
    /// Users, of 20 events each, of which the state is measured.
    pub users: u32,
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
    /// Time to read it back.
    pub restore_s_per_million_users: f64,
    /// Events behind `events_per_s`.
    pub events: usize,
    /// Events behind `wire_events_per_s`.
    pub wire_events: usize,
    /// Users behind the figures per user.
    pub users: u32,
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
}

/// Runs it: the state, then the throughput.
///
/// # Errors
/// A vector that says something else than a count one by one.
pub fn run(options: &Options) -> Result<Measured> {
    ensure!(options.events > 0 && options.users > 0, "--events and --users must be at least 1");
    let config = reference()?;
    let plan = Arc::new(Plan::compile(&config)?);
    let state = State::measure(config.clone(), options.users)?;
    let users = Users::Drawn((options.events / EVENTS_PER_USER).max(1) as u32);
    let rows = workload::rows(options.events, DAYS.0, users, SEED)?;
    let mut checked = Checked::default();
    let (seconds, merge_seconds) = fold(&plan, config.exact_events, &rows, &mut checked)?;
    // Decoding and encoding cost the same whatever the state: a part of the events tells as much.
    let wire_events = rows.len().div_ceil(4);
    let wire_seconds = fold_wire(&plan, &rows[..wire_events])?;
    let million = |seconds: f64| seconds * 1e6 / f64::from(options.users);
    let each = |bytes: usize| bytes as f64 / f64::from(options.users);
    Ok(Measured {
        events_per_s: options.events as f64 / seconds,
        unmerged_events_per_s: options.events as f64 / (seconds - merge_seconds),
        wire_events_per_s: wire_events as f64 / wire_seconds,
        bytes_per_user: each(state.bytes),
        resident_bytes_per_user: state.resident.map(each),
        snapshot_bytes_per_user: each(state.snapshot_bytes),
        snapshot_s_per_million_users: million(state.snapshot_s),
        restore_s_per_million_users: million(state.restore_s),
        events: options.events,
        wire_events,
        users: options.users,
        numbers: plan.vector_schema().fields.len(),
        checked,
    })
}

/// The defaults with the reference set's declarations in their place.
fn reference() -> Result<Config> {
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

    fn aggregate(&mut self, _: Aggregate) {}
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

    fn aggregate(&mut self, aggregate: Aggregate) {
        self.0.clear();
        Protobuf::encode(&aggregate, &mut self.0);
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.1.push(tiles);
    }
}

/// A sink whose tiles of shared entities are taken to the merge.
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

/// Gives entries their places, a core and a merge on the same thread.
struct Feed {
    core: Core,
    merge: Merge,
    merge_seconds: f64,
    next: i64,
}

impl Feed {
    fn new(plan: &Arc<Plan>, out: &mut impl Merged) -> Self {
        let (core, merge) = (Core::new(Arc::clone(plan), 0), Merge::new(Arc::clone(plan), 1));
        let mut feed = Self { core, merge, merge_seconds: 0.0, next: 0 };
        feed.step(&workload::sources(), out);
        feed
    }

    fn steps(&mut self, entries: &[Entry], out: &mut impl Merged) {
        for entries in entries.chunks(AHEAD) {
            if let Ok(entries) = entries.try_into() {
                self.core.look_ahead(entries);
            }
            for entry in entries {
                self.step(entry, out);
            }
        }
    }

    fn step(&mut self, entry: &Entry, out: &mut impl Merged) {
        self.core.step(entry, Place { partition: 0, offset: self.next }, out);
        self.next += 1;
        let tiles = out.take_tiles();
        if tiles.is_empty() {
            return;
        }
        let watch = Watch::start();
        let mut versions = Vec::new();
        for tiles in tiles {
            versions.extend(self.merge.step(&tiles));
        }
        self.merge_seconds += watch.seconds();
        for version in versions {
            self.step(&Entry::Control(Control::Entities(version)), out);
        }
    }
}

/// Seconds of folding the rows, and those of them that the merge took; their vectors are checked: up to `most_exact` events of a user they are
/// exact.
fn fold(plan: &Arc<Plan>, most_exact: usize, rows: &[Row], checked: &mut Checked) -> Result<(f64, f64)> {
    let name = "user_views_1d";
    let position = plan.vector_schema().position(name).context("the reference set counts views")?;
    let tile = plan.tiles().into_iter().find(|(window, ..)| *window == Millis(DAY_MS).into());
    let (_, tile, _) = tile.context("the reference set has a window of a day")?;
    let mut sink = InMemory { position, ..InMemory::default() };
    let mut feed = Feed::new(plan, &mut sink);
    let mut oracle = Oracle::default();
    let mut seconds = 0.0;
    for (number, rows) in rows.chunks(BATCH).enumerate() {
        let entries = workload::entries(rows, number * BATCH, false);
        sink.checked.clear();
        let watch = Watch::start();
        feed.steps(&entries, &mut sink);
        seconds += watch.seconds();
        let counted = rows.iter().filter_map(|row| oracle.fold(row, tile.0));
        for ((exact, most, events), &got) in counted.zip(&sink.checked) {
            let is_tiled = events > most_exact;
            let got = got as usize;
            ensure!(
                got == exact || is_tiled && (exact..=most).contains(&got),
                "a vector has {name} {got}, counted one by one it is {exact} (a tile more: {most}) after \
                 {events} events"
            );
            checked.vectors += 1;
            checked.sum += got as u64;
            checked.exact_sum += exact as u64;
            checked.tiled += u64::from(is_tiled);
            checked.rounded += u64::from(got != exact);
        }
    }
    Ok((seconds, feed.merge_seconds))
}

/// Seconds of decoding the rows' records, folding them, and encoding what follows.
fn fold_wire(plan: &Arc<Plan>, rows: &[Row]) -> Result<f64> {
    let mut sink = Encoded::default();
    let mut feed = Feed::new(plan, &mut sink);
    let mut seconds = 0.0;
    for (number, rows) in rows.chunks(BATCH).enumerate() {
        let entries = workload::entries(rows, number * BATCH, true);
        let records: Vec<bytes::Bytes> = entries.iter().map(|entry| Protobuf::to_vec(entry).into()).collect();
        let watch = Watch::start();
        for records in records.chunks(AHEAD) {
            let entries = records.iter().map(Protobuf::decode).collect::<Result<Vec<Entry>, _>>()?;
            feed.steps(&entries, &mut sink);
        }
        seconds += watch.seconds();
    }
    Ok(seconds)
}

/// The state of users with 20 events each.
struct State {
    bytes: usize,
    resident: Option<usize>,
    snapshot_bytes: usize,
    snapshot_s: f64,
    restore_s: f64,
}

impl State {
    fn measure(mut config: Config, users: u32) -> Result<Self> {
        // What users share is no user's memory.
        config.entities.retain(|name, _| name.starts_with("user"));
        let plan = &Arc::new(Plan::compile(&config)?);
        let count = users as usize * EVENTS_PER_USER;
        let rows = workload::rows(count, DAYS.1, Users::InTurn(users), SEED)?;
        let before = resident_bytes();
        let mut sink = InMemory::default();
        let mut feed = Feed::new(plan, &mut sink);
        for (number, rows) in rows.chunks(BATCH).enumerate() {
            feed.steps(&workload::entries(rows, number * BATCH, false), &mut sink);
            sink.checked.clear();
        }
        let core = feed.core;
        let resident = resident_bytes().zip(before).map(|(after, before)| after.saturating_sub(before));
        let watch = Watch::start();
        let snapshot = core.snapshot();
        let snapshot_s = watch.seconds();
        let watch = Watch::start();
        let back = Core::restore(Arc::clone(plan), 0, &snapshot)?;
        let restore_s = watch.seconds();
        ensure!(back.snapshot() == snapshot, "a restored core writes another snapshot");
        let (bytes, snapshot_bytes) = (core.state_bytes(), snapshot.len());
        Ok(Self { bytes, resident, snapshot_bytes, snapshot_s, restore_s })
    }
}

/// Time that this thread has had a core, where the system tells it, else the wall clock: other
/// processes do not count.
struct Watch {
    cpu_ns: Option<u64>,
    wall: Instant,
}

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
    fn start() -> Self {
        Self { cpu_ns: cpu_ns(), wall: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        let cpu = self.cpu_ns.zip(cpu_ns()).map(|(from, to)| (to - from) as f64 / 1e9);
        cpu.unwrap_or_else(|| self.wall.elapsed().as_secs_f64())
    }
}

fn cpu_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<usize>().ok()? * 1024)
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "features, one thread, vectors of {} numbers and 20 behaviours", self.numbers)?;
        writeln!(f, "  events/s             {:>10.0}  of {} events", self.events_per_s, self.events)?;
        writeln!(f, "  without the merge    {:>10.0}", self.unmerged_events_per_s)?;
        writeln!(
            f,
            "  decoded and encoded  {:>10.0}  of {} events",
            self.wire_events_per_s, self.wire_events
        )?;
        writeln!(
            f,
            "  bytes/user           {:>10.0}  {} users of {EVENTS_PER_USER} events, labels included",
            self.bytes_per_user, self.users
        )?;
        if let Some(resident) = self.resident_bytes_per_user {
            writeln!(f, "  resident bytes/user  {resident:>10.0}")?;
        }
        writeln!(f, "  snapshot bytes/user  {:>10.0}", self.snapshot_bytes_per_user)?;
        writeln!(f, "  snapshot, s/million  {:>10.2}  users", self.snapshot_s_per_million_users)?;
        writeln!(f, "  restore, s/million   {:>10.2}  users", self.restore_s_per_million_users)?;
        let Checked { vectors, sum, exact_sum, tiled, rounded } = self.checked;
        writeln!(f, "  views of the last day over {vectors} vectors: {sum}, one by one {exact_sum};")?;
        writeln!(f, "  {rounded} differ by less than a tile, all of the {tiled} of users that are tiled")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_measures_and_agrees_with_the_count_one_by_one() {
        let options = Options { events: 20_000, users: 500 };
        let measured = run(&options).unwrap_or_else(|error| panic!("{error:#}"));
        assert!(measured.events_per_s > 0.0 && measured.wire_events_per_s > 0.0);
        assert_eq!(measured.numbers, 132);
        assert!(measured.checked.vectors > 15_000, "{:?}", measured.checked);
        assert!(measured.checked.sum >= measured.checked.exact_sum);
        assert!(measured.bytes_per_user > 0.0 && measured.snapshot_bytes_per_user > 0.0);
    }
}
