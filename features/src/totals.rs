//! What a read of a user's windows gives.

#![expect(
    clippy::inline_always,
    reason = "the scan is compiled once for each processor, with all that it calls"
)]

use crate::history::NEVER;
use crate::plan::{CART, CLICK, KINDS, KindSet, PURCHASE, REFUND, USER, USER_CAMPAIGN, USER_CATEGORY, VIEW};
use crate::scan::Needs;

/// Windows that are counted at a time.
pub(crate) const LANES: usize = 8;
/// Entities of a user: itself, under a campaign, on a category.
pub(crate) const ENTITIES: usize = 3;
const _: () = assert!(USER == 0 && USER_CAMPAIGN == 1 && USER_CATEGORY == 2);
/// How many sums of values there are.
pub(crate) const VALUE_SLOTS: usize = 3;

/// Where the sum of a kind's values is kept, for kinds that have a value.
pub(crate) const fn value_slot(kind: usize) -> Option<usize> {
    match kind {
        VIEW => Some(0),
        PURCHASE => Some(1),
        REFUND => Some(2),
        _ => None,
    }
}

/// Counts and sums of one window, by kind.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Total {
    pub(crate) counts: [u32; KINDS],
    pub(crate) sums: [f64; VALUE_SLOTS],
}

impl Total {
    pub(crate) fn add(&mut self, kind: usize, value: f64) {
        self.counts[kind] = self.counts[kind].saturating_add(1);
        if let Some(slot) = value_slot(kind) {
            self.sums[slot] += value;
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.saturating_add(theirs);
        }
        for (mine, theirs) in self.sums.iter_mut().zip(other.sums) {
            *mine += theirs;
        }
    }
}

/// What was read of one entity: per kinds, as declarations have them, a count and a sum per window, and the
/// last time. Behind the last window is room for as many more as are read at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lanes<'a> {
    pub(crate) stride: usize,
    pub(crate) counts: &'a [u32],
    pub(crate) sums: &'a [f64],
    pub(crate) last_ms: &'a [i64; KINDS],
}

impl<'a> Lanes<'a> {
    /// Of an entity of which there are none.
    pub(crate) const NONE: Self = Self { stride: 0, counts: &[], sums: &[], last_ms: &[NEVER; KINDS] };

    /// Counts by window, and anything behind them.
    #[inline(always)]
    pub(crate) fn counts(self, kinds: KindSet) -> &'a [u32] {
        &self.counts[kinds as usize * self.stride..]
    }

    /// Sums by window, and anything behind them.
    #[inline(always)]
    pub(crate) fn sums(self, kinds: KindSet) -> &'a [f64] {
        &self.sums[kinds as usize * self.stride..]
    }
}

/// Per entity and kinds: a count and a sum per window, and the last time. Kinds as declarations have
/// them: clicks are with carts. Only what the plan asks for is filled in.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Totals {
    /// Windows, rounded up to [`LANES`].
    stride: usize,
    counts: Vec<u32>,
    sums: Vec<f64>,
    pub(crate) last_ms: [[i64; KINDS]; ENTITIES],
}

impl Totals {
    /// Empty totals for as many windows, of what is needed; what is not holds anything.
    pub(crate) fn reset(&mut self, windows: usize, needs: &Needs) {
        self.last_ms = [[NEVER; KINDS]; ENTITIES];
        let stride = windows.next_multiple_of(LANES);
        if self.stride != stride {
            self.stride = stride;
            self.counts = vec![0; ENTITIES * KINDS * stride + LANES];
            self.sums = vec![0.0; ENTITIES * KINDS * stride + LANES];
            return;
        }
        for &(entity, set) in &needs.counts {
            let at = self.at(entity, set);
            self.counts[at..at + stride].fill(0);
        }
        for &(entity, set) in &needs.sums {
            let at = self.at(entity, set);
            self.sums[at..at + stride].fill(0.0);
        }
    }

    fn at(&self, entity: usize, set: usize) -> usize {
        (entity * KINDS + set) * self.stride
    }

    #[inline(always)]
    pub(crate) fn counts(&mut self, entity: usize, set: usize, group: usize) -> &mut [u32; LANES] {
        let at = self.at(entity, set);
        &mut self.counts[at..at + self.stride].as_chunks_mut().0[group]
    }

    #[inline(always)]
    pub(crate) fn sums(&mut self, entity: usize, set: usize, group: usize) -> &mut [f64; LANES] {
        let at = self.at(entity, set);
        &mut self.sums[at..at + self.stride].as_chunks_mut().0[group]
    }

    /// Counts by window.
    #[cfg(test)]
    pub(crate) fn counts_of(&self, entity: usize, set: usize) -> &[u32] {
        &self.counts[self.at(entity, set)..][..self.stride]
    }

    /// Sums by window.
    #[cfg(test)]
    pub(crate) fn sums_of(&self, entity: usize, set: usize) -> &[f64] {
        &self.sums[self.at(entity, set)..][..self.stride]
    }

    /// What was read of an entity.
    #[inline(always)]
    pub(crate) fn of(&self, entity: usize) -> Lanes<'_> {
        let from = entity * KINDS * self.stride;
        Lanes {
            stride: self.stride,
            counts: &self.counts[from..],
            sums: &self.sums[from..],
            last_ms: &self.last_ms[entity],
        }
    }

    /// Adds what tiles hold of a window.
    pub(crate) fn merge(&mut self, entity: usize, window: usize, total: &Total) {
        for set in 0..KINDS {
            let at = self.at(entity, set) + window;
            self.counts[at] = self.counts[at].saturating_add(total.counts[set]);
            if set == CLICK {
                self.counts[at] = self.counts[at].saturating_add(total.counts[CART]);
            }
            if let Some(slot) = value_slot(set) {
                self.sums[at] += total.sums[slot];
            }
        }
    }

    /// Takes in the last time of a kind.
    pub(crate) fn saw(&mut self, entity: usize, kind: usize, time_ms: i64) {
        for set in [Some(kind), (kind == CART).then_some(CLICK)].into_iter().flatten() {
            let known = &mut self.last_ms[entity][set];
            *known = (*known).max(time_ms);
        }
    }
}
