//! The merge as the loop drives it: records of `entity-tiles` in, versions to every partition of
//! `events` out.
//!
//! One unit over the topic's one partition. Knows neither the broker nor the clock.

use std::sync::Arc;

use bytes::Bytes;
use runtime::processor::{
    Input, OutRecord, Outputs, Processor, ProcessorFactory, StepError, TopicPartition, UnitId,
};
use schemas::topic::Names;
use schemas::{Codec, Control, EntityTiles, Entry, Protobuf};

use crate::config::Config;
use crate::plan::{DeclarationError, Plan};
use crate::shared::merge::{FORMAT, Merge, MergeCounts};
use crate::telemetry;

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

impl ProcessorFactory for MergeFactory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.names.entity_tiles)]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.names.events)]
    }

    fn unit(&self, _: &TopicPartition) -> UnitId {
        UnitId(0)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        let parts = [self.plan.shared_layout(), self.events_partitions as u64, u64::from(FORMAT)];
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
        Some(xxhash_rust::xxh3::xxh3_64(&bytes))
    }

    fn create(&self, _: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let plan = Arc::clone(&self.plan);
        let merge = match snapshot {
            Some(bytes) => Merge::restore(plan, self.events_partitions, bytes).map_err(StepError::new)?,
            None => Merge::new(plan, self.events_partitions),
        };
        let held_back = vec![false; self.events_partitions];
        Ok(Box::new(Merger {
            merge,
            names: Arc::clone(&self.names),
            told: MergeCounts::default(),
            held_back,
            first_closed_ms: None,
        }))
    }
}

struct Merger {
    merge: Merge,
    names: Arc<Names>,
    /// What telemetry has been told.
    told: MergeCounts,
    /// Per partition of `events`: whether it has been named as holding versions back.
    held_back: Vec<bool>,
    /// The first time that a partition was seen to have closed.
    first_closed_ms: Option<i64>,
}

impl Processor for Merger {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
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
            for version in self.merge.step(&tiles) {
                let value: Bytes = Protobuf::to_vec(&Entry::Control(Control::Entities(version))).into();
                out.records.extend((0..self.held_back.len()).map(|partition| OutRecord {
                    topic: Arc::clone(&self.names.events),
                    partition: Some(partition as i32),
                    key: None,
                    value: Some(value.clone()),
                    headers: Vec::new(),
                }));
            }
        }
        let counts = self.merge.counts();
        telemetry::merged(self.told, counts, self.merge.version_ms());
        telemetry::closed(&self.merge.closed_ms(), &mut self.first_closed_ms, &mut self.held_back);
        self.told = counts;
        Ok(())
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        let bytes = self.merge.snapshot();
        telemetry::merge_snapshot_taken(self.merge.pending_bytes(), bytes.len());
        Some(bytes)
    }
}
