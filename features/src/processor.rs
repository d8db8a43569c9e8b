//! The core as the loop drives it: records of a partition of `events` in, encoded records out. Which declarations
//! it follows stands in these records.
//!
//! Each output goes to the partition of the same number, but for what the merge adds up, which all goes
//! to the one partition of its topic. Knows neither the broker nor the clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use runtime::pages::Pages;
use runtime::processor::{
    Image, InRecord, Input, OutRecord, Outputs, Processor, ProcessorFactory, StepError, TopicPartition,
    TopicRecord, UnitId,
};
use runtime::spill::Spills;
use schemas::topic::Names;
use schemas::{Codec, Duplicate, EntityTiles, Entry, Label, Place, Protobuf};

use crate::config::Config;
use crate::core::AHEAD;
use crate::declared::{Declarations, Declared, NotFollowed};
use crate::out::{Counts, Silent, Sink};
use crate::plan::Plan;
use crate::snapshot::FORMAT;
use crate::telemetry;
use crate::vector::VectorView;

/// What the logs of partitions have been found to declare where no core was folded for it, by unit and offset.
type Heard = Arc<Mutex<BTreeMap<UnitId, BTreeMap<i64, Declarations>>>>;

/// Makes one fold per partition of `events`.
#[derive(Debug, Clone)]
pub struct Factory {
    first: Declarations,
    names: Arc<Names>,
    heard: Heard,
    /// Where users go who do not fit into memory.
    spills: Option<Spills>,
}

/// The factory of the service `features`; `config` is what was declared before the log declared anything.
///
/// # Errors
/// Declarations that cannot be meant.
pub fn factory(config: &Config, names: &Names) -> Result<Factory, NotFollowed> {
    let (first, names) = (Declarations::of(config)?, Arc::new(names.clone()));
    Ok(Factory { first, names, heard: Heard::default(), spills: None })
}

impl Factory {
    /// Its cores let users go out of memory into these.
    #[must_use]
    pub fn spilling(self, spills: Spills) -> Self {
        Self { spills: Some(spills), ..self }
    }

    /// The plan that its cores follow before the log declares anything.
    pub fn plan(&self) -> &Arc<Plan> {
        self.first.plan()
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
        // A snapshot says which declarations were in force in it.
        let parts = [self.first.fingerprint(), u64::from(FORMAT)];
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
        Some(xxhash_rust::xxh3::xxh3_64(&bytes))
    }

    fn create(&self, unit: UnitId, snapshot: Option<&[u8]>) -> Result<Box<dyn Processor>, StepError> {
        let partition = unit.0 as i32;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let coming = heard.get(&unit);
        let declared = match snapshot {
            Some(_) if coming.is_some() => {
                return Err(StepError::new(
                    "declarations come after it that read the log from its beginning",
                ));
            }
            Some(bytes) => Declared::restore(partition, bytes, self.spills.as_ref()),
            None => Declared::new(
                &self.first,
                coming.unwrap_or(&BTreeMap::new()),
                partition,
                self.spills.as_ref(),
            ),
        };
        Ok(Box::new(Features {
            declared: declared.map_err(StepError::new)?,
            unit,
            heard: Arc::clone(&self.heard),
            names: Arc::clone(&self.names),
            told: Counts::default(),
            warned: false,
            anew: false,
            written: 0,
            pages: Pages::default(),
        }))
    }
}

struct Features {
    declared: Declared,
    unit: UnitId,
    heard: Heard,
    names: Arc<Names>,
    /// What telemetry has been told.
    told: Counts,
    /// Whether it was said that the version of shared entities is far behind.
    warned: bool,
    /// Whether it has asked to be built anew.
    anew: bool,
    /// Bytes of the image under way that have been given.
    written: usize,
    /// Where outputs lie until they are sent.
    pages: Pages,
}

impl Processor for Features {
    fn step(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        let (names, partition) = (Arc::clone(&self.names), self.declared.core().partition());
        let mut pages = std::mem::take(&mut self.pages);
        let mut sink = Encoder { names: &names, partition, pages: &mut pages, records: &mut out.records };
        let folded = self.fold(records, &mut sink);
        self.pages = pages;
        out.rebuild = folded?;
        Ok(())
    }

    /// Vectors, and what goes to the merge, are not made.
    fn replay(&mut self, input: Input<'_>, out: &mut Outputs) -> Result<(), StepError> {
        let Input::Records { records, .. } = input else { return Ok(()) };
        out.rebuild = self.fold(records, &mut Silent)?;
        Ok(())
    }

    fn image(&mut self) -> Option<&mut dyn Image> {
        // What is folded for declarations that come is made again by the log.
        if self.declared.awaits() { None } else { Some(self) }
    }
}

impl Features {
    /// Folds records; whether it must be built anew.
    fn fold(&mut self, records: &[InRecord], sink: &mut impl Sink) -> Result<bool, StepError> {
        let awaited = self.declared.awaits();
        // Read one over the other: an event has a dozen texts.
        let mut entries: [Entry; AHEAD] = std::array::from_fn(|_| Entry::Event(Box::default()));
        for records in records.chunks(AHEAD) {
            for (record, entry) in records.iter().zip(&mut entries) {
                read(&record.record, entry)?;
            }
            if records.len() == AHEAD {
                self.declared.look_ahead(&entries);
            }
            for (record, entry) in records.iter().zip(&entries) {
                let place = place_of(&record.record);
                let before = self.declared.in_force().fingerprint();
                let unknown = self.declared.step(entry, place, sink);
                let unknown = unknown.map_err(|error| StepError::new(format!("events {place}: {error}")))?;
                if let Some(unknown) = unknown {
                    self.hear(place.offset, unknown);
                    return Ok(true);
                }
                telemetry::declared(place, before, self.declared.in_force().fingerprint());
            }
        }
        self.check()?;
        if awaited && !self.declared.awaits() {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.unit);
        }
        let core = self.declared.core();
        let (partition, counts) = (core.partition(), core.counts());
        telemetry::folded(partition, self.told, counts);
        telemetry::state(partition, core.users(), core.timers(), core.clock_ms());
        telemetry::cold(partition, core.cold_users());
        if let Some(behind_ms) = core.version_behind_ms() {
            telemetry::version_behind(partition, behind_ms, core.slowest_source(), &mut self.warned);
        }
        self.told = counts;
        Ok(false)
    }

    /// Nothing may go out of a core that misses a part of its state.
    fn check(&mut self) -> Result<(), StepError> {
        self.declared.take_failure().map_or(Ok(()), |error| Err(StepError::new(error)))
    }

    /// Remembers that the log declares this there, for the fold that begins anew.
    fn hear(&mut self, offset: i64, declarations: Declarations) {
        self.anew = true;
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.entry(self.unit).or_default().insert(offset, declarations);
    }
}

impl Image for Features {
    fn begin(&mut self, whole: bool) {
        self.declared.begin_image(whole);
        self.written = 0;
    }

    fn next_part(&mut self, bytes: usize) -> Result<Option<Vec<u8>>, StepError> {
        let part = self.declared.next_part(bytes);
        self.check()?;
        if let Some(part) = &part {
            self.written += part.len();
        } else {
            let core = self.declared.core();
            telemetry::snapshot_taken(core.partition(), core.users(), self.written, core.state_bytes());
        }
        Ok(part)
    }
}

impl Drop for Features {
    /// What comes is forgotten with the fold that awaited it: whoever folds the partition next meets it in the
    /// log, if it is not in the snapshot that it begins with.
    fn drop(&mut self) {
        if self.declared.awaits() && !self.anew {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.unit);
        }
    }
}

fn place_of(record: &TopicRecord) -> Place {
    Place { partition: record.partition, offset: record.offset }
}

fn read(record: &TopicRecord, into: &mut Entry) -> Result<(), StepError> {
    let place = place_of(record);
    let value = record.value.as_ref();
    let value = value.ok_or_else(|| StepError::new(format!("events {place} has no value")))?;
    into.read(value).map_err(|error| StepError::new(format!("events {place} cannot be read: {error}")))
}

/// Encodes outputs as they come.
struct Encoder<'a> {
    names: &'a Names,
    partition: i32,
    pages: &'a mut Pages,
    records: &'a mut Vec<OutRecord>,
}

impl Encoder<'_> {
    fn push(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        key: Option<&str>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        self.records.push(OutRecord {
            topic: Arc::clone(topic),
            partition: Some(partition),
            key: key.map(|key| self.pages.put(key.as_bytes())),
            value: Some(self.pages.write(write)),
            headers: Vec::new(),
        });
    }
}

impl Sink for Encoder<'_> {
    fn vector(&mut self, vector: &VectorView<'_>) {
        let topic = &self.names.feature_vectors;
        self.push(topic, self.partition, Some(&vector.event.user), |out| vector.encode(out));
    }

    fn label(&mut self, label: &Label) {
        let topic = &self.names.labels;
        self.push(topic, self.partition, Some(&label.user), |out| Protobuf::encode(label, out));
    }

    fn duplicate(&mut self, duplicate: Duplicate) {
        let topic = &self.names.duplicates;
        self.push(topic, self.partition, Some(&duplicate.user), |out| Protobuf::encode(&duplicate, out));
    }

    fn tiles(&mut self, tiles: EntityTiles) {
        self.push(&self.names.entity_tiles, 0, None, |out| Protobuf::encode(&tiles, out));
    }

    fn hours(&mut self, hours: EntityTiles) {
        self.tiles(hours);
    }
}
