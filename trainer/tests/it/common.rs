//! A small world of impressions with known click probabilities, written into real tables.
#![allow(unreachable_pub)]

use std::sync::Arc;

use lake::{Config as Lake, Progress, Table, app_id};
use runtime::store::Store;
use schemas::duration::Millis;
use schemas::table::{self, RowEncoder, TopicRecord, features, labels};
use schemas::vector::{Scale, VectorField};
use schemas::{Codec, FeatureVector, Label, Origin, Place, Protobuf, VectorSchema};
use serde::de::DeserializeOwned;
use trainer::{Config, InForce};

pub const PARTITIONS: i32 = 2;
pub const MINUTE: i64 = 60_000;

pub fn schema() -> VectorSchema {
    schema_of(&["taste", "noise"])
}

/// Fields after the first two are zero in every vector.
pub fn schema_of(names: &[&str]) -> VectorSchema {
    let field = |name: &&str| VectorField { name: (*name).into(), scale: Scale::Linear, doc: "test".into() };
    VectorSchema { fields: names.iter().map(field).collect() }
}

/// What is in force, where that never changes.
pub fn always(schema: VectorSchema) -> InForce {
    Arc::new(move || Ok(schema.clone()))
}

fn section<T: DeserializeOwned>(text: &str, name: &str) -> T {
    let table: toml::Table = toml::from_str(text).unwrap();
    table[name].clone().try_into().unwrap()
}

pub fn config() -> Config {
    let mut config: Config = section(trainer::DEFAULTS, "trainer");
    config.min_new_labels = 100;
    config.poll_interval = Millis(50);
    config.split.min_train_rows = 500;
    config.split.min_test_rows = 100;
    config.gate.resamples = 200;
    config
}

pub fn network() -> model::Config {
    let mut config: model::Config = section(model::DEFAULTS, "model");
    config.network.width = 8;
    config.network.heads = 1;
    config.network.mlp = vec![16];
    // Tests name the fields that have one.
    config.encoder.dictionaries.clear();
    config.encoder.item_buckets = 64;
    config.encoder.campaign_buckets = 64;
    config.encoder.category_buckets = 16;
    config.encoder.brand_buckets = 16;
    config.encoder.placement_buckets = 4;
    config.encoder.device_buckets = 4;
    config.encoder.channel_buckets = 4;
    (config.training.batch_size, config.training.min_steps_per_epoch) = (128, 0);
    config.training.max_epochs = 6;
    config.training.learning_rate = 0.01;
    config
}

/// A folder with a store in it.
pub fn folder() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    (folder, store)
}

/// A seeded sequence.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2) | 1)
    }

    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Impressions and their labels, as they stand in the topics.
#[derive(Default)]
pub struct World {
    pub vectors: Vec<FeatureVector>,
    /// In order of writing; several of one place.
    pub labels: Vec<Label>,
    /// What becomes of tastes from now on: they all are high.
    pub drifted: bool,
    /// All that were in force; new vectors follow the last one.
    pub schemas: Vec<VectorSchema>,
    offsets: [i64; PARTITIONS as usize],
    made: i64,
    random: Option<Random>,
    written: Written,
}

#[derive(Default)]
struct Written {
    vectors: usize,
    labels: usize,
    vector_offsets: [Option<i64>; PARTITIONS as usize],
    label_offsets: [Option<i64>; PARTITIONS as usize],
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self { random: Some(Random::new(seed)), schemas: vec![schema()], ..Self::default() }
    }

    /// More impressions, a minute of event time apart: clicks follow `taste`, purchases some clicks.
    pub fn grow(&mut self, rows: usize) {
        let mut random = self.random.take().unwrap();
        let schema = self.schemas.last().unwrap().clone();
        let zeros = vec![0.0_f32; schema.fields.len() - 2];
        for _ in 0..rows {
            let partition = (random.unit() * f64::from(PARTITIONS)) as i32;
            // Control records lie between.
            self.offsets[partition as usize] += 1 + (random.unit() * 3.0) as i64;
            let offset = self.offsets[partition as usize];
            self.made += 1;
            let time = 1_700_000_000_000 + self.made * MINUTE - (random.unit() * 3.0) as i64 * MINUTE;
            let (taste, noise) = (random.unit() as f32, random.unit() as f32);
            let taste = if self.drifted { 0.6 + 0.4 * taste } else { taste };
            let p = if taste > 0.5 { 0.6 } else { 0.05 };
            let clicked = random.unit() < p;
            let place = Place { partition, offset };
            self.vectors.push(FeatureVector {
                place,
                origin: Origin { topic: "views".into(), partition: 0, offset: self.made, line: 0, lines: 1 },
                event_id: format!("e{}", self.made),
                event_time_ms: time,
                clock_ms: time - MINUTE,
                received_ms: time,
                user: format!("u{}", self.made % 50),
                item: format!("i{}", self.made % 20),
                campaign: format!("c{}", self.made % 5),
                price: 10.0,
                currency: "EUR".into(),
                fingerprint: schema.fingerprint(),
                values: [taste, noise]
                    .iter()
                    .chain(&zeros)
                    .flat_map(|n| n.to_le_bytes())
                    .collect::<Vec<u8>>()
                    .into(),
                ..FeatureVector::default()
            });
            let label = Label {
                place,
                event_time_ms: time,
                campaign: format!("c{}", self.made % 5),
                clock_ms: time + 31 * MINUTE,
                clicked,
                ..Label::default()
            };
            let bought = clicked && random.unit() < 0.3;
            self.labels.push(label.clone());
            if bought {
                self.labels.push(Label {
                    revision: 1,
                    purchased_after_click: true,
                    value: 10.0,
                    ..label.clone()
                });
            }
            if self.made % 4 != 0 {
                let last = self.labels.last().unwrap().clone();
                self.labels.push(Label { revision: last.revision + 1, matured: true, ..last });
            }
        }
        self.random = Some(random);
    }

    /// Writes what is new into the tables of `store`, in commits of `commits` parts; all vectors
    /// but those for which `skip` says so.
    pub async fn write(&mut self, store: &Store, commits: usize, skip: impl Fn(&FeatureVector) -> bool) {
        let vectors: Vec<TopicRecord> = {
            let new = self.vectors[self.written.vectors..].iter().filter(|v| !skip(v));
            place_records(
                new.map(|v| (v.place.partition, Protobuf::to_vec(v))),
                &mut self.written.vector_offsets,
            )
        };
        let labels: Vec<TopicRecord> = {
            let new = self.labels[self.written.labels..].iter();
            place_records(
                new.map(|l| (l.place.partition, Protobuf::to_vec(l))),
                &mut self.written.label_offsets,
            )
        };
        self.written.vectors = self.vectors.len();
        self.written.labels = self.labels.len();
        append(store, features::NAME, table::features::encoder(&self.schemas), &vectors, commits).await;
        append(store, labels::NAME, table::labels::encoder(), &labels, commits).await;
    }
}

fn place_records(
    values: impl Iterator<Item = (i32, Vec<u8>)>,
    offsets: &mut [Option<i64>; PARTITIONS as usize],
) -> Vec<TopicRecord> {
    values
        .map(|(partition, value)| {
            let at = &mut offsets[partition as usize];
            let offset = at.map_or(0, |last| last + 1);
            *at = Some(offset);
            TopicRecord {
                partition,
                offset,
                timestamp_ms: 1,
                key: None,
                value: Some(value.into()),
                headers: vec![],
            }
        })
        .collect()
}

async fn append(
    store: &Store,
    name: &str,
    mut encoder: Box<dyn RowEncoder>,
    records: &[TopicRecord],
    commits: usize,
) {
    let config = Lake::default();
    let mut table = Table::open_or_create(store.root_url(), name, &encoder.schema(), &config).await.unwrap();
    for part in records.chunks(records.len().div_ceil(commits).max(1)) {
        for record in part {
            assert!(encoder.append(record).unwrap());
        }
        let mut progress = Vec::new();
        for partition in 0..PARTITIONS {
            let Some(last) = part.iter().rfind(|r| r.partition == partition) else { continue };
            let app = app_id(name, partition);
            let from = table.committed(&app).await.unwrap();
            progress.push(Progress { app, from, next: last.offset + 1 });
        }
        table.append(encoder.finish(), &progress, 1).await.unwrap();
    }
}
