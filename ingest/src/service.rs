//! The shell: reads the catalogue, finds out how many partitions there are, and runs the workers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use runtime::kafka::{Isolation, KafkaError, Reader};
use runtime::processor::{InRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use runtime::worker::{Settings, WorkerError};
use schemas::topic::Names;
use schemas::{Codec, Control, Entry, Protobuf};

use crate::catalogue::{Catalogue, SharedCatalogue};
use crate::processor::{RawPartitions, factory};
use crate::skew::SharedTold;
use crate::{Config, ConfigError, PseudonymKey, telemetry};

/// Records of the catalogue taken at once, under one lock.
const CATALOGUE_BATCH: usize = 1_000;
/// How long one poll of the catalogue waits.
const CATALOGUE_POLL: Duration = Duration::from_millis(100);
/// Polls without a record after which what is left of the catalogue is no records.
const CATALOGUE_QUIET_POLLS: u32 = 30;
/// Records of `events` taken at once by the one that listens to ticks, and how long one poll of it waits.
const TICKS_BATCH: usize = 1_000;
const TICKS_POLL: Duration = Duration::from_millis(100);
/// How long they wait after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Why ingest stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The section cannot be used (fatal).
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster refused or failed.
    #[error("ingest: {0}")]
    Kafka(#[source] Box<KafkaError>),
    /// The workers stopped.
    #[error(transparent)]
    Worker(Box<WorkerError>),
    /// A thread could not be started.
    #[error("ingest: cannot start a thread that reads beside the workers: {0} (retry)")]
    Thread(std::io::Error),
}

impl From<KafkaError> for RunError {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(Box::new(error))
    }
}

impl From<WorkerError> for RunError {
    fn from(error: WorkerError) -> Self {
        Self::Worker(Box::new(error))
    }
}

/// Runs ingest until `shutdown` is set or it fails; blocks. The key is the caller's to load
/// ([`PseudonymKey::load`]) or to make up.
///
/// # Errors
/// Why it stopped. Input never stops it.
pub fn run(
    config: &Config,
    key: &PseudonymKey,
    settings: &Settings,
    shutdown: Shutdown,
) -> Result<(), RunError> {
    config.check()?;
    let names = Names::new(&settings.kafka.prefix);
    let mut reader = Reader::new(&settings.kafka, Isolation::ReadCommitted)?;
    let count = |topic: &Arc<str>| -> Result<i32, RunError> {
        let count = reader.partitions(topic)?;
        Ok(count.ok_or_else(|| KafkaError::NoTopic { topic: topic.to_string() })?)
    };
    let raw_partitions = RawPartitions {
        views: count(&names.views)?,
        clicks: count(&names.clicks)?,
        purchases: count(&names.purchases)?,
    };
    let events_partitions = count(&names.events)?;
    let events = Arc::clone(&names.events);

    let catalogue = SharedCatalogue::new(Catalogue::new(config));
    let has_catalogue = load_in_time(&mut reader, &names.items, &catalogue, &shutdown)?;
    let factory = factory(config, names, raw_partitions, events_partitions, key, catalogue.clone())?;

    let ticks = (config.max_skew.0 > 0)
        .then(|| Reader::new(&settings.kafka, Isolation::ReadCommitted))
        .transpose()?;
    let done = Shutdown::new();
    let refresher = has_catalogue.then(|| {
        let (interval, done) = (config.catalogue_refresh.as_duration(), done.clone());
        beside("ingest-catalogue", move || refresh(reader, &catalogue, interval, &done))
    });
    let listener = ticks.map(|reader| {
        let (told, done) = (factory.told().clone(), done.clone());
        beside("ingest-ticks", move || listen(reader, &events, &told, &done))
    });
    let threads: Result<Vec<_>, _> = [refresher, listener].into_iter().flatten().collect();
    let threads = threads.inspect_err(|_| done.set())?;
    let result = runtime::worker::run("ingest", Arc::new(factory), settings, shutdown);
    done.set();
    for thread in threads {
        // It returns within one poll; if it panicked, that has been told, and the workers went on with what
        // they knew.
        let _ = thread.join();
    }
    Ok(result?)
}

/// A thread that reads beside the workers.
fn beside(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, RunError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(RunError::Thread)
}

/// As [`load`]; again where the cluster, which has just answered, does not answer now.
fn load_in_time(
    reader: &mut Reader,
    topic: &Arc<str>,
    catalogue: &SharedCatalogue,
    shutdown: &Shutdown,
) -> Result<bool, KafkaError> {
    loop {
        match load(reader, topic, catalogue, shutdown) {
            Err(error) if error.is_retriable() => {
                telemetry::catalogue_waits(&error);
                if shutdown.sleep(RETRY) {
                    return Ok(false);
                }
            }
            loaded => return loaded,
        }
    }
}

/// Reads the catalogue up to the end that it has now; `false` where there is no such topic.
fn load(
    reader: &mut Reader,
    topic: &Arc<str>,
    catalogue: &SharedCatalogue,
    shutdown: &Shutdown,
) -> Result<bool, KafkaError> {
    if reader.partitions(topic)?.is_none() {
        return Ok(false);
    }
    let place = |partition: i32| TopicPartition { topic: Arc::clone(topic), partition };
    let begins = reader.begin_offsets(topic)?;
    let ends = reader.end_offsets(topic)?;
    let mut unread: BTreeMap<TopicPartition, i64> = (0..)
        .zip(begins.iter().zip(ends))
        .filter(|(_, (begin, end))| *begin < end)
        .map(|(partition, (_, end))| (place(partition), end))
        .collect();
    let assignment: Vec<(TopicPartition, i64)> =
        (0..).zip(begins).map(|(partition, begin)| (place(partition), begin)).collect();
    reader.assign(&assignment)?;
    let mut quiet_polls = 0;
    while !unread.is_empty() && !shutdown.is_set() {
        let records = reader.poll(CATALOGUE_BATCH, CATALOGUE_POLL)?;
        apply(catalogue, &records);
        for (partition, next) in reader.fetched() {
            if unread.get(&partition).is_some_and(|end| next >= *end) {
                unread.remove(&partition);
            }
        }
        quiet_polls = if records.is_empty() { quiet_polls + 1 } else { 0 };
        if quiet_polls >= CATALOGUE_QUIET_POLLS {
            // Nothing is left but markers and aborted records, if the broker still answers.
            reader.end_offsets(topic)?;
            break;
        }
    }
    Ok(true)
}

/// Keeps the catalogue fresh. A failure leaves it as it is and is tried again.
fn refresh(mut reader: Reader, catalogue: &SharedCatalogue, interval: Duration, done: &Shutdown) {
    while !done.sleep(interval) {
        loop {
            match reader.poll(CATALOGUE_BATCH, CATALOGUE_POLL) {
                Ok(records) if records.is_empty() => break,
                Ok(records) => apply(catalogue, &records),
                Err(error) => {
                    telemetry::catalogue_stale(&error);
                    break;
                }
            }
            if done.is_set() {
                return;
            }
        }
    }
}

/// Listens to what ticks tell of the sources of others, while a worker asks. When it cannot hear, nobody is
/// waited for.
fn listen(mut reader: Reader, events: &Arc<str>, told: &SharedTold, done: &Shutdown) {
    let mut listens = false;
    while !done.is_set() {
        if !told.read().is_asked() {
            done.sleep(TICKS_POLL);
            continue;
        }
        let heard = if listens { hear(&mut reader, told) } else { begin(&mut reader, events) };
        listens = heard.is_ok();
        if let Err(error) = heard {
            telemetry::deaf(&error);
            told.forget();
            done.sleep(RETRY);
        }
    }
}

/// Begins at the end: what a source told before says nothing of whether somebody reads it now. Ticks go to
/// every partition, so that one tells of all.
fn begin(reader: &mut Reader, events: &Arc<str>) -> Result<(), KafkaError> {
    let end = reader.end_offsets(events)?.first().copied().unwrap_or(0);
    reader.assign(&[(TopicPartition { topic: Arc::clone(events), partition: 0 }, end)])
}

fn hear(reader: &mut Reader, told: &SharedTold) -> Result<(), KafkaError> {
    let records = reader.poll(TICKS_BATCH, TICKS_POLL)?;
    // Events have a key.
    let values = records.iter().filter(|record| record.record.key.is_none());
    let values = values.filter_map(|record| record.record.value.as_ref());
    let controls: Vec<Control> = values
        .filter_map(|value| match Protobuf::decode(value) {
            Ok(Entry::Control(control)) => Some(control),
            // What cannot be read stops the services that have to.
            Ok(Entry::Event(_)) | Err(_) => None,
        })
        .collect();
    told.fold(&controls);
    Ok(())
}

fn apply(catalogue: &SharedCatalogue, records: &[InRecord]) {
    if records.is_empty() {
        return;
    }
    let size = {
        let mut catalogue = catalogue.write();
        for InRecord { record, .. } in records {
            if let Err(error) = catalogue.apply(record) {
                telemetry::item_left_out(record.offset, record.partition, error);
            }
        }
        catalogue.len()
    };
    telemetry::catalogue_size(size);
}
