//! What the fold costs an event: with the reference set, with what users share merged on the same thread, and where
//! nobody looks at what comes out; with each aggregation alone, of the user and of an item; and what a snapshot and a restore cost a user.
//!
//! `cargo bench -p features`, or with a filter: `cargo bench -p features -- aggregation/distinct`. Events
//! are made outside of what is timed, and the state is warm: 50,000 events have been folded.

#![expect(clippy::expect_used, reason = "a benchmark may fail so")]

mod stream;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use features::{AHEAD, Aggregates, Config, Core, EntityConfig, Merge, Plan, Silent, Sink, VectorView};
use schemas::{Control, Duplicate, EntityTiles, Entry, Label, Place};

use crate::stream::Stream;

/// The declarations of `salience bench features`.
const REFERENCE: &str = include_str!("../../../ops/src/bench/features/reference.toml");
const USERS: u32 = 10_000;
/// Events folded before anything is timed.
const WARM: usize = 50_000;
/// Events of one iteration.
const BATCH: usize = 1_000;

/// Takes what is put out, and keeps what goes to the merge.
#[derive(Default)]
struct Taken {
    /// Whether vectors are written, too; else they are looked at.
    encodes: bool,
    bytes: Vec<u8>,
    tiles: Vec<EntityTiles>,
}

impl Sink for Taken {
    fn vector(&mut self, vector: &VectorView<'_>) {
        if self.encodes {
            self.bytes.clear();
            vector.encode(&mut self.bytes);
            black_box(&self.bytes);
        } else {
            black_box((vector.values, vector.behaviours().len()));
        }
    }

    fn label(&mut self, label: &Label) {
        black_box(label);
    }

    fn duplicate(&mut self, duplicate: Duplicate) {
        black_box(duplicate);
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.tiles.push(tiles);
    }

    fn hours(&mut self, hours: EntityTiles) {
        self.tiles.push(hours);
    }
}

/// A core, and the merge of its one partition behind it.
struct Feed {
    core: Core,
    merge: Merge,
    aggregates: Aggregates,
    next: i64,
    taken: Taken,
    /// What was folded, versions included, where it is kept.
    log: Option<Vec<Entry>>,
}

impl Feed {
    /// One that has folded the stream's first events.
    fn warm(plan: &Arc<Plan>, stream: &mut Stream) -> Self {
        let mut feed = Self {
            core: Core::new(Arc::clone(plan), 0),
            merge: Merge::new(Arc::clone(plan), 1),
            aggregates: Aggregates::new(plan, 1),
            next: 0,
            taken: Taken::default(),
            log: None,
        };
        feed.step(&Stream::sources());
        for _ in 0..WARM / BATCH {
            feed.steps(&stream.next(BATCH));
        }
        feed
    }

    fn steps(&mut self, entries: &[Entry]) {
        for entries in entries.chunks(AHEAD) {
            if let Ok(entries) = entries.try_into() {
                self.core.look_ahead(entries);
            }
            for entry in entries {
                self.step(entry);
            }
        }
    }

    fn step(&mut self, entry: &Entry) {
        self.core.step(entry, Place { partition: 0, offset: self.next }, &mut self.taken);
        self.next += 1;
        if let Some(log) = &mut self.log {
            log.push(entry.clone());
        }
        for tiles in std::mem::take(&mut self.taken.tiles) {
            if tiles.layout == EntityTiles::HOURS {
                self.aggregates.step(&tiles, |row| drop(black_box(row)));
                continue;
            }
            for version in self.merge.step(&tiles) {
                self.step(&Entry::Control(Control::Entities(version)));
            }
        }
    }
}

/// The default config with other declarations.
fn config(text: &str) -> Config {
    #[derive(serde::Deserialize)]
    struct File {
        features: toml::Table,
    }
    let file: File = toml::from_str(text).expect("the reference set is TOML");
    let mut table = toml::Table::try_from(Config::default()).expect("defaults are TOML");
    table.extend(file.features);
    table.try_into().expect("the reference set is a config")
}

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

/// Times the fold of a stream by a plan.
fn fold(group: &mut Group<'_>, name: &str, config: &Config, encodes: bool) {
    let plan = Arc::new(Plan::compile(config).expect("the declarations are right"));
    let mut stream = Stream::new(USERS);
    let mut feed = Feed::warm(&plan, &mut stream);
    feed.taken.encodes = encodes;
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || stream.next(BATCH),
            |entries| feed.steps(entries),
            BatchSize::PerIteration,
        );
    });
}

/// Times the fold of the same stream's log where outputs are dropped.
fn replay(group: &mut Group<'_>, name: &str, config: &Config) {
    let plan = Arc::new(Plan::compile(config).expect("the declarations are right"));
    let mut stream = Stream::new(USERS);
    let mut feed = Feed::warm(&plan, &mut stream);
    let mut core = Core::restore(plan, 0, &feed.core.snapshot()).expect("a whole snapshot");
    let mut next = feed.next;
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_batched_ref(
            || {
                feed.log = Some(Vec::new());
                feed.steps(&stream.next(BATCH));
                feed.log.take().unwrap_or_default()
            },
            |entries| {
                for entries in entries.chunks(AHEAD) {
                    if let Ok(entries) = entries.try_into() {
                        core.look_ahead(entries);
                    }
                    for entry in entries {
                        core.step(entry, Place { partition: 0, offset: next }, &mut Silent);
                        next += 1;
                    }
                }
            },
            BatchSize::PerIteration,
        );
    });
}

fn reference(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reference");
    let config = config(REFERENCE);
    fold(&mut group, "fold", &config, false);
    fold(&mut group, "fold_and_encode", &config, true);
    replay(&mut group, "replay", &config);
    let mut own = config.clone();
    own.entities.retain(|name, _| name.starts_with("user"));
    fold(&mut group, "users_alone", &own, false);
    group.finish();
}

/// What is declared of the user to make one aggregation over all windows.
fn aggregations() -> Vec<(&'static str, EntityConfig)> {
    let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let of = |change: &dyn Fn(&mut EntityConfig)| {
        let mut entity = EntityConfig::default();
        change(&mut entity);
        entity
    };
    vec![
        ("count", of(&|entity| entity.count = list(&["view", "click", "purchase"]))),
        ("sum", of(&|entity| entity.sum = list(&["purchase"]))),
        ("mean", of(&|entity| entity.mean = list(&["purchase"]))),
        ("rate", of(&|entity| entity.rate = true)),
        ("seconds_since", of(&|entity| entity.seconds_since = list(&["view", "click", "purchase"]))),
        ("min", of(&|entity| entity.min = list(&["purchase"]))),
        ("max", of(&|entity| entity.max = list(&["purchase"]))),
        ("variance", of(&|entity| entity.variance = list(&["purchase"]))),
        ("first", of(&|entity| entity.first = list(&["purchase"]))),
        ("last", of(&|entity| entity.last = list(&["purchase"]))),
        ("mean_gap", of(&|entity| entity.mean_gap = list(&["view"]))),
        ("decayed", of(&|entity| entity.decayed = list(&["view"]))),
        (
            "trend",
            of(&|entity| {
                entity.trend = list(&["view"]);
                entity.trend_windows = list(&["1h/1d", "1d/7d"]);
            }),
        ),
        ("distinct", of(&|entity| entity.distinct = list(&["view.item"]))),
        ("quantile", of(&|entity| entity.quantile = list(&["purchase"]))),
        ("top", of(&|entity| entity.top = list(&["view.category"]))),
    ]
}

fn each_aggregation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("aggregation");
    for (name, entity) in aggregations() {
        let mut config = Config { context: Vec::new(), ..Config::default() };
        config.entities = [("user".to_owned(), entity)].into();
        fold(&mut group, name, &config, false);
    }
    // Of an entity that users share: tiles, their merge and the fold of versions are in it.
    for (name, entity) in aggregations() {
        let mut config = Config { context: Vec::new(), ..Config::default() };
        config.entities = [("item".to_owned(), entity)].into();
        fold(&mut group, &format!("item_{name}"), &config, false);
    }
    group.finish();
}

fn snapshots(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("state");
    let plan = Arc::new(Plan::compile(&config(REFERENCE)).expect("the reference set is right"));
    let core = Feed::warm(&plan, &mut Stream::new(USERS)).core;
    group.throughput(Throughput::Elements(core.users() as u64));
    group.bench_function("snapshot", |bencher| bencher.iter(|| core.snapshot()));
    let bytes = core.snapshot();
    group.bench_function("restore", |bencher| {
        bencher.iter(|| Core::restore(Arc::clone(&plan), 0, &bytes).expect("a whole snapshot"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots();
    targets = reference, each_aggregation, snapshots
}
criterion_main!(benches);
