//! What is due when: one queue per partition, ordered by time, then rank, then place.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::wire::{Reader, SnapshotError, Writer};

/// What a timer decides. Of one instant, purchases come before refunds, and both before the
/// closing of windows that still include that instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// A purchase finds its view.
    Purchase,
    /// A refund finds its purchase.
    Refund,
    /// A view's click window closes.
    ClickWindow,
    /// A view's purchase window closes.
    PurchaseWindow,
}

/// How many ranks there are.
const RANKS: usize = 4;

/// Fires when the clock has passed `due_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Timer {
    pub(crate) due_ms: i64,
    pub(crate) rank: Rank,
    /// Offset of the event that it is about.
    pub(crate) offset: i64,
    /// Slot of the user.
    pub(crate) user: u32,
}

/// The queue. Of one rank, timers nearly always come in their order: each rank has a line of its own,
/// and what would break a line's order waits in a heap.
#[derive(Debug, Clone)]
pub(crate) struct Timers {
    lines: [VecDeque<Timer>; RANKS],
    heap: BinaryHeap<Reverse<Timer>>,
    /// When the first is due, [`i64::MAX`] where there is none.
    first_ms: i64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { lines: Default::default(), heap: BinaryHeap::new(), first_ms: i64::MAX }
    }
}

impl Timers {
    pub(crate) fn push(&mut self, timer: Timer) {
        self.first_ms = self.first_ms.min(timer.due_ms);
        let line = &mut self.lines[timer.rank as usize];
        if line.back().is_none_or(|last| *last <= timer) {
            line.push_back(timer);
        } else {
            self.heap.push(Reverse(timer));
        }
    }

    /// The first timer, if the clock has passed it.
    pub(crate) fn pop_due(&mut self, clock_ms: i64) -> Option<Timer> {
        if self.first_ms >= clock_ms {
            return None;
        }
        let in_line = self.lines.iter().filter_map(VecDeque::front).min().copied();
        let in_heap = self.heap.peek().map(|Reverse(timer)| *timer);
        let first = match (in_line, in_heap) {
            (Some(line), Some(heap)) if heap < line => self.heap.pop().map(|Reverse(timer)| timer),
            (None, _) => self.heap.pop().map(|Reverse(timer)| timer),
            (Some(line), _) => self.lines[line.rank as usize].pop_front(),
        };
        let in_lines = self.lines.iter().filter_map(VecDeque::front);
        let all = in_lines.chain(self.heap.peek().map(|Reverse(timer)| timer));
        self.first_ms = all.map(|timer| timer.due_ms).min().unwrap_or(i64::MAX);
        first
    }

    /// Users of the timers that are due, up to `most` of a rank.
    pub(crate) fn due_users(&self, clock_ms: i64, most: usize) -> impl Iterator<Item = u32> {
        let due = move |timer: &&Timer| timer.due_ms < clock_ms;
        self.lines.iter().flat_map(move |line| line.iter().take(most).take_while(due)).map(|timer| timer.user)
    }

    /// All decisions of times before this have been taken.
    pub(crate) fn decided_to(&self, clock_ms: i64) -> i64 {
        self.first_ms.min(clock_ms)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.lines.iter().map(VecDeque::len).sum::<usize>()
    }

    pub(crate) fn bytes(&self) -> usize {
        let capacity = self.heap.capacity() + self.lines.iter().map(VecDeque::capacity).sum::<usize>();
        capacity * size_of::<Timer>()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        let in_heap = self.heap.iter().map(|Reverse(timer)| *timer);
        let mut all: Vec<Timer> = self.lines.iter().flatten().copied().chain(in_heap).collect();
        all.sort_unstable();
        out.len(all.len());
        for timer in all {
            out.int(timer.due_ms);
            out.byte(timer.rank as u8);
            out.int(timer.offset);
            out.uint(u64::from(timer.user));
        }
    }

    pub(crate) fn read_from(input: &mut Reader<'_>, users: usize) -> Result<Self, SnapshotError> {
        let count = input.len()?;
        let mut timers = Self::default();
        for _ in 0..count {
            let due_ms = input.int()?;
            let rank = match input.byte()? {
                0 => Rank::Purchase,
                1 => Rank::Refund,
                2 => Rank::ClickWindow,
                3 => Rank::PurchaseWindow,
                _ => return Err(input.damaged()),
            };
            let timer = Timer { due_ms, rank, offset: input.int()?, user: input.id()? };
            if timer.user as usize >= users {
                return Err(input.damaged());
            }
            timers.push(timer);
        }
        Ok(timers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timers of any order come out in theirs.
    #[test]
    fn come_out_by_time_then_rank_then_place() {
        let ranks = [Rank::Purchase, Rank::Refund, Rank::ClickWindow, Rank::PurchaseWindow];
        let mut timers = Timers::default();
        let mut want = Vec::new();
        for n in 0..1_000_u32 {
            let late = i64::from(n % 7 * (n % 13));
            let rank = ranks[n as usize % RANKS];
            let timer = Timer { due_ms: i64::from(n / 3) - late, rank, offset: i64::from(n), user: n };
            timers.push(timer);
            want.push(timer);
        }
        want.sort_unstable();
        assert!(!timers.heap.is_empty() && timers.lines.iter().all(|line| !line.is_empty()));
        assert_eq!(timers.len(), want.len());
        for timer in want {
            assert_eq!(timers.decided_to(i64::MAX), timer.due_ms);
            assert_eq!(timers.pop_due(timer.due_ms), None, "not before the clock has passed it");
            assert_eq!(timers.pop_due(timer.due_ms + 1), Some(timer));
        }
        assert_eq!((timers.len(), timers.decided_to(5)), (0, 5));
    }
}
