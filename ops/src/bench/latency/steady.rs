//! A steady rate: records sent when they are due, whatever became of those before them, and their
//! predictions.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use hdrhistogram::Histogram;
use market::Emission;
use runtime::kafka::{Reader, Sender};
use runtime::processor::TopicPartition;
use runtime::shutdown::Shutdown;
use schemas::prediction::Status;
use schemas::{Codec, Json, Prediction};

use crate::bench::pace::{self, Pace};
use crate::context::{Context, PooledReader};

/// How long the last predictions may take.
const PATIENCE: Duration = Duration::from_secs(30);

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
        let pace = Pace::from_now(f64::from(rate));
        let (context, services, sender, reader) =
            (self.context, self.services, &self.sender, &mut self.reader);
        thread::scope(|scope| {
            let sending =
                scope.spawn(move || pace::send(context, sender, records, Some(pace), &AtomicU64::new(0)));
            let came = receive(reader, services, ids, pace, warm);
            let sent = sending.join().map_err(|_| anyhow!("the sending thread panicked"))?;
            sent.and(came)
        })
    }
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
            bail!("at {} records/s {} predictions are missing after {PATIENCE:?}", pace.per_s, ids.len());
        }
    }
    Ok(came)
}
