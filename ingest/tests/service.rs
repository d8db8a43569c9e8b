//! The service on an embedded broker: raw records and a catalogue in, events and ticks out; stopped
//! and started again in between.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ingest::{Config, PseudonymKey};
use runtime::config::{Delivery, Sections};
use runtime::embedded;
use runtime::kafka::{Admin, Isolation, Reader, Sender, specs};
use runtime::processor::{InRecord, OutRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use runtime::worker::Settings;
use schemas::duration::Millis;
use schemas::topic::Names;
use schemas::{Codec, Control, Entry, EventClock, Protobuf};

const T: i64 = 1_569_888_000_000;

fn settings(bootstrap: String, root: &str) -> (Settings, runtime::config::Topics) {
    let mut sections: Sections = toml::from_str(runtime::config::DEFAULTS).unwrap();
    sections.kafka.bootstrap = bootstrap;
    sections.service.instance = "test".into();
    sections.service.delivery = Delivery::ExactlyOnce;
    sections.topics.raw_partitions = 2;
    sections.topics.internal_partitions = 3;
    let store = Store::open(root).unwrap();
    (Settings { kafka: sections.kafka, service: sections.service, store }, sections.topics)
}

fn send(sender: &Sender, topic: &Arc<str>, key: Option<&str>, value: &str) {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let record = OutRecord {
        topic: Arc::clone(topic),
        partition: None,
        key: key.map(bytes),
        value: Some(bytes(value)),
        headers: Vec::new(),
    };
    sender.send(&record).unwrap();
}

/// Reads a topic from its beginning until `enough` says so.
fn read_until(settings: &Settings, topic: &Arc<str>, enough: impl Fn(&[InRecord]) -> bool) -> Vec<InRecord> {
    let mut reader = Reader::new(&settings.kafka, Isolation::ReadCommitted).unwrap();
    let partitions = reader.partitions(topic).unwrap().unwrap();
    let all: Vec<_> = (0..partitions)
        .map(|partition| (TopicPartition { topic: Arc::clone(topic), partition }, 0))
        .collect();
    reader.assign(&all).unwrap();
    let mut records = Vec::new();
    for _ in 0..300 {
        records.extend(reader.poll(1_000, Duration::from_millis(100)).unwrap());
        if enough(&records) {
            return records;
        }
    }
    panic!("{topic}: not enough after 30 s: {} records", records.len());
}

fn entry(record: &InRecord) -> Entry {
    Protobuf::decode(record.record.value.as_ref().unwrap()).unwrap()
}

fn events(records: &[InRecord]) -> usize {
    records.iter().filter(|record| matches!(entry(record), Entry::Event(_))).count()
}

/// The event clock of every partition.
fn clocks(records: &[InRecord]) -> BTreeMap<i32, EventClock> {
    let mut clocks: BTreeMap<i32, EventClock> = BTreeMap::new();
    for record in records {
        if let Entry::Control(control) = entry(record) {
            clocks.entry(record.record.partition).or_default().fold(&control);
        }
    }
    clocks
}

#[test]
fn runs_stops_and_goes_on() {
    runs_twice(1, Config::default());
}

/// Two workers that share the sources, over a span of event time many times what they may be apart.
#[test]
fn two_workers_wait_for_one_another_and_come_to_the_end() {
    runs_twice(2, Config { max_skew: Millis(60_000), ..Config::default() });
}

fn runs_twice(workers: usize, config: Config) {
    let broker = embedded::spawn().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (mut settings, topics) = settings(broker.bootstrap(), folder.path().to_str().unwrap());
    settings.service.workers = workers;
    let names = Names::new("");
    Admin::new(&settings.kafka).unwrap().create_topics(&specs(&topics, "")).unwrap();
    let sender = Sender::new(&settings.kafka).unwrap();
    send(&sender, &names.items, Some("i1"), r#"{"category":"shoes","price":20}"#);
    sender.flush(Duration::from_secs(10)).unwrap();

    let config = Config { idle_polls: 2, max_future: Millis(1_000), ..config };
    let key = PseudonymKey::new("k1", vec![7; 32]).unwrap();
    let mut sent = 0;
    for round in 1..=2_i64 {
        for n in 0..20 {
            let user = format!("user-{}", n % 5);
            let time = T + round * 10_000_000 + n * 90_000;
            let value = format!(r#"{{"event_time":{time},"user_id":"{user}","item_id":"i1"}}"#);
            for topic in [&names.views, &names.clicks, &names.purchases] {
                send(&sender, topic, Some(&user), &value);
                sent += 1;
            }
        }
        send(&sender, &names.views, None, "garbage");
        sender.flush(Duration::from_secs(10)).unwrap();

        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let (all, last) = std::thread::scope(|scope| {
            let service = scope.spawn(|| ingest::run(&config, &key, &settings, shutdown.clone()));
            let last = T + round * 10_000_000 + 19 * 90_000 - config.allowed_lateness.0;
            let all = read_until(&settings, &names.events, |records| {
                let clocks = clocks(records);
                events(records) >= sent
                    && clocks.len() == 3
                    && clocks.values().all(|clock| clock.now_ms() == Some(last))
            });
            stop.set();
            service.join().unwrap().unwrap();
            (all, last)
        });
        assert_eq!(events(&all), sent, "none twice");
        assert!(clocks(&all).values().all(|clock| clock.now_ms() == Some(last)));
        for record in &all {
            match entry(record) {
                Entry::Event(event) => {
                    assert_eq!(event.category, "shoes");
                    assert_eq!(record.record.key.as_deref(), Some(event.user.as_bytes()));
                    assert_eq!(
                        ingest::partitioner::partition_of(event.user.as_bytes(), 3),
                        record.record.partition
                    );
                }
                Entry::Control(Control::Sources(set)) => assert_eq!(set.sources.len(), 6),
                Entry::Control(_) => {}
            }
        }
    }
    let dead = read_until(&settings, &names.dead_letters, |records| records.len() >= 2);
    assert!(dead.iter().all(|record| record.record.value.as_deref() == Some(b"garbage")));
}
