//! The same tests on every broker at hand: the embedded one where it is built in, and the one at
//! `SALIENCE_KAFKA_BOOTSTRAP`. What holds on one and not on the other is a fault of the embedded.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Read};
use super::*;
use crate::config::{self, Kafka};
use crate::processor::{InRecord, OutRecord, TopicPartition};
use crate::store::Store;

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker for a test, and names that no other test uses.
struct Cluster {
    kafka: Kafka,
    admin: Admin,
}

impl Cluster {
    fn topic(&self, name: &str, partitions: i32) -> Arc<str> {
        let name: Arc<str> = format!("{}{name}", self.kafka.prefix).into();
        let spec =
            TopicSpec { name: Arc::clone(&name), partitions, replication_factor: -1, config: Vec::new() };
        assert_eq!(self.admin.create_topics(std::slice::from_ref(&spec)).unwrap(), [&*name]);
        name
    }

    fn transactional(&self, id: &str) -> BaseProducer {
        let id = format!("{}{id}", self.kafka.prefix);
        let producer: BaseProducer = client::transactional(&self.kafka, &id).create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer
    }

    fn member(&self, group: &str, instance: &str, topic: &str) -> BaseConsumer {
        let mut config = client::member(&self.kafka, Read::Committed, group, instance);
        config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "300");
        config.set("auto.offset.reset", "earliest");
        let consumer: BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        consumer
    }

    /// Waits until partition 0 ends at `end`: a broker may write the marker of a transaction only
    /// after the client has been told that it is committed.
    fn until_end(&self, topic: &Arc<str>, end: i64) {
        let ends = |_| {
            // Between looks at the condition.
            std::thread::sleep(Duration::from_millis(20));
            self.admin.end_offsets(topic).unwrap()[0] == end
        };
        assert!((0..500).any(ends), "{:?} and not {end}", self.admin.end_offsets(topic));
    }

    /// Everything that is committed from `from` on in partition 0, in polls of `max`.
    fn read(&self, topic: &Arc<str>, from: i64, max: usize) -> Vec<String> {
        let mut reader = Reader::new(&self.kafka, Isolation::ReadCommitted).unwrap();
        let end = reader.end_offsets(topic).unwrap()[0];
        let partition = TopicPartition { topic: Arc::clone(topic), partition: 0 };
        reader.assign(&[(partition, from)]).unwrap();
        let mut values = Vec::new();
        for _ in 0..200 {
            values.extend(reader.poll(max, Duration::from_millis(100)).unwrap().iter().map(value));
            if reader.fetched()[0].1 >= end {
                return values;
            }
        }
        panic!("the reader stands at {:?}, and not at the end {end}", reader.fetched());
    }
}

/// Runs a test on every broker at hand.
fn on_each(test: impl Fn(&Cluster)) {
    let cluster = |bootstrap: String| {
        let prefix = format!("t{}.", uuid::Uuid::new_v4().simple());
        let kafka = Kafka { prefix, ..Kafka::at(bootstrap) };
        Cluster { admin: Admin::new(&kafka).unwrap(), kafka }
    };
    #[cfg(feature = "embedded-broker")]
    {
        let broker = crate::embedded::spawn().unwrap();
        test(&cluster(broker.bootstrap()));
    }
    let required = std::env::var("SALIENCE_REQUIRE_KAFKA").is_ok_and(|required| required == "1");
    let Ok(bootstrap) = std::env::var("SALIENCE_KAFKA_BOOTSTRAP") else {
        assert!(!required, "SALIENCE_REQUIRE_KAFKA is set and SALIENCE_KAFKA_BOOTSTRAP is not");
        println!("skipped on Apache Kafka: SALIENCE_KAFKA_BOOTSTRAP is not set");
        return;
    };
    let cluster = cluster(bootstrap);
    test(&cluster);
    let topics = cluster.admin.all_partitions().unwrap();
    let own = |name: &&String| name.starts_with(&cluster.kafka.prefix);
    let own: Vec<&str> = topics.keys().filter(own).map(String::as_str).collect();
    cluster.admin.delete_topics(&own).unwrap();
}

fn value(record: &InRecord) -> String {
    String::from_utf8(record.record.value.clone().unwrap_or_default().to_vec()).unwrap()
}

fn produce(producer: &BaseProducer, topic: &str, values: &[&str]) {
    for value in values {
        producer.send(BaseRecord::<(), str>::to(topic).partition(0).payload(value)).unwrap();
    }
}

fn commit(producer: &BaseProducer, topic: &str, values: &[&str]) {
    producer.begin_transaction().unwrap();
    produce(producer, topic, values);
    producer.commit_transaction(PATIENCE).unwrap();
}

fn abort(producer: &BaseProducer, topic: &str, values: &[&str]) {
    producer.begin_transaction().unwrap();
    produce(producer, topic, values);
    producer.flush(PATIENCE).unwrap();
    producer.abort_transaction(PATIENCE).unwrap();
}

fn record(topic: &Arc<str>, key: &str, value: Option<&str>) -> OutRecord {
    OutRecord {
        topic: Arc::clone(topic),
        partition: None,
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        headers: vec![("reason".to_owned(), Some("none".into())), ("empty".to_owned(), None)],
    }
}

#[test]
fn makes_topics_once_and_knows_their_counts() {
    on_each(|cluster| {
        let topics: config::Topics = config::resolve(config::DEFAULTS, &[], std::iter::empty(), &[], "")
            .unwrap()
            .section("topics")
            .unwrap();
        let specs = specs(&topics, &cluster.kafka.prefix);
        let store = Store::open("memory://").unwrap();
        let made = record_topics(&store, &cluster.admin, &specs).unwrap();
        assert_eq!(made.len(), specs.len());
        assert_eq!(record_topics(&store, &cluster.admin, &specs).unwrap(), Vec::<String>::new());
        let events: Arc<str> = format!("{}events", cluster.kafka.prefix).into();
        assert_eq!(cluster.admin.partitions(&events).unwrap(), Some(topics.internal_partitions));
        assert_eq!(cluster.admin.begin_offsets(&events).unwrap(), [0; 4]);
        assert_eq!(cluster.admin.partitions("no-such-topic").unwrap(), None);
        let first = check_partitions(&store, &cluster.admin, &[Arc::clone(&events)]).unwrap();
        assert_eq!(check_partitions(&store, &cluster.admin, &[Arc::clone(&events)]).unwrap(), first);

        // The same name with another count: somebody has added partitions, or made it anew.
        cluster.admin.delete_topics(&[&events]).unwrap();
        let spec = TopicSpec {
            name: Arc::clone(&events),
            partitions: 6,
            replication_factor: -1,
            config: Vec::new(),
        };
        cluster.admin.create_topics(&[spec]).unwrap();
        let error = check_partitions(&store, &cluster.admin, &[events]).unwrap_err();
        assert!(matches!(error, KafkaError::PartitionCount { live: 6, recorded: 4, .. }), "{error}");
        let error = check_partitions(&store, &cluster.admin, &["nowhere".into()]).unwrap_err();
        assert!(matches!(error, KafkaError::NoTopic { .. }), "{error}");
    });
}

#[test]
fn what_is_sent_is_read_in_order_with_headers_and_tombstones() {
    on_each(|cluster| {
        let topic = cluster.topic("sent", 3);
        let sender = Sender::new(&cluster.kafka).unwrap();
        for n in 0..3000 {
            let value = n.to_string();
            sender
                .send(&record(&topic, &format!("user-{}", n % 7), (n % 10 != 9).then_some(&value)))
                .unwrap();
        }
        sender.flush(PATIENCE).unwrap();
        assert_eq!(sender.in_flight(), 0);
        let mut reader = Reader::new(&cluster.kafka, Isolation::ReadCommitted).unwrap();
        assert_eq!(reader.end_offsets(&topic).unwrap().iter().sum::<i64>(), 3000);
        let from: Vec<_> =
            (0..3).map(|partition| (TopicPartition { topic: Arc::clone(&topic), partition }, 0)).collect();
        reader.assign(&from).unwrap();
        let mut records = Vec::new();
        while records.len() < 3000 {
            let polled = reader.poll(100, PATIENCE).unwrap();
            assert!((1..=100).contains(&polled.len()));
            records.extend(polled);
        }
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        let mut home: BTreeMap<Bytes, i32> = BTreeMap::new();
        for InRecord { record, .. } in &records {
            assert_eq!(record.offset, *next.entry(record.partition).or_default());
            *next.get_mut(&record.partition).unwrap() += 1;
            assert_eq!(
                *home.entry(record.key.clone().unwrap()).or_insert(record.partition),
                record.partition
            );
            assert_eq!(record.headers[0], ("reason".to_owned(), Some("none".into())));
            assert_eq!(record.headers[1], ("empty".to_owned(), None));
            assert!(record.timestamp_ms > 1_700_000_000_000);
        }
        assert_eq!(records.iter().filter(|record| record.record.value.is_none()).count(), 300);
        // Java's murmur2 of "user-0" puts it into partition 2 of 3: clients must agree on it.
        assert!(home.len() == 7 && reader.poll(1, Duration::from_millis(20)).unwrap().is_empty());
    });
}

/// What is done to a transaction, by whom, and what it holds.
type Step<'a> = (fn(&BaseProducer, &str, &[&str]), &'a BaseProducer, &'a [&'a str]);

#[test]
fn what_was_aborted_is_read_by_nobody_and_hides_nothing() {
    on_each(|cluster| {
        let topic = cluster.topic("aborts", 1);
        let (one, two) = (cluster.transactional("one"), cluster.transactional("two"));
        let steps: [Step<'_>; 7] = [
            (commit, &one, &["a", "b"]),
            (abort, &one, &["x1", "x2", "x3"]),
            (commit, &two, &["c"]),
            (commit, &one, &["d"]),
            (abort, &two, &["x4"]),
            (abort, &one, &["x5"]),
            (commit, &one, &["e", "f"]),
        ];
        let mut end = 0;
        for (step, producer, values) in steps {
            step(producer, &topic, values);
            end += values.len() as i64 + 1;
            cluster.until_end(&topic, end);
        }
        for max in [1, 1000] {
            assert_eq!(cluster.read(&topic, 0, max), ["a", "b", "c", "d", "e", "f"]);
        }
        // A reader that begins behind an abort must still see what its producer committed later.
        let all: Vec<String> = ["c", "d", "e", "f"].map(str::to_owned).to_vec();
        for from in 2..end {
            let read = cluster.read(&topic, from, 1000);
            assert!(all.ends_with(&read), "from {from}: {read:?}");
        }
        // Offsets: a b C x1 x2 x3 A c C d C ...: from d on.
        assert_eq!(cluster.read(&topic, 9, 1000), ["d", "e", "f"]);
        let mut raw = Reader::new(&cluster.kafka, Isolation::ReadUncommitted).unwrap();
        raw.assign(&[(TopicPartition { topic, partition: 0 }, 0)]).unwrap();
        let mut seen = 0;
        while seen < 11 {
            seen += raw.poll(100, PATIENCE).unwrap().len();
        }
    });
}

#[test]
fn an_open_transaction_holds_the_end_back() {
    on_each(|cluster| {
        let topic = cluster.topic("open", 1);
        let (open, other) = (cluster.transactional("open"), cluster.transactional("other"));
        commit(&other, &topic, &["a"]);
        cluster.until_end(&topic, 2);
        open.begin_transaction().unwrap();
        produce(&open, &topic, &["b"]);
        open.flush(PATIENCE).unwrap();
        commit(&other, &topic, &["c"]);
        assert_eq!(cluster.admin.end_offsets(&topic).unwrap(), [2]);
        assert_eq!(cluster.read(&topic, 0, 100), ["a"]);
        let raw = Reader::new(&cluster.kafka, Isolation::ReadUncommitted).unwrap();
        let ends = |_| {
            std::thread::sleep(Duration::from_millis(20));
            raw.end_offsets(&topic).unwrap() == [5]
        };
        assert!((0..500).any(ends));
        open.commit_transaction(PATIENCE).unwrap();
        cluster.until_end(&topic, 6);
        assert_eq!(cluster.read(&topic, 0, 100), ["a", "b", "c"]);
    });
}

#[test]
fn offsets_and_their_text_commit_and_abort_with_the_transaction() {
    on_each(|cluster| {
        let topic = cluster.topic("offsets", 2);
        let group = format!("{}group", cluster.kafka.prefix);
        let consumer: BaseConsumer =
            client::consumer(&cluster.kafka, Read::Committed, &group).create().unwrap();
        let metadata = consumer.group_metadata().unwrap();
        let producer = cluster.transactional("offsets");
        let offsets = |offset: i64, text: &str| {
            let mut list = TopicPartitionList::new();
            let mut element = list.add_partition(&topic, 1);
            element.set_offset(Offset::Offset(offset)).unwrap();
            element.set_metadata(text);
            list
        };
        assert_eq!(cluster.admin.committed(&group, &topic).unwrap(), [None, None]);
        producer.begin_transaction().unwrap();
        produce(&producer, &topic, &["a"]);
        producer.send_offsets_to_transaction(&offsets(7, "watermark 42"), &metadata, PATIENCE).unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
        let committed = [None, Some((7, "watermark 42".to_owned()))];
        assert_eq!(cluster.admin.committed(&group, &topic).unwrap(), committed);
        producer.begin_transaction().unwrap();
        produce(&producer, &topic, &["b"]);
        producer.send_offsets_to_transaction(&offsets(9, "never"), &metadata, PATIENCE).unwrap();
        producer.flush(PATIENCE).unwrap();
        producer.abort_transaction(PATIENCE).unwrap();
        assert_eq!(cluster.admin.committed(&group, &topic).unwrap(), committed);
    });
}

#[test]
fn a_second_producer_of_an_id_fences_the_first() {
    on_each(|cluster| {
        let topic = cluster.topic("fenced", 1);
        let first = cluster.transactional("id");
        first.begin_transaction().unwrap();
        produce(&first, &topic, &["lost"]);
        first.flush(PATIENCE).unwrap();
        let second = cluster.transactional("id");
        let error = first.commit_transaction(PATIENCE).unwrap_err();
        let rdkafka::error::KafkaError::Transaction(error) = error else { panic!("{error}") };
        assert!(error.is_fatal(), "{error}");
        commit(&second, &topic, &["kept"]);
        cluster.until_end(&topic, 4);
        assert_eq!(cluster.read(&topic, 0, 100), ["kept"]);
    });
}

/// Polls members until they hold, together, `partitions`, and each something.
fn settle(members: &[&BaseConsumer], partitions: usize) -> Vec<Vec<i32>> {
    for _ in 0..400 {
        let held: Vec<Vec<i32>> = members
            .iter()
            .map(|member| {
                let _message = member.poll(Duration::from_millis(20));
                let assignment = member.assignment().unwrap();
                assignment
                    .elements()
                    .iter()
                    .map(rdkafka::topic_partition_list::TopicPartitionListElem::partition)
                    .collect()
            })
            .collect();
        let together: std::collections::BTreeSet<i32> = held.iter().flatten().copied().collect();
        if together.len() == partitions && held.iter().all(|held| !held.is_empty()) {
            return held;
        }
    }
    panic!("the group did not settle");
}

#[test]
fn static_members_keep_their_partitions_and_zombies_commit_nothing() {
    on_each(|cluster| {
        let topic = cluster.topic("members", 4);
        let group = format!("{}group", cluster.kafka.prefix);
        let one = cluster.member(&group, "one", &topic);
        let two = cluster.member(&group, "two", &topic);
        let held = settle(&[&one, &two], 4);
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 4);
        let before = one.group_metadata().unwrap();

        // A restart without a rebalance: the successor takes over, the others notice nothing.
        drop(two);
        let successor = cluster.member(&group, "two", &topic);
        let again = settle(&[&one, &successor], 4);
        assert_eq!(again, held);

        // A third member changes the generation: what the first held before it is worth nothing.
        let three = cluster.member(&group, "three", &topic);
        settle(&[&one, &successor, &three], 4);
        let producer = cluster.transactional("zombie");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 0, Offset::Offset(1)).unwrap();
        producer.begin_transaction().unwrap();
        let refused = producer.send_offsets_to_transaction(&offsets, &before, PATIENCE).unwrap_err();
        let rdkafka::error::KafkaError::Transaction(refused) = refused else { panic!("{refused}") };
        assert!(refused.txn_requires_abort(), "{refused}");
        producer.abort_transaction(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        let current = one.group_metadata().unwrap();
        producer.send_offsets_to_transaction(&offsets, &current, PATIENCE).unwrap();
        producer.commit_transaction(PATIENCE).unwrap();
        assert_eq!(cluster.admin.committed(&group, &topic).unwrap()[0], Some((1, String::new())));
    });
}

#[test]
fn nobody_at_the_address_is_said_so() {
    let kafka = Kafka::at("127.0.0.1:9");
    let error = Admin::new(&kafka).unwrap().reach(Duration::from_millis(300)).unwrap_err();
    assert!(error.to_string().starts_with("no broker answers at 127.0.0.1:9: "), "{error}");
    assert!(error.is_retriable());
    let mut kafka = kafka;
    kafka.properties.insert("no.such.property".to_owned(), "1".to_owned());
    let error = Sender::new(&kafka).map(drop).unwrap_err();
    assert!(matches!(&error, KafkaError::Config { what } if what.contains("no.such.property")), "{error}");
}

#[test]
fn what_is_written_together_is_there_together_and_only_the_last_holder_of_an_id_writes() {
    on_each(|cluster| {
        let topic = cluster.topic("together", 1);
        let id = format!("{}together", cluster.kafka.prefix);
        let record = |value: &'static str, partition: i32| OutRecord {
            topic: Arc::clone(&topic),
            partition: Some(partition),
            key: None,
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        };
        let open = || Together::open(&cluster.kafka, &id).unwrap();
        open().write(&[record("a", 0), record("b", 0)]).unwrap();
        let (before, now) = (open(), open());
        before.write(&[record("fenced", 0)]).unwrap_err();
        now.write(&[record("c", 0)]).unwrap();
        open().write(&[record("half", 0), record("of it", 9)]).unwrap_err();
        open().write(&[record("d", 0)]).unwrap();
        assert_eq!(cluster.read(&topic, 0, 10), ["a", "b", "c", "d"]);
    });
}
