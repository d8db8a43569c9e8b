//! What is due when: one queue per partition, ordered by time, then rank, then place.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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

/// The queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timers(BinaryHeap<Reverse<Timer>>);

impl Timers {
    pub(crate) fn push(&mut self, timer: Timer) {
        self.0.push(Reverse(timer));
    }

    /// The first timer, if the clock has passed it.
    pub(crate) fn pop_due(&mut self, clock_ms: i64) -> Option<Timer> {
        if self.0.peek()?.0.due_ms >= clock_ms {
            return None;
        }
        self.0.pop().map(|Reverse(timer)| timer)
    }

    /// All decisions of times before this have been taken.
    pub(crate) fn decided_to(&self, clock_ms: i64) -> i64 {
        self.0.peek().map_or(clock_ms, |Reverse(timer)| timer.due_ms.min(clock_ms))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Timer>()
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        let mut all: Vec<Timer> = self.0.iter().map(|Reverse(timer)| *timer).collect();
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
        let mut all = Vec::with_capacity(count);
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
            all.push(Reverse(timer));
        }
        Ok(Self(BinaryHeap::from(all)))
    }
}
