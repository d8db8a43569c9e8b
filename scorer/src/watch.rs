//! Follows the announcements on `models` and swaps the model served: one thread beside the workers.
//! A bad model is refused and said so; the last good one keeps serving.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use runtime::config::Kafka;
use runtime::kafka::{Isolation, Reader};
use runtime::processor::{InRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use runtime::store::Store;
use schemas::{Codec, Json, ModelAnnouncement};

use crate::loaded::Loaded;
use crate::slot::Slot;
use crate::{Error, Lookup, telemetry};

/// How long the first look at `models` may take before scoring starts without it.
const FIRST_LOOK: u32 = 100;
/// One poll of the first look.
const FIRST_POLL: Duration = Duration::from_millis(100);
/// One poll later.
const POLL: Duration = Duration::from_millis(500);
/// Pause after the broker or the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Turns announcements into the model served. Knows no Kafka: is told what was announced.
#[derive(Clone)]
pub struct Watcher {
    store: Store,
    slot: Slot,
    model: String,
    lookup: Lookup,
    /// Announced, and not yet tried because the store could not be read.
    pending: Option<ModelAnnouncement>,
}

impl Watcher {
    /// Follows the model of that name, for vectors of any schema that `lookup` finds.
    pub fn new(store: Store, slot: Slot, model: &str, lookup: Lookup) -> Self {
        Self { store, slot, model: model.to_owned(), lookup, pending: None }
    }

    /// Notes what was announced; of several of this model, the last. Call [`Watcher::settle`] next.
    pub fn note(&mut self, key: Option<&Bytes>, value: Option<&Bytes>) {
        if key.is_some_and(|key| key.as_ref() != self.model.as_bytes()) {
            return;
        }
        // A tombstone withdraws the announcement, not the model that serves.
        let Some(value) = value else { return };
        match Json::decode(value) {
            Ok(announcement) => {
                let announcement: ModelAnnouncement = announcement;
                if announcement.name == self.model {
                    self.pending = Some(announcement);
                }
            }
            Err(error) => telemetry::unreadable(&error),
        }
    }

    /// Loads and swaps in what was noted last. Blocks. Whether the model served has changed.
    ///
    /// # Errors
    /// [`Error::Refused`] for a model that must not be served: it is dropped; [`Error::Store`] and
    /// [`Error::Schemas`] if it could not be read now: call again later.
    pub fn settle(&mut self) -> Result<bool, Error> {
        let Some(announced) = self.pending.take() else { return Ok(false) };
        let current = self.slot.get();
        if current.as_ref().is_some_and(|loaded| {
            loaded.version == announced.model_version && loaded.checksum == announced.checksum
        }) {
            return Ok(false);
        }
        match self.load(&announced) {
            Ok(loaded) => {
                let loaded = Arc::new(loaded);
                let before = self.slot.put(Arc::clone(&loaded));
                telemetry::swapped(before.as_deref(), &loaded);
                Ok(true)
            }
            Err(error @ (Error::Store(_) | Error::Schemas { .. })) => {
                self.pending = Some(announced);
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn load(&self, announced: &ModelAnnouncement) -> Result<Loaded, Error> {
        let refused = |what: String| Error::Refused {
            version: announced.model_version.clone(),
            uri: announced.uri.clone(),
            what,
        };
        let fingerprint = u64::from_str_radix(&announced.fingerprint, 16)
            .map_err(|_| refused(format!("{:?} is no fingerprint of a schema", announced.fingerprint)))?;
        let schema = (self.lookup)(fingerprint).map_err(|what| Error::Schemas { fingerprint, what })?;
        if schema.is_none() {
            return Err(refused(format!(
                "it reads vectors of schema {fingerprint:016x}, which nobody has declared"
            )));
        }
        let loaded =
            Loaded::read(&self.store, &announced.uri, &announced.model_version, &announced.checksum)?;
        let found = loaded.model.schema_fingerprint();
        if found != fingerprint {
            return Err(refused(format!(
                "it was announced for schema {fingerprint:016x} and reads {found:016x}"
            )));
        }
        Ok(loaded)
    }

    /// Settles, and says what went wrong. Whether it is worth another try soon.
    fn try_settle(&mut self) -> bool {
        match self.settle() {
            Ok(_) => false,
            Err(error @ Error::Refused { .. }) => {
                telemetry::refused(&error);
                false
            }
            Err(error) => {
                telemetry::watch_failed(&error);
                true
            }
        }
    }

    fn note_all(&mut self, records: &[InRecord]) {
        for record in records {
            self.note(record.record.key.as_ref(), record.record.value.as_ref());
        }
    }
}

/// Reads `models` to its end, tries the last announcement, and leaves a thread that follows.
///
/// # Errors
/// The cluster cannot be reached, or has no such topic.
pub(crate) fn start(
    mut watcher: Watcher,
    kafka: &Kafka,
    topic: &Arc<str>,
    shutdown: &Shutdown,
) -> Result<JoinHandle<()>, Error> {
    let (mut reader, ends) = open(kafka, topic)?;
    for _ in 0..FIRST_LOOK {
        let read = |(partition, at): &(TopicPartition, i64)| {
            ends.get(partition.partition.unsigned_abs() as usize).is_none_or(|end| at >= end)
        };
        if shutdown.is_set() || reader.positions().iter().all(read) {
            break;
        }
        watcher.note_all(&reader.poll(1_000, FIRST_POLL)?);
    }
    watcher.try_settle();
    let (kafka, topic, shutdown) = (kafka.clone(), Arc::clone(topic), shutdown.clone());
    std::thread::Builder::new()
        .name("scorer-models".to_owned())
        .spawn(move || follow(&mut watcher, reader, &kafka, &topic, &shutdown))
        .map_err(Error::Thread)
}

/// A reader at the beginning of `models`, and where its partitions end.
fn open(kafka: &Kafka, topic: &Arc<str>) -> Result<(Reader, Vec<i64>), Error> {
    let mut reader = Reader::new(kafka, Isolation::ReadCommitted)?;
    let begins = reader.begin_offsets(topic)?;
    let ends = reader.end_offsets(topic)?;
    let partitions: Vec<(TopicPartition, i64)> = (0..)
        .zip(begins)
        .map(|(partition, begin)| (TopicPartition { topic: Arc::clone(topic), partition }, begin))
        .collect();
    reader.assign(&partitions)?;
    Ok((reader, ends))
}

/// Follows until everything stops. A failing broker is waited for: what serves goes on serving.
fn follow(watcher: &mut Watcher, reader: Reader, kafka: &Kafka, topic: &Arc<str>, shutdown: &Shutdown) {
    let mut reader = Some(reader);
    while !shutdown.is_set() {
        let polled = match &mut reader {
            Some(reader) => reader.poll(1_000, POLL).map_err(Error::from),
            // From the beginning: the topic is compacted, and repeats change nothing.
            None => open(kafka, topic).map(|(opened, _)| {
                reader = Some(opened);
                Vec::new()
            }),
        };
        let again = match polled {
            Ok(records) => {
                watcher.note_all(&records);
                watcher.try_settle()
            }
            Err(error) => {
                telemetry::watch_failed(&error);
                reader = None;
                true
            }
        };
        if again && shutdown.sleep(PAUSE) {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use runtime::processor::{Input, Outputs, ProcessorFactory as _, UnitId};
    use schemas::table::TopicRecord;
    use schemas::topic::Names;
    use schemas::{Prediction, Protobuf};

    use super::*;
    use crate::testing::{artefact, config, declared, publish, schema, vector};
    use crate::{Factory, fallback};

    fn announce(watcher: &mut Watcher, announcement: &ModelAnnouncement) -> Result<bool, Error> {
        let key = Bytes::from(announcement.name.clone());
        watcher.note(Some(&key), Some(&Json::to_vec(announcement).into()));
        watcher.settle()
    }

    fn served(slot: &Slot) -> Option<String> {
        slot.get().map(|loaded| loaded.version.clone())
    }

    #[test]
    fn a_bad_model_is_refused_and_the_last_good_one_keeps_serving() {
        let schema = schema(&["user_views_7d", "user_clicks_7d"]);
        let store = Store::open("memory://").unwrap();
        let slot = Slot::new();
        let mut watcher = Watcher::new(store.clone(), slot.clone(), "default", declared(&schema));
        let good = publish(&store, "v000001", &schema, &artefact(&schema, 1));
        assert!(announce(&mut watcher, &good).unwrap());
        assert_eq!(served(&slot).as_deref(), Some("v000001"));
        // Announced again: nothing to do.
        assert!(!announce(&mut watcher, &good).unwrap());

        // One bit of the weights.
        let next = publish(&store, "v000002", &schema, &artefact(&schema, 2));
        for file in model::Artefact::FILES {
            let path = format!("{}/{file}", next.uri);
            let whole = store.get_blocking(&path).unwrap().unwrap();
            let mut bent = whole.to_vec();
            let middle = bent.len() / 2;
            bent[middle] ^= 1;
            store.put_blocking(&path, bent.into()).unwrap();
            let error = announce(&mut watcher, &next).unwrap_err();
            assert!(
                matches!(&error, Error::Refused { version, .. } if version == "v000002"),
                "{file}: {error}"
            );
            assert_eq!(served(&slot).as_deref(), Some("v000001"));
            store.delete_blocking(&path).unwrap();
            assert!(announce(&mut watcher, &next).is_err(), "{file} is missing");
            store.put_blocking(&path, whole).unwrap();
        }
        // Another artefact than the one announced.
        let swapped = ModelAnnouncement { checksum: good.checksum.clone(), ..next.clone() };
        assert!(announce(&mut watcher, &swapped).is_err());
        // A model of other vectors.
        let other = crate::testing::schema(&["user_views_7d"]);
        let foreign = publish(&store, "v000003", &other, &artefact(&other, 1));
        assert!(announce(&mut watcher, &foreign).unwrap_err().to_string().contains("schema"));
        let lying = ModelAnnouncement { fingerprint: good.fingerprint.clone(), ..foreign };
        assert!(announce(&mut watcher, &lying).is_err());
        // Bytes that are no announcement, other names, tombstones.
        watcher.note(Some(&"default".into()), Some(&"{".into()));
        watcher.note(Some(&"default".into()), None);
        let elsewhere = ModelAnnouncement { name: "other".into(), ..next.clone() };
        assert!(!announce(&mut watcher, &elsewhere).unwrap());
        assert_eq!(served(&slot).as_deref(), Some("v000001"));

        assert!(announce(&mut watcher, &next).unwrap());
        assert_eq!(served(&slot).as_deref(), Some("v000002"));
    }

    #[test]
    fn a_swap_in_mid_stream_names_the_right_version() {
        let schema = schema(&["user_views_7d", "user_clicks_7d"]);
        let store = Store::open("memory://").unwrap();
        let slot = Slot::new();
        let names = Names::new("test-");
        let factory = Factory::new(&config(), declared(&schema), &names, slot.clone());
        let mut watcher = Watcher::new(store.clone(), slot, "default", declared(&schema));
        let mut processor = factory.create(UnitId(3), None).unwrap();
        let record = |offset: i64| {
            let mut vector = vector(&schema, &[offset as f32, 1.0]);
            vector.place.offset = offset;
            InRecord {
                topic: Arc::clone(&names.feature_vectors),
                record: TopicRecord {
                    partition: 3,
                    offset,
                    timestamp_ms: 0,
                    key: Some("u".into()),
                    value: Some(Protobuf::to_vec(&vector).into()),
                    headers: Vec::new(),
                },
            }
        };
        let mut step = |from: i64| -> Vec<Prediction> {
            let records: Vec<_> = (from..from + 5).map(record).collect();
            let mut out = Outputs::default();
            processor.step(Input::Records { records: &records, now_ms: 9 }, &mut out).unwrap();
            assert!(out.records.iter().all(|r| *r.topic == *"test-predictions" && r.partition.is_none()));
            out.records
                .iter()
                .map(|r| {
                    let prediction: Prediction = Json::decode(r.value.as_ref().unwrap()).unwrap();
                    assert_eq!(r.key.as_ref().unwrap().as_ref(), prediction.campaign.as_bytes());
                    prediction
                })
                .collect()
        };
        let mut all = step(0);
        for (at, version) in ["v000001", "v000002"].iter().enumerate() {
            let artefact = artefact(&schema, at as u64 + 1);
            assert!(announce(&mut watcher, &publish(&store, version, &schema, &artefact)).unwrap());
            all.extend(step(5 * (at as i64 + 1)));
        }
        let versions: Vec<&str> = all.iter().map(|p| p.model_version.as_str()).collect();
        assert_eq!(versions[..5], [fallback::VERSION; 5]);
        assert_eq!(versions[5..10], ["v000001"; 5]);
        assert_eq!(versions[10..], ["v000002"; 5]);
        assert_eq!(all.iter().map(|p| p.place.offset).collect::<Vec<_>>(), (0..15).collect::<Vec<_>>());
        assert_ne!(all[5].model_checksum, all[10].model_checksum);
    }

    #[test]
    fn vectors_of_declarations_that_came_later_are_looked_up_once() {
        let (ours, other) =
            (schema(&["user_views_7d", "user_clicks_7d"]), schema(&["user_clicks_7d", "user_views_7d"]));
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let lookup = {
            let asked = Arc::clone(&asked);
            let schemas = [ours.clone(), other.clone()];
            move |fingerprint| {
                asked.lock().unwrap().push(fingerprint);
                let found = schemas.iter().find(|schema| schema.fingerprint() == fingerprint);
                if found.is_some() || fingerprint == 7 { Ok(found.cloned()) } else { Err("away".to_owned()) }
            }
        };
        let names = Names::new("");
        let factory = Factory::new(&config(), Arc::new(lookup), &names, Slot::new());
        let mut processor = factory.create(UnitId(0), None).unwrap();
        let mut rates = |vectors: &[schemas::FeatureVector]| {
            let records = vectors.iter().map(|vector| InRecord {
                topic: Arc::clone(&names.feature_vectors),
                record: TopicRecord {
                    partition: 0,
                    offset: 0,
                    timestamp_ms: 0,
                    key: None,
                    value: Some(Protobuf::to_vec(vector).into()),
                    headers: Vec::new(),
                },
            });
            let records: Vec<_> = records.collect();
            let mut out = Outputs::default();
            processor.step(Input::Records { records: &records, now_ms: 9 }, &mut out)?;
            let click = |record: &runtime::processor::OutRecord| {
                <Json as Codec<Prediction>>::decode(record.value.as_ref().unwrap()).unwrap().p_click
            };
            Ok::<Vec<f32>, runtime::processor::StepError>(out.records.iter().map(click).collect())
        };
        let unknown = schemas::FeatureVector { fingerprint: 7, ..vector(&ours, &[80.0, 9.0]) };
        let all = [vector(&ours, &[80.0, 9.0]), vector(&other, &[9.0, 80.0]), unknown];
        assert_eq!(rates(&all).unwrap(), [0.1, 0.1, 0.05]);
        assert_eq!(rates(&all).unwrap(), [0.1, 0.1, 0.05]);
        assert_eq!(*asked.lock().unwrap(), [ours.fingerprint(), other.fingerprint(), 7]);
        let lost = schemas::FeatureVector { fingerprint: 8, ..vector(&ours, &[80.0, 9.0]) };
        assert!(rates(&[lost]).unwrap_err().what.contains("away"));
    }

    #[test]
    fn what_is_no_vector_stops_the_service_and_says_where() {
        let schema = schema(&["user_views_7d"]);
        let names = Names::new("");
        let factory = Factory::new(&config(), declared(&schema), &names, Slot::new());
        let mut processor = factory.create(UnitId(0), None).unwrap();
        for value in [None, Some(Bytes::from_static(b"\x09junk"))] {
            let record = InRecord {
                topic: Arc::clone(&names.feature_vectors),
                record: TopicRecord {
                    partition: 4,
                    offset: 11,
                    timestamp_ms: 0,
                    key: None,
                    value,
                    headers: Vec::new(),
                },
            };
            let mut out = Outputs::default();
            let error = processor
                .step(Input::Records { records: &[record], now_ms: 0 }, &mut out)
                .expect_err("refused")
                .to_string();
            assert!(error.contains("feature-vectors[4] offset 11"), "{error}");
        }
    }

    #[test]
    fn the_defaults_are_good() {
        config().check().unwrap();
        let bad = crate::Config { micro_batch: 0, ..config() };
        assert!(bad.check().unwrap_err().to_string().contains("scorer.micro_batch"));
    }
}
