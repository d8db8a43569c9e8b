//! Sends raw records when they are due, whatever became of those before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use market::Emission;
use runtime::kafka::Sender;
use runtime::processor::OutRecord;

use crate::context::Context;

/// How long the last records may take to be delivered.
const PATIENCE: Duration = Duration::from_secs(30);
/// The shortest sleep of the sender: what falls due meanwhile goes out together.
const NAP: Duration = Duration::from_micros(500);
/// Time between the start of the threads and the first record.
const AHEAD: Duration = Duration::from_millis(20);

/// When records are due.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) start: Instant,
    /// Records a second.
    pub(super) per_s: f64,
}

impl Pace {
    #[expect(clippy::disallowed_methods, reason = "a load generator goes by the wall clock")]
    pub(super) fn from_now(per_s: f64) -> Self {
        Self { start: Instant::now() + AHEAD, per_s }
    }

    pub(super) fn due(self, at: usize) -> Instant {
        self.start + Duration::from_secs_f64(at as f64 / self.per_s)
    }
}

/// Sends the records, at a pace or as fast as it can, and counts them.
///
/// # Errors
/// Records that are refused.
#[expect(clippy::disallowed_methods, reason = "a load generator goes by the wall clock")]
pub(super) fn send(
    context: &Context,
    sender: &Sender,
    records: impl IntoIterator<Item = Emission>,
    pace: Option<Pace>,
    sent: &AtomicU64,
) -> Result<()> {
    let prefix = &context.config.kafka.prefix;
    let topics = [schemas::topic::VIEWS, schemas::topic::CLICKS, schemas::topic::PURCHASES]
        .map(|name| (name, Arc::<str>::from(format!("{prefix}{name}"))));
    for (at, record) in records.into_iter().enumerate() {
        let wait = pace.map_or(Duration::ZERO, |pace| pace.due(at).saturating_duration_since(Instant::now()));
        if !wait.is_zero() {
            // This is the pace: nothing is due before. A latency counts from when a record was due.
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
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(sender.flush(PATIENCE)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_at_the_rate_whatever_came_before() {
        let pace = Pace::from_now(200.0);
        assert_eq!(pace.due(0), pace.start);
        assert_eq!(pace.due(1), pace.start + Duration::from_millis(5));
        assert_eq!(pace.due(3_000), pace.start + Duration::from_secs(15));
    }
}
