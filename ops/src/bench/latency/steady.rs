//! A steady rate: records sent when they are due, whatever became of those before them, and their
//! predictions.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use bytes::Bytes;
use hdrhistogram::Histogram;
use market::Emission;
use runtime::kafka::{Reader, Sender};
use runtime::processor::{OutRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use schemas::prediction::Status;
use schemas::{Codec, Json, Prediction};

use crate::context::{Context, PooledReader};

/// How long the last predictions may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest sleep of the sender: what falls due meanwhile goes out together.
const NAP: Duration = Duration::from_micros(500);
/// Time between the start of the threads and the first record.
const AHEAD: Duration = Duration::from_millis(20);

/// What came of one rate.
pub(super) struct Came {
    /// From the intended time of sending to the reading of the prediction, microseconds.
    pub(super) latency: Histogram<u64>,
    /// Predictions by a model, of all that came.
    pub(super) scored: u64,
    /// All that came, those of the warm-up included.
    pub(super) all: u64,
}

/// The deployment under load.
pub(super) struct Steady<'a> {
    context: &'a Context,
    services: &'a Shutdown,
    sender: Sender,
    reader: PooledReader<'a>,
}

impl<'a> Steady<'a> {
    /// Reads predictions from the first on.
    ///
    /// # Errors
    /// Clients that cannot be made, a cluster that does not answer.
    pub(super) fn new(context: &'a Context, services: &'a Shutdown) -> Result<Self> {
        let topic = &context.names.predictions;
        let mut reader = context.reader()?;
        let partitions = reader.end_offsets(topic)?.len();
        let starts: Vec<_> = (0..partitions)
            .map(|p| (TopicPartition { topic: Arc::clone(topic), partition: p as i32 }, 0))
            .collect();
        reader.assign(&starts)?;
        Ok(Self { context, services, sender: Sender::new(&context.config.kafka)?, reader })
    }

    /// Sends the records at `rate` a second and waits for a prediction of every impression; the first `warm`
    /// records are not measured.
    ///
    /// # Errors
    /// Records that are refused, predictions that do not come, a service that stops.
    pub(super) fn run(&mut self, records: Vec<Emission>, rate: u32, warm: usize) -> Result<Came> {
        let ids: HashMap<String, usize> = records
            .iter()
            .enumerate()
            .filter_map(|(at, record)| Some((record.truth.as_ref()?.event_id.clone(), at)))
            .collect();
        ensure!(!ids.is_empty(), "no impression in {} records: a longer run has some", records.len());
        let pace = Pace::from_now(rate);
        let (context, services, sender, reader) =
            (self.context, self.services, &self.sender, &mut self.reader);
        thread::scope(|scope| {
            let sending = scope.spawn(move || send(context, sender, records, pace));
            let came = receive(reader, services, ids, pace, warm);
            let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
            sent.and(came)
        })
    }
}

/// When records are due.
#[derive(Debug, Clone, Copy)]
struct Pace {
    start: Instant,
    rate: u32,
}

impl Pace {
    #[expect(clippy::disallowed_methods, reason = "a load generator goes by the wall clock")]
    fn from_now(rate: u32) -> Self {
        Self { start: Instant::now() + AHEAD, rate }
    }

    fn due(self, at: usize) -> Instant {
        self.start + Duration::from_secs_f64(at as f64 / f64::from(self.rate))
    }
}

#[expect(clippy::disallowed_methods, reason = "a load generator goes by the wall clock")]
fn send(context: &Context, sender: &Sender, records: Vec<Emission>, pace: Pace) -> Result<()> {
    let prefix = &context.config.kafka.prefix;
    let topics = [schemas::topic::VIEWS, schemas::topic::CLICKS, schemas::topic::PURCHASES]
        .map(|name| (name, Arc::<str>::from(format!("{prefix}{name}"))));
    for (at, record) in records.into_iter().enumerate() {
        let wait = pace.due(at).saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            // This is the pace: nothing is due before. The latency counts from when a record was due.
            thread::sleep(wait.max(NAP));
        }
        let topic = topics.iter().find(|(name, _)| *name == record.topic).map(|(_, topic)| Arc::clone(topic));
        sender.send(&OutRecord {
            topic: topic.ok_or_else(|| anyhow!("the market sends to {}", record.topic))?,
            partition: None,
            key: Some(Bytes::from(record.key)),
            value: Some(Bytes::from(record.value)),
            headers: Vec::new(),
        })?;
    }
    Ok(sender.flush(PATIENCE)?)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn receive(
    reader: &mut Reader,
    services: &Shutdown,
    mut ids: HashMap<String, usize>,
    pace: Pace,
    warm: usize,
) -> Result<Came> {
    // Microseconds, up to ten minutes.
    let latency = Histogram::new_with_bounds(1, 600_000_000, 3)?;
    let mut came = Came { latency, scored: 0, all: 0 };
    let last = ids.values().map(|at| pace.due(*at)).max().unwrap_or(pace.start);
    while !ids.is_empty() {
        let records = reader.poll(5_000, Duration::from_millis(20))?;
        let now = Instant::now();
        for record in records {
            let prediction: Prediction = Json::decode(&record.record.value.unwrap_or_default())?;
            // A repeat, at least once, is no second answer.
            let Some(at) = ids.remove(&prediction.event_id) else { continue };
            came.all += 1;
            came.scored += u64::from(prediction.status == Status::Scored);
            if at >= warm {
                let late = now.saturating_duration_since(pace.due(at));
                came.latency.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX).max(1));
            }
        }
        if services.is_set() {
            bail!("stopped: {}", services.failure().unwrap_or_default());
        }
        if now > last + PATIENCE {
            bail!("at {} records/s {} predictions are missing after {PATIENCE:?}", pace.rate, ids.len());
        }
    }
    Ok(came)
}
