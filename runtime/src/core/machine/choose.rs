//! Which command follows from the state.

use super::super::rebuild::is_stateful;
use super::super::unit::Unit;
use super::super::{Command, Delivery};
use super::{Core, Transaction};
use crate::processor::{Position, TopicPartition};

impl Core {
    pub(super) fn choose(&mut self) -> Option<Command> {
        if self.left {
            return None;
        }
        if self.transaction == Transaction::Closed && !self.is_dirty() {
            // Whatever failed has been dropped meanwhile: there is nothing to try again.
            self.stalled = false;
        }
        if !self.hold
            && let Some(command) = self.transact().or_else(|| self.settle_group())
        {
            return Some(command);
        }
        self.pause_as_needed()
    }

    fn transact(&mut self) -> Option<Command> {
        self.commit_wanted |= self.rebuild.is_waiting() || self.releasing.is_some();
        match (self.rules.delivery, self.transaction) {
            (_, Transaction::MustAbort) => Some(Command::Abort),
            (Delivery::ExactlyOnce, Transaction::Closed) => {
                let begins = self.outbox.has_unsent() || (self.commit_wanted && self.is_dirty());
                self.commit_wanted &= begins;
                (begins && !self.is_resting()).then_some(Command::Begin)
            }
            (_, Transaction::Offered) => Some(Command::Commit),
            (_, _) if self.outbox.has_unsent() => Some(Command::Produce),
            (_, _) if !self.commit_wanted => None,
            (Delivery::ExactlyOnce, Transaction::Open) => {
                self.committing = (self.positions(), self.outbox.sent());
                Some(Command::SendOffsets(self.committing.0.clone()))
            }
            (Delivery::AtLeastOnce, _) if !self.outbox.is_empty() => Some(Command::Flush),
            (Delivery::AtLeastOnce, _) if self.is_dirty() => {
                self.committing = (self.positions(), 0);
                Some(Command::CommitOffsets(self.committing.0.clone()))
            }
            (Delivery::AtLeastOnce, _) => {
                self.commit_wanted = false;
                None
            }
        }
    }

    /// Whether the coordinator is still busy with the last commit, and nothing but the load asks for the next.
    fn is_resting(&self) -> bool {
        let begins_at = self.begins_at.unwrap_or(u64::MAX);
        self.clock.steady_ms < begins_at
            && self.outbox.len() < self.rules.most_pending
            && !self.stopping
            && self.releasing.is_none()
            && !self.rebuild.is_waiting()
    }

    /// Everything that wants a closed transaction: giving back, building, saving, leaving.
    fn settle_group(&mut self) -> Option<Command> {
        if self.transaction != Transaction::Closed {
            return None;
        }
        let clean = !self.is_dirty();
        if clean && let Some(partitions) = self.releasing.take() {
            self.park(&partitions);
        }
        if self.stopping {
            return if clean { Some(self.save_all().unwrap_or(Command::Leave)) } else { None };
        }
        if self.releasing.is_some() {
            return None;
        }
        if let Some(question) = self.rebuild.ask(self.factory.state_fingerprint()) {
            return Some(question);
        }
        if self.rebuild.wants_consume() {
            let mut from: Vec<_> = self.reading().collect();
            from.sort();
            return Some(Command::Consume(from));
        }
        if clean && !self.saved_this_round {
            self.saved_this_round = self.begin_snapshot();
        }
        self.save()
    }

    fn pause_as_needed(&mut self) -> Option<Command> {
        let blocked = self.stalled || self.stopping || self.releasing.is_some() || self.rebuild.is_waiting();
        let mut wanted: Vec<TopicPartition> = if blocked {
            self.units.values().flat_map(Unit::partitions).cloned().collect()
        } else {
            self.units.values().flat_map(Unit::paused).cloned().collect()
        };
        wanted.sort();
        wanted.dedup();
        if wanted == self.paused {
            return None;
        }
        self.paused.clone_from(&wanted);
        Some(Command::Pause(wanted))
    }

    /// Begins the snapshot of a unit, if one is due and no other is under way; whether it has.
    fn begin_snapshot(&mut self) -> bool {
        let Some(fingerprint) = self.factory.state_fingerprint().filter(|_| !self.is_writing()) else {
            return false;
        };
        if !is_stateful(self.factory.as_ref()) {
            return false;
        }
        let (steady_ms, interval_ms) = (self.clock.steady_ms, self.rules.snapshot_interval_ms);
        self.units.values_mut().any(|unit| unit.begin_snapshot(fingerprint, steady_ms, interval_ms))
    }

    /// Saves what has been written.
    fn save(&mut self) -> Option<Command> {
        self.written.pop_front().map(|(snapshot, base)| Command::Save(snapshot, base))
    }

    /// Saves what has been written, and then all that there is to be written.
    fn save_all(&mut self) -> Option<Command> {
        if self.written.is_empty() && is_stateful(self.factory.as_ref()) {
            let (fingerprint, steady_ms) = (self.factory.state_fingerprint()?, self.clock.steady_ms);
            let written = self.units.values_mut().find_map(|unit| {
                unit.write_all(fingerprint, steady_ms).unwrap_or_else(|error| {
                    tracing::warn!(unit = unit.id().0, %error, "its last state is not saved");
                    None
                })
            });
            self.written.extend(written);
        }
        self.save()
    }

    /// The current positions of all units, moved or not: they carry the group's metadata into
    /// every transaction, which is what fences a zombie that has only ticks to write.
    fn positions(&self) -> Vec<Position> {
        self.units.values().flat_map(Unit::positions).cloned().collect()
    }
}
