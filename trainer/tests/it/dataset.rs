//! The join against a naive oracle, over real tables.

use std::collections::BTreeMap;

use crate::common::{MINUTE, World, config, folder, network, schema};
use model::config::EncoderConfig;
use model::encode::Outcome;
use model::{EncodedSet, Encoder, TRAINING_REVISION};
use runtime::shutdown::Shutdown;
use schemas::duration::Millis;
use schemas::{FeatureVector, Label, Place};
use tokio::runtime::Handle;
use trainer::dataset::{self, Dataset, Pins, Request};
use trainer::{Config, Error, gate};

/// The last label of each place, with its vector, the most recent `max_rows`, by place.
fn oracle<'a>(
    vectors: &'a [FeatureVector],
    labels: &'a [Label],
    max_rows: usize,
    absent: &dyn Fn(&FeatureVector) -> bool,
) -> Vec<(&'a FeatureVector, &'a Label)> {
    let mut last: BTreeMap<Place, &Label> = BTreeMap::new();
    for label in labels {
        last.insert(label.place, label);
    }
    let mut places: Vec<&Label> = last.into_values().collect();
    places.sort_by_key(|label| (label.event_time_ms, label.place));
    let by_place: BTreeMap<Place, &FeatureVector> =
        vectors.iter().filter(|v| !absent(v)).map(|v| (v.place, v)).collect();
    let mut recent: Vec<_> = places[places.len().saturating_sub(max_rows)..]
        .iter()
        .filter_map(|label| Some((*by_place.get(&label.place)?, *label)))
        .collect();
    recent.sort_by_key(|(vector, _)| vector.place);
    recent
}

fn settings(max_rows: usize) -> Config {
    let mut config = config();
    config.max_rows = max_rows;
    config.split.min_train_rows = 1;
    config.split.min_test_rows = 1;
    config.split.gap = Millis(MINUTE);
    config.block_rows = 128;
    config
}

async fn read(root: &str, pins: &Pins, config: &Config, encoder: &EncoderConfig) -> Result<Dataset, Error> {
    read_until(root, pins, config, encoder, &Shutdown::new()).await
}

/// The same, unless `stop` is set.
async fn read_until(
    root: &str,
    pins: &Pins,
    config: &Config,
    encoder: &EncoderConfig,
    stop: &Shutdown,
) -> Result<Dataset, Error> {
    let (root, pins, config) = (root.to_owned(), pins.clone(), config.clone());
    let (encoder, stop) = (encoder.clone(), stop.clone());
    tokio::task::spawn_blocking(move || {
        let schema = schema();
        let encoder = Encoder::new(&schema, &encoder);
        let want = Request {
            root: &root,
            pins: &pins,
            schema: &schema,
            encoder: &encoder,
            fit: true,
            window_ms: None,
            config: &config,
            judged_after_ms: None,
            seed: 3,
        };
        Dataset::read(&want, &Handle::current(), &stop)
    })
    .await
    .unwrap()
}

/// What identifies an example: its numbers' bits, its ids' rows, its time, what came of it.
type Row = (Vec<u32>, Vec<u32>, i64, Outcome);

fn rows(set: &EncodedSet) -> Vec<Row> {
    (0..set.len())
        .map(|at| {
            let row = set.row(at);
            let bits = row.numbers.iter().map(|number| number.to_bits()).collect();
            (bits, row.ids.to_vec(), set.times()[at], set.outcomes()[at])
        })
        .collect()
}

/// The rows that the scorer's way of encoding gives: one vector at a time.
fn encoded(encoder: &Encoder, wanted: &[(&FeatureVector, &Label)], newest_ms: i64) -> Vec<Row> {
    let mut set = EncodedSet::new(encoder);
    for (vector, label) in wanted {
        let watched = Label { clock_ms: newest_ms, ..(*label).clone() };
        set.push(vector, &watched, 1.0).unwrap();
    }
    rows(&set)
}

fn judged<'a>(wanted: &[(&'a FeatureVector, &'a Label)]) -> Vec<gate::Outcome<'a>> {
    let judged = |(v, l): &(&'a FeatureVector, &'a Label)| gate::Outcome {
        campaign: &v.campaign,
        clicked: l.clicked,
        purchased: l.matured.then_some(l.purchased_after_click || l.purchased_after_view),
    };
    wanted.iter().map(judged).collect()
}

fn compare(dataset: &Dataset, wanted: &[(&FeatureVector, &Label)], labels: &[Label]) {
    let bounds = dataset.boundaries();
    let between = |from: i64, until: i64| {
        let inside = wanted.iter().filter(|(v, _)| (from..until).contains(&v.event_time_ms));
        inside.copied().collect::<Vec<_>>()
    };
    let (train, validation, test) = (
        between(i64::MIN, bounds.train_until_ms),
        between(bounds.validation_from_ms, bounds.validation_until_ms),
        between(bounds.test_from_ms, i64::MAX),
    );
    let newest = labels.iter().map(|label| label.clock_ms).max().unwrap();
    let encoder = dataset.encoder();
    let parts = dataset.parts();
    assert_eq!(
        (parts.train.len(), parts.validation.len(), parts.test.len()),
        (train.len(), validation.len(), test.len())
    );

    // Training: the same examples, in blocks that are each an even sample.
    let blocks = dataset.training().blocks;
    assert_eq!(blocks.rows(), train.len());
    assert_eq!(blocks.len(), train.len().div_ceil(128));
    let mut got = Vec::new();
    for (number, block) in blocks.all().enumerate() {
        let set = block.unwrap().resolve(encoder);
        assert_eq!(set.len(), blocks.block_rows(number));
        got.extend(rows(&set));
    }
    let order = encoded(encoder, &train, newest);
    let key = |row: &Row| (row.2, row.0.clone());
    let sorted = |mut rows: Vec<Row>| {
        rows.sort_by_key(key);
        rows
    };
    if blocks.len() > 3 {
        assert_ne!(got, order);
        let mean = |rows: &[Row]| rows.iter().map(|row| row.2 as f64).sum::<f64>() / rows.len() as f64;
        let (first, span) = (blocks.block_rows(0), (order[order.len() - 1].2 - order[0].2) as f64);
        assert!((mean(&got[..first]) - mean(&got)).abs() < 0.15 * span, "the first block is no even sample");
    }
    assert_eq!(sorted(got), sorted(order));

    assert_eq!(rows(dataset.validation()), encoded(encoder, &validation, newest));
    assert_eq!(dataset.validation_outcomes(), judged(&validation));
    let mut got = Vec::new();
    for block in dataset.test(encoder) {
        let block = block.unwrap();
        assert!(block.len() <= 128);
        got.extend(rows(&block));
    }
    assert_eq!(got, encoded(encoder, &test, newest));
    assert_eq!(dataset.test_outcomes(), judged(&test));
    assert_eq!(dataset.test_judged().map(|(outcome, _)| outcome).collect::<Vec<_>>(), column(&got));

    let data = dataset.data();
    assert_eq!(data.rows, wanted.len());
    assert_eq!(data.clicked, wanted.iter().filter(|(_, l)| l.clicked).count());
    assert_eq!(data.matured, wanted.iter().filter(|(_, l)| l.matured).count());
    let clicked = train.iter().filter(|(_, l)| l.clicked).count();
    assert!((dataset.click_rate() - clicked as f64 / train.len() as f64).abs() < 1e-12);
}

fn column(rows: &[Row]) -> Vec<Outcome> {
    rows.iter().map(|row| row.3).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_pinned_tables_as_an_oracle_does() {
    let (_folder, store) = folder();
    let root = store.root_url();
    assert!(matches!(dataset::pin(root).await, Err(Error::NoTable { .. })));

    // Every 37th vector never came: its label has nothing to join.
    let absent = |v: &FeatureVector| v.place.offset % 37 == 0;
    let mut world = World::new(5);
    world.grow(3_000);
    world.write(&store, 4, absent).await;
    let (pins, records) = dataset::pin(root).await.unwrap();
    assert_eq!(records, world.labels.len() as u64);
    let (vectors, labels) = (world.vectors.clone(), world.labels.clone());
    let hashed = network().encoder;
    for max_rows in [1_000_000, 900, 60] {
        let wanted = oracle(&vectors, &labels, max_rows, &absent);
        let dataset = read(root, &pins, &settings(max_rows), &hashed).await.unwrap();
        compare(&dataset, &wanted, &labels);
        assert_eq!(dataset.data().labels, records);
        let in_reach = max_rows.min(3_000);
        assert_eq!(dataset.data().without_vector, in_reach - wanted.len());
    }

    // What comes later does not reach a pinned version.
    world.grow(700);
    world.write(&store, 2, absent).await;
    let before = read(root, &pins, &settings(1_000_000), &hashed).await.unwrap();
    compare(&before, &oracle(&vectors, &labels, 1_000_000, &absent), &labels);
    let (now, _) = dataset::pin(root).await.unwrap();
    assert!(now.iter().all(|(table, version)| version > &pins[table]));
    let wanted = oracle(&world.vectors, &world.labels, 2_000, &absent);
    let mut with_dictionary = hashed.clone();
    with_dictionary.dictionaries = vec!["item".into()];
    with_dictionary.min_count = 2;
    let after = read(root, &now, &settings(2_000), &with_dictionary).await.unwrap();
    compare(&after, &wanted, &world.labels);

    // Bounded validation: an even sample.
    let mut few = settings(2_000);
    few.split.max_validation_rows = 50;
    let few = read(root, &now, &few, &with_dictionary).await.unwrap();
    assert_eq!((few.validation().len(), few.validation_outcomes().len()), (50, 50));
    let all = rows(after.validation());
    assert!(rows(few.validation()).iter().all(|row| all.contains(row)));
    assert!(few.parts() == after.parts());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_encoder_knows_nothing_that_only_later_examples_tell() {
    let (_folder, store) = folder();
    let mut world = World::new(8);
    world.grow(2_000);
    // Ids of their own in the last tenth.
    for vector in &mut world.vectors[1_800..] {
        vector.item = format!("new {}", vector.item);
    }
    world.write(&store, 1, |_| false).await;
    let (pins, _) = dataset::pin(store.root_url()).await.unwrap();
    let mut encoder = network().encoder;
    encoder.dictionaries = vec!["item".into()];
    let dataset = read(store.root_url(), &pins, &settings(10_000), &encoder).await.unwrap();
    let ids = dataset.ids().iter().find(|ids| ids.field == "item").unwrap();
    assert_eq!((ids.distinct, ids.dictionary.unwrap().admitted), (20, 20));
    let table = &dataset.encoder().tables()[0];
    let known = rows(dataset.validation()).iter().filter(|row| row.1[0] != table.unknown().unwrap()).count();
    assert_eq!(known, dataset.validation().len());
    let test: Vec<Row> = dataset.test(dataset.encoder()).flat_map(|block| rows(&block.unwrap())).collect();
    let unknown = test.iter().filter(|row| Some(row.1[0]) == table.unknown()).count();
    assert!(unknown > 100 && unknown < test.len(), "{unknown} of {}", test.len());
    // A hashed field's collisions are counted over the same examples.
    let campaigns = dataset.ids().iter().find(|ids| ids.field == "campaign").unwrap();
    assert_eq!((campaigns.distinct, campaigns.exact), (5, true));
    assert!(campaigns.collision_rate.is_some());
}

/// What each revision of training reads is pinned beside what it computes: a digest of the examples of a
/// small world, all parts, in the order in which they are learned from and judged.
#[tokio::test(flavor = "multi_thread")]
async fn a_revision_reads_the_same_examples() {
    let (_folder, store) = folder();
    let mut world = World::new(4);
    world.grow(1_500);
    world.write(&store, 3, |v| v.place.offset % 41 == 0).await;
    let (pins, _) = dataset::pin(store.root_url()).await.unwrap();
    let mut few = settings(1_200);
    few.split.max_validation_rows = 50;
    let mut encoder = network().encoder;
    encoder.dictionaries = vec!["item".into()];
    let read = read(store.root_url(), &pins, &few, &encoder).await.unwrap();
    let training = read.training().blocks.all().map(|block| block.unwrap().resolve(read.encoder()));
    let sets: Vec<EncodedSet> = training.chain(read.test(read.encoder()).map(Result::unwrap)).collect();
    let mut digest = blake3::Hasher::new();
    for (numbers, ids, time_ms, outcome) in sets.iter().chain([read.validation()]).flat_map(rows) {
        let Outcome { clicked, purchased, matured, .. } = outcome;
        let text = format!("{numbers:?} {ids:?} {time_ms} {clicked} {purchased} {matured}\n");
        digest.update(text.as_bytes());
    }
    let found = digest.finalize().to_hex()[..16].to_owned();
    let pinned = include_str!("../../../model/tests/reference/revision.json");
    let pinned: serde_json::Value = serde_json::from_str(pinned).unwrap();
    assert_eq!(
        (&pinned["examples"], &pinned["revision"]),
        (&found.into(), &TRAINING_REVISION.into()),
        "a run reads other examples than before, or in another order. If that is meant, raise \
         TRAINING_REVISION (model/src/train/mod.rs) by one, and write it and the digest on the right to \
         model/tests/reference/revision.json"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_when_asked() {
    let (_folder, store) = folder();
    let mut world = World::new(1);
    world.grow(50);
    world.write(&store, 1, |_| false).await;
    let (pins, _) = dataset::pin(store.root_url()).await.unwrap();
    let stop = Shutdown::new();
    stop.set();
    let read = read_until(store.root_url(), &pins, &settings(100), &network().encoder, &stop).await;
    assert!(matches!(read, Err(Error::Stopped)));
}
