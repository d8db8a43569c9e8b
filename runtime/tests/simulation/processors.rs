//! Processors whose outputs can be checked: one with state, one that marks what it makes in every
//! partition, one that holds records back, one that asks to be built anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use runtime::processor::{
    Image, InRecord, Input, OutRecord, Outputs, Position, Positions, Processor, ProcessorFactory, StepError,
    TopicPartition, UnitId,
};

pub(crate) const INPUT: &str = "in";
pub(crate) const OUTPUT: &str = "out";

fn record(partition: i32, value: String) -> OutRecord {
    OutRecord {
        topic: OUTPUT.into(),
        partition: Some(partition),
        key: None,
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

/// Counts and hashes all it has seen of its partition: an event folded twice, missed, or out of
/// order changes every output after it. Keeps both in several places, of which a record changes one, and
/// writes a snapshot place by place.
#[derive(Debug, Default, Clone)]
pub(crate) struct Hashing {
    places: [(u64, u64); PLACES],
    /// Places that have changed since the last whole image was begun.
    changed: BTreeSet<usize>,
    /// What the image under way lacks.
    image: Vec<Vec<u8>>,
}

const PLACES: usize = 16;

impl Hashing {
    fn restored(snapshot: Option<&[u8]>) -> Result<Self, StepError> {
        let mut restored = Self::default();
        for place in snapshot.unwrap_or_default().chunks(17) {
            let [at, numbers @ ..] = place else { return Err(StepError::new("no place")) };
            let numbers: &[u8; 16] = numbers.try_into().map_err(|_| StepError::new("too short"))?;
            let number =
                |at| numbers.iter().skip(at).take(8).rev().fold(0, |all, byte| all << 8 | u64::from(*byte));
            restored.places[usize::from(*at)] = (number(0), number(8));
        }
        Ok(restored)
    }

    /// The outputs for one record: none, one or two.
    pub(crate) fn take(&mut self, partition: i32, offset: i64, value: &[u8]) -> Vec<OutRecord> {
        let at = offset as usize / 5 % PLACES;
        self.changed.insert(at);
        let (count, hash) = &mut self.places[at];
        *count += 1;
        for byte in value.iter().chain(&offset.to_le_bytes()) {
            *hash = (*hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let (count, hash) = self.places.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 ^ one.1));
        let line = |part: u64| record(partition, format!("{offset} {part} {count} {hash:x}"));
        (0..hash % 3).map(line).collect()
    }
}

impl Processor for Hashing {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        if let Input::Records { records, .. } = input {
            for InRecord { record, .. } in records {
                let value = record.value.as_deref().unwrap_or_default();
                out.records.extend(self.take(record.partition, record.offset, value));
            }
        }
        Ok(())
    }

    fn image(&mut self) -> Option<&mut dyn Image> {
        Some(self)
    }
}

impl Image for Hashing {
    fn begin(&mut self, whole: bool) {
        let of_place = |at: usize| {
            let (count, hash) = self.places[at];
            [&[at as u8][..], &count.to_le_bytes(), &hash.to_le_bytes()].concat()
        };
        self.image = if whole {
            (0..PLACES).map(of_place).collect()
        } else {
            self.changed.iter().copied().map(of_place).collect()
        };
        if whole {
            self.changed.clear();
        }
    }

    fn next_part(&mut self, _: usize) -> Result<Option<Vec<u8>>, StepError> {
        Ok(self.image.pop())
    }
}

pub(crate) struct HashingFactory;

impl ProcessorFactory for HashingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![INPUT.into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![OUTPUT.into()]
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        Some(7)
    }

    fn create(&self, _unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Hashing::restored(snapshot)?))
    }
}

/// As the merge of shared entities does it: what it makes goes to every partition of the output.
struct Spreading(Hashing);

impl Processor for Spreading {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        if let Input::Records { records, .. } = input {
            for InRecord { record, .. } in records {
                let value = record.value.as_deref().unwrap_or_default();
                let made = self.0.take(record.partition, record.offset, value);
                out.records.extend(made.iter().flat_map(|made| spread(record.partition, made)));
            }
        }
        Ok(())
    }

    fn image(&mut self) -> Option<&mut dyn Image> {
        self.0.image()
    }
}

/// A record made of an input partition, for every output partition, with where it comes from.
pub(crate) fn spread(from: i32, made: &OutRecord) -> impl Iterator<Item = OutRecord> + use<> {
    let line = String::from_utf8_lossy(made.value.as_deref().unwrap_or_default()).into_owned();
    (0..SPREAD_TO).map(move |to| record(to, format!("{from} {line}")))
}

/// Output partitions that a spreading processor writes to.
pub(crate) const SPREAD_TO: i32 = 4;

pub(crate) struct SpreadingFactory;

impl ProcessorFactory for SpreadingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        HashingFactory.inputs()
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        HashingFactory.outputs()
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        HashingFactory.unit(partition)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        HashingFactory.state_fingerprint()
    }

    fn create(&self, _unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Spreading(Hashing::restored(snapshot)?)))
    }
}

/// Records that a renewing factory has heard of, by partition and offset, and whether a state that knew of it
/// has folded it.
type Heard = Arc<Mutex<BTreeMap<(u32, i64), bool>>>;

/// As features do it where declarations change: some records can be folded only by a state that was made
/// in the knowledge that they come, from the log's beginning.
#[derive(Default)]
pub(crate) struct RenewingFactory {
    heard: Heard,
    /// How often a state was asked for that knew of more.
    pub(crate) renewed: Arc<Mutex<u64>>,
}

struct Renewing {
    state: Hashing,
    heard: Heard,
    renewed: Arc<Mutex<u64>>,
    /// What had been heard of when it was made.
    knows: Vec<i64>,
    unit: u32,
}

impl Processor for Renewing {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        for InRecord { record, .. } in records {
            let value = record.value.as_deref().unwrap_or_default();
            let at = (self.unit, record.offset);
            if value.ends_with(b"77") && !self.knows.contains(&record.offset) {
                self.heard.lock().unwrap().insert(at, false);
                *self.renewed.lock().unwrap() += 1;
                out.rebuild = true;
                // What a dropped unit put out must not go anywhere.
                out.records.push(self::record(record.partition, "never".to_owned()));
                return Ok(());
            }
            if let Some(met) = self.heard.lock().unwrap().get_mut(&at) {
                *met = true;
            }
            out.records.extend(self.state.take(record.partition, record.offset, value));
        }
        Ok(())
    }

    fn image(&mut self) -> Option<&mut dyn Image> {
        self.state.image()
    }
}

impl ProcessorFactory for RenewingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        HashingFactory.inputs()
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        HashingFactory.outputs()
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        HashingFactory.unit(partition)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        HashingFactory.state_fingerprint()
    }

    fn create(&self, unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let heard = self.heard.lock().unwrap();
        let of_unit = || heard.iter().filter(|((of, _), _)| *of == unit.0);
        if snapshot.is_some() && of_unit().any(|(_, met)| !met) {
            return Err(StepError::new("it was made without knowing what comes"));
        }
        Ok(Box::new(Renewing {
            state: Hashing::restored(snapshot)?,
            heard: Arc::clone(&self.heard),
            renewed: Arc::clone(&self.renewed),
            knows: of_unit().map(|((_, offset), _)| *offset).collect(),
            unit: unit.0,
        }))
    }
}

/// As ingest does it: one unit over all partitions of the worker; merges by the number in the
/// value, holds back what it may not emit yet, keeps a watermark in the offset's metadata, and
/// writes ticks even when nothing came.
#[derive(Debug, Default)]
pub(crate) struct Merging {
    partitions: BTreeMap<TopicPartition, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    held: std::collections::VecDeque<(i64, u64)>,
    next: i64,
    watermark: u64,
    drained: u64,
}

/// Records a lane may hold before it is paused.
const MOST_HELD: usize = 6;
/// Drained polls after which a tick is due.
const TICK_EVERY: u64 = 3;

impl Merging {
    fn merge(&mut self, at_end: Option<&[TopicPartition]>, out: &mut Outputs) {
        // A lane that is empty and not known to be at its end may still bring something earlier.
        loop {
            let blocked = self
                .partitions
                .iter()
                .any(|(of, lane)| lane.held.is_empty() && at_end.is_none_or(|at_end| !at_end.contains(of)));
            let full = self.partitions.values().any(|lane| lane.held.len() >= MOST_HELD);
            if blocked && !full {
                break;
            }
            let least = self
                .partitions
                .iter()
                .filter_map(|(of, lane)| lane.held.front().map(|(_, time)| (*time, of.clone())))
                .min();
            let Some((time, of)) = least else { break };
            let lane = self.partitions.get_mut(&of).expect("just found");
            let (offset, _) = lane.held.pop_front().expect("just seen");
            lane.next = offset + 1;
            lane.watermark = lane.watermark.max(time);
            out.records.push(record(of.partition, format!("event {offset} {time}")));
        }
    }

    fn report(&self, out: &mut Outputs) {
        for (of, lane) in &self.partitions {
            out.positions.push(Position {
                partition: of.clone(),
                offset: lane.next,
                metadata: lane.watermark.to_string(),
            });
            if lane.held.len() >= MOST_HELD {
                out.pause.push(of.clone());
            }
        }
    }
}

impl Processor for Merging {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        match input {
            Input::Assigned { positions, .. } => {
                for position in positions {
                    let watermark = position.metadata.parse().unwrap_or(0);
                    let lane = Lane { next: position.offset, watermark, ..Lane::default() };
                    self.partitions.insert(position.partition.clone(), lane);
                }
            }
            Input::Records { records, .. } => {
                for record in records {
                    let value = record.record.value.as_deref().unwrap_or_default();
                    let time = String::from_utf8_lossy(value).parse().unwrap_or(0);
                    let lane = self
                        .partitions
                        .get_mut(&record.topic_partition())
                        .ok_or_else(|| StepError::new("a record of a partition that was not assigned"))?;
                    lane.held.push_back((record.record.offset, time));
                    lane.drained = 0;
                }
                self.merge(None, out);
                self.report(out);
            }
            Input::Drained { at_end, now_ms } => {
                self.merge(Some(at_end), out);
                for (of, lane) in self.partitions.iter_mut().filter(|(of, _)| at_end.contains(of)) {
                    lane.drained += 1;
                    let now = now_ms.max(0) as u64;
                    if lane.drained.is_multiple_of(TICK_EVERY) && now > lane.watermark {
                        lane.watermark = now;
                        out.records.push(record(of.partition, format!("tick {now} {now}")));
                    }
                }
                self.report(out);
            }
        }
        Ok(())
    }
}

pub(crate) struct MergingFactory;

impl ProcessorFactory for MergingFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![INPUT.into()]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![OUTPUT.into()]
    }

    fn unit(&self, _partition: &TopicPartition) -> UnitId {
        UnitId(0)
    }

    fn positions(&self) -> Positions {
        Positions::Reported
    }

    fn create(&self, _unit: UnitId, _snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        Ok(Box::new(Merging::default()))
    }
}
