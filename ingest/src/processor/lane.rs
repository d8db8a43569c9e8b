//! One source as the processor keeps it.

use runtime::processor::{Position, TopicPartition};
use schemas::{Source, Tick};

use crate::decode::RawTopic;
use crate::watermark::{BadMetadata, Watermark};

/// A source: a partition of a raw topic that is this worker's.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) partition: TopicPartition,
    pub(super) kind: RawTopic,
    /// Next offset to read: what lies before it is in the merge or out.
    pub(super) read: i64,
    /// Next offset to put out: what lies before it is out.
    pub(super) done: i64,
    pub(super) watermark: Watermark,
    pub(super) idle: bool,
    /// Successful polls at its end in a row.
    pub(super) quiet_polls: u32,
    /// What its last tick said.
    told: Option<State>,
    /// Whether `done` has moved since the position was last reported.
    pub(super) moved: bool,
}

/// What a tick says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    watermark_ms: i64,
    idle: bool,
}

impl Lane {
    /// At the position that was committed.
    pub(super) fn new(kind: RawTopic, position: &Position) -> Result<Self, BadMetadata> {
        Ok(Self {
            partition: position.partition.clone(),
            kind,
            read: position.offset,
            done: position.offset,
            watermark: Watermark::from_metadata(&position.metadata)?,
            idle: false,
            quiet_polls: 0,
            told: None,
            moved: false,
        })
    }

    /// As ticks name it.
    pub(super) fn source(&self) -> Source {
        Source { topic: self.partition.topic.to_string(), partition: self.partition.partition }
    }

    /// What there is to tell; `None` before the first event of a source that is not idle. One that
    /// is idle without having had any event tells of the time 0, so that the clock can start.
    fn state(&self) -> Option<State> {
        match (self.watermark.mark_ms(), self.idle) {
            (Some(watermark_ms), idle) => Some(State { watermark_ms, idle }),
            (None, true) => Some(State { watermark_ms: 0, idle: true }),
            (None, false) => None,
        }
    }

    /// Whether enough has changed for a tick.
    pub(super) fn is_due(&self, every_ms: i64) -> bool {
        match (self.state(), self.told) {
            (Some(now), Some(told)) => {
                now.idle != told.idle || now.watermark_ms.saturating_sub(told.watermark_ms) >= every_ms.max(1)
            }
            (now, _) => now.is_some(),
        }
    }

    /// Its tick, if anything has changed since the last.
    pub(super) fn tick(&mut self) -> Option<Tick> {
        let state = self.state().filter(|state| self.told != Some(*state))?;
        self.told = Some(state);
        let source = self.source();
        Some(Tick { source, watermark_ms: state.watermark_ms, idle: state.idle })
    }

    /// What to commit: the next offset that is not out, and the watermark at it.
    pub(super) fn position(&mut self) -> Position {
        self.moved = false;
        Position {
            partition: self.partition.clone(),
            offset: self.done,
            metadata: self.watermark.to_metadata(),
        }
    }
}
