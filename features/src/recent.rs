//! A user's last behaviours as of a time, and what is among them.

use crate::block::{Block, Logged, Planes, low};
use crate::history::Read;
use crate::plan::{Plan, VIEW};
use crate::users::Users;

impl Users {
    /// The last events as of a time.
    pub(crate) fn recent(&self, user: u32, read: &Read, plan: &Plan) -> Recent<'_> {
        let horizon = read.horizon(plan.retention_ms());
        let (mut left, mut recent) = (plan.config.last_n, Recent::default());
        for block in self.blocks_of(user) {
            if left == 0 || block.last_ms() <= horizon {
                break;
            }
            let (from, end) = (block.end(horizon), block.end(read.at_ms));
            let count = end.saturating_sub(from).min(left);
            if count > 0 {
                recent.push(Part { block, from: end - count, end });
                left -= count;
            }
        }
        recent
    }

    /// Whether the user has viewed, from one time up to another, what `is_it` says of a subject's number; `None`
    /// where the history does not tell: what it has forgotten, or what lies in tiles, may be it.
    pub(crate) fn has_viewed(
        &self,
        user: u32,
        (from_ms, to_ms): (i64, i64),
        clock_ms: i64,
        plan: &Plan,
        is_it: impl Fn(u32) -> bool,
    ) -> Option<bool> {
        let in_tiles = self.extra(user).is_some_and(|extra| extra.hot.is_some());
        if in_tiles || self.is_cold(user) || from_ms <= clock_ms.saturating_sub(plan.retention_ms()) {
            return None;
        }
        for block in self.blocks_of(user).take_while(|block| block.last_ms() >= from_ms) {
            let within = low(block.end(to_ms)) & !low(block.end(from_ms - 1));
            let (mut left, numbers) = (block.planes().kinds()[VIEW] & within, block.numbers());
            while left > 0 {
                let at = left.trailing_zeros() as usize;
                left &= left - 1;
                if is_it(numbers[at]) {
                    return Some(true);
                }
            }
        }
        Some(false)
    }
}

/// Events of one block.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    block: Block<'a>,
    from: usize,
    end: usize,
}

/// A user's last events, newest first, read from the blocks as they are asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recent<'a> {
    /// Nearly always one or two; newest first.
    first: Option<Part<'a>>,
    more: Vec<Part<'a>>,
    count: usize,
}

impl<'a> Recent<'a> {
    fn push(&mut self, part: Part<'a>) {
        self.count += part.end - part.from;
        match &mut self.first {
            Some(_) => self.more.push(part),
            first => *first = Some(part),
        }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = Logged> {
        let parts = self.first.iter().chain(&self.more);
        let events = parts.flat_map(|part| {
            let planes: Planes = part.block.planes();
            (part.from..part.end).rev().map(move |at| part.block.event(&planes, at))
        });
        Counted { events, left: self.count }
    }
}

/// So many events.
struct Counted<I> {
    events: I,
    left: usize,
}

impl<I: Iterator<Item = Logged>> Iterator for Counted<I> {
    type Item = Logged;

    fn next(&mut self) -> Option<Logged> {
        let event = self.events.next()?;
        self.left -= 1;
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: Iterator<Item = Logged>> ExactSizeIterator for Counted<I> {}
