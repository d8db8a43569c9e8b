//! Workers against a broker over TCP: the embedded one, or the cluster that
//! `SALIENCE_KAFKA_BOOTSTRAP` names. A worker is a process of its own where it is killed.
#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![expect(clippy::disallowed_methods, reason = "a test's patience is measured in real time")]

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use runtime::config::{Delivery, GroupProtocol, Kafka, Service};
use runtime::embedded::{self, Broker};
use runtime::kafka::{Admin, Isolation, Reader, Sender, TopicSpec};
use runtime::processor::{
    Input, OutRecord, Outputs, Position, Positions, Processor, ProcessorFactory, StepError, TopicPartition,
    UnitId,
};
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use runtime::worker::{self, Settings, WorkerError};
use schemas::duration::Millis;

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(90);

/// Copies, and numbers what it copies: a record folded twice or missed shows in all that follow.
struct Copying {
    output: Arc<str>,
    count: u64,
    seen: Arc<Mutex<Seen>>,
}

/// What the folds of this process have done.
#[derive(Default)]
struct Seen {
    /// How many were made.
    made: u64,
    /// Records folded of each partition, by the fold that has come farthest.
    folded: BTreeMap<i32, u64>,
}

impl Processor for Copying {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        for record in records {
            self.count += 1;
            let mut seen = self.seen.lock().unwrap();
            let folded = seen.folded.entry(record.record.partition).or_default();
            *folded = self.count.max(*folded);
            let value =
                String::from_utf8_lossy(record.record.value.as_deref().unwrap_or_default()).into_owned();
            out.records.push(OutRecord {
                topic: Arc::clone(&self.output),
                partition: Some(record.record.partition),
                key: record.record.key.clone(),
                value: Some(format!("{} {value}", self.count).into()),
                headers: vec![("offset".to_owned(), Some(record.record.offset.to_string().into()))],
            });
        }
        Ok(())
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        Some(self.count.to_le_bytes().to_vec())
    }
}

struct CopyingFactory {
    prefix: String,
    seen: Arc<Mutex<Seen>>,
}

impl CopyingFactory {
    fn new(kafka: &Kafka) -> Self {
        Self { prefix: kafka.prefix.clone(), seen: Arc::default() }
    }
}

impl ProcessorFactory for CopyingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}in", self.prefix).into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}out", self.prefix).into()]
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        Some(1)
    }

    fn create(&self, _unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let count = match snapshot {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().map_err(StepError::new)?),
            None => 0,
        };
        self.seen.lock().unwrap().made += 1;
        let (output, seen) = (format!("{}out", self.prefix).into(), Arc::clone(&self.seen));
        Ok(Box::new(Copying { output, count, seen }))
    }
}

/// Where a test runs: its broker, its names, its folder.
struct Place {
    /// None where a cluster is given.
    broker: Option<Broker>,
    kafka: Kafka,
    folder: tempfile::TempDir,
}

impl Place {
    fn new(name: &str) -> Self {
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
        Admin::new(&place.kafka).unwrap().create_topics(&[spec("in"), spec("out")]).unwrap();
        place
    }

    fn topic(&self, name: &str) -> Arc<str> {
        format!("{}{name}", self.kafka.prefix).into()
    }

    fn settings(&self) -> Settings {
        settings(&self.kafka, self.folder.path().to_str().unwrap())
    }

    fn feed(&self, sender: &Sender, range: std::ops::Range<u64>) {
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

    /// Reads the output until it holds `count` records or nothing comes any more.
    fn read(&self, count: usize) -> BTreeMap<i32, Vec<String>> {
        let mut reader = Reader::new(&self.kafka, Isolation::ReadCommitted).unwrap();
        let all: Vec<_> = (0..PARTITIONS)
            .map(|partition| (TopicPartition { topic: self.topic("out"), partition }, 0))
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
fn log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already = log.try_init();
}

fn settings(kafka: &Kafka, folder: &str) -> Settings {
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

/// The `n`-th record of a partition, numbered.
fn expected(partition: i32, per_partition: u64) -> Vec<String> {
    (0..per_partition).map(|n| format!("{} {}", n + 1, n * PARTITIONS as u64 + partition as u64)).collect()
}

fn check(found: &BTreeMap<i32, Vec<String>>, per_partition: u64) {
    for partition in 0..PARTITIONS {
        let expected = expected(partition, per_partition);
        let found = &found[&partition];
        let differs = expected.iter().zip(found).position(|(expected, found)| expected != found);
        assert_eq!((differs, found.len()), (None, expected.len()), "partition {partition}");
    }
}

/// The process that is killed; does nothing unless told where to work.
#[test]
fn killed() {
    let Ok(bootstrap) = std::env::var("TEST_WORKER_BOOTSTRAP") else { return };
    log();
    let mut kafka = Kafka::at(bootstrap);
    kafka.prefix = std::env::var("TEST_WORKER_PREFIX").unwrap();
    if std::env::var_os("TEST_WORKER_CONSUMER").is_some() {
        kafka.group_protocol = GroupProtocol::Consumer;
    }
    let mut settings = settings(&kafka, &std::env::var("TEST_WORKER_FOLDER").unwrap());
    if let Ok(instance) = std::env::var("TEST_WORKER_INSTANCE") {
        settings.service = alone(settings.service, &instance);
        settings.kafka.consumer.insert("session.timeout.ms".to_owned(), SHORT_SESSION.to_owned());
    }
    let factory = CopyingFactory::new(&kafka);
    worker::run("copy", Arc::new(factory), &settings, Shutdown::new()).unwrap();
}

fn spawn(place: &Place) -> Child {
    process(place).spawn().unwrap()
}

fn process(place: &Place) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "killed", "--nocapture"])
        .env("TEST_WORKER_BOOTSTRAP", &place.kafka.bootstrap)
        .env("TEST_WORKER_PREFIX", &place.kafka.prefix)
        .env("TEST_WORKER_FOLDER", place.folder.path())
        .stdout(Stdio::null());
    command
}

/// As short as brokers take it by default.
const SHORT_SESSION: &str = "6000";

/// An instance of one worker that saves no snapshot in the time of a test, and follows what it does not own.
fn alone(service: Service, instance: &str) -> Service {
    let (instance, snapshot_interval) = (instance.to_owned(), Millis(3_600_000));
    Service { instance, workers: 1, standbys: 1, snapshot_interval, ..service }
}

/// Waits until the folds of this process have come to so many records of each partition.
fn wait_until_folded(seen: &Mutex<Seen>, records: u64) {
    let began = Instant::now();
    while (0..PARTITIONS).any(|of| seen.lock().unwrap().folded.get(&of) != Some(&records)) {
        assert!(began.elapsed() < PATIENCE, "{:?}", seen.lock().unwrap().folded);
        // A fold tells nobody how far it is.
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_standby_takes_the_place_of_an_owner_that_is_killed() {
    let mut place = Place::new("standby");
    place.kafka.consumer.insert("session.timeout.ms".to_owned(), SHORT_SESSION.to_owned());
    let sender = Sender::new(&place.kafka).unwrap();
    let mut owner = process(&place).env("TEST_WORKER_INSTANCE", "a").spawn().unwrap();
    place.feed(&sender, 0..4_000);
    place.read(4_000);

    let (mut settings, shutdown) = (place.settings(), Shutdown::new());
    settings.service = alone(settings.service, "b");
    let (factory, stop) = (Arc::new(CopyingFactory::new(&place.kafka)), shutdown.clone());
    let seen = Arc::clone(&factory.seen);
    let follower = std::thread::spawn(move || worker::run("copy", factory, &settings, stop));
    // It owns some of the partitions, and follows the others.
    wait_until_folded(&seen, 1_000);
    place.feed(&sender, 4_000..8_000);
    wait_until_folded(&seen, 2_000);
    place.read(8_000);
    let made = seen.lock().unwrap().made;

    place.feed(&sender, 8_000..10_000);
    owner.kill().unwrap();
    owner.wait().unwrap();
    place.feed(&sender, 10_000..12_000);
    check(&place.read(12_000), 3_000);
    assert_eq!(seen.lock().unwrap().made, made, "no state was restored: it was there");
    shutdown.set();
    follower.join().unwrap().unwrap();
}

#[test]
fn workers_that_are_killed_again_and_again_copy_each_record_exactly_once() {
    let place = Place::new("killed");
    let sender = Sender::new(&place.kafka).unwrap();
    let kills = 4;
    let each = 10_000_u64;
    for round in 0..kills {
        let mut worker = spawn(&place);
        place.feed(&sender, round * each..(round + 1) * each);
        // Not before it has begun, at another moment each time.
        let begun = place.read((round * each) as usize + 1);
        assert!(!begun.is_empty());
        std::thread::sleep(Duration::from_millis(7 * round));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let mut worker = spawn(&place);
    let found = place.read((kills * each) as usize);
    worker.kill().unwrap();
    worker.wait().unwrap();
    check(&found, kills * each / PARTITIONS as u64);
}

#[test]
fn a_worker_that_is_stopped_commits_saves_and_is_followed_by_another() {
    let place = Place::new("stopped");
    let sender = Sender::new(&place.kafka).unwrap();
    for round in 0..2_u64 {
        let shutdown = Shutdown::new();
        let (settings, stop) = (place.settings(), shutdown.clone());
        let factory = Arc::new(CopyingFactory::new(&place.kafka));
        let worker = std::thread::spawn(move || worker::run("copy", factory, &settings, stop));
        place.feed(&sender, round * 1000..(round + 1) * 1000);
        let found = place.read((round as usize + 1) * 1000);
        check(&found, (round + 1) * 250);
        shutdown.set();
        worker.join().unwrap().unwrap();
    }
    let store = place.settings().store;
    let snapshots = store.list_blocking("snapshots/copy/0").unwrap();
    assert!(snapshots.iter().any(|path| path.ends_with("00000000000000000500.snap")), "{snapshots:?}");
}

type Running = (Shutdown, std::thread::JoinHandle<Result<(), WorkerError>>);

/// Runs one worker of an instance until it is told to stop.
fn instance(place: &Place, name: &str) -> Running {
    watched(place, name).0
}

/// The same, and what its folds do.
fn watched(place: &Place, name: &str) -> (Running, Arc<Mutex<Seen>>) {
    let (mut settings, shutdown) = (place.settings(), Shutdown::new());
    name.clone_into(&mut settings.service.instance);
    settings.service.workers = 1;
    let (factory, stop) = (CopyingFactory::new(&place.kafka), shutdown.clone());
    let seen = Arc::clone(&factory.seen);
    let worker = std::thread::spawn(move || worker::run("copy", Arc::new(factory), &settings, stop));
    ((shutdown, worker), seen)
}

#[test]
fn with_kip_848_partitions_move_one_by_one_and_a_planned_restart_moves_nothing() {
    let mut place = Place::new("kip-848");
    place.kafka.group_protocol = GroupProtocol::Consumer;
    let sender = Sender::new(&place.kafka).unwrap();
    let (one, first) = instance(&place, "one");
    if place.broker.is_some() {
        let error = first.join().unwrap().expect_err("the embedded broker does not speak it");
        assert!(error.to_string().contains("kafka.group_protocol"), "{error}");
        return;
    }
    let each = 4 * PARTITIONS as u64;
    let mut fed = 0;
    let mut feed_some = || {
        place.feed(&sender, fed..fed + each);
        fed += each;
        check(&place.read(fed as usize), fed / PARTITIONS as u64);
        fed
    };
    feed_some();
    let ((two, second), seen) = watched(&place, "two");
    while seen.lock().unwrap().folded.len() < 2 {
        assert!(feed_some() < 1_000 * each, "the second instance is given nothing");
    }
    let moved: Vec<i32> = seen.lock().unwrap().folded.keys().copied().collect();
    assert_eq!(moved, [2, 3], "half of them, and with the range assignor the last");
    one.set();
    first.join().unwrap().unwrap();
    let ((one, first), again) = watched(&place, "one");
    feed_some();
    assert_eq!(again.lock().unwrap().folded.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(seen.lock().unwrap().folded.len(), 2, "what it had waited for it");
    for (shutdown, worker) in [(one, first), (two, second)] {
        shutdown.set();
        worker.join().unwrap().unwrap();
    }
}

#[test]
fn with_kip_848_a_worker_waits_for_the_session_of_a_predecessor_that_was_killed() {
    let place = Place::new("kip-848-killed");
    if place.broker.is_some() {
        // It does not speak it, which the test above has seen it say.
        return;
    }
    let sender = Sender::new(&place.kafka).unwrap();
    let start = || process(&place).env("TEST_WORKER_CONSUMER", "").spawn().unwrap();
    let mut worker = start();
    place.feed(&sender, 0..400);
    place.read(400);
    worker.kill().unwrap();
    worker.wait().unwrap();
    let mut worker = start();
    place.feed(&sender, 400..800);
    check(&place.read(800), 200);
    worker.kill().unwrap();
    worker.wait().unwrap();
}

#[test]
fn who_stops_for_good_leaves_its_partitions_to_the_others_at_once() {
    let mut place = Place::new("drained");
    // A member that only stopped would be waited for longer than this test has patience.
    place.kafka.consumer.insert("session.timeout.ms".to_owned(), "300000".to_owned());
    let sender = Sender::new(&place.kafka).unwrap();
    let (one, first) = instance(&place, "one");
    place.feed(&sender, 0..400);
    place.read(400);
    let (two, second) = instance(&place, "two");
    place.feed(&sender, 400..800);
    place.read(800);
    one.drain();
    first.join().unwrap().unwrap();
    place.feed(&sender, 800..1_200);
    check(&place.read(1_200), 300);
    // A restart, in contrast, finds its membership as it was.
    two.set();
    second.join().unwrap().unwrap();
    let (two, second) = instance(&place, "two");
    place.feed(&sender, 1_200..1_600);
    check(&place.read(1_600), 400);
    two.set();
    second.join().unwrap().unwrap();
}

/// Counts the drained polls in which all of its partitions were at their end.
struct Counting {
    output: Arc<str>,
    positions: Vec<Position>,
    drained: u64,
}

impl Processor for Counting {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        match input {
            Input::Assigned { positions, .. } => self.positions = positions.to_vec(),
            Input::Records { records, .. } => {
                for record in records {
                    let of = record.topic_partition();
                    let position = self.positions.iter_mut().find(|position| position.partition == of);
                    position.ok_or_else(|| StepError::new("not assigned"))?.offset = record.record.offset + 1;
                }
                self.drained = 0;
            }
            Input::Drained { at_end, .. } if at_end.len() == self.positions.len() => {
                self.drained += 1;
                if self.drained == 5 {
                    for position in &mut self.positions {
                        position.metadata = format!("idle at {}", position.offset);
                    }
                    let line = |position: &Position| OutRecord {
                        topic: Arc::clone(&self.output),
                        partition: Some(position.partition.partition),
                        key: None,
                        value: Some(position.metadata.clone().into()),
                        headers: Vec::new(),
                    };
                    out.records.extend(self.positions.iter().map(line));
                }
            }
            Input::Drained { .. } => {}
        }
        out.positions.clone_from(&self.positions);
        Ok(())
    }
}

struct CountingFactory {
    prefix: String,
}

impl ProcessorFactory for CountingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}in", self.prefix).into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![format!("{}out", self.prefix).into()]
    }

    fn unit(&self, _partition: &TopicPartition) -> UnitId {
        UnitId(0)
    }

    fn positions(&self) -> Positions {
        Positions::Reported
    }

    fn create(&self, _unit: UnitId, _snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let output = format!("{}out", self.prefix).into();
        Ok(Box::new(Counting { output, positions: Vec::new(), drained: 0 }))
    }
}

#[test]
fn idle_polls_at_the_end_are_counted_and_metadata_is_committed_beside_the_offsets() {
    let place = Place::new("idle");
    place.feed(&Sender::new(&place.kafka).unwrap(), 0..40);
    let shutdown = Shutdown::new();
    let (mut settings, stop) = (place.settings(), shutdown.clone());
    settings.service.workers = 1;
    let factory = Arc::new(CountingFactory { prefix: place.kafka.prefix.clone() });
    let worker = std::thread::spawn(move || worker::run("count", factory, &settings, stop));
    let found = place.read(PARTITIONS as usize);
    shutdown.set();
    worker.join().unwrap().unwrap();
    assert!(found.values().flatten().all(|line| line == "idle at 10"), "{found:?}");
    let group = format!("{}salience-count", place.kafka.prefix);
    let committed = Admin::new(&place.kafka).unwrap().committed(&group, &place.topic("in")).unwrap();
    assert_eq!(committed, vec![Some((10, "idle at 10".to_owned())); PARTITIONS as usize]);
}

#[test]
fn at_least_once_copies_everything() {
    let place = Place::new("least");
    place.feed(&Sender::new(&place.kafka).unwrap(), 0..2000);
    let shutdown = Shutdown::new();
    let (mut settings, stop) = (place.settings(), shutdown.clone());
    settings.service.delivery = Delivery::AtLeastOnce;
    settings.service.workers = 1;
    let factory = Arc::new(CopyingFactory::new(&place.kafka));
    let worker = std::thread::spawn(move || worker::run("copy", factory, &settings, stop));
    // Nothing fails here, so that nothing is repeated either.
    check(&place.read(2000), 500);
    shutdown.set();
    worker.join().unwrap().unwrap();
}

#[test]
fn of_two_workers_of_the_same_name_one_stops_and_says_why() {
    let place = Place::new("twice");
    let sender = Sender::new(&place.kafka).unwrap();
    let start = |shutdown: &Shutdown| {
        let (settings, stop) = (place.settings(), shutdown.clone());
        let factory = Arc::new(CopyingFactory::new(&place.kafka));
        std::thread::spawn(move || worker::run("copy", factory, &settings, stop))
    };
    let (first, second) = (Shutdown::new(), Shutdown::new());
    let one = start(&first);
    place.feed(&sender, 0..400);
    check(&place.read(400), 100);
    let two = start(&second);
    let begun = Instant::now();
    let mut fed = 400;
    while !one.is_finished() && !two.is_finished() && begun.elapsed() < PATIENCE {
        // They notice when they commit, or when a membership is taken.
        place.feed(&sender, fed..fed + 4);
        fed += 4;
        std::thread::sleep(Duration::from_millis(100));
    }
    let (stopped, goes_on, shutdown) = if one.is_finished() { (one, two, second) } else { (two, one, first) };
    assert!(stopped.is_finished(), "both go on");
    let error = stopped.join().unwrap().expect_err("it must fail");
    assert!(error.to_string().contains("service.instance"), "{error}");
    // Whatever both did meanwhile, each record is copied once.
    place.feed(&sender, fed..fed + 400);
    fed += 400;
    check(&place.read(fed as usize), fed / PARTITIONS as u64);
    shutdown.set();
    goes_on.join().unwrap().unwrap();
}

#[test]
fn another_number_of_partitions_stops_the_service() {
    let place = Place::new("counts");
    let store = place.settings().store;
    let path = format!("meta/topics/{}.json", place.topic("out"));
    let record = format!(r#"{{"version":1,"topic":"{}","partitions":7,"id":"0"}}"#, place.topic("out"));
    store.put_blocking(&path, record.into()).unwrap();
    let factory = Arc::new(CopyingFactory::new(&place.kafka));
    let error = worker::run("copy", factory, &place.settings(), Shutdown::new()).expect_err("it must fail");
    assert!(matches!(error, WorkerError::Topics { .. }), "{error}");
    assert!(error.to_string().contains('7'), "{error}");
}
