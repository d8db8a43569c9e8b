//! Outputs that no commit has taken yet, in order, each with its unit.
//!
//! Knows no broker: it counts what has been handed to the producer in the open transaction.

use std::collections::VecDeque;

use crate::processor::{OutRecord, UnitId};

/// The pending outputs; the first [`Outbox::sent`] are with the producer.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<(UnitId, OutRecord)>,
    sent: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, unit: UnitId, records: impl IntoIterator<Item = OutRecord>) {
        self.queue.extend(records.into_iter().map(|record| (unit, record)));
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn sent(&self) -> usize {
        self.sent
    }

    /// What the producer does not have yet.
    pub(super) fn unsent(&self) -> impl Iterator<Item = &OutRecord> {
        self.queue.range(self.sent..).map(|(_, record)| record)
    }

    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.queue.len()
    }

    /// `count` more are with the producer.
    pub(super) fn advance(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.queue.len());
    }

    /// The transaction was aborted: all that is pending goes out again.
    pub(super) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// A commit has taken the first `count`.
    pub(super) fn settle(&mut self, count: usize) {
        debug_assert!(count <= self.sent, "only what was sent can have been committed");
        self.queue.drain(..count.min(self.queue.len()));
        self.sent -= count.min(self.sent);
    }

    /// The units' folds are dropped, and their outputs with them.
    pub(super) fn forget(&mut self, dropped: &[UnitId]) {
        let gone = |unit: &UnitId| dropped.contains(unit);
        let sent_and_gone = self.queue.range(..self.sent).filter(|(unit, _)| gone(unit)).count();
        self.queue.retain(|(unit, _)| !gone(unit));
        self.sent -= sent_and_gone;
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn record(value: u8) -> OutRecord {
        OutRecord {
            topic: "out".into(),
            partition: Some(0),
            key: None,
            value: Some(vec![value].into()),
            headers: Vec::new(),
        }
    }

    fn unsent(outbox: &Outbox) -> Vec<u8> {
        outbox.unsent().map(|record| record.value.as_ref().unwrap()[0]).collect()
    }

    #[test]
    fn the_same_records_go_out_again_after_an_abort() {
        let mut outbox = Outbox::default();
        outbox.push(UnitId(0), [record(1), record(2)]);
        outbox.advance(2);
        outbox.push(UnitId(1), [record(3)]);
        assert_eq!(unsent(&outbox), [3]);
        outbox.rewind();
        assert_eq!(unsent(&outbox), [1, 2, 3]);
    }

    #[test]
    fn what_came_after_the_commit_was_asked_for_stays() {
        let mut outbox = Outbox::default();
        outbox.push(UnitId(0), [record(1), record(2)]);
        outbox.advance(2);
        outbox.push(UnitId(0), [record(3)]);
        outbox.settle(2);
        assert_eq!(unsent(&outbox), [3]);
        assert_eq!(outbox.sent(), 0);
    }

    #[test]
    fn a_dropped_unit_leaves_the_others_in_order() {
        let mut outbox = Outbox::default();
        outbox.push(UnitId(0), [record(1)]);
        outbox.push(UnitId(1), [record(2)]);
        outbox.push(UnitId(0), [record(3)]);
        outbox.advance(2);
        outbox.forget(&[UnitId(0)]);
        assert_eq!((outbox.len(), outbox.sent()), (1, 1));
        outbox.rewind();
        assert_eq!(unsent(&outbox), [2]);
    }
}
