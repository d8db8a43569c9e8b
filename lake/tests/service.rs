//! The service over a topic in memory: restarts, rivals, marks of transactions, bad records.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use common::{Things, day, expected, folder, places, record};
use lake::{Config, Error, OnGap, Source, SourceError, Status, Table, TableSpec, app_id, run_on};
use runtime::processor::{InRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use schemas::DecodeError;
use schemas::duration::Millis;
use schemas::table::{RowEncoder, TopicRecord};

const WAIT: Duration = Duration::from_secs(30);

/// A topic in memory: `None` is an offset that no reader sees (the mark of a transaction).
#[derive(Clone, Default)]
struct Topic {
    partitions: Arc<Mutex<Vec<Vec<Option<TopicRecord>>>>>,
    begin: i64,
}

impl Topic {
    fn new(partitions: usize) -> Self {
        Self { partitions: Arc::new(Mutex::new(vec![Vec::new(); partitions])), begin: 0 }
    }

    fn send(&self, partition: usize, text: &str) {
        let mut all = self.partitions.lock().unwrap();
        let offset = all[partition].len() as i64;
        all[partition].push(Some(record(partition as i32, offset, text)));
    }

    fn thing(&self, partition: usize) {
        let offset = self.end(partition);
        self.send(partition, &format!("t,{}", day(offset)));
    }

    fn mark(&self, partition: usize) {
        self.partitions.lock().unwrap()[partition].push(None);
    }

    fn end(&self, partition: usize) -> i64 {
        self.partitions.lock().unwrap()[partition].len() as i64
    }

    fn source(&self) -> Reader {
        Reader { topic: self.clone(), at: BTreeMap::new() }
    }
}

struct Reader {
    topic: Topic,
    at: BTreeMap<i32, i64>,
}

impl Source for Reader {
    fn ranges(&mut self, _: &str) -> Result<Option<Vec<(i64, i64)>>, SourceError> {
        let all = self.topic.partitions.lock().unwrap();
        Ok(Some(all.iter().map(|records| (self.topic.begin, records.len() as i64)).collect()))
    }

    fn assign(&mut self, starts: &[(TopicPartition, i64)]) -> Result<(), SourceError> {
        self.at = starts.iter().map(|(partition, offset)| (partition.partition, *offset)).collect();
        Ok(())
    }

    fn poll(&mut self, max: usize, _: Duration) -> Result<Vec<InRecord>, SourceError> {
        let mut records = Vec::new();
        let all = self.topic.partitions.lock().unwrap();
        for (partition, at) in &mut self.at {
            while records.len() < max && *at < all[*partition as usize].len() as i64 {
                if let Some(record) = all[*partition as usize][*at as usize].clone() {
                    records.push(InRecord { topic: common::TOPIC.into(), record });
                }
                *at += 1;
            }
        }
        drop(all);
        if records.is_empty() {
            // A consumer waits for records; this one must not spin.
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(records)
    }

    fn passed(&self) -> Vec<(TopicPartition, i64)> {
        let one = |(partition, at): (&i32, &i64)| {
            (TopicPartition { topic: common::TOPIC.into(), partition: *partition }, *at)
        };
        self.at.iter().map(one).collect()
    }
}

fn fast() -> Config {
    Config {
        commit_interval: Millis(10),
        idle_commit_interval: Millis(20),
        checkpoint_every: 5,
        compact_min_files: 6,
        zstd_level: 1,
        ..Config::default()
    }
}

fn spec(table: &str) -> TableSpec {
    TableSpec {
        table: table.to_owned(),
        topic: common::TOPIC.into(),
        encoder: Box::new(|| Ok(Things::boxed())),
        clustered_by: &[],
    }
}

/// Runs the service on a thread of its own; gives its end.
struct Running {
    shutdown: Shutdown,
    status: Status,
    thread: std::thread::JoinHandle<lake::Result<()>>,
}

fn start(topic: &Topic, root: &str, config: Config) -> Running {
    start_with(spec("things"), topic, root, config)
}

fn start_with(spec: TableSpec, topic: &Topic, root: &str, config: Config) -> Running {
    let (shutdown, status) = (Shutdown::new(), Status::new());
    let (topic, root) = (topic.clone(), root.to_owned());
    let (stop, told) = (shutdown.clone(), status.clone());
    let thread = std::thread::spawn(move || {
        let open = |_: &str| Ok(topic.source());
        run_on(vec![spec], open, &root, &config, &told, &stop)
    });
    Running { shutdown, status, thread }
}

impl Running {
    fn stop(self) -> lake::Result<()> {
        self.shutdown.set();
        self.thread.join().unwrap()
    }
}

fn stored(root: &str) -> Vec<(i32, i64)> {
    lake::blocking::block_on(async {
        let table = Table::open(root, "things").await?;
        Ok(places(&table).await)
    })
    .unwrap()
}

#[test]
fn a_topic_becomes_a_table_over_restarts() {
    let (_folder, root) = folder();
    let topic = Topic::new(3);
    for round in 1..=4_i64 {
        let running = start(&topic, &root, fast());
        for _ in 0..40 {
            for partition in 0..3 {
                topic.thing(partition);
            }
            // Spread over several commits; nothing is expected of how many.
            std::thread::sleep(Duration::from_millis(2));
        }
        if round % 2 == 0 {
            let wanted: Vec<_> = (0..3).map(|partition| (partition, topic.end(partition as usize))).collect();
            assert!(running.status.wait_reached("things", &wanted, WAIT));
        }
        running.stop().unwrap();
    }
    let running = start(&topic, &root, fast());
    assert!(running.status.wait_reached("things", &[(0, 160), (1, 160), (2, 160)], WAIT));
    let status = running.status.table("things").unwrap();
    assert_eq!(status.rows, 480);
    running.stop().unwrap();
    assert_eq!(stored(&root), expected(0..3, 0..160));
}

#[test]
fn records_of_another_schema_give_the_table_its_columns() {
    let (_folder, root) = folder();
    let topic = Topic::new(2);
    for partition in [0, 1] {
        topic.thing(partition);
        topic.send(partition, "#wide,20000");
        topic.thing(partition);
    }
    let made = Arc::new(AtomicUsize::new(0));
    let running = {
        let made = Arc::clone(&made);
        let encoder: lake::MakeEncoder = Box::new(move || {
            let is_first = made.fetch_add(1, Ordering::SeqCst) == 0;
            Ok(Box::new(if is_first { Things::new() } else { Things::wide() }))
        });
        start_with(TableSpec { encoder, ..spec("things") }, &topic, &root, fast())
    };
    assert!(running.status.wait_reached("things", &[(0, 3), (1, 3)], WAIT));
    running.stop().unwrap();
    assert_eq!(made.load(Ordering::SeqCst), 2);
    assert_eq!(stored(&root), expected(0..2, 0..3));
    let table = lake::blocking::block_on(Table::open(&root, "things")).unwrap();
    assert!(table.schema().field_with_name("more").is_ok());
}

#[test]
fn records_of_a_schema_that_nobody_knows_stop_the_table() {
    let (_folder, root) = folder();
    let topic = Topic::new(1);
    topic.thing(0);
    topic.send(0, "#wide,20000");
    let failed = start(&topic, &root, fast()).thread.join().unwrap().unwrap_err();
    assert!(matches!(failed, Error::Record { offset: 1, .. }), "{failed}");
    assert_eq!(stored(&root), [(0, 0)]);
    let encoder: lake::MakeEncoder = Box::new(|| Err("the store is away".into()));
    let spec = TableSpec { encoder, ..spec("things") };
    let failed = start_with(spec, &topic, &root, fast()).thread.join().unwrap().unwrap_err();
    assert!(failed.to_string().contains("things") && failed.to_string().contains("away"), "{failed}");
}

#[test]
fn a_store_that_is_away_at_the_start_is_waited_for() {
    let (folder, root) = folder();
    let topic = Topic::new(1);
    topic.thing(0);
    // A file where the tables' folder belongs: nothing below it can be opened or made.
    let tables = folder.path().join("tables");
    std::fs::write(&tables, "").unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let encoder: lake::MakeEncoder = Box::new({
        let tries = Arc::clone(&tries);
        move || {
            tries.fetch_add(1, Ordering::SeqCst);
            Ok(Things::boxed())
        }
    });
    let running = start_with(TableSpec { encoder, ..spec("things") }, &topic, &root, fast());
    while tries.load(Ordering::SeqCst) < 3 {
        assert!(!running.thread.is_finished(), "{:?}", running.thread.join());
        // Between two looks at what another thread counts.
        std::thread::sleep(Duration::from_millis(2));
    }
    std::fs::remove_file(&tables).unwrap();
    assert!(running.status.wait_reached("things", &[(0, 1)], WAIT));
    running.stop().unwrap();
    assert_eq!(stored(&root), [(0, 0)]);
}

/// Things, and how many records have been read.
struct Counted(Things, Arc<AtomicUsize>);

impl RowEncoder for Counted {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn append(&mut self, record: &TopicRecord) -> Result<bool, DecodeError> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.append(record)
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn finish(&mut self) -> RecordBatch {
        self.0.finish()
    }
}

#[test]
fn a_service_that_is_told_to_stop_while_the_store_is_away_stops_in_peace() {
    let (folder, root) = folder();
    let topic = Topic::new(1);
    topic.thing(0);
    let read = Arc::new(AtomicUsize::new(0));
    let encoder: lake::MakeEncoder = Box::new({
        let read = Arc::clone(&read);
        move || Ok(Box::new(Counted(Things::new(), Arc::clone(&read))))
    });
    let running = start_with(TableSpec { encoder, ..spec("things") }, &topic, &root, fast());
    assert!(running.status.wait_reached("things", &[(0, 1)], WAIT));
    let (tables, aside) = (folder.path().join("tables"), folder.path().join("aside"));
    std::fs::rename(&tables, &aside).unwrap();
    std::fs::write(&tables, "").unwrap();
    topic.thing(0);
    while read.load(Ordering::SeqCst) < 2 {
        assert!(!running.thread.is_finished(), "{:?}", running.thread.join());
        // Between two looks at what another thread counts.
        std::thread::sleep(Duration::from_millis(2));
    }
    running.stop().unwrap();
    std::fs::remove_file(&tables).unwrap();
    std::fs::rename(&aside, &tables).unwrap();
    assert_eq!(stored(&root), [(0, 0)]);
    let running = start(&topic, &root, fast());
    assert!(running.status.wait_reached("things", &[(0, 2)], WAIT));
    running.stop().unwrap();
    assert_eq!(stored(&root), [(0, 0), (0, 1)]);
}

#[test]
fn what_is_not_the_tables_moves_its_position_only() {
    let (_folder, root) = folder();
    let topic = Topic::new(1);
    topic.thing(0);
    for _ in 0..5 {
        topic.send(0, "!tick");
    }
    topic.mark(0);
    let running = start(&topic, &root, fast());
    assert!(running.status.wait_reached("things", &[(0, 7)], WAIT));
    running.stop().unwrap();
    let committed = lake::blocking::block_on(async {
        Table::open(&root, "things").await?.committed(&app_id(common::TOPIC, 0)).await
    });
    assert_eq!(committed.unwrap(), Some(7));
    assert_eq!(stored(&root), [(0, 0)]);
}

#[test]
fn two_services_of_one_table_do_not_double_rows() {
    let (_folder, root) = folder();
    let topic = Topic::new(2);
    let (a, b) = (start(&topic, &root, fast()), start(&topic, &root, fast()));
    for _ in 0..100 {
        topic.thing(0);
        topic.thing(1);
        // Spread, so that both services commit in turn; the outcome may not depend on it.
        std::thread::sleep(Duration::from_millis(1));
    }
    for running in [&a, &b] {
        assert!(running.status.wait_reached("things", &[(0, 100), (1, 100)], WAIT));
    }
    a.stop().unwrap();
    b.stop().unwrap();
    assert_eq!(stored(&root), expected(0..2, 0..100));
}

#[test]
fn a_record_that_cannot_be_read_stops_the_table_and_is_named() {
    let (_folder, root) = folder();
    let topic = Topic::new(1);
    topic.thing(0);
    topic.thing(0);
    topic.send(0, "?");
    topic.thing(0);
    let running = start(&topic, &root, fast());
    let failed = running.thread.join().unwrap().unwrap_err();
    assert!(matches!(failed, Error::Record { partition: 0, offset: 2, .. }), "{failed}");
    assert!(failed.to_string().contains("shop-things[0] offset 2"), "{failed}");
    assert_eq!(stored(&root), [(0, 0), (0, 1)]);
}

#[test]
fn a_topic_that_is_another_one_is_refused() {
    let (_folder, root) = folder();
    let topic = Topic::new(1);
    for _ in 0..10 {
        topic.thing(0);
    }
    let running = start(&topic, &root, fast());
    assert!(running.status.wait_reached("things", &[(0, 10)], WAIT));
    running.stop().unwrap();

    let anew = Topic::new(1);
    anew.thing(0);
    let failed = start(&anew, &root, fast()).thread.join().unwrap().unwrap_err();
    assert!(failed.to_string().contains("deleted and made anew"), "{failed}");

    let cut = Topic { begin: 15, ..Topic::new(1) };
    for _ in 0..20 {
        cut.thing(0);
    }
    let failed = start(&cut, &root, fast()).thread.join().unwrap().unwrap_err();
    assert!(failed.to_string().contains("lake.on_gap"), "{failed}");
    let running = start(&cut, &root, Config { on_gap: OnGap::Continue, ..fast() });
    assert!(running.status.wait_reached("things", &[(0, 20)], WAIT));
    running.stop().unwrap();
    assert_eq!(stored(&root).len(), 15);
}

#[test]
fn a_table_that_nobody_knows_is_no_config() {
    let (_folder, root) = folder();
    let config = Config { tables: vec!["thinks".to_owned()], ..fast() };
    let failed = start(&Topic::new(1), &root, config).thread.join().unwrap().unwrap_err();
    assert!(failed.to_string().contains("thinks"), "{failed}");
}
