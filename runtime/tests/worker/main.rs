//! Workers against a broker over TCP: the embedded one, or the cluster that
//! `SALIENCE_KAFKA_BOOTSTRAP` names. A worker is a process of its own where it is killed.
#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![expect(clippy::disallowed_methods, reason = "a test's patience is measured in real time")]

mod chain;
mod copying;
mod counting;
mod members;
mod place;

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chain::chained;
use copying::{CopyingFactory, Seen, check};
use place::{PARTITIONS, PATIENCE, Place, log, settings};
use runtime::config::{Delivery, GroupProtocol, Kafka, Service};
use runtime::kafka::Sender;
use runtime::processor::ProcessorFactory;
use runtime::shutdown::Shutdown;
use runtime::worker::{self, WorkerError};
use schemas::duration::Millis;

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
    let how = std::env::var("TEST_WORKER_HOW").unwrap_or_default();
    if how.contains("at least once") {
        settings.service.delivery = Delivery::AtLeastOnce;
    }
    let factory: Arc<dyn ProcessorFactory> = if how.contains("chained") {
        Arc::new(chained(&kafka.prefix))
    } else {
        Arc::new(CopyingFactory::new(&kafka.prefix))
    };
    worker::run("copy", factory, &settings, Shutdown::new()).unwrap();
}

fn spawn(place: &Place, how: &str) -> Child {
    process(place).env("TEST_WORKER_HOW", how).spawn().unwrap()
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
    let (factory, stop) = (Arc::new(CopyingFactory::new(&place.kafka.prefix)), shutdown.clone());
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
        let mut worker = spawn(&place, "");
        place.feed(&sender, round * each..(round + 1) * each);
        // Not before it has begun, at another moment each time.
        let begun = place.read((round * each) as usize + 1);
        assert!(!begun.is_empty());
        // Another moment each time.
        std::thread::sleep(Duration::from_millis(7 * round));
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let mut worker = spawn(&place, "");
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
        let factory = Arc::new(CopyingFactory::new(&place.kafka.prefix));
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

#[test]
fn at_least_once_copies_everything() {
    let place = Place::new("least");
    place.feed(&Sender::new(&place.kafka).unwrap(), 0..2000);
    let shutdown = Shutdown::new();
    let (mut settings, stop) = (place.settings(), shutdown.clone());
    settings.service.delivery = Delivery::AtLeastOnce;
    settings.service.workers = 1;
    let factory = Arc::new(CopyingFactory::new(&place.kafka.prefix));
    let worker = std::thread::spawn(move || worker::run("copy", factory, &settings, stop));
    // Nothing fails here, so that nothing is repeated either.
    check(&place.read(2000), 500);
    shutdown.set();
    worker.join().unwrap().unwrap();
}

#[test]
fn another_number_of_partitions_stops_the_service() {
    let place = Place::new("counts");
    let store = place.settings().store;
    let path = format!("meta/topics/{}.json", place.topic("out"));
    let record = format!(r#"{{"version":1,"topic":"{}","partitions":7,"id":"0"}}"#, place.topic("out"));
    store.put_blocking(&path, record.into()).unwrap();
    let factory = Arc::new(CopyingFactory::new(&place.kafka.prefix));
    let error = worker::run("copy", factory, &place.settings(), Shutdown::new()).expect_err("it must fail");
    assert!(matches!(error, WorkerError::Topics { .. }), "{error}");
    assert!(error.to_string().contains('7'), "{error}");
}
