#![allow(clippy::unwrap_used, clippy::expect_used)]
use bytes::Bytes;

use super::*;
use crate::core::{Delivery, Standing};
use crate::processor::{InRecord, Input, OutRecord, Outputs, Processor, StepError, TopicRecord};

const REST_MS: u64 = 4;

/// Copies each record.
struct Copying;

impl Processor for Copying {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        out.records.extend(records.iter().map(|record| OutRecord {
            topic: "out".into(),
            partition: Some(record.record.partition),
            key: None,
            value: record.record.value.clone(),
            headers: Vec::new(),
        }));
        Ok(())
    }
}

impl ProcessorFactory for Copying {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec!["in".into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec!["out".into()]
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn create(&self, _unit: UnitId, _snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Copying))
    }
}

fn at(steady_ms: u64) -> Clock {
    Clock { wall_ms: 1_000_000, steady_ms }
}

fn partition() -> TopicPartition {
    TopicPartition { topic: "in".into(), partition: 0 }
}

fn record(offset: i64) -> InRecord {
    let value = Some(Bytes::from(offset.to_string()));
    let record =
        TopicRecord { partition: 0, offset, timestamp_ms: 1_000_000, key: None, value, headers: Vec::new() };
    InRecord { topic: "in".into(), record }
}

/// Does whatever the core wants; whether a transaction was begun.
fn obey(core: &mut Core) -> bool {
    let mut begun = false;
    while let Some(command) = core.next_command() {
        begun |= matches!(command, Command::Begin);
        let event = match command {
            Command::Look(partitions) => Event::Looked(
                partitions
                    .into_iter()
                    .map(|partition| Standing {
                        partition,
                        committed: Some((0, String::new())),
                        low: 0,
                        high: 9,
                    })
                    .collect(),
            ),
            Command::Load(wanted) => Event::Loaded { unit: wanted.unit, found: None },
            Command::Produce => Event::Produced(core.unsent().count()),
            _ => Event::Done,
        };
        core.on(event).unwrap();
    }
    begun
}

/// A core that owns the partition.
fn reading(delivery: Delivery) -> Core {
    let rules = Rules {
        delivery,
        commit_interval_ms: 50,
        idle_commit: true,
        snapshot_interval_ms: 1_000,
        most_pending: 10,
        rest_ms: REST_MS,
    };
    let mut core = Core::new(Arc::new(Copying), rules, at(0));
    core.on(Event::Assigned { partitions: vec![partition()] }).unwrap();
    obey(&mut core);
    core
}

/// A core that has committed a record at 10 ms and been told the time of 11 ms.
fn committed() -> Core {
    let mut core = reading(Delivery::ExactlyOnce);
    core.on(Event::Records { records: vec![record(0)], clock: at(9) }).unwrap();
    assert!(obey(&mut core), "nothing is at rest before the first commit");
    core.on(Event::Drained { at_end: vec![partition()], clock: at(10) }).unwrap();
    obey(&mut core);
    assert_eq!(core.counters().commits, 1);
    core.on(Event::Drained { at_end: vec![partition()], clock: at(11) }).unwrap();
    obey(&mut core);
    core
}

#[test]
fn the_next_transaction_begins_when_the_coordinator_has_had_its_time() {
    let mut core = committed();
    for now in 11..11 + REST_MS {
        let offset = now as i64 - 10;
        core.on(Event::Records { records: vec![record(offset)], clock: at(now) }).unwrap();
        assert!(!obey(&mut core), "at {now} ms");
    }
    core.on(Event::Drained { at_end: vec![partition()], clock: at(11 + REST_MS) }).unwrap();
    assert!(obey(&mut core));
    assert_eq!((core.counters().commits, core.pending()), (2, 0));
}

#[test]
fn nothing_that_is_urgent_waits_for_that_time() {
    let records = |count: i64| Event::Records { records: (1..=count).map(record).collect(), clock: at(12) };
    let mut full = committed();
    full.on(records(10)).unwrap();
    assert!(obey(&mut full), "as many outputs as are due at once");

    let mut revoked = committed();
    revoked.on(records(1)).unwrap();
    assert!(!obey(&mut revoked));
    revoked.on(Event::Revoked { partitions: vec![partition()] }).unwrap();
    assert!(obey(&mut revoked), "partitions that are to be given back");
    assert_eq!(revoked.counters().commits, 2);

    let mut stopped = committed();
    stopped.on(records(1)).unwrap();
    assert!(!obey(&mut stopped));
    stopped.on(Event::Stop).unwrap();
    assert!(obey(&mut stopped), "a stop");
    assert!(stopped.has_left());
}

#[test]
fn at_least_once_no_output_waits_for_a_commit_and_none_is_made_before_its_time() {
    let mut core = reading(Delivery::AtLeastOnce);
    let mut commits = Vec::new();
    for now in 0..100 {
        let records = if now == 10 { vec![record(0)] } else { Vec::new() };
        let (clock, at_end) = (at(now), vec![partition()]);
        core.on(if records.is_empty() {
            Event::Drained { at_end, clock }
        } else {
            Event::Records { records, clock }
        })
        .unwrap();
        obey(&mut core);
        assert_eq!(core.unsent().count(), 0, "at {now} ms");
        commits.push(core.counters().commits);
    }
    assert_eq!((commits[59], commits[60], commits[99]), (0, 1, 1));
}
