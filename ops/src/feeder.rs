//! Sends raw records at the feed's pace, and never further ahead than the pipeline can follow.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use runtime::kafka::Sender;
use runtime::processor::OutRecord;
use runtime::shutdown::Shutdown;

use crate::feed::FeedRecord;
use crate::stages::Backlog;

/// How often the backlog is asked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The longest that a paced feed sleeps without looking whether it should end.
const SLICE: Duration = Duration::from_millis(100);

/// What a feeder has done so far; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Fed {
    /// Raw records sent.
    pub records: AtomicU64,
    /// The feed's clock, ms.
    pub clock_ms: AtomicI64,
}

/// How fast to feed.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Feed time that passes in one second of the wall clock, as a factor; `None`: full speed.
    pub speed: Option<f64>,
    /// Raw records sent and not yet scored (or refused) at which the feeder waits.
    pub max_backlog: i64,
}

/// Sends records until the feed ends or the shutdown is set.
pub struct Feeder<'a> {
    sender: &'a Sender,
    prefix: &'a str,
    pace: Pace,
    backlog: Backlog<'a>,
    fed: Arc<Fed>,
    shutdown: Shutdown,
}

impl<'a> Feeder<'a> {
    /// A feeder that writes through `sender`.
    pub fn new(
        sender: &'a Sender,
        prefix: &'a str,
        pace: Pace,
        backlog: Backlog<'a>,
        fed: Arc<Fed>,
        shutdown: Shutdown,
    ) -> Self {
        Self { sender, prefix, pace, backlog, fed, shutdown }
    }

    /// Feeds until the feed ends, `until` has passed or `stop` is set; `before` sees each record as
    /// it is sent.
    ///
    /// # Errors
    /// A record that cannot be sent, or a feed that cannot be read.
    #[expect(clippy::disallowed_methods, reason = "a feeder paces by the wall clock; no core sees it")]
    pub fn run(
        mut self,
        feed: impl Iterator<Item = Result<FeedRecord>>,
        until: Option<Duration>,
        stop: &Shutdown,
        mut before: impl FnMut(&FeedRecord),
    ) -> Result<()> {
        let topics = [schemas::topic::VIEWS, schemas::topic::CLICKS, schemas::topic::PURCHASES]
            .map(|name| (name, Arc::<str>::from(format!("{}{name}", self.prefix))));
        let began = Instant::now();
        let mut look = began;
        // The feed's clock counts only time in which the feeder was not held back.
        let mut anchor: Option<(Instant, i64)> = None;
        for record in feed {
            let record = record?;
            if self.shutdown.is_set() || until.is_some_and(|until| began.elapsed() >= until) {
                break;
            }
            if look.elapsed() >= LOOK_EVERY || self.pace.max_backlog < 1000 {
                if self.hold_back()? {
                    anchor = None;
                }
                look = Instant::now();
            }
            if let Some(speed) = self.pace.speed {
                let (since, from_ms) = *anchor.get_or_insert((Instant::now(), record.at_ms));
                let due = Duration::from_secs_f64(((record.at_ms - from_ms).max(0)) as f64 / 1000.0 / speed);
                // In slices, so that a slow feed still ends in time and at a signal. Waits shorter than
                // 2 ms add up to longer ones; sleeping for each would cost more than it paces.
                loop {
                    let wait = due.saturating_sub(since.elapsed());
                    if wait <= Duration::from_millis(2) {
                        break;
                    }
                    let over = until.is_some_and(|until| began.elapsed() >= until);
                    if over || stop.is_set() || self.shutdown.sleep(wait.min(SLICE)) {
                        return Ok(self.sender.flush(Duration::from_secs(30))?);
                    }
                }
            }
            before(&record);
            self.fed.clock_ms.fetch_max(record.at_ms, Ordering::Relaxed);
            self.fed.records.fetch_add(1, Ordering::Relaxed);
            // The array holds every topic that a feed names.
            let topic = topics.iter().find(|(name, _)| *name == record.topic).map(|(_, t)| Arc::clone(t));
            self.sender.send(&OutRecord {
                topic: topic.unwrap_or_else(|| Arc::from(format!("{}{}", self.prefix, record.topic))),
                partition: None,
                key: Some(Bytes::from(record.key)),
                value: Some(Bytes::from(record.value)),
                headers: Vec::new(),
            })?;
        }
        Ok(self.sender.flush(Duration::from_secs(30))?)
    }

    /// Waits until the pipeline has followed; whether it had to.
    fn hold_back(&mut self) -> Result<bool> {
        let mut held = false;
        while self.backlog.now()? > self.pace.max_backlog {
            held = true;
            if self.shutdown.sleep(Duration::from_millis(20)) {
                break;
            }
        }
        Ok(held)
    }
}
