//! What a command's answer changes.

use std::collections::BTreeSet;

use super::super::unit::Unit;
use super::super::{CoreError, Delivery, Failure};
use super::{Asked, Core, Transaction};
use crate::processor::UnitId;

/// How long after a first abort nothing is begun again, ms; doubled with each further one.
const FIRST_BACKOFF_MS: u64 = 10;
/// How often it is doubled.
const LONGEST_BACKOFF: u32 = 6;

impl Core {
    pub(super) fn done(&mut self) {
        match self.asked.take() {
            Some(Asked::Begin) => self.advance_to(Transaction::Open),
            Some(Asked::Offsets) => self.advance_to(Transaction::Offered),
            Some(Asked::Commit | Asked::CommitOffsets) => self.committed(),
            Some(Asked::Flush) => self.outbox.settle(self.outbox.sent()),
            Some(Asked::Abort) => self.aborted(),
            Some(Asked::Consume) => {
                self.rebuild.consumed();
                if !self.owned.is_empty() {
                    self.parked.clear();
                }
                self.paused.clear();
            }
            Some(Asked::Leave) => self.left = true,
            Some(Asked::Look | Asked::Load | Asked::Pause | Asked::Produce | Asked::Save(_)) | None => {}
        }
    }

    fn advance_to(&mut self, next: Transaction) {
        self.transaction = next;
    }

    fn committed(&mut self) {
        let (positions, count) = std::mem::take(&mut self.committing);
        for position in &positions {
            for unit in self.units.values_mut().filter(|unit| unit.owns(&position.partition)) {
                unit.settle(position);
            }
        }
        self.outbox.settle(count);
        self.transaction = Transaction::Closed;
        self.in_doubt = false;
        self.begins_at = None;
        self.commit_wanted = self.stopping;
        self.stalled = false;
        self.aborted = (0, 0);
        self.dirty_since = self.is_dirty().then_some(self.clock.steady_ms);
        self.counters.commits += 1;
    }

    fn aborted(&mut self) {
        self.counters.aborts += 1;
        let in_a_row = self.aborted.0.min(LONGEST_BACKOFF);
        self.aborted = (in_a_row + 1, self.clock.steady_ms + (FIRST_BACKOFF_MS << in_a_row));
        self.transaction = Transaction::Closed;
        self.outbox.rewind();
        self.hold = true;
        self.stalled = true;
        if std::mem::take(&mut self.in_doubt) {
            // The commit may have happened after all: only the group's offsets can tell.
            let all: BTreeSet<UnitId> = self.units.keys().copied().collect();
            self.drop_units(&all);
            self.outbox.clear();
            self.stalled = false;
        }
        if let Some(partitions) = self.releasing.take() {
            // They could not be given back with their outputs: whoever has them next makes these.
            self.hold = false;
            self.lose(&partitions);
        }
    }

    pub(super) fn failed(&mut self, failure: Failure, what: String) -> Result<(), CoreError> {
        let asked = self.asked.take();
        match failure {
            Failure::Fenced => return Err(CoreError::Fenced { what }),
            Failure::Replaced => return Err(CoreError::Replaced { what }),
            Failure::Fatal => return Err(CoreError::Client { what }),
            Failure::Refused => return Err(CoreError::Refused { what }),
            Failure::Retriable | Failure::Abortable => {}
        }
        self.hold = true;
        let reads = [Asked::Look, Asked::Load, Asked::Consume, Asked::Pause, Asked::Leave];
        let is_read = |asked| matches!(asked, Asked::Save(_)) || reads.contains(&asked);
        self.stalled |= asked.is_some_and(|asked| !is_read(asked));
        let abortable = failure == Failure::Abortable;
        match (self.rules.delivery, asked) {
            (Delivery::ExactlyOnce, Some(Asked::Begin | Asked::Produce | Asked::Offsets | Asked::Commit))
                if abortable =>
            {
                self.transaction = Transaction::MustAbort;
                // Aborting is urgent: nobody reads past an open transaction.
                self.hold = false;
            }
            (_, Some(Asked::Commit)) => self.in_doubt = true,
            (Delivery::AtLeastOnce, Some(Asked::Produce | Asked::Flush)) if abortable => self.outbox.rewind(),
            (Delivery::AtLeastOnce, Some(Asked::CommitOffsets)) if abortable => {
                if let Some(partitions) = self.releasing.take() {
                    self.lose(&partitions);
                }
            }
            (_, Some(Asked::Pause)) => self.paused.clear(),
            (_, Some(Asked::Save(unit))) => {
                self.units.get_mut(&unit).into_iter().for_each(Unit::not_saved);
            }
            _ => {}
        }
        tracing::debug!(?asked, ?failure, what, "a command failed");
        Ok(())
    }
}
