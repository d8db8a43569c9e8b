//! What of a topic is in its table, what waits for a commit, and what is still to come.
//!
//! The rule by which every record is in the table once, whoever else writes it and whatever fails: a pure
//! one, that knows no table, no rows and no store. [`crate::Writer`] keeps it for Delta tables.

use std::collections::BTreeMap;

use schemas::Place;

/// Where one partition stands.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    /// In the table.
    committed: Option<i64>,
    /// After what is in the table and what waits; `None` before anything is known.
    next: Option<i64>,
}

/// How far a commit moves a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which partition.
    pub partition: i32,
    /// What the table says before the commit, as far as is known; the commit must be refused where it
    /// says something else.
    pub from: Option<i64>,
    /// What it says after: everything before this offset is in.
    pub next: i64,
}

/// The partitions of a topic, as one writer sees them.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    positions: BTreeMap<i32, Position>,
}

impl Ledger {
    /// At a start: what the table says of a partition.
    pub fn restore(&mut self, partition: i32, committed: Option<i64>) {
        self.positions.insert(partition, Position { committed, next: committed });
    }

    /// The offset that a partition is read from, where nothing of it has been committed yet.
    pub fn begin(&mut self, partition: i32, offset: i64) {
        self.positions.entry(partition).or_default().next.get_or_insert(offset);
    }

    /// Whether a record is neither in the table nor waiting.
    pub fn is_new(&self, place: Place) -> bool {
        let next = self.positions.get(&place.partition).and_then(|position| position.next);
        next.is_none_or(|next| place.offset >= next)
    }

    /// A new record waits from now on, or was found not to belong in the table.
    pub fn take(&mut self, place: Place) {
        self.positions.entry(place.partition).or_default().next = Some(place.offset + 1);
    }

    /// Everything before the offset was taken; what lies between is no record. Whether that is news.
    pub fn advance(&mut self, partition: i32, offset: i64) -> bool {
        let position = self.positions.entry(partition).or_default();
        let is_news = position.next.is_some_and(|next| next < offset);
        if is_news {
            position.next = Some(offset);
        }
        is_news
    }

    /// What a commit of all that waits moves.
    pub fn moves(&self) -> impl Iterator<Item = Move> {
        self.positions.iter().filter(|(_, position)| position.next != position.committed).filter_map(
            |(&partition, &Position { committed: from, next })| {
                next.map(|next| Move { partition, from, next })
            },
        )
    }

    /// Such a commit was made.
    pub fn settle(&mut self) {
        for position in self.positions.values_mut() {
            position.committed = position.next;
        }
    }

    /// The partitions that are known.
    pub fn partitions(&self) -> Vec<i32> {
        self.positions.keys().copied().collect()
    }

    /// Another look at the table: another writer may have moved it, or a commit without an answer. What
    /// waits and is in now ([`Ledger::is_in`]) must be dropped.
    pub fn reload(&mut self, partition: i32, committed: Option<i64>) {
        let position = self.positions.entry(partition).or_default();
        position.committed = committed;
        position.next = position.next.max(committed);
    }

    /// Whether a record is in the table.
    pub fn is_in(&self, place: Place) -> bool {
        let committed = self.positions.get(&place.partition).and_then(|position| position.committed);
        committed.is_some_and(|committed| place.offset < committed)
    }

    /// Per partition, the offset before which everything is in the table; `is_quiet`: no row waits.
    pub fn reached(&self, is_quiet: bool) -> BTreeMap<i32, i64> {
        self.positions
            .iter()
            .filter_map(|(partition, position)| {
                let reached = if is_quiet { position.next } else { position.committed };
                reached.map(|offset| (*partition, offset))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn place(offset: i64) -> Place {
        Place { partition: 0, offset }
    }

    #[test]
    fn what_waits_or_is_in_is_not_new() {
        let mut ledger = Ledger::default();
        assert!(ledger.is_new(place(7)), "nothing is known yet");
        ledger.restore(0, Some(7));
        assert!(!ledger.is_new(place(6)) && ledger.is_new(place(7)));
        ledger.take(place(7));
        assert!(!ledger.is_new(place(7)) && !ledger.is_in(place(7)) && ledger.is_in(place(6)));
        assert!(ledger.advance(0, 10) && !ledger.advance(0, 10), "news once");
        assert_eq!(ledger.moves().collect::<Vec<_>>(), [Move { partition: 0, from: Some(7), next: 10 }]);
        ledger.settle();
        assert_eq!(ledger.moves().next(), None);
        assert!(ledger.is_in(place(9)));
    }

    #[test]
    fn another_writers_commit_is_not_made_again() {
        let mut ledger = Ledger::default();
        ledger.restore(0, None);
        ledger.begin(0, 3);
        ledger.begin(0, 0);
        assert_eq!(ledger.reached(true), [(0, 3)].into(), "a start is set once");
        ledger.take(place(3));
        ledger.take(place(4));
        assert!(ledger.reached(false).is_empty());
        ledger.reload(0, Some(4));
        assert!(ledger.is_in(place(3)) && !ledger.is_in(place(4)));
        assert_eq!(ledger.moves().collect::<Vec<_>>(), [Move { partition: 0, from: Some(4), next: 5 }]);
        ledger.reload(0, Some(9));
        assert_eq!(ledger.moves().next(), None);
        assert!(!ledger.is_new(place(8)));
    }
}
