#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::*;
use crate::config::Kafka;
use crate::kafka::client::{self, Read};
use crate::kafka::{Admin, Isolation, KafkaError, Reader, Sender, TopicSpec};
use crate::processor::{OutRecord, TopicPartition};

const PATIENCE: Duration = Duration::from_secs(20);

fn cluster(limits: Limits, partitions: i32) -> (Broker, Kafka, Admin, Arc<str>) {
    let broker = spawn_with(limits).unwrap();
    let kafka = Kafka::at(broker.bootstrap());
    let admin = Admin::new(&kafka).unwrap();
    let topic: Arc<str> = "topic".into();
    let spec = TopicSpec { name: Arc::clone(&topic), partitions, replication_factor: -1, config: Vec::new() };
    admin.create_topics(&[spec]).unwrap();
    (broker, kafka, admin, topic)
}

#[test]
fn logs_are_cut_by_size_and_a_reader_that_fell_behind_is_told() {
    let (broker, mut kafka, admin, topic) = cluster(Limits { partition_bytes: 1 << 20 }, 1);
    kafka.producer.insert("compression.type".to_owned(), "none".to_owned());
    let sender = Sender::new(&kafka).unwrap();
    let record = OutRecord {
        topic: Arc::clone(&topic),
        partition: Some(0),
        key: None,
        value: Some(vec![7; 1000].into()),
        headers: Vec::new(),
    };
    for _ in 0..4000 {
        sender.send(&record).unwrap();
    }
    sender.flush(PATIENCE).unwrap();
    for _ in 0..100 {
        if broker.size_bytes() <= (1 << 20) + (1 << 18) {
            break;
        }
        // Between looks at the condition: upkeep runs on a thread of the server's own.
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(broker.size_bytes() <= (1 << 20) + (1 << 18), "{}", broker.size_bytes());
    let begin = admin.begin_offsets(&topic).unwrap()[0];
    assert!((1..4000).contains(&begin));
    let partition = TopicPartition { topic, partition: 0 };
    let mut reader = Reader::new(&kafka, Isolation::ReadCommitted).unwrap();
    reader.assign(&[(partition.clone(), 0)]).unwrap();
    let error = (0..50).find_map(|_| reader.poll(10, Duration::from_millis(200)).err()).unwrap();
    assert!(matches!(&error, KafkaError::Cut { wanted: 0, begin: at, .. } if *at == begin), "{error}");
    reader.assign(&[(partition, begin)]).unwrap();
    let mut read = 0;
    while read < 4000 - begin {
        read += reader.poll(500, PATIENCE).unwrap().len() as i64;
    }
    assert_eq!(read, 4000 - begin);
}

#[test]
fn an_abandoned_transaction_is_aborted_and_its_producer_fenced() {
    let (_broker, kafka, admin, topic) = cluster(Limits::default(), 1);
    let mut config = client::transactional(&kafka, "abandoned");
    config.set("transaction.timeout.ms", "1000").set("message.timeout.ms", "1000");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<(), str>::to(&topic).payload("lost")).unwrap();
    producer.flush(PATIENCE).unwrap();
    assert_eq!(admin.end_offsets(&topic).unwrap(), [0]);
    let ended = (0..100).any(|_| {
        // Between looks at the condition: the broker ends the transaction when its time is up.
        std::thread::sleep(Duration::from_millis(50));
        admin.end_offsets(&topic).unwrap() == [2]
    });
    assert!(ended);
    assert!(producer.commit_transaction(PATIENCE).is_err());
}

#[test]
fn a_dead_members_partitions_go_to_the_living() {
    let (_broker, kafka, _admin, topic) = cluster(Limits::default(), 2);
    let join = |instance: &str| {
        let mut config = client::member(&kafka, Read::Committed, "group", instance);
        config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "300");
        config.set("auto.offset.reset", "earliest");
        let member: BaseConsumer = config.create().unwrap();
        member.subscribe(&[&topic]).unwrap();
        member
    };
    let held = |member: &BaseConsumer| {
        let _message = member.poll(Duration::from_millis(20));
        member.assignment().unwrap().count()
    };
    let (one, two) = (join("one"), join("two"));
    // Both are polled each time: one that came first must answer the rebalance that lets the other in.
    assert!((0..500).any(|_| (held(&one), held(&two)) == (1, 1)));
    // Static members do not leave when they stop: only the session's end tells.
    drop(two);
    assert!((0..1000).any(|_| held(&one) == 2));
}

#[test]
fn an_idle_fetch_waits_and_data_wakes_it() {
    let (_broker, kafka, _admin, topic) = cluster(Limits::default(), 1);
    let mut reader = Reader::new(&kafka, Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition { topic: Arc::clone(&topic), partition: 0 }, 0)]).unwrap();
    assert!(reader.poll(1, Duration::from_millis(300)).unwrap().is_empty());
    let sender = Sender::new(&kafka).unwrap();
    let record =
        OutRecord { topic, partition: Some(0), key: None, value: Some("x".into()), headers: Vec::new() };
    sender.send(&record).unwrap();
    assert_eq!(reader.poll(1, PATIENCE).unwrap().len(), 1);
}
