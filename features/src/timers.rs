//! Purchases and refunds that the clock has not passed: one queue per partition, ordered by time, then
//! rank, then place. Views have their own ([`crate::views`]).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

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

/// Ranks of orders: purchases and refunds.
const LINES: usize = 2;

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

/// The queue. Purchases, and refunds, nearly always come in their order: each have a line, and what would
/// break its order waits in a heap.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers {
    lines: [VecDeque<Timer>; LINES],
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(crate) fn push(&mut self, timer: Timer) {
        match self.lines.get_mut(timer.rank as usize) {
            Some(line) if line.back().is_none_or(|last| *last <= timer) => line.push_back(timer),
            _ => self.heap.push(Reverse(timer)),
        }
    }

    /// The first timer.
    pub(crate) fn first(&self) -> Option<Timer> {
        let in_lines = self.lines.iter().filter_map(VecDeque::front);
        in_lines.chain(self.heap.peek().map(|Reverse(timer)| timer)).min().copied()
    }

    /// Takes the first timer out.
    pub(crate) fn pop(&mut self) -> Option<Timer> {
        let first = self.first()?;
        match self.lines.get_mut(first.rank as usize) {
            Some(line) if line.front() == Some(&first) => line.pop_front(),
            _ => self.heap.pop().map(|Reverse(timer)| timer),
        }
    }

    /// Users of purchases and refunds that are due, up to `most` of each.
    pub(crate) fn due_users(&self, clock_ms: i64, most: usize) -> impl Iterator<Item = u32> {
        let due = move |timer: &&Timer| timer.due_ms < clock_ms;
        self.lines.iter().flat_map(move |line| line.iter().take(most).take_while(due)).map(|timer| timer.user)
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len() + self.lines.iter().map(VecDeque::len).sum::<usize>()
    }

    pub(crate) fn bytes(&self) -> usize {
        let capacity = self.heap.capacity() + self.lines.iter().map(VecDeque::capacity).sum::<usize>();
        capacity * size_of::<Timer>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Timers of any order come out in theirs.
    #[test]
    fn come_out_by_time_then_rank_then_place() {
        let ranks = [Rank::Purchase, Rank::Refund];
        let mut timers = Timers::default();
        let mut want = Vec::new();
        for n in 0..1_000_u32 {
            let late = i64::from(n % 7 * (n % 13));
            let rank = ranks[n as usize % ranks.len()];
            let timer = Timer { due_ms: i64::from(n / 3) - late, rank, offset: i64::from(n), user: n };
            timers.push(timer);
            want.push(timer);
        }
        want.sort_unstable();
        assert!(!timers.heap.is_empty() && timers.lines.iter().all(|line| !line.is_empty()));
        assert_eq!(timers.len(), want.len());
        for timer in want {
            assert_eq!(timers.first(), Some(timer));
            assert_eq!(timers.pop(), Some(timer));
        }
        assert_eq!((timers.pop(), timers.len()), (None, 0));
    }
}
