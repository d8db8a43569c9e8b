//! The most frequent of many things: all while there are few, then the heaviest counters of Misra and Gries.
//!
//! Counters that have become too many are cut to the greatest, each less the first that is left out: so a
//! count is never too great, and too small by at most the number of events over one more than there are
//! counters, however many parts were added (Agarwal et al., "Mergeable summaries", 2012).

use crate::wire::{Reader, SnapshotError, Writer};

/// Counters that are kept at most.
pub(crate) const COUNTERS: usize = 64;

/// Counts by hash, and of how many events.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Tally {
    /// By hash, ascending.
    counters: Vec<(u64, u32)>,
    events: u32,
}

impl Tally {
    /// Adds one by its hash, and keeps all counters.
    pub(crate) fn add(&mut self, hash: u64) {
        self.events = self.events.saturating_add(1);
        self.raise(hash, 1);
    }

    fn raise(&mut self, hash: u64, more: u32) {
        match self.counters.binary_search_by_key(&hash, |(hash, _)| *hash) {
            Ok(at) => self.counters[at].1 = self.counters[at].1.saturating_add(more),
            Err(at) => self.counters.insert(at, (hash, more)),
        }
    }

    /// Cuts counters that have become too many.
    pub(crate) fn bound(&mut self) {
        if self.counters.len() > COUNTERS {
            let cut = self.sorted()[COUNTERS].1;
            self.counters.retain_mut(|(_, count)| {
                *count = count.saturating_sub(cut);
                *count > 0
            });
        }
    }

    /// Adds another's, and keeps all counters.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.events = self.events.saturating_add(other.events);
        other.counters.iter().for_each(|(hash, more)| self.raise(*hash, *more));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Hashes and counts, the most frequent first; of equal counts the lesser hash.
    fn sorted(&self) -> Vec<(u64, u32)> {
        let mut sorted = self.counters.clone();
        sorted.sort_unstable_by_key(|(hash, count)| (std::cmp::Reverse(*count), *hash));
        sorted
    }

    /// The share of all events that the most frequent but `before` has; none without events.
    pub(crate) fn share(&self, before: usize) -> Option<f64> {
        let count = self.sorted().get(before).map_or(0, |(_, count)| *count);
        (self.events > 0).then(|| f64::from(count) / f64::from(self.events))
    }

    /// How many are more frequent than this one; none where it has not been seen.
    pub(crate) fn rank(&self, hash: u64) -> Option<usize> {
        let at = self.counters.binary_search_by_key(&hash, |(hash, _)| *hash).ok()?;
        let count = self.counters[at].1;
        Some(self.counters.iter().filter(|(_, other)| *other > count).count())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.counters.capacity() * size_of::<(u64, u32)>()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.uint(u64::from(self.events));
        out.len(self.counters.len());
        for (hash, count) in &self.counters {
            out.fixed(*hash);
            out.uint(u64::from(*count));
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let mut tally = Self { events: input.id()?, counters: Vec::new() };
        for _ in 0..input.len()? {
            let hash = input.fixed()?;
            if tally.counters.last().is_some_and(|(last, _)| *last >= hash) {
                return Err(input.damaged());
            }
            tally.counters.push((hash, input.id()?));
        }
        Ok(tally)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_too_small_by_no_more_than_the_bound(
            parts in proptest::collection::vec(proptest::collection::vec(0..300_u64, 0..400), 1..6),
        ) {
            let (mut whole, mut exact) = (Tally::default(), BTreeMap::new());
            for part in &parts {
                let mut tally = Tally::default();
                for &thing in part {
                    // Some are far more frequent.
                    let thing = thing * thing / 300;
                    *exact.entry(thing).or_insert(0_u32) += 1;
                    tally.add(thing);
                    tally.bound();
                }
                whole.merge(&tally);
                whole.bound();
            }
            let events: u32 = exact.values().sum();
            prop_assert_eq!(whole.events, events);
            let bound = events / (COUNTERS as u32 + 1);
            for (thing, want) in &exact {
                let at = whole.counters.binary_search_by_key(thing, |(hash, _)| *hash);
                let got = at.map_or(0, |at| whole.counters[at].1);
                prop_assert!(got <= *want && want - got <= bound, "{}: {} for {}", thing, got, want);
            }
            let mut out = Writer(Vec::new());
            whole.write(&mut out);
            prop_assert_eq!(Tally::read_from(&mut Reader::new(&out.0)).ok(), Some(whole));
        }
    }

    #[test]
    fn ranks_and_shares_follow_the_counts() {
        let mut tally = Tally::default();
        for thing in [7, 7, 7, 3, 3, 9] {
            tally.add(thing);
        }
        assert_eq!([7, 3, 9, 1].map(|thing| tally.rank(thing)), [Some(0), Some(1), Some(2), None]);
        assert_eq!([0, 1, 2, 3].map(|at| tally.share(at)), [0.5, 1.0 / 3.0, 1.0 / 6.0, 0.0].map(Some));
        assert_eq!(Tally::default().share(0), None);
    }
}
