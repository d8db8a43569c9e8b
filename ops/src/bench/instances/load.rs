//! What instances of `features` fold: a state of so many users, then views at a steady rate.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use runtime::kafka::Sender;
use runtime::processor::OutRecord;
use runtime::shutdown::Shutdown;
use schemas::{Codec as _, Entry, Kind, Protobuf};

use crate::bench::features::workload::{self, Users};
use crate::context::Context;

/// Events of each user: a view, and clicks that make no vectors.
pub(in crate::bench) const EVENTS_PER_USER: usize = 5;
/// Days over which they are spread.
const DAYS: i64 = 7;
/// Rows at a time.
const BATCH: usize = 1_000;
/// Between two views of a partition, as a mean.
const EVERY: Duration = Duration::from_millis(5);
/// Views a second of a partition, at most.
pub(in crate::bench) const PER_SECOND: f64 = 1_000.0 / EVERY.as_millis() as f64;
/// Views of a partition after which there are no more: many times what a benchmark takes.
const MOST: usize = 100_000;
const SEED: u64 = 42;

/// Writes events as `ingest` would.
pub(in crate::bench) struct Load<'a> {
    context: &'a Context,
    sender: Sender,
    users: u32,
    partitions: usize,
}

impl<'a> Load<'a> {
    /// Of so many users, spread over the partitions of `events` by their keys.
    ///
    /// # Errors
    /// A client that cannot be made.
    pub(in crate::bench) fn new(context: &'a Context, users: u32) -> Result<Self> {
        let partitions = context.config.topics.internal_partitions.max(1) as usize;
        Ok(Self { context, sender: Sender::new(&context.config.kafka)?, users, partitions })
    }

    /// Writes the state's events; how many views are among them.
    ///
    /// # Errors
    /// Records that are refused.
    pub(in crate::bench) fn fill(&self) -> Result<u64> {
        let events = self.users as usize * EVENTS_PER_USER;
        let mut rows = workload::rows(events, DAYS, Users::InTurn(self.users), SEED)?;
        for (number, row) in rows.iter_mut().enumerate() {
            row.kind = if number.is_multiple_of(EVENTS_PER_USER) { Kind::View } else { Kind::Click };
        }
        self.send(&workload::sources())?;
        for (number, rows) in rows.chunks(BATCH).enumerate() {
            for entry in workload::entries(rows, number * BATCH, true) {
                self.send(&entry)?;
            }
        }
        self.sender.flush(Duration::from_mins(1))?;
        Ok(u64::from(self.users))
    }

    /// Sends views at a steady rate until told to stop; how many.
    ///
    /// # Errors
    /// Records that are refused, and instances that are not done for very long.
    pub(in crate::bench) fn trickle(&self, stop: &Shutdown) -> Result<u64> {
        let filled = self.users as usize * EVENTS_PER_USER;
        let rows = workload::rows(MOST * self.partitions, 1, Users::InTurn(self.users), SEED + 1)?;
        let mut sent = 0;
        for rows in rows.chunks(self.partitions) {
            for row in rows {
                let mut row = row.later(DAYS);
                row.kind = Kind::View;
                for entry in workload::entries(&[row], filled + sent, true) {
                    self.send(&entry)?;
                }
                sent += 1;
            }
            // The time between is the rate that is measured at.
            if stop.sleep(EVERY) {
                self.sender.flush(Duration::from_mins(1))?;
                return Ok(sent as u64);
            }
        }
        bail!("the instances were not done while {sent} views were sent")
    }

    /// An event to its user's partition, a control record to all.
    fn send(&self, entry: &Entry) -> Result<()> {
        let value = Bytes::from(Protobuf::to_vec(entry));
        let out = |partition, key| OutRecord {
            topic: Arc::clone(&self.context.names.events),
            partition,
            key,
            value: Some(value.clone()),
            headers: Vec::new(),
        };
        match entry {
            Entry::Event(event) => {
                Ok(self.sender.send(&out(None, Some(Bytes::copy_from_slice(event.user.as_bytes()))))?)
            }
            Entry::Control(_) => (0..self.partitions as i32)
                .try_for_each(|partition| Ok(self.sender.send(&out(Some(partition), None))?)),
        }
    }
}
