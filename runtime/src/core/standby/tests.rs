//! Standbys driven by hand: two partitions, each its own unit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::core::unit::Unit;
use crate::processor::{Input, Outputs, Position, Processor, StepError};

/// What was folded, by partition and offset, in order; and whether a record of value 7 can be.
#[derive(Default)]
struct Noting {
    folded: Arc<Mutex<Vec<(i32, i64)>>>,
    knows: Arc<AtomicBool>,
}

struct Note(Arc<Mutex<Vec<(i32, i64)>>>, Arc<AtomicBool>);

impl Processor for Note {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        for InRecord { record, .. } in records {
            match record.value.as_deref() {
                Some([7]) if !self.1.load(Ordering::SeqCst) => {
                    self.1.store(true, Ordering::SeqCst);
                    out.rebuild = true;
                    return Ok(());
                }
                Some([9]) => return Err(StepError::new("a record that cannot be folded")),
                _ => self.0.lock().unwrap().push((record.partition, record.offset)),
            }
        }
        Ok(())
    }
}

impl ProcessorFactory for Noting {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec!["in".into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        Some(1)
    }

    fn create(&self, _: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        if snapshot == Some(b"unreadable") {
            return Err(StepError::new("unreadable"));
        }
        Ok(Box::new(Note(Arc::clone(&self.folded), Arc::clone(&self.knows))))
    }
}

fn of(partition: i32) -> TopicPartition {
    TopicPartition { topic: "in".into(), partition }
}

fn standing(partition: i32, low: i64, committed: i64, high: i64) -> Standing {
    Standing { partition: of(partition), committed: Some((committed, String::new())), low, high }
}

fn at(steady_ms: u64) -> Clock {
    Clock { wall_ms: 0, steady_ms }
}

fn snapshot(offset: i64, bytes: &[u8]) -> Snapshot {
    let positions = vec![Position { partition: of(0), offset, metadata: String::new() }];
    Snapshot { unit: UnitId(0), fingerprint: 1, positions, base: None, parts: vec![bytes.to_vec()] }
}

fn records(partition: i32, offsets: std::ops::Range<i64>, value: u8) -> Event {
    let record = |offset| InRecord {
        topic: "in".into(),
        record: crate::processor::TopicRecord {
            partition,
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(vec![value].into()),
            headers: Vec::new(),
        },
    };
    Event::Records { records: offsets.map(record).collect(), clock: at(1) }
}

struct Driven {
    standbys: Standbys,
    folded: Arc<Mutex<Vec<(i32, i64)>>>,
}

impl Driven {
    fn new() -> Self {
        let factory = Noting::default();
        let folded = Arc::clone(&factory.folded);
        Self { standbys: Standbys::new(Arc::new(factory), at(0)), folded }
    }

    /// Partition 0 is followed from this snapshot, or from the beginning; `standing` is asked for once.
    fn follow(&mut self, standing: Standing, found: Option<Snapshot>) {
        self.standbys.place([of(0)]);
        assert_eq!(self.standbys.next_command(), Some(Command::Look(vec![of(0)])));
        self.standbys.on(Event::Looked(vec![standing]));
        self.load(found);
    }

    fn load(&mut self, found: Option<Snapshot>) {
        let Some(Command::Load(wanted)) = self.standbys.next_command() else {
            panic!("no snapshot is asked for")
        };
        self.standbys.on(Event::Loaded { unit: wanted.unit, found });
        let job = self.standbys.job().expect("a job");
        // While it is built nothing of it is read.
        if let Some(command) = self.standbys.next_command() {
            assert_eq!(command, Command::Consume(Vec::new()));
            self.standbys.on(Event::Done);
        }
        self.standbys.finished(job.run());
    }

    fn consume(&mut self) -> Vec<(TopicPartition, i64)> {
        let Some(Command::Consume(from)) = self.standbys.next_command() else { panic!("nothing is read") };
        self.standbys.on(Event::Done);
        from
    }

    fn fold(&mut self) -> Vec<(i32, i64)> {
        while self.standbys.fold(3) {}
        std::mem::take(&mut self.folded.lock().unwrap())
    }

    fn resumed(&mut self, standing: Standing) -> Option<Unit> {
        self.standbys.take(0, UnitId(0))?.resume(UnitId(0), &[standing], 0)
    }
}

fn offsets(range: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    range.map(|offset| (0, offset)).collect()
}

#[test]
fn nothing_beyond_what_is_committed_is_folded() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 0, 4, 20), Some(snapshot(2, b"")));
    assert_eq!(driven.consume(), [(of(0), 2)]);
    driven.standbys.on(records(0, 2..20, 0));
    assert_eq!(driven.fold(), offsets(2..4));
    driven.standbys.committed(&[(of(0), 12)]);
    assert_eq!(driven.standbys.lags().collect::<Vec<_>>(), [(&of(0), 8)]);
    assert_eq!(driven.fold(), offsets(4..12));
    let unit = driven.resumed(standing(0, 0, 15, 20)).expect("it stands behind what is committed");
    assert!(unit.is_replaying(), "what it lacks is replayed");
    assert_eq!(unit.reading().collect::<Vec<_>>(), [(of(0), 12)]);
    assert_eq!(unit.positions().next().unwrap().offset, 15);
    // What this process owns it does not follow.
    assert_eq!(driven.consume(), []);
    assert!(driven.standbys.followed().is_empty());
}

#[test]
fn a_state_beyond_what_is_committed_is_not_taken_over() {
    for (low, committed) in [(0, 3), (5, 9)] {
        let mut driven = Driven::new();
        driven.follow(standing(0, 0, 4, 20), Some(snapshot(4, b"")));
        assert!(driven.resumed(standing(0, low, committed, 20)).is_none(), "{low} {committed}");
    }
}

#[test]
fn one_that_never_stood_where_its_owner_stood_is_not_taken_over() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 0, 4, 20), None);
    assert!(driven.standbys.take(0, UnitId(0)).is_none());
    assert_eq!(driven.standbys.dropped().len(), 1);
}

#[test]
fn offsets_that_are_set_back_drop_it_and_it_begins_anew_after_a_rest() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 0, 4, 20), Some(snapshot(4, b"")));
    driven.consume();
    driven.standbys.committed(&[(of(0), 3)]);
    assert_eq!(driven.consume(), []);
    driven.standbys.on(Event::Quiet { clock: at(REST_MS - 1) });
    assert_eq!(driven.standbys.next_command(), None);
    driven.standbys.on(Event::Quiet { clock: at(REST_MS + 1) });
    driven.standbys.place([of(0)]);
    assert_eq!(driven.standbys.next_command(), Some(Command::Look(vec![of(0)])));
}

#[test]
fn an_unreadable_snapshot_is_passed_over_and_a_cut_log_without_any_drops_it() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 1, 4, 20), Some(snapshot(3, b"unreadable")));
    let Some(Command::Load(wanted)) = driven.standbys.next_command() else {
        panic!("no older one is asked for")
    };
    assert_eq!((wanted.below, wanted.bounds[0].committed), (Some(3), 4));
    driven.standbys.on(Event::Loaded { unit: UnitId(0), found: None });
    let job = driven.standbys.job().unwrap();
    driven.standbys.finished(job.run());
    assert_eq!(driven.standbys.next_command(), None, "it rests");
    assert!(driven.standbys.followed().is_empty());
}

#[test]
fn one_whose_log_has_lost_what_comes_next_is_restored_anew() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 0, 4, 20), Some(snapshot(4, b"")));
    driven.consume();
    driven.standbys.doubt();
    assert_eq!(driven.standbys.next_command(), Some(Command::Look(vec![of(0)])));
    driven.standbys.on(Event::Looked(vec![standing(0, 9, 12, 20)]));
    assert_eq!(driven.standbys.next_command(), Some(Command::Look(vec![of(0)])), "as one that is new");
    driven.standbys.on(Event::Looked(vec![standing(0, 9, 12, 20)]));
    driven.load(Some(snapshot(12, b"")));
    assert_eq!(driven.consume(), [(of(0), 12)]);
}

#[test]
fn one_that_asks_to_be_built_anew_is_and_one_that_cannot_fold_is_dropped() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 0, 4, 20), Some(snapshot(3, b"")));
    driven.consume();
    driven.standbys.on(records(0, 3..4, 7));
    assert_eq!(driven.fold(), []);
    assert_eq!(driven.standbys.next_command(), Some(Command::Look(vec![of(0)])));
    driven.standbys.on(Event::Looked(vec![standing(0, 0, 4, 20)]));
    driven.load(None);
    assert_eq!(driven.consume(), [(of(0), 0)]);
    driven.standbys.on(records(0, 0..3, 0));
    driven.standbys.on(records(0, 3..4, 7));
    assert_eq!(driven.fold(), offsets(0..4));
    driven.standbys.committed(&[(of(0), 5)]);
    driven.standbys.on(records(0, 4..5, 9));
    assert_eq!(driven.fold(), []);
    assert_eq!(driven.consume(), [], "it rests");
}

#[test]
fn what_is_given_to_a_worker_is_not_begun_and_what_lies_ready_waits_to_be_taken() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 0, 4, 20), Some(snapshot(4, b"")));
    driven.standbys.given(0, &[of(0), of(1)]);
    driven.standbys.place([of(0), of(1)]);
    assert_eq!(driven.consume(), [(of(0), 4)]);
    assert_eq!(driven.standbys.next_command(), None, "of what a worker was given nothing is asked for");
    assert!(driven.resumed(standing(0, 0, 4, 20)).is_some());
}

#[test]
fn so_much_is_read_ahead_and_no_more() {
    let mut driven = Driven::new();
    driven.follow(standing(0, 0, 4, 20_000), Some(snapshot(4, b"")));
    driven.consume();
    driven.standbys.on(records(0, 4..10_000, 0));
    assert_eq!(driven.standbys.next_command(), Some(Command::Pause(vec![of(0)])));
    driven.standbys.on(Event::Done);
    driven.standbys.committed(&[(of(0), 9_000)]);
    assert_eq!(driven.fold().len(), 8_996);
    assert_eq!(driven.standbys.next_command(), Some(Command::Pause(Vec::new())));
}

#[test]
fn of_what_its_process_owns_it_follows_nothing_and_what_nobody_has_committed_waits() {
    let mut driven = Driven::new();
    driven.standbys.owns(0, [&of(0)]);
    driven.standbys.place([of(0), of(1)]);
    assert_eq!(driven.standbys.next_command(), Some(Command::Look(vec![of(1)])));
    let none = Standing { committed: None, ..standing(1, 0, 0, 0) };
    driven.standbys.on(Event::Looked(vec![none]));
    assert_eq!(driven.standbys.next_command(), None);
    driven.standbys.owns(0, []);
    assert_eq!(driven.standbys.next_command(), Some(Command::Look(vec![of(0)])), "given up by its owner");
    driven.standbys.on(Event::Failed { failure: super::super::Failure::Retriable, what: String::new() });
    assert_eq!(driven.standbys.next_command(), None, "not before a poll");
    driven.standbys.on(Event::Quiet { clock: at(EARLY_MS + 1) });
    assert_eq!(driven.standbys.next_command(), Some(Command::Look(vec![of(0), of(1)])));
}
