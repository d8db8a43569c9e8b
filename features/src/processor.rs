//! The core as the loop drives it: records of a partition of `events` in, encoded records out.
//!
//! Each output goes to the partition of the same number, but for what the merge adds up, which all goes
//! to the one partition of its topic. Knows neither the broker nor the clock.

use std::sync::Arc;

use bytes::Bytes;
use runtime::processor::{
    Image, Input, OutRecord, Outputs, Processor, ProcessorFactory, StepError, TopicPartition, TopicRecord,
    UnitId,
};
use runtime::spill::Spills;
use schemas::topic::Names;
use schemas::{Codec, Duplicate, EntityTiles, Entry, Label, Place, Protobuf};

use crate::config::Config;
use crate::core::{AHEAD, Core};
use crate::out::{Counts, Sink};
use crate::plan::{DeclarationError, Plan};
use crate::snapshot::FORMAT;
use crate::telemetry;
use crate::vector::VectorView;

/// Makes one core per partition of `events`.
#[derive(Debug, Clone)]
pub struct Factory {
    plan: Arc<Plan>,
    names: Arc<Names>,
    /// Where users go who do not fit into memory.
    spills: Option<Spills>,
}

/// The factory of the service `features`.
///
/// # Errors
/// Declarations that cannot be meant.
pub fn factory(config: &Config, names: &Names) -> Result<Factory, DeclarationError> {
    Ok(Factory { plan: Arc::new(Plan::compile(config)?), names: Arc::new(names.clone()), spills: None })
}

impl Factory {
    /// Its cores let users go out of memory into these.
    #[must_use]
    pub fn spilling(self, spills: Spills) -> Self {
        Self { spills: Some(spills), ..self }
    }

    /// The plan that its cores follow.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }
}

impl ProcessorFactory for Factory {
    fn inputs(&self) -> Vec<Arc<str>> {
        vec![Arc::clone(&self.names.events)]
    }

    fn outputs(&self) -> Vec<Arc<str>> {
        let names = &self.names;
        [&names.feature_vectors, &names.labels, &names.duplicates, &names.entity_tiles]
            .map(Arc::clone)
            .to_vec()
    }

    fn unit(&self, partition: &TopicPartition) -> UnitId {
        UnitId(partition.partition as u32)
    }

    fn state_fingerprint(&self) -> Option<u64> {
        // Declarations that read the same state otherwise go on from it.
        let parts = [self.plan.state_fingerprint(), u64::from(FORMAT)];
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
        Some(xxhash_rust::xxh3::xxh3_64(&bytes))
    }

    fn create(&self, unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let partition = unit.0 as i32;
        let plan = Arc::clone(&self.plan);
        let spill = self.spills.as_ref().map(Spills::open).transpose().map_err(StepError::new)?;
        let core = match snapshot {
            Some(bytes) => Core::restore_with(plan, partition, bytes, spill).map_err(StepError::new)?,
            None => Core::spilling(plan, partition, spill),
        };
        Ok(Box::new(Features {
            core,
            names: Arc::clone(&self.names),
            told: Counts::default(),
            warned: false,
            written: 0,
        }))
    }
}

struct Features {
    core: Core,
    names: Arc<Names>,
    /// What telemetry has been told.
    told: Counts,
    /// Whether it was said that the version of shared entities is far behind.
    warned: bool,
    /// Bytes of the image under way that have been given.
    written: usize,
}

impl Features {
    /// Nothing may go out of a core that misses a part of its state.
    fn check(&mut self) -> Result<(), StepError> {
        self.core.take_failure().map_or(Ok(()), |error| Err(StepError::new(error)))
    }
}

impl Processor for Features {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        let mut sink =
            Encoder { names: &self.names, partition: self.core.partition(), records: &mut out.records };
        let mut entries = Vec::with_capacity(AHEAD);
        for records in records.chunks(AHEAD) {
            entries.clear();
            for record in records {
                entries.push(decode(&record.record)?);
            }
            if let Ok(entries) = entries.as_slice().try_into() {
                self.core.look_ahead(entries);
            }
            for (record, entry) in records.iter().zip(&entries) {
                self.core.step(entry, place_of(&record.record), &mut sink);
            }
        }
        self.check()?;
        let counts = self.core.counts();
        telemetry::folded(self.core.partition(), self.told, counts);
        telemetry::state(self.core.partition(), self.core.users(), self.core.timers(), self.core.clock_ms());
        telemetry::cold(self.core.partition(), self.core.cold_users());
        if let Some(behind_ms) = self.core.version_behind_ms() {
            let slowest = self.core.slowest_source();
            telemetry::version_behind(self.core.partition(), behind_ms, slowest, &mut self.warned);
        }
        self.told = counts;
        Ok(())
    }

    fn image(&mut self) -> Option<&mut dyn Image> {
        Some(self)
    }
}

impl Image for Features {
    fn begin(&mut self, whole: bool) {
        self.core.begin_image(whole);
        self.written = 0;
    }

    fn next_part(&mut self, bytes: usize) -> Result<Option<Vec<u8>>, StepError> {
        let part = self.core.next_part(bytes);
        self.check()?;
        if let Some(part) = &part {
            self.written += part.len();
        } else {
            let state_bytes = self.core.state_bytes();
            telemetry::snapshot_taken(self.core.partition(), self.core.users(), self.written, state_bytes);
        }
        Ok(part)
    }
}

fn place_of(record: &TopicRecord) -> Place {
    Place { partition: record.partition, offset: record.offset }
}

fn decode(record: &TopicRecord) -> Result<Entry, StepError> {
    let place = place_of(record);
    let value = record.value.as_ref();
    let value = value.ok_or_else(|| StepError::new(format!("events {place} has no value")))?;
    Protobuf::decode(value).map_err(|error| StepError::new(format!("events {place} cannot be read: {error}")))
}

/// Encodes outputs as they come.
struct Encoder<'a> {
    names: &'a Names,
    partition: i32,
    records: &'a mut Vec<OutRecord>,
}

impl Encoder<'_> {
    fn push(&mut self, topic: &Arc<str>, key: &str, value: Vec<u8>) {
        let key = Some(Bytes::copy_from_slice(key.as_bytes()));
        self.push_to(self.partition, topic, key, value);
    }

    fn push_to(&mut self, partition: i32, topic: &Arc<str>, key: Option<Bytes>, value: Vec<u8>) {
        self.records.push(OutRecord {
            topic: Arc::clone(topic),
            partition: Some(partition),
            key,
            value: Some(value.into()),
            headers: Vec::new(),
        });
    }
}

impl Sink for Encoder<'_> {
    fn vector(&mut self, vector: &VectorView<'_>) {
        let mut value = Vec::with_capacity(2_048);
        vector.encode(&mut value);
        self.push(&self.names.feature_vectors, &vector.event.user, value);
    }

    fn label(&mut self, label: &Label) {
        self.push(&self.names.labels, &label.user, Protobuf::to_vec(label));
    }

    fn duplicate(&mut self, duplicate: Duplicate) {
        self.push(&self.names.duplicates, &duplicate.user, Protobuf::to_vec(&duplicate));
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.push_to(0, &self.names.entity_tiles, None, Protobuf::to_vec(&tiles));
    }

    fn hours(&mut self, hours: EntityTiles) {
        self.tiles(hours);
    }
}
