#![allow(clippy::unwrap_used, clippy::expect_used)]
use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::processor::Position;

const INPUT: &str = "input";
const BETWEEN: &str = "between";
const LAST: &str = "last";
const BESIDE: &str = "beside";

fn to(topic: &str, partition: Option<i32>, key: Option<Bytes>, value: String) -> OutRecord {
    OutRecord { topic: topic.into(), partition, key, value: Some(value.into()), headers: Vec::new() }
}

fn text(record: &InRecord) -> String {
    String::from_utf8(record.record.value.clone().unwrap().to_vec()).unwrap()
}

/// Adds up what it has seen: each output depends on all before it.
struct Adding {
    sum: u64,
}

impl Processor for Adding {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        for record in records {
            let number: u64 = text(record).parse().map_err(StepError::new)?;
            self.sum = self.sum.wrapping_mul(31).wrapping_add(number);
            let partition = Some(record.record.partition);
            for at in 0..number % 3 {
                let key = Some(Bytes::from(format!("k{at}")));
                out.records.push(to(BETWEEN, partition, key, format!("{} {at}", self.sum)));
            }
            out.records.push(to(BESIDE, partition, None, self.sum.to_string()));
        }
        Ok(())
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        Some(self.sum.to_le_bytes().to_vec())
    }
}

/// Says each record again, and counts how often it was asked.
struct Saying;

impl Processor for Saying {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { panic!("told {input:?}") };
        for record in records {
            assert_eq!(&*record.topic, BETWEEN);
            out.records.push(to(LAST, None, record.record.key.clone(), format!("say {}", text(record))));
        }
        Ok(())
    }
}

/// Which of the two it makes, and in what it differs from what can be chained.
#[derive(Clone, Copy, Default)]
struct Made {
    second: bool,
    fingerprint: Option<u64>,
    reported: bool,
    elsewhere: bool,
}

const FIRST: Made = Made { second: false, fingerprint: Some(1), reported: false, elsewhere: false };
const SECOND: Made = Made { second: true, fingerprint: None, reported: false, elsewhere: false };

impl ProcessorFactory for Made {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![if self.second { BETWEEN } else { INPUT }.into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        if self.second { vec![LAST.into()] } else { vec![BETWEEN.into(), BESIDE.into()] }
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32 + u32::from(self.elsewhere))
    }

    fn positions(&self) -> Positions {
        if self.reported { Positions::Reported } else { Positions::Implied }
    }

    fn state_fingerprint(&self) -> Option<u64> {
        self.fingerprint
    }

    fn create(&self, _unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let sum = snapshot.map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
        Ok(if self.second { Box::new(Saying) } else { Box::new(Adding { sum }) })
    }
}

fn stand_in() -> StandIn {
    StandIn { service: "second".into(), topic: BETWEEN.into(), made_of: |record| Ok(record.record.offset) }
}

fn chained(first: Made, second: Made) -> Result<ChainFactory, NotChained> {
    ChainFactory::new(Arc::new(first), Arc::new(second), stand_in())
}

fn input(offset: usize, number: u8) -> InRecord {
    InRecord {
        topic: INPUT.into(),
        record: TopicRecord {
            partition: 0,
            offset: offset as i64,
            timestamp_ms: 0,
            key: None,
            value: Some(number.to_string().into()),
            headers: Vec::new(),
        },
    }
}

/// A topic's records in order: their partition, key and value.
type Log = Vec<(Option<i32>, Option<Bytes>, Option<Bytes>)>;

fn by_topic(records: impl IntoIterator<Item = OutRecord>) -> BTreeMap<Arc<str>, Log> {
    let mut logs: BTreeMap<Arc<str>, Log> = BTreeMap::new();
    for record in records {
        logs.entry(record.topic).or_default().push((record.partition, record.key, record.value));
    }
    logs
}

fn step(processor: &mut dyn Processor, records: &[InRecord]) -> Vec<OutRecord> {
    let mut out = Outputs::default();
    processor.step(Input::Records { records, now_ms: 7 }, &mut out).unwrap();
    out.records
}

/// What the two services write that know nothing of each other.
fn apart(log: &[InRecord]) -> BTreeMap<Arc<str>, Log> {
    let mut made = step(FIRST.create(UnitId(0), None).unwrap().as_mut(), log);
    let between: Vec<InRecord> = made
        .iter()
        .filter(|record| &*record.topic == BETWEEN)
        .enumerate()
        .map(|(at, record)| InRecord {
            topic: Arc::clone(&record.topic),
            record: TopicRecord {
                key: record.key.clone(),
                value: record.value.clone(),
                ..input(at, 0).record
            },
        })
        .collect();
    made.extend(step(SECOND.create(UnitId(0), None).unwrap().as_mut(), &between));
    by_topic(made)
}

proptest! {
    #[test]
    fn it_writes_what_the_two_write_apart_whatever_the_batches_and_restarts(
        numbers in vec(any::<u8>(), 1..60),
        cuts in vec((1_usize..8, 0_usize..4, any::<bool>()), 60),
    ) {
        let log: Vec<InRecord> = numbers.iter().enumerate().map(|(at, number)| input(at, *number)).collect();
        let factory = chained(FIRST, SECOND).unwrap();
        let mut processor = factory.create(UnitId(0), None).unwrap();
        let mut committed: Vec<OutRecord> = Vec::new();
        // Where the last snapshot stands, and how far all is committed.
        let (mut snapshot, mut at) = ((0, None), 0);
        for (length, what, twice) in cuts {
            let batch = &log[at..log.len().min(at + length)];
            let made = step(processor.as_mut(), batch);
            if what == 0 {
                // The commit fails for good and the unit is dropped with what it has made: from the snapshot on,
                // in silence up to what is committed.
                processor = factory.create(UnitId(0), snapshot.1.as_deref()).unwrap();
                let mut out = Outputs::default();
                let replayed = &log[snapshot.0..at];
                let middle = if twice { replayed.len() / 2 } else { 0 };
                for records in [&replayed[..middle], &replayed[middle..]] {
                    if !records.is_empty() {
                        processor.replay(Input::Records { records, now_ms: 1 }, &mut out).unwrap();
                    }
                }
                prop_assert!(out.records.iter().all(|record| &*record.topic != LAST), "a replay scores");
            } else {
                committed.extend(made);
                at += batch.len();
                if what == 1 {
                    snapshot = (at, processor.snapshot());
                }
            }
            if at == log.len() {
                break;
            }
        }
        prop_assert_eq!(by_topic(committed), apart(&log[..at]));
    }
}

#[test]
fn the_second_is_told_of_records_alone_and_of_none_that_goes_elsewhere() {
    let mut processor = chained(FIRST, SECOND).unwrap().create(UnitId(0), None).unwrap();
    let mut out = Outputs::default();
    let partition = TopicPartition { topic: INPUT.into(), partition: 0 };
    let start = Position { partition: partition.clone(), offset: 0, metadata: String::new() };
    // `Saying` panics at anything but records.
    processor.step(Input::Assigned { positions: &[start], now_ms: 1 }, &mut out).unwrap();
    processor.step(Input::Drained { at_end: &[partition], now_ms: 1 }, &mut out).unwrap();
    assert_eq!(out.records, []);
    let logs = by_topic(step(processor.as_mut(), &[input(0, 0), input(1, 2)]));
    assert_eq!(logs[BESIDE].len(), 2);
    let said: Vec<_> = logs[LAST].iter().map(|(_, key, value)| (key.clone(), value.clone())).collect();
    let expected = ["0", "1"].map(|at| (Some(format!("k{at}").into()), Some(format!("say 2 {at}").into())));
    assert_eq!(said, expected);
}

#[test]
fn the_inputs_state_and_group_are_the_firsts_and_the_outputs_both() {
    let factory = chained(FIRST, SECOND).unwrap();
    assert_eq!(factory.inputs(), [INPUT.into()]);
    assert_eq!(factory.outputs(), [BETWEEN, BESIDE, LAST].map(Arc::from));
    assert_eq!(factory.state_fingerprint(), Some(1));
    assert_eq!(&*factory.stands_in().unwrap().service, "second");
}

#[test]
fn what_cannot_be_chained_is_refused_with_the_reason() {
    let refused = |first, second| chained(first, second).err().unwrap().to_string();
    let stateful = refused(FIRST, Made { fingerprint: Some(2), ..SECOND });
    assert!(stateful.starts_with("second cannot be chained behind between: it has state"), "{stateful}");
    let reporting = refused(FIRST, Made { reported: true, ..SECOND });
    assert!(reporting.contains("it has state"), "{reporting}");
    let holding = refused(Made { reported: true, ..FIRST }, SECOND);
    assert!(holding.contains("the first holds records back"), "{holding}");
    assert!(refused(SECOND, SECOND).contains("the first does not write it"));
    assert!(refused(FIRST, FIRST).contains("it does not read that topic alone"));
}

#[test]
fn a_record_for_another_unit_stops_the_chain() {
    let elsewhere = Made { elsewhere: true, ..SECOND };
    let mut processor = chained(FIRST, elsewhere).unwrap().create(UnitId(0), None).unwrap();
    let mut out = Outputs::default();
    let records = [input(0, 1)];
    let error = processor.step(Input::Records { records: &records, now_ms: 1 }, &mut out).unwrap_err();
    assert!(error.what.contains("a record for between goes to partition 0"), "{error}");
}
