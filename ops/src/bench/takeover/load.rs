//! What instances fold: a state of so many users, then views at a steady rate, and the vectors of these.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use runtime::kafka::Sender;
use runtime::processor::{OutRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use schemas::{Codec as _, Entry, Kind, Protobuf};

use crate::bench::features::workload::{self, Users};
use crate::context::Context;

/// Events of each user: a view, and clicks that make no vectors.
pub(super) const EVENTS_PER_USER: usize = 5;
/// Days over which they are spread.
const DAYS: i64 = 7;
/// Rows at a time.
const BATCH: usize = 1_000;
/// Between two views.
const EVERY: Duration = Duration::from_millis(5);
/// Views a second, at most.
pub(super) const PER_SECOND: f64 = 1_000.0 / EVERY.as_millis() as f64;
const SEED: u64 = 42;

/// Writes the state's events into the partition; the offset behind them.
///
/// # Errors
/// Records that are refused.
pub(super) fn fill(context: &Context, sender: &Sender, users: u32) -> Result<i64> {
    let mut rows = workload::rows(users as usize * EVENTS_PER_USER, DAYS, Users::InTurn(users), SEED)?;
    for (number, row) in rows.iter_mut().enumerate() {
        row.kind = if number.is_multiple_of(EVENTS_PER_USER) { Kind::View } else { Kind::Click };
    }
    let mut count = 1;
    send(context, sender, &workload::sources())?;
    for (number, rows) in rows.chunks(BATCH).enumerate() {
        for entry in workload::entries(rows, number * BATCH, true) {
            send(context, sender, &entry)?;
            count += 1;
        }
    }
    sender.flush(Duration::from_mins(1))?;
    Ok(count)
}

/// Sends views at a steady rate until told to stop.
///
/// # Errors
/// Records that are refused.
pub(super) fn trickle(context: &Context, sender: &Sender, users: u32, stop: &Shutdown) -> Result<()> {
    let filled = users as usize * EVENTS_PER_USER;
    let rows = workload::rows(100_000, 1, Users::InTurn(users), SEED + 1)?;
    for (number, row) in rows.into_iter().enumerate() {
        let mut row = row.later(DAYS);
        row.kind = Kind::View;
        for entry in workload::entries(&[row], filled + number, true) {
            send(context, sender, &entry)?;
        }
        // The time between is the rate that is measured at.
        if stop.sleep(EVERY) {
            return Ok(());
        }
    }
    bail!("the instances did not take over while 100000 views were sent")
}

fn send(context: &Context, sender: &Sender, entry: &Entry) -> Result<()> {
    let key = match entry {
        Entry::Event(event) => Some(Bytes::copy_from_slice(event.user.as_bytes())),
        Entry::Control(_) => None,
    };
    let topic = Arc::clone(&context.names.events);
    let value = Some(Protobuf::to_vec(entry).into());
    Ok(sender.send(&OutRecord { topic, partition: Some(0), key, value, headers: Vec::new() })?)
}

/// When vectors came out.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<Vec<Instant>>);

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes vectors that come from now on, until told to stop.
    ///
    /// # Errors
    /// A topic that cannot be read.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    pub(super) fn watch(&self, context: &Context, stop: &Shutdown) -> Result<()> {
        let topic = &context.names.feature_vectors;
        let mut reader = context.reader()?;
        let end = reader.end_offsets(topic)?.first().copied().unwrap_or(0);
        reader.assign(&[(TopicPartition { topic: Arc::clone(topic), partition: 0 }, end)])?;
        while !stop.is_set() {
            let came = reader.poll(1_000, Duration::from_millis(20))?.len();
            let now = Instant::now();
            self.lock().extend(std::iter::repeat_n(now, came));
        }
        Ok(())
    }

    /// How many came after a time.
    pub(super) fn after(&self, time: Instant) -> usize {
        let arrivals = self.lock();
        arrivals.len() - arrivals.partition_point(|arrival| *arrival <= time)
    }

    /// The longest time without any since the last before `time`: when it began and ended.
    pub(super) fn longest_silence(&self, time: Instant) -> Option<(Instant, Instant)> {
        let arrivals = self.lock();
        let from = arrivals.partition_point(|arrival| *arrival <= time).saturating_sub(1);
        let silences = arrivals[from..].windows(2).map(|pair| (pair[0], pair[1]));
        silences.max_by_key(|(began, ended)| *ended - *began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn the_longest_silence_is_looked_for_from_the_last_arrival_before() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let arrivals = Arrivals(Mutex::new([0, 900, 1_000, 1_400, 1_410].map(at).to_vec()));
        assert_eq!(arrivals.longest_silence(at(950)), Some((at(1_000), at(1_400))));
        assert_eq!(arrivals.longest_silence(at(10)), Some((at(0), at(900))));
        assert_eq!(arrivals.longest_silence(at(2_000)), None);
        assert_eq!((arrivals.after(at(900)), arrivals.after(at(1_410))), (3, 0));
    }
}
