//! The merge as the loop drives it: records of `entity-tiles` in, versions to every partition of
//! `events` and hourly sums to `aggregates` out.
//!
//! One unit over the topic's one partition. Knows neither the broker nor the clock.

use std::sync::Arc;

use bytes::Bytes;
use runtime::processor::{
    self, Input, OutRecord, Outputs, Processor, ProcessorFactory, StepError, TopicPartition, UnitId,
};
use schemas::topic::Names;
use schemas::{Aggregate, Codec, Control, EntityTiles, EntityVersion, Entry, Protobuf};

use crate::config::Config;
use crate::image::{Image, Part, record};
use crate::plan::{DeclarationError, Plan};
use crate::shared::aggregates::{self, AggregateCounts, Aggregates};
use crate::shared::merge::{self, Merge, MergeCounts};
use crate::telemetry;
use crate::wire::{Reader, SnapshotError, Writer};

/// Makes the merge.
#[derive(Debug, Clone)]
pub struct MergeFactory {
    plan: Arc<Plan>,
    names: Arc<Names>,
    events_partitions: usize,
}

/// The factory of the service `merge`, over so many partitions of `events`.
///
/// # Errors
/// Declarations that cannot be meant.
pub fn merge_factory(
    config: &Config,
    names: &Names,
    events_partitions: usize,
) -> Result<MergeFactory, DeclarationError> {
    let plan = Arc::new(Plan::compile(config)?);
    Ok(MergeFactory { plan, names: Arc::new(names.clone()), events_partitions })
}

impl MergeFactory {
    fn restore(&self, bytes: &[u8]) -> Result<(Merge, Aggregates), SnapshotError> {
        let image = Image::read(bytes, |head| Reader::new(head).bool())?;
        let format = SnapshotError::Format { known: aggregates::FORMAT };
        let mut head = Reader::new(image.head().ok_or(format)?);
        let _whole = head.bool()?;
        let (plan, partitions) = (&self.plan, self.events_partitions);
        let merge = Merge::restore(Arc::clone(plan), partitions, head.bytes()?)?;
        let aggregates = Aggregates::read_from(&mut head, &image, plan, partitions)?;
        if head.at_end() { Ok((merge, aggregates)) } else { Err(head.damaged()) }
    }
}

impl ProcessorFactory for MergeFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.names.entity_tiles)]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.names.events), Arc::clone(&self.names.aggregates)]
    }

    fn unit(&self, _: &TopicPartition) -> UnitId {
        UnitId(0)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        let parts = [
            self.plan.shared_layout(),
            self.plan.config.aggregate_horizon.0 as u64,
            self.events_partitions as u64,
            u64::from(merge::FORMAT),
            u64::from(aggregates::FORMAT),
        ];
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
        Some(xxhash_rust::xxh3::xxh3_64(&bytes))
    }

    fn create(&self, _: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let partitions = self.events_partitions;
        let (merge, aggregates) = match snapshot {
            Some(bytes) => self.restore(bytes).map_err(StepError::new)?,
            None => (Merge::new(Arc::clone(&self.plan), partitions), Aggregates::new(&self.plan, partitions)),
        };
        Ok(Box::new(Merger {
            merge,
            aggregates,
            names: Arc::clone(&self.names),
            told: (MergeCounts::default(), AggregateCounts::default()),
            held_back: vec![false; partitions],
            first_closed_ms: None,
            head: Vec::new(),
            written: 0,
        }))
    }
}

struct Merger {
    merge: Merge,
    aggregates: Aggregates,
    names: Arc<Names>,
    /// What telemetry has been told.
    told: (MergeCounts, AggregateCounts),
    /// Per partition of `events`: whether it has been named as holding versions back.
    held_back: Vec<bool>,
    /// The first time that a partition was seen to have closed.
    first_closed_ms: Option<i64>,
    /// Where the image under way begins, until it has been given.
    head: Vec<u8>,
    /// Bytes of it that have been given.
    written: usize,
}

impl Processor for Merger {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        let partitions = self.held_back.len();
        for record in records {
            let place = record.record.place();
            let topic = &record.topic;
            let value = record
                .record
                .value
                .as_ref()
                .ok_or_else(|| StepError::new(format!("{topic} {place} has no value")))?;
            let tiles: EntityTiles = Protobuf::decode(value)
                .map_err(|error| StepError::new(format!("{topic} {place} cannot be read: {error}")))?;
            if tiles.layout != EntityTiles::HOURS {
                for version in self.merge.step(&tiles) {
                    mark(version, &self.names.events, partitions, &mut out.records);
                }
            }
            let topic = &self.names.aggregates;
            self.aggregates.step(&tiles, |row| out.records.push(written(&row, topic, partitions)));
        }
        let counts = (self.merge.counts(), self.aggregates.counts());
        telemetry::merged(self.told.0, counts.0, self.merge.version_ms());
        telemetry::aggregated(self.told.1, counts.1);
        telemetry::closed(&self.merge.closed_ms(), &mut self.first_closed_ms, &mut self.held_back);
        self.told = counts;
        Ok(())
    }

    fn image(&mut self) -> Option<&mut dyn processor::Image> {
        Some(self)
    }
}

/// Hourly sums are written piece by piece; what waits for other partitions at once.
impl processor::Image for Merger {
    fn begin(&mut self, whole: bool) {
        let mut head = Writer(Vec::new());
        record(Part::Head, 0, &mut head, |out| {
            out.bool(whole);
            out.bytes(&self.merge.snapshot());
            self.aggregates.write_head(out);
        });
        (self.head, self.written) = (head.0, 0);
        self.aggregates.begin(whole);
    }

    fn next_part(&mut self, bytes: usize) -> Result<Option<Vec<u8>>, StepError> {
        let mut out = Writer(std::mem::take(&mut self.head));
        self.aggregates.write_on(bytes, &mut out);
        if out.0.is_empty() {
            telemetry::merge_snapshot_taken(self.merge.pending_bytes(), &self.aggregates, self.written);
            return Ok(None);
        }
        self.written += out.0.len();
        Ok(Some(out.0))
    }
}

/// A version in every partition of `events`.
fn mark(version: EntityVersion, events: &Arc<str>, partitions: usize, out: &mut Vec<OutRecord>) {
    let value: Bytes = Protobuf::to_vec(&Entry::Control(Control::Entities(version))).into();
    out.extend((0..partitions).map(|partition| OutRecord {
        topic: Arc::clone(events),
        partition: Some(partition as i32),
        key: None,
        value: Some(value.clone()),
        headers: Vec::new(),
    }));
}

/// A row in the partition of its campaign: revisions of one key stand in order. `aggregates` has as many
/// partitions as `events`.
fn written(row: &Aggregate, topic: &Arc<str>, partitions: usize) -> OutRecord {
    let partition = xxhash_rust::xxh3::xxh3_64(row.campaign.as_bytes()) % partitions as u64;
    OutRecord {
        topic: Arc::clone(topic),
        partition: Some(partition as i32),
        key: Some(Bytes::copy_from_slice(row.campaign.as_bytes())),
        value: Some(Protobuf::to_vec(row).into()),
        headers: Vec::new(),
    }
}
