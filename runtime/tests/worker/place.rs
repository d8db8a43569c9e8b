//! Where a test runs, and what it writes and reads there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runtime::config::{Delivery, Kafka, Service};
use runtime::embedded::{self, Broker};
use runtime::kafka::{Admin, Isolation, Reader, Sender, TopicSpec};
use runtime::processor::{OutRecord, TopicPartition};
use runtime::store::Store;
use runtime::worker::Settings;
use schemas::duration::Millis;

pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Where a test runs: its broker, its names, its folder.
pub(crate) struct Place {
    pub(crate) broker: Option<Broker>,
    pub(crate) kafka: Kafka,
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        log();
        let given = std::env::var("SALIENCE_KAFKA_BOOTSTRAP").ok();
        let required = std::env::var_os("SALIENCE_REQUIRE_KAFKA").is_some();
        assert!(
            given.is_some() || !required,
            "SALIENCE_REQUIRE_KAFKA is set, SALIENCE_KAFKA_BOOTSTRAP is not"
        );
        let broker = given.is_none().then(|| embedded::spawn().unwrap());
        let bootstrap = given.or_else(|| broker.as_ref().map(Broker::bootstrap)).unwrap();
        let mut kafka = Kafka::at(bootstrap);
        kafka.prefix = format!("test-{name}-{}-", std::process::id());
        let place = Self { broker, kafka, folder: tempfile::tempdir().unwrap() };
        let spec = |topic: &str| TopicSpec {
            name: place.topic(topic),
            partitions: PARTITIONS,
            replication_factor: 1,
            config: Vec::new(),
        };
        Admin::new(&place.kafka).unwrap().create_topics(&[spec("in"), spec("out"), spec("said")]).unwrap();
        place
    }

    pub(crate) fn topic(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.kafka.prefix).into()
    }

    pub(crate) fn settings(&self) -> Settings {
        settings(&self.kafka, self.folder.path().to_str().unwrap())
    }

    pub(crate) fn feed(&self, sender: &Sender, range: std::ops::Range<u64>) {
        for number in range {
            let record = OutRecord {
                topic: self.topic("in"),
                partition: Some((number % PARTITIONS as u64) as i32),
                key: Some(number.to_string().into()),
                value: Some(number.to_string().into()),
                headers: Vec::new(),
            };
            sender.send(&record).unwrap();
        }
        sender.flush(PATIENCE).unwrap();
    }

    /// Reads the output until it holds `count` records and nothing comes any more.
    pub(crate) fn read(&self, count: usize) -> BTreeMap<i32, Vec<String>> {
        self.read_of("out", count)
    }

    /// The same of another topic.
    pub(crate) fn read_of(&self, topic: &str, count: usize) -> BTreeMap<i32, Vec<String>> {
        let mut reader = Reader::new(&self.kafka, Isolation::ReadCommitted).unwrap();
        let all: Vec<_> = (0..PARTITIONS)
            .map(|partition| (TopicPartition { topic: self.topic(topic), partition }, 0))
            .collect();
        reader.assign(&all).unwrap();
        let mut found: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        let (mut total, mut heard) = (0, Instant::now());
        // Beyond `count`, to see what should not be there.
        while total < count || heard.elapsed() < Duration::from_millis(500) {
            let records = reader.poll(10_000, Duration::from_millis(50)).unwrap();
            if !records.is_empty() {
                heard = Instant::now();
                total += records.len();
            }
            assert!(heard.elapsed() < PATIENCE, "{total} of {count} records came");
            for record in records {
                let value = String::from_utf8(record.record.value.unwrap().to_vec()).unwrap();
                found.entry(record.record.partition).or_default().push(value);
            }
        }
        found
    }
}

/// With `RUST_LOG` set, a failing test tells its story.
pub(crate) fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already = log.try_init();
}

pub(crate) fn settings(kafka: &Kafka, folder: &str) -> Settings {
    Settings {
        kafka: kafka.clone(),
        service: Service {
            instance: "one".to_owned(),
            workers: 2,
            delivery: Delivery::ExactlyOnce,
            commit_interval: Millis(20),
            idle_commit: true,
            batch_records: 500,
            snapshot_interval: Millis(100),
            snapshots_kept: 3,
            standbys: 0,
            state_memory: -1,
            spill_folder: String::new(),
            stop_timeout: Millis(10_000),
        },
        store: Store::open(folder).unwrap(),
    }
}
