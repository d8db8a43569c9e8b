//! The service on a broker: what a transactional service writes becomes a table, up to the end
//! that the broker names, over a restart.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Things, expected, folder, places};
use lake::{Config, Status, Table, TableSpec};
use runtime::config::{Delivery, Kafka, Service};
use runtime::kafka::{Admin, Isolation, Reader, Sender, TopicSpec};
use runtime::processor::{
    Input, OutRecord, Outputs, Processor, ProcessorFactory, StepError, TopicPartition, UnitId,
};
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use runtime::worker::{self, Settings};
use schemas::duration::Millis;

const WAIT: Duration = Duration::from_mins(1);
const PARTITIONS: i32 = 3;

/// Copies records to the same partition of another topic.
struct Copy {
    from: Arc<str>,
    to: Arc<str>,
}

struct Copier(Arc<str>);

impl Processor for Copier {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        if let Input::Records { records, .. } = input {
            out.records.extend(records.iter().map(|record| OutRecord {
                topic: Arc::clone(&self.0),
                partition: Some(record.record.partition),
                key: None,
                value: record.record.value.clone(),
                headers: Vec::new(),
            }));
        }
        Ok(())
    }
}

impl ProcessorFactory for Copy {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.from)]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.to)]
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn create(&self, _: UnitId, _: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Copier(Arc::clone(&self.to))))
    }
}

fn service() -> Service {
    Service {
        instance: "lake-test".to_owned(),
        workers: 1,
        delivery: Delivery::ExactlyOnce,
        commit_interval: Millis(20),
        idle_commit: true,
        batch_records: 50,
        snapshot_interval: Millis(60_000),
        snapshots_kept: 1,
        standbys: 0,
        state_memory: -1,
        spill_folder: String::new(),
        stop_timeout: Millis(10_000),
    }
}

/// Sends that many things to each partition of the raw topic.
fn send(kafka: &Kafka, topic: &Arc<str>, things: std::ops::Range<i64>) {
    let sender = Sender::new(kafka).unwrap();
    for thing in things {
        for partition in 0..PARTITIONS {
            let value = format!("p{partition}t{thing},{}", common::day(thing)).into_bytes();
            let record = OutRecord {
                topic: Arc::clone(topic),
                partition: Some(partition),
                key: None,
                value: Some(value.into()),
                headers: Vec::new(),
            };
            sender.send(&record).unwrap();
        }
    }
    sender.flush(WAIT).unwrap();
}

fn becomes_a_table(kafka: &Kafka) {
    let (raw, things): (Arc<str>, Arc<str>) =
        (format!("{}raw", kafka.prefix).into(), format!("{}things", kafka.prefix).into());
    let spec = |name: &Arc<str>| TopicSpec {
        name: Arc::clone(name),
        partitions: PARTITIONS,
        replication_factor: 1,
        config: Vec::new(),
    };
    let admin = Admin::new(kafka).unwrap();
    admin.create_topics(&[spec(&raw), spec(&things)]).unwrap();
    let (_folder, root) = folder();
    let store = Store::open(&root).unwrap();
    let settings = Settings { kafka: kafka.clone(), service: service(), store: store.clone() };
    let copying = Shutdown::new();
    let copier = {
        let (copying, factory) = (copying.clone(), Copy { from: Arc::clone(&raw), to: Arc::clone(&things) });
        std::thread::spawn(move || {
            worker::run("copy", Arc::new(factory), &settings, copying).map_err(|error| error.to_string())
        })
    };

    for round in 0..2_i64 {
        let (shutdown, status) = (Shutdown::new(), Status::new());
        let lake = {
            let (kafka, store, things) = (kafka.clone(), store.clone(), Arc::clone(&things));
            let (shutdown, status) = (shutdown.clone(), status.clone());
            std::thread::spawn(move || {
                let spec = TableSpec {
                    table: "things".to_owned(),
                    topic: things,
                    encoder: Box::new(|| Ok(Things::boxed())),
                    clustered_by: &[],
                };
                let config = Config {
                    commit_interval: Millis(100),
                    idle_commit_interval: Millis(300),
                    ..Config::default()
                };
                lake::run(vec![spec], &kafka, &store, &config, &status, &shutdown)
            })
        };
        send(kafka, &raw, round * 500..(round + 1) * 500);
        let rows = (round + 1) as u64 * 500 * PARTITIONS as u64;
        assert!(status.wait(WAIT, |tables| tables.get("things").is_some_and(|table| table.rows == rows)));
        // The ends lie behind the last transactions' marks, and the table gets there too.
        let reader = Reader::new(kafka, Isolation::ReadCommitted).unwrap();
        let ends: Vec<(i32, i64)> = (0..).zip(reader.end_offsets(&things).unwrap()).collect();
        assert!(status.wait_reached("things", &ends, WAIT), "{:?} {ends:?}", status.tables());
        shutdown.set();
        lake.join().unwrap().unwrap();
    }
    copying.set();
    copier.join().unwrap().unwrap();

    lake::blocking::block_on(async {
        let table = Table::open(&root, "things").await?;
        // Offsets have gaps (the marks); what is in the values has none.
        assert_eq!(places(&table).await.len(), expected(0..PARTITIONS, 0..1_000).len());
        let columns = Some(vec!["thing_id".to_owned()]);
        let batches = common::read(&table, &lake::ScanOptions { columns, ..Default::default() }).await;
        let mut ids: Vec<String> = batches
            .iter()
            .flat_map(|batch| {
                let ids = arrow::array::cast::AsArray::as_string::<i32>(batch.column(0));
                ids.iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
            })
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 3_000);
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_topic_on_the_embedded_broker_becomes_a_table() {
    let broker = runtime::embedded::spawn().unwrap();
    becomes_a_table(&Kafka::at(broker.bootstrap()));
}

#[test]
fn a_topic_on_apache_kafka_becomes_a_table() {
    let Ok(bootstrap) = std::env::var("SALIENCE_KAFKA_BOOTSTRAP") else {
        assert!(
            std::env::var("SALIENCE_REQUIRE_KAFKA").is_err(),
            "SALIENCE_REQUIRE_KAFKA is set and SALIENCE_KAFKA_BOOTSTRAP is not"
        );
        println!("skipped: SALIENCE_KAFKA_BOOTSTRAP is not set");
        return;
    };
    let mut kafka = Kafka::at(bootstrap);
    kafka.prefix = format!("t{}.", uuid::Uuid::new_v4().simple());
    becomes_a_table(&kafka);
    let own = [format!("{}raw", kafka.prefix), format!("{}things", kafka.prefix)];
    Admin::new(&kafka).unwrap().delete_topics(&[&own[0], &own[1]]).unwrap();
}
