//! One standby: a unit, what is known to be committed of it, and what was read beyond that.

use std::collections::VecDeque;

use super::super::Standing;
use super::super::rebuild::Built;
use super::super::unit::Unit;
use crate::processor::{InRecord, StepError, TopicPartition, UnitId};

/// Records read ahead of what is committed, at which no more is read; and again from half of that.
const MOST_HELD: usize = 8_192;

/// A unit whose state is kept warm. It has folded nothing that is not committed.
pub struct Standby {
    unit: Box<Unit>,
    lanes: Vec<Lane>,
    full: bool,
    /// Whether it has once stood where its owner was known to stand.
    warm: bool,
}

/// A partition of it.
struct Lane {
    partition: TopicPartition,
    /// What is known to be committed: the next offset.
    committed: i64,
    /// What was read and not folded, in order.
    held: VecDeque<InRecord>,
}

impl std::fmt::Debug for Standby {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standby")
            .field("unit", &self.unit.id())
            .field("warm", &self.warm)
            .finish_non_exhaustive()
    }
}

impl Standby {
    /// Begins with a unit that was just built. What it puts out, its owner has put out.
    pub(super) fn begin(built: Built, standings: &[Standing], now_ms: i64) -> Result<Self, StepError> {
        let Built { mut unit, start } = built;
        if unit.begin(&start, now_ms)?.rebuild {
            return Err(StepError::new("it asks to be built anew before it has read anything"));
        }
        let lane = |standing: &Standing| Lane {
            partition: standing.partition.clone(),
            committed: standing.settled(),
            held: VecDeque::new(),
        };
        let lanes = standings.iter().map(lane).collect();
        let mut standby = Self { unit: Box::new(unit), lanes, full: false, warm: false };
        standby.warm_up();
        Ok(standby)
    }

    /// Its unit as an owner has it, if its state is one of what is committed.
    pub(in super::super) fn resume(
        mut self,
        id: UnitId,
        standings: &[Standing],
        steady_ms: u64,
    ) -> Option<Unit> {
        (self.unit.id() == id && self.unit.resume(standings, steady_ms)).then_some(*self.unit)
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warm
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.unit.partitions()
    }

    /// Where to read on.
    pub(super) fn reading(&self) -> Vec<(TopicPartition, i64)> {
        self.unit.reading().collect()
    }

    /// Whether the log still has what comes next.
    pub(super) fn stands_in(&self, standings: &[Standing]) -> bool {
        self.unit.reading().all(|(partition, next)| {
            let of = standings.iter().find(|standing| standing.partition == partition);
            of.is_some_and(|standing| (standing.low..=standing.high.max(standing.settled())).contains(&next))
        })
    }

    /// So much is committed now; whether that is no less than what was folded.
    pub(super) fn committed(&mut self, offsets: &[(TopicPartition, i64)]) -> bool {
        for lane in &mut self.lanes {
            if let Some((_, offset)) = offsets.iter().find(|(of, _)| *of == lane.partition) {
                lane.committed = *offset;
            }
        }
        self.warm_up();
        self.behind().all(|(_, offsets)| offsets >= 0)
    }

    /// Keeps what was read until it is known to be committed.
    pub(super) fn hold(&mut self, records: Vec<InRecord>) {
        for record in records {
            let is_its = |lane: &&mut Lane| {
                lane.partition.partition == record.record.partition && lane.partition.topic == record.topic
            };
            if let Some(lane) = self.lanes.iter_mut().find(is_its) {
                lane.held.push_back(record);
            }
        }
    }

    /// Forgets what was read and not folded.
    pub(super) fn let_go(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.held.clear());
    }

    /// Its partitions, where so much is held that no more is to be read of them.
    pub(super) fn full(&mut self) -> Option<Vec<TopicPartition>> {
        let held: usize = self.lanes.iter().map(|lane| lane.held.len()).sum();
        self.full = held >= if self.full { MOST_HELD / 2 } else { MOST_HELD };
        self.full.then(|| self.partitions().cloned().collect())
    }

    /// Folds at most so many records that are committed; how many. `None`: it must be built anew.
    pub(super) fn fold(&mut self, most: usize, now_ms: i64) -> Result<Option<usize>, StepError> {
        let mut ready = Vec::new();
        for lane in &mut self.lanes {
            let left = most - ready.len();
            let is_committed = |record: &&InRecord| record.record.offset < lane.committed;
            let count = lane.held.iter().take(left).take_while(is_committed).count();
            ready.extend(lane.held.drain(..count));
        }
        let count = ready.len();
        let folded = self.unit.replay(ready, now_ms)?;
        self.warm_up();
        Ok(folded.map(|_| count))
    }

    /// How far each partition is behind.
    pub(super) fn lags(&self) -> impl Iterator<Item = (&TopicPartition, i64)> {
        self.behind().map(|(partition, offsets)| (partition, offsets.max(0)))
    }

    /// Offsets from what comes next to what is committed: below 0 where that is less.
    fn behind(&self) -> impl Iterator<Item = (&TopicPartition, i64)> {
        self.lanes.iter().map(|lane| {
            let next = self.unit.reading().find(|(of, _)| *of == lane.partition).map(|(_, next)| next);
            (&lane.partition, lane.committed - next.unwrap_or(lane.committed))
        })
    }

    fn warm_up(&mut self) {
        self.warm = self.warm || self.behind().all(|(_, offsets)| offsets <= 0);
    }
}
