//! The log of one partition: what was written, and what `read_committed` readers see of it.

use bytes::Bytes;
use runtime::processor::{OutRecord, TopicRecord};

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Open,
    Committed,
    Aborted,
    /// Ends a transaction; no reader sees it, but it takes an offset.
    Marker,
}

/// A record as its writer gives it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Written {
    /// Its Kafka timestamp, ms since 1970 UTC.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl From<Bytes> for Written {
    /// A value alone.
    fn from(value: Bytes) -> Self {
        Self { value: Some(value), ..Self::default() }
    }
}

impl From<&OutRecord> for Written {
    fn from(record: &OutRecord) -> Self {
        let OutRecord { key, value, headers, .. } = record.clone();
        Self { timestamp_ms: 0, key, value, headers }
    }
}

#[derive(Debug)]
struct Entry {
    fate: Fate,
    record: Written,
}

/// The log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: Vec<Entry>,
    /// First offset that readers are given: what lies before has expired.
    pub(crate) low: i64,
    /// Offset of the first record whose transaction is open.
    stable: usize,
}

impl Log {
    /// Appends; its offset.
    pub(crate) fn push(&mut self, fate: Fate, record: Written) -> usize {
        self.entries.push(Entry { fate, record });
        self.advance();
        self.entries.len() - 1
    }

    pub(crate) fn mark(&mut self) {
        self.push(Fate::Marker, Written::default());
    }

    /// The transaction of an entry has ended.
    pub(crate) fn decide(&mut self, at: usize, fate: Fate) {
        self.entries[at].fate = fate;
        self.advance();
    }

    fn advance(&mut self) {
        while self.entries.get(self.stable).is_some_and(|entry| entry.fate != Fate::Open) {
            self.stable += 1;
        }
    }

    /// Whether a transaction is open in it.
    pub(crate) fn is_open(&self) -> bool {
        self.stable < self.entries.len()
    }

    /// Offset after the last one that a `read_committed` reader may see.
    pub(crate) fn high(&self) -> i64 {
        self.stable as i64
    }

    /// What a reader is given from `from` on.
    pub(crate) fn read(&self, partition: i32, from: i64) -> impl Iterator<Item = TopicRecord> {
        self.visible(partition, from.max(self.low))
    }

    /// The same, of what has expired too.
    pub(crate) fn visible(&self, partition: i32, from: i64) -> impl Iterator<Item = TopicRecord> {
        let from = from.max(0) as usize;
        let entries = self.entries.get(from..self.stable).unwrap_or_default();
        let committed = (from..).zip(entries).filter(|(_, entry)| entry.fate == Fate::Committed);
        committed.map(move |(offset, entry)| {
            let Written { timestamp_ms, key, value, headers } = entry.record.clone();
            TopicRecord { partition, offset: offset as i64, timestamp_ms, key, value, headers }
        })
    }

    pub(crate) fn is_at_end(&self, from: i64) -> bool {
        let from = from.max(self.low).max(0) as usize;
        let entries = self.entries.get(from..self.stable).unwrap_or_default();
        entries.iter().all(|entry| entry.fate != Fate::Committed)
    }

    /// Offset of the last committed record before `offset`.
    pub(crate) fn before(&self, offset: i64) -> Option<i64> {
        let entries = self.entries.get(..offset.max(0) as usize)?;
        entries.iter().rposition(|entry| entry.fate == Fate::Committed).map(|at| at as i64)
    }
}
