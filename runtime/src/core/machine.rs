//! The state machine: what each event changes, and which command follows.
//!
//! The next command is derived from the state, never queued: whatever happened in between, it is
//! the right one for now.

mod answers;
mod choose;
mod group;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::outbox::Outbox;
use super::rebuild::{Built, Rebuild};
use super::unit::{Folded, Unit, Unsaved};
use super::{Clock, Command, CoreError, Delivery, Event, Rules};
use crate::processor::{InRecord, OutRecord, Position, ProcessorFactory, StepError, TopicPartition, UnitId};

/// Bytes of a snapshot that are written between two polls: a millisecond or two.
const PART_BYTES: usize = 256 * 1_024;

/// Where the transaction stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    Closed,
    Open,
    /// Offsets are in it; only the commit is left.
    Offered,
    MustAbort,
}

/// Which command waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Look,
    Load,
    Consume,
    Pause,
    Begin,
    Produce,
    Flush,
    Offsets,
    Commit,
    CommitOffsets,
    Abort,
    Save(UnitId),
    Leave,
}

/// What has been done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Records folded, replays not counted.
    pub folded: u64,
    /// Records folded in silence to rebuild state.
    pub replayed: u64,
    /// Commits.
    pub commits: u64,
    /// Aborts.
    pub aborts: u64,
    /// Units restored from a snapshot or from the log's beginning.
    pub restored: u64,
    /// Units taken over from a standby.
    pub taken_over: u64,
    /// Units dropped because their partitions went away, their commit was in doubt, or they asked for it.
    pub dropped: u64,
}

/// The loop's state.
#[expect(clippy::struct_excessive_bools, reason = "independent facts; every combination can occur")]
pub struct Core {
    factory: Arc<dyn ProcessorFactory>,
    rules: Rules,
    units: BTreeMap<UnitId, Unit>,
    /// Given up cleanly; taken again if nobody else has had them in between.
    parked: BTreeMap<UnitId, Unit>,
    owned: BTreeSet<TopicPartition>,
    rebuild: Rebuild,
    outbox: Outbox,
    transaction: Transaction,
    /// The positions and the number of outputs that the commit under way takes.
    committing: (Vec<Position>, usize),
    /// A commit was sent and not answered: it may have happened.
    in_doubt: bool,
    commit_wanted: bool,
    /// Something failed: poll before the next try, which also lets the group speak.
    hold: bool,
    /// Something failed and no commit has succeeded since: read nothing more.
    stalled: bool,
    /// Aborts since the last commit, and the time before which nothing is begun again: a
    /// generation that is out of date stays so until the group speaks.
    aborted: (u32, u64),
    /// When the next transaction may begin, steady ms; `None` from a commit to the poll after it, which tells
    /// the time.
    begins_at: Option<u64>,
    releasing: Option<Vec<TopicPartition>>,
    stopping: bool,
    left: bool,
    saved_this_round: bool,
    /// Snapshots that have been written and wait to be saved.
    written: VecDeque<Unsaved>,
    dirty_since: Option<u64>,
    paused: Vec<TopicPartition>,
    clock: Clock,
    asked: Option<Asked>,
    counters: Counters,
}

impl Core {
    /// A loop that owns nothing yet.
    pub fn new(factory: Arc<dyn ProcessorFactory>, rules: Rules, clock: Clock) -> Self {
        Self {
            factory,
            rules,
            units: BTreeMap::new(),
            parked: BTreeMap::new(),
            owned: BTreeSet::new(),
            rebuild: Rebuild::default(),
            outbox: Outbox::default(),
            transaction: Transaction::Closed,
            committing: (Vec::new(), 0),
            in_doubt: false,
            commit_wanted: false,
            hold: false,
            stalled: false,
            aborted: (0, 0),
            begins_at: Some(0),
            releasing: None,
            stopping: false,
            left: false,
            saved_this_round: false,
            written: VecDeque::new(),
            dirty_since: None,
            paused: Vec::new(),
            clock,
            asked: None,
            counters: Counters::default(),
        }
    }

    /// What to do now; `None`: poll. Its answer must come before the next call.
    pub fn next_command(&mut self) -> Option<Command> {
        debug_assert!(self.asked.is_none(), "{:?} has not been answered", self.asked);
        let command = self.choose()?;
        self.asked = Some(match &command {
            Command::Look(_) => Asked::Look,
            Command::Load(_) => Asked::Load,
            Command::Consume(_) => Asked::Consume,
            Command::Pause(_) => Asked::Pause,
            Command::Begin => Asked::Begin,
            Command::Produce => Asked::Produce,
            Command::Flush => Asked::Flush,
            Command::SendOffsets(_) => Asked::Offsets,
            Command::Commit => Asked::Commit,
            Command::CommitOffsets(_) => Asked::CommitOffsets,
            Command::Abort => Asked::Abort,
            Command::Save(snapshot, _) => Asked::Save(snapshot.unit),
            Command::Leave => Asked::Leave,
        });
        Some(command)
    }

    /// Takes in what has happened.
    ///
    /// # Errors
    /// The loop cannot go on; the core is of no more use.
    pub fn on(&mut self, event: Event) -> Result<(), CoreError> {
        match event {
            Event::Assigned { partitions } => {
                self.heard();
                self.assigned(&partitions);
            }
            Event::Revoked { partitions } => {
                self.heard();
                self.revoked(partitions);
            }
            Event::Lost { partitions } => {
                self.heard();
                self.lose(&partitions);
            }
            Event::Records { records, clock } => {
                self.polled(clock);
                // While units are being rebuilt, what is polled still comes from where they read
                // before, and so does the word that it has ended: all is read again from the
                // places that the next `Consume` names.
                if !self.rebuild.is_waiting() {
                    self.fold(records)?;
                }
                self.mark_due(false);
                self.write_on()?;
            }
            Event::Drained { at_end, clock } => {
                self.polled(clock);
                if !self.rebuild.is_waiting() {
                    self.drained(&at_end)?;
                }
                self.mark_due(self.commits_when_idle());
                self.write_on()?;
            }
            Event::Quiet { clock } => {
                self.polled(clock);
                self.mark_due(self.commits_when_idle());
                self.write_on()?;
            }
            Event::Stop => {
                self.heard();
                self.stopping = true;
                self.commit_wanted = true;
            }
            Event::Looked(standings) => {
                self.asked = None;
                let steady = self.clock.steady_ms;
                let built = self.rebuild.looked(standings, &self.factory, &mut self.parked, steady)?;
                for unit in built {
                    self.begin_unit(unit)?;
                }
            }
            Event::Loaded { unit, found } => {
                self.asked = None;
                let built = self.rebuild.loaded(unit, found, &self.factory, self.clock.steady_ms)?;
                if let Some(built) = built {
                    self.counters.restored += 1;
                    self.begin_unit(built)?;
                }
            }
            Event::TakenOver { unit, standby } => {
                self.asked = None;
                if let Some(built) = self.rebuild.taken_over(unit, standby, self.clock.steady_ms) {
                    self.counters.taken_over += 1;
                    self.begin_unit(built)?;
                }
            }
            Event::Produced(count) => {
                self.asked = None;
                self.outbox.advance(count);
                if self.outbox.has_unsent() {
                    self.hold = true;
                    self.stalled = true;
                } else if !self.in_doubt {
                    self.stalled = false;
                }
            }
            Event::Done => self.done(),
            Event::Failed { failure, what } => self.failed(failure, what)?,
        }
        Ok(())
    }

    /// The outputs that the producer does not have yet.
    pub fn unsent(&self) -> impl Iterator<Item = &OutRecord> {
        self.outbox.unsent()
    }

    /// Whether a commit would say anything.
    pub fn is_dirty(&self) -> bool {
        !self.outbox.is_empty() || self.units.values().any(Unit::is_dirty)
    }

    /// Whether a short poll should decide if the input is drained.
    pub fn is_in_a_hurry(&self) -> bool {
        self.commits_when_idle() && !self.stalled && self.is_dirty()
    }

    /// At least once nobody waits for a commit: what is put out can be read at once.
    fn commits_when_idle(&self) -> bool {
        self.rules.idle_commit && self.rules.delivery == Delivery::ExactlyOnce
    }

    /// Whether a snapshot is being written: some of it after each poll.
    pub fn is_writing(&self) -> bool {
        self.units.values().any(Unit::is_writing)
    }

    /// Whether all is done and the clients may be closed.
    pub fn has_left(&self) -> bool {
        self.left
    }

    /// What has been done.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Outputs that no commit has taken.
    pub fn pending(&self) -> usize {
        self.outbox.len()
    }

    /// Next offset to read of each partition, for lag.
    pub fn reading(&self) -> impl Iterator<Item = (TopicPartition, i64)> {
        self.units.values().flat_map(Unit::reading)
    }

    /// Writes some of the snapshot under way.
    fn write_on(&mut self) -> Result<(), CoreError> {
        for unit in self.units.values_mut() {
            let written = unit.write_on(PART_BYTES);
            let failed = |source| CoreError::Step { unit: unit.id(), source };
            self.written.extend(written.map_err(failed)?);
        }
        Ok(())
    }

    fn polled(&mut self, clock: Clock) {
        self.clock = clock;
        self.begins_at.get_or_insert(clock.steady_ms + self.rules.rest_ms);
        self.hold = clock.steady_ms < self.aborted.1;
        self.saved_this_round = false;
    }

    /// Something has changed: what failed before may be tried at once.
    fn heard(&mut self) {
        self.aborted.1 = 0;
        self.polled(self.clock);
    }

    fn mark_due(&mut self, drained: bool) {
        if !self.is_dirty() {
            self.dirty_since = None;
            return;
        }
        let since = *self.dirty_since.get_or_insert(self.clock.steady_ms);
        let waited = self.clock.steady_ms.saturating_sub(since);
        self.commit_wanted |= drained
            || waited >= self.rules.commit_interval_ms
            || self.outbox.len() >= self.rules.most_pending;
    }

    fn begin_unit(&mut self, built: Built) -> Result<(), CoreError> {
        let Built { mut unit, start } = built;
        let id = unit.id();
        let begun = (!start.is_empty()).then(|| unit.begin(&start, self.clock.wall_ms));
        self.units.insert(id, unit);
        begun.map_or(Ok(()), |begun| self.keep(id, begun))
    }

    fn fold(&mut self, records: Vec<InRecord>) -> Result<(), CoreError> {
        let mut batches: BTreeMap<UnitId, Vec<InRecord>> = BTreeMap::new();
        let mut last: Option<(TopicPartition, UnitId)> = None;
        for record in records {
            let id = match &last {
                Some((of, id)) if of.partition == record.record.partition && of.topic == record.topic => *id,
                _ => {
                    let of = record.topic_partition();
                    let id = self.factory.unit(&of);
                    last = Some((of, id));
                    id
                }
            };
            batches.entry(id).or_default().push(record);
        }
        for (id, batch) in batches {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            let folded = unit.fold(batch, self.clock.wall_ms);
            self.keep(id, folded)?;
        }
        Ok(())
    }

    fn drained(&mut self, at_end: &[TopicPartition]) -> Result<(), CoreError> {
        let ids: Vec<UnitId> = self.units.keys().copied().collect();
        for id in ids {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            let folded = unit.drained(at_end, self.clock.wall_ms);
            self.keep(id, folded)?;
        }
        Ok(())
    }

    fn keep(&mut self, unit: UnitId, folded: Result<Folded, StepError>) -> Result<(), CoreError> {
        let folded = folded.map_err(|source| CoreError::Step { unit, source })?;
        if folded.rebuild {
            tracing::info!(unit = unit.0, "the state is rebuilt from the log");
            self.drop_units(&BTreeSet::from([unit]));
            return Ok(());
        }
        self.counters.folded += folded.live;
        self.counters.replayed += folded.replayed;
        self.outbox.push(unit, folded.outputs);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
