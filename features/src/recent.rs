//! A user's last behaviours as of a time.

use crate::block::{Block, Logged, Planes};
use crate::history::Read;
use crate::plan::Plan;
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
