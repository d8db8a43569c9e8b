//! One unit at work: its processor, where its partitions stand, and what is still replayed.
//!
//! Knows no transaction: it folds, and says what may be committed.

use super::Standing;
use crate::processor::{
    InRecord, Input, OutRecord, Outputs, Position, Positions, Processor, StepError, TopicPartition, UnitId,
};
use crate::snapshot::Snapshot;

/// A partition of a unit.
#[derive(Debug)]
pub(super) struct Slot {
    /// Next offset to fold: what came before is in the state.
    next: i64,
    /// What a commit would say now.
    position: Position,
    /// What the last commit said, or where the fold began.
    settled: (i64, String),
    /// The committed offset that the silent replay goes up to.
    replay_until: Option<i64>,
}

impl Slot {
    /// Stands at `start`; records before `committed` are replayed.
    pub(super) fn new(start: &Position, committed: Option<&(i64, String)>) -> Self {
        let settled = committed.cloned().unwrap_or_else(|| (start.offset, start.metadata.clone()));
        Self {
            next: start.offset,
            replay_until: (start.offset < settled.0).then_some(settled.0),
            position: Position {
                partition: start.partition.clone(),
                offset: settled.0,
                metadata: settled.1.clone(),
            },
            settled,
        }
    }

    /// The same place, seen from what is committed now; `None` where the fold is not one of it.
    fn resumed(&self, standing: &Standing) -> Option<Self> {
        let start = Position { offset: self.next, metadata: String::new(), ..self.position.clone() };
        let stands = (standing.low..=standing.settled()).contains(&self.next);
        stands.then(|| Self::new(&start, standing.committed.as_ref()))
    }

    fn is_dirty(&self) -> bool {
        self.settled.0 != self.position.offset || self.settled.1 != self.position.metadata
    }
}

/// A unit that folds.
pub(super) struct Unit {
    id: UnitId,
    processor: Box<dyn Processor>,
    mode: Positions,
    slots: Vec<Slot>,
    paused: Vec<TopicPartition>,
    /// When its snapshot was last taken, and of which positions.
    saved: (u64, Vec<i64>),
    /// The snapshot of which not all has been written.
    writing: Option<Unsaved>,
    /// Key and bytes of the last whole snapshot, while what has changed since is little enough.
    whole: Option<(u64, usize)>,
    scratch: Outputs,
}

/// A snapshot, and the key of the whole one that it is a change of, if it is.
pub(super) type Unsaved = (Snapshot, Option<u64>);

/// What a fold gave.
#[derive(Debug, Default)]
pub(super) struct Folded {
    pub(super) outputs: Vec<OutRecord>,
    pub(super) live: u64,
    pub(super) replayed: u64,
    /// The unit is of no more use and must be built anew.
    pub(super) rebuild: bool,
}

impl Folded {
    fn rebuild() -> Self {
        Self { rebuild: true, ..Self::default() }
    }
}

impl Unit {
    /// A unit whose processor has not been told anything yet.
    pub(super) fn new(
        id: UnitId,
        processor: Box<dyn Processor>,
        mode: Positions,
        slots: Vec<Slot>,
        steady_ms: u64,
    ) -> Self {
        let saved = (steady_ms, slots.iter().map(|slot| slot.next).collect());
        let (paused, scratch) = (Vec::new(), Outputs::default());
        Self { id, processor, mode, slots, paused, saved, writing: None, whole: None, scratch }
    }

    pub(super) fn id(&self) -> UnitId {
        self.id
    }

    /// Asks for a snapshot at the next commit: without one, this state could not be rebuilt.
    pub(super) fn save_soon(&mut self) {
        self.saved = (0, Vec::new());
    }

    pub(super) fn owns(&self, partition: &TopicPartition) -> bool {
        self.slots.iter().any(|slot| slot.position.partition == *partition)
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.slots.iter().map(|slot| &slot.position.partition)
    }

    /// Where to read on.
    pub(super) fn reading(&self) -> impl Iterator<Item = (TopicPartition, i64)> {
        self.slots.iter().map(|slot| (slot.position.partition.clone(), slot.next))
    }

    pub(super) fn paused(&self) -> &[TopicPartition] {
        &self.paused
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.slots.iter().any(Slot::is_dirty)
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.slots.iter().any(|slot| slot.replay_until.is_some())
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = &Position> {
        self.slots.iter().map(|slot| &slot.position)
    }

    /// A commit has taken this position.
    pub(super) fn settle(&mut self, position: &Position) {
        for slot in self.slots.iter_mut().filter(|slot| slot.position.partition == position.partition) {
            slot.settled = (position.offset, position.metadata.clone());
        }
    }

    /// Tells the processor where its folds begin.
    pub(super) fn begin(&mut self, positions: &[Position], now_ms: i64) -> Result<Folded, StepError> {
        let silent = self.is_replaying();
        let Some(outputs) = self.step(Input::Assigned { positions, now_ms }, silent)? else {
            return Ok(Folded::rebuild());
        };
        Ok(Folded { outputs, ..Folded::default() })
    }

    /// Folds records: those that were committed before in silence.
    pub(super) fn fold(&mut self, mut records: Vec<InRecord>, now_ms: i64) -> Result<Folded, StepError> {
        let mut folded = Folded::default();
        let mut replayed = Vec::with_capacity(records.len());
        records.retain(|record| match self.slot_of(record) {
            Some(slot) if record.record.offset >= slot.next => {
                slot.next = record.record.offset + 1;
                if slot.replay_until.is_some_and(|until| slot.next >= until) {
                    let is_last_of_replay = slot.replay_until == Some(slot.next);
                    slot.replay_until = None;
                    replayed.push(is_last_of_replay);
                } else {
                    replayed.push(slot.replay_until.is_some());
                }
                true
            }
            _ => false,
        });
        let mut start = 0;
        while let Some(&silent) = replayed.get(start) {
            let length = replayed[start..].iter().take_while(|&&other| other == silent).count();
            let run = &records[start..start + length];
            let Some(outputs) = self.step(Input::Records { records: run, now_ms }, silent)? else {
                return Ok(Folded::rebuild());
            };
            if silent {
                folded.replayed += length as u64;
            } else {
                folded.live += length as u64;
                folded.outputs.extend(outputs);
                self.advance(run);
            }
            start += length;
        }
        Ok(folded)
    }

    /// Folds records in silence: they are committed, by whoever owns the unit. How many; `None` if it must be
    /// built anew.
    pub(super) fn replay(
        &mut self,
        mut records: Vec<InRecord>,
        now_ms: i64,
    ) -> Result<Option<u64>, StepError> {
        records.retain(|record| match self.slot_of(record) {
            Some(slot) if record.record.offset >= slot.next => {
                slot.next = record.record.offset + 1;
                true
            }
            _ => false,
        });
        if records.is_empty() {
            return Ok(Some(0));
        }
        let outputs = self.step(Input::Records { records: &records, now_ms }, true)?;
        Ok(outputs.map(|_| records.len() as u64))
    }

    /// Goes on as its owner from what is committed; what the fold lacks of that is replayed. Whether it can:
    /// its fold is one of these partitions, and not beyond what is committed of them.
    pub(super) fn resume(&mut self, standings: &[Standing], steady_ms: u64) -> bool {
        let of =
            |slot: &Slot| standings.iter().find(|standing| standing.partition == slot.position.partition);
        let slots: Option<Vec<Slot>> = self.slots.iter().map(|slot| slot.resumed(of(slot)?)).collect();
        let Some(slots) = slots.filter(|slots| slots.len() == standings.len()) else { return false };
        self.saved = (steady_ms, slots.iter().map(|slot| slot.next).collect());
        self.slots = slots;
        true
    }

    /// Nothing more for now; `at_end` are partitions of any unit.
    pub(super) fn drained(&mut self, at_end: &[TopicPartition], now_ms: i64) -> Result<Folded, StepError> {
        let own: Vec<TopicPartition> =
            at_end.iter().filter(|partition| self.owns(partition)).cloned().collect();
        for slot in &mut self.slots {
            // What is committed and at the end of the log has been replayed, however many of the
            // last offsets are transaction markers that no reader sees.
            if own.contains(&slot.position.partition) {
                slot.replay_until = None;
            }
        }
        if self.is_replaying() {
            return Ok(Folded::default());
        }
        let outputs = self.step(Input::Drained { at_end: &own, now_ms }, false)?;
        Ok(outputs.map_or_else(Folded::rebuild, |outputs| Folded { outputs, ..Folded::default() }))
    }

    /// Begins a snapshot, where the state is committed, worth saving and due; whether it has.
    pub(super) fn begin_snapshot(&mut self, fingerprint: u64, steady_ms: u64, interval_ms: u64) -> bool {
        let due = steady_ms.saturating_sub(self.saved.0) >= interval_ms || self.saved.1.is_empty();
        if !due || self.is_replaying() || self.is_dirty() {
            return false;
        }
        let at: Vec<i64> = self.slots.iter().map(|slot| slot.position.offset).collect();
        if self.saved.1 == at {
            return false;
        }
        if self.writing.take().is_some_and(|(_, base)| base.is_none()) {
            // A whole one is given up, and changes would be those since it was begun.
            self.whole = None;
        }
        let mut base = self.whole.map(|(key, _)| key);
        let parts = if let Some(image) = self.processor.image() {
            image.begin(base.is_none());
            Vec::new()
        } else {
            base = None;
            let Some(bytes) = self.processor.snapshot() else { return false };
            vec![bytes]
        };
        self.saved = (steady_ms, at);
        let mut positions: Vec<Position> = self.positions().cloned().collect();
        positions.sort_by(|a, b| a.partition.cmp(&b.partition));
        self.writing = Some((Snapshot { unit: self.id, fingerprint, positions, base: None, parts }, base));
        true
    }

    pub(super) fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Writes about so many bytes of the snapshot under way; the snapshot, when it is all there.
    pub(super) fn write_on(&mut self, bytes: usize) -> Result<Option<Unsaved>, StepError> {
        let Some((mut snapshot, base)) = self.writing.take() else { return Ok(None) };
        let part = self.processor.image().map(|image| image.next_part(bytes)).transpose()?.flatten();
        if let Some(part) = part {
            snapshot.parts.push(part);
            self.writing = Some((snapshot, base));
            return Ok(None);
        }
        let length = snapshot.payload_len();
        // Restoring reads both, and the store keeps both.
        self.whole = match self.whole {
            Some(whole) if base.is_some() => Some(whole).filter(|(_, whole)| length <= whole / 2),
            _ => Some((snapshot.key(), length)),
        };
        Ok(Some((snapshot, base)))
    }

    /// All of a snapshot of now, if there is anything that was not saved.
    pub(super) fn write_all(
        &mut self,
        fingerprint: u64,
        steady_ms: u64,
    ) -> Result<Option<Unsaved>, StepError> {
        let is_of_now = |(snapshot, _): &Unsaved| {
            let is_now = |position: &Position| snapshot.positions.contains(position);
            self.slots.iter().all(|slot| is_now(&slot.position))
        };
        if !self.writing.as_ref().is_some_and(is_of_now) && !self.begin_snapshot(fingerprint, steady_ms, 0) {
            return Ok(None);
        }
        loop {
            if let Some(written) = self.write_on(usize::MAX)? {
                return Ok(Some(written));
            }
        }
    }

    /// A snapshot was not saved: none may build on it.
    pub(super) fn not_saved(&mut self) {
        self.whole = None;
    }

    fn slot_of(&mut self, record: &InRecord) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|slot| {
            let of = &slot.position.partition;
            of.partition == record.record.partition
                && (std::sync::Arc::ptr_eq(&of.topic, &record.topic) || of.topic == record.topic)
        })
    }

    fn advance(&mut self, run: &[InRecord]) {
        if self.mode == Positions::Implied {
            for record in run {
                let next = record.record.offset + 1;
                if let Some(slot) = self.slot_of(record) {
                    slot.position.offset = next;
                }
            }
        }
    }

    /// What the step put out, nothing where it is `silent`; `None` if the unit must be built anew.
    fn step(&mut self, input: Input<'_>, silent: bool) -> Result<Option<Vec<OutRecord>>, StepError> {
        if silent {
            self.processor.replay(input, &mut self.scratch)?;
            self.scratch.records.clear();
        } else {
            self.processor.step(input, &mut self.scratch)?;
        }
        if self.scratch.rebuild {
            self.scratch = Outputs::default();
            return Ok(None);
        }
        self.paused = std::mem::take(&mut self.scratch.pause);
        for reported in std::mem::take(&mut self.scratch.positions) {
            if self.mode == Positions::Reported
                && let Some(slot) =
                    self.slots.iter_mut().find(|slot| slot.position.partition == reported.partition)
            {
                slot.position = reported;
            }
        }
        Ok(Some(std::mem::take(&mut self.scratch.records)))
    }
}
