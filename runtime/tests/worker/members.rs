//! Instances that come, leave, and have each other's name.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use runtime::config::GroupProtocol;
use runtime::kafka::{Admin, Sender};
use runtime::shutdown::Shutdown;
use runtime::worker::{self, WorkerError};

use crate::copying::{CopyingFactory, Seen, check};
use crate::place::{PARTITIONS, PATIENCE, Place};
use crate::process;

type Running = (Shutdown, JoinHandle<Result<(), WorkerError>>);

/// Runs one worker of an instance until it is told to stop.
fn instance(place: &Place, name: &str) -> Running {
    watched(place, name).0
}

/// The same, and what its folds do.
fn watched(place: &Place, name: &str) -> (Running, Arc<Mutex<Seen>>) {
    let (mut settings, shutdown) = (place.settings(), Shutdown::new());
    name.clone_into(&mut settings.service.instance);
    settings.service.workers = 1;
    let (factory, stop) = (CopyingFactory::new(&place.kafka.prefix), shutdown.clone());
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

#[test]
fn an_instance_that_was_given_nothing_takes_over_from_one_that_leaves() {
    let mut place = Place::new("spare");
    // A member that the group waited for would be waited for longer than this test has patience.
    place.kafka.consumer.insert("session.timeout.ms".to_owned(), "300000".to_owned());
    let sender = Sender::new(&place.kafka).unwrap();
    // As many workers as partitions: the second instance finds nothing left.
    let (mut settings, one) = (place.settings(), Shutdown::new());
    settings.service.workers = PARTITIONS as usize;
    let (factory, stop) = (CopyingFactory::new(&place.kafka.prefix), one.clone());
    let first = std::thread::spawn(move || worker::run("copy", Arc::new(factory), &settings, stop));
    place.feed(&sender, 0..400);
    check(&place.read(400), 100);
    let (two, second) = instance(&place, "two");
    let (admin, group) = (Admin::new(&place.kafka).unwrap(), format!("{}salience-copy", place.kafka.prefix));
    let began = Instant::now();
    while admin.members(&group).unwrap().map(|members| members.len()) != Some(PARTITIONS as usize + 1) {
        assert!(began.elapsed() < PATIENCE, "the second instance is in no group at rest");
        // A group tells only its members that it has come to rest.
        std::thread::sleep(Duration::from_millis(50));
    }
    one.drain();
    first.join().unwrap().unwrap();
    place.feed(&sender, 400..800);
    check(&place.read(800), 200);
    two.set();
    second.join().unwrap().unwrap();
}

#[test]
fn of_two_workers_of_the_same_name_one_stops_and_says_why() {
    let place = Place::new("twice");
    let sender = Sender::new(&place.kafka).unwrap();
    let start = |shutdown: &Shutdown| {
        let (settings, stop) = (place.settings(), shutdown.clone());
        let factory = Arc::new(CopyingFactory::new(&place.kafka.prefix));
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
        // A pace at which each has something to commit, and their records stay countable.
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
fn a_worker_that_is_told_once_that_it_was_replaced_joins_again() {
    let place = Place::new("told-once");
    let sender = Sender::new(&place.kafka).unwrap();
    let (shutdown, worker) = instance(&place, "one");
    place.feed(&sender, 0..400);
    check(&place.read(400), 100);
    // What a worker sees whose own request to join was answered, and the answer lost: its name has another member.
    let group = format!("{}salience-copy", place.kafka.prefix);
    let other: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &place.kafka.bootstrap)
        .set("group.id", &group)
        .set("group.instance.id", format!("{group}-one-0"))
        .set("partition.assignment.strategy", "range")
        .create()
        .unwrap();
    other.subscribe(&[&place.topic("in")]).unwrap();
    let begun = Instant::now();
    while other.assignment().unwrap().count() == 0 {
        assert!(begun.elapsed() < PATIENCE, "the group takes nobody in under the worker's name");
        other.poll(Duration::from_millis(50));
    }
    // It has a name: its membership stays when it goes.
    drop(other);
    place.feed(&sender, 400..800);
    check(&place.read(800), 200);
    assert!(!worker.is_finished(), "it has given up");
    shutdown.set();
    worker.join().unwrap().unwrap();
}
