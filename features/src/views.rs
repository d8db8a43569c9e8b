//! Views whose purchase window is open, of all users of a partition, in order of arrival.
//!
//! That is nearly always the order of their time, too, and so the order in which their windows close:
//! two cursors over this one queue, one for each window, are the timers of nearly all views. The views of
//! a user are a chain through the queue, the latest first. Views that come out of order are marked late,
//! and have timers of their own.
//!
//! A view takes 24 bytes, and 8 more where it has an id. A link names a view by the lower bits of its
//! number, so it may outlive it: a link to what is gone ends a chain.

use std::collections::VecDeque;

use crate::image::{Chunks as _, Marks};

mod state;

/// Views of a chunk, at most.
const CHUNK: u64 = 256;
/// No chunk of a snapshot has this number or a greater one: views' numbers fit.
pub(crate) const MOST_CHUNKS: u64 = 1 << 48;

/// The place of a view in the queue, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link(u32);

impl Link {
    pub(crate) const NONE: Self = Self(0);
    const SOME: u32 = 1 << 31;

    pub(crate) fn to(number: u64) -> Self {
        Self(number as u32 | Self::SOME)
    }
}

/// A view as it is kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    /// Time and offset, counted from the chunk's.
    time: i32,
    offset: i32,
    subject: u32,
    state: u32,
    user: u32,
    /// The user's view before this one in time.
    before: Link,
}

/// Bits of a state; the lower ones are the number of the outcome, 0 for none.
const DECIDED: u32 = 1 << 31;
const GONE: u32 = 1 << 30;
const LATE: u32 = 1 << 29;
const OUTCOME: u32 = LATE - 1;

/// A view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenView {
    pub(crate) time_ms: i64,
    pub(crate) offset: i64,
    /// Hash of its event id, 0 if it has none.
    pub(crate) id: u64,
    pub(crate) subject: u32,
    pub(crate) user: u32,
    /// Whether its click window has closed.
    pub(crate) decided: bool,
    /// Number of what came of it, 0 for nothing.
    pub(crate) outcome: u32,
    /// Whether it came after one of a later time, and so has a timer of its own.
    pub(crate) late: bool,
}

impl OpenView {
    pub(crate) fn key(&self) -> (i64, i64) {
        (self.time_ms, self.offset)
    }
}

#[derive(Debug, Clone)]
struct Chunk {
    base_ms: i64,
    base_offset: i64,
    live: u32,
    views: Vec<Kept>,
    /// Hashes of their ids; none behind the last view that has one.
    ids: Vec<u64>,
}

/// The queue.
#[derive(Debug, Clone, Default)]
pub(crate) struct Views {
    chunks: VecDeque<Chunk>,
    /// Number of the first chunk; a view's number is its chunk's times [`CHUNK`] and its place there.
    first: u64,
    live: usize,
    /// Time and offset of the last view that was not late.
    last: Option<(i64, i64)>,
    /// First view that is not late whose click window, and whose purchase window, is open.
    click: Option<u64>,
    purchase: Option<u64>,
    marks: Marks,
}

impl Views {
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    pub(crate) fn bytes(&self) -> usize {
        let bytes = |chunk: &Chunk| {
            chunk.views.capacity() * size_of::<Kept>() + chunk.ids.capacity() * size_of::<u64>()
        };
        self.chunks.iter().map(bytes).sum::<usize>() + self.chunks.capacity() * size_of::<Chunk>()
    }

    /// Adds a view behind the user's chain that begins at `newest`; its number, and where the chain begins now.
    /// `late` and `outcome` of what is given don't matter.
    pub(crate) fn push(&mut self, view: &OpenView, newest: Link) -> (u64, Link) {
        let (time, offset) = self.relative(view);
        let chunk = self.first + self.chunks.len() as u64 - 1;
        let late = self.last.is_some_and(|last| view.key() < last);
        let mut state = if late { LATE } else { 0 };
        if view.decided {
            state |= DECIDED;
        }
        let (before, newer) = self.between(view, newest, late);
        self.touch(chunk);
        let Some(last) = self.chunks.back_mut() else { unreachable!("a chunk was made") };
        let number = chunk * CHUNK + last.views.len() as u64;
        let OpenView { id, subject, user, .. } = *view;
        if id != 0 {
            last.ids.resize(last.views.len(), 0);
            last.ids.push(id);
        }
        last.views.push(Kept { time, offset, subject, state, user, before });
        last.live += 1;
        self.live += 1;
        if !late {
            self.last = Some(view.key());
            self.purchase = self.purchase.or(Some(number));
            if !view.decided {
                self.click = self.click.or(Some(number));
            }
        }
        match newer.and_then(|newer| self.kept_mut(newer)) {
            Some(newer) => {
                newer.before = Link::to(number);
                (number, newest)
            }
            None => (number, Link::to(number)),
        }
    }

    /// The place in the user's chain: what comes before the view, and the number of what comes after.
    fn between(&self, view: &OpenView, newest: Link, late: bool) -> (Link, Option<u64>) {
        let mut before = newest;
        let mut newer = None;
        // A view that is not late is later than all that there are.
        while late && let Some((number, other)) = self.at(before) {
            if other.key() < view.key() {
                break;
            }
            newer = Some(number);
            before = self.kept(number).map_or(Link::NONE, |kept| kept.before);
        }
        (before, newer)
    }

    /// Time and offset in the last chunk; a new one is made where they don't fit.
    fn relative(&mut self, view: &OpenView) -> (i32, i32) {
        let within = |chunk: &Chunk| {
            let time = i32::try_from(view.time_ms.checked_sub(chunk.base_ms)?).ok()?;
            let offset = i32::try_from(view.offset.checked_sub(chunk.base_offset)?).ok()?;
            ((chunk.views.len() as u64) < CHUNK).then_some((time, offset))
        };
        if let Some(place) = self.chunks.back().and_then(within) {
            return place;
        }
        self.push_chunk(view.key());
        (0, 0)
    }

    fn push_chunk(&mut self, (base_ms, base_offset): (i64, i64)) {
        // Who has filled a chunk fills the next one: it need not grow step by step.
        let room = if self.chunks.is_empty() { 0 } else { CHUNK as usize };
        let (views, ids) = (Vec::with_capacity(room), Vec::new());
        self.chunks.push_back(Chunk { base_ms, base_offset, live: 0, views, ids });
    }

    fn kept(&self, number: u64) -> Option<&Kept> {
        let chunk = self.chunks.get((number / CHUNK).checked_sub(self.first)? as usize)?;
        chunk.views.get((number % CHUNK) as usize)
    }

    fn kept_mut(&mut self, number: u64) -> Option<&mut Kept> {
        let chunk = self.chunks.get_mut((number / CHUNK).checked_sub(self.first)? as usize)?;
        chunk.views.get_mut((number % CHUNK) as usize)
    }

    /// The view of that number, unless it is gone.
    pub(crate) fn get(&self, number: u64) -> Option<OpenView> {
        let chunk = self.chunks.get((number / CHUNK).checked_sub(self.first)? as usize)?;
        let at = (number % CHUNK) as usize;
        let kept = chunk.views.get(at)?;
        (kept.state & GONE == 0).then(|| OpenView {
            time_ms: chunk.base_ms + i64::from(kept.time),
            offset: chunk.base_offset + i64::from(kept.offset),
            id: chunk.ids.get(at).copied().unwrap_or(0),
            subject: kept.subject,
            user: kept.user,
            decided: kept.state & DECIDED > 0,
            outcome: kept.state & OUTCOME,
            late: kept.state & LATE > 0,
        })
    }

    /// The view that a link leads to, with its number.
    pub(crate) fn at(&self, link: Link) -> Option<(u64, OpenView)> {
        if link == Link::NONE {
            return None;
        }
        let front = self.first * CHUNK;
        let number = front + u64::from(link.0.wrapping_sub(front as u32) & !Link::SOME);
        self.get(number).map(|view| (number, view))
    }

    /// The user's views, the latest first, with their numbers.
    pub(crate) fn chain(&self, newest: Link) -> impl Iterator<Item = (u64, OpenView)> {
        let mut link = newest;
        std::iter::from_fn(move || {
            let found = self.at(link)?;
            link = self.kept(found.0)?.before;
            Some(found)
        })
    }

    /// All views, in order of arrival, with their numbers.
    #[cfg(test)]
    fn iter(&self) -> impl Iterator<Item = (u64, OpenView)> {
        let numbers = (self.first..).zip(&self.chunks).flat_map(|(at, chunk)| {
            let from = at * CHUNK;
            from..from + chunk.views.len() as u64
        });
        numbers.filter_map(|number| Some((number, self.get(number)?)))
    }

    /// The next view in line whose click window is open.
    pub(crate) fn next_click(&self) -> Option<(u64, OpenView)> {
        self.click.and_then(|number| Some((number, self.get(number)?)))
    }

    /// The next view in line whose purchase window is open.
    pub(crate) fn next_purchase(&self) -> Option<(u64, OpenView)> {
        self.purchase.and_then(|number| Some((number, self.get(number)?)))
    }

    /// Up to so many users of views in line, from the next whose click window closes and from the next whose
    /// purchase window does.
    pub(crate) fn users_ahead(
        &self,
        click_to_ms: i64,
        purchase_to_ms: i64,
        most: usize,
    ) -> impl Iterator<Item = u32> {
        let ahead = move |from: Option<u64>, to_ms: i64| {
            let numbers = from.into_iter().flat_map(move |from| from..from + most as u64);
            let views = numbers.map_while(move |number| self.get(number));
            views.take_while(move |view| view.time_ms < to_ms).map(|view| view.user)
        };
        ahead(self.click, click_to_ms).chain(ahead(self.purchase, purchase_to_ms))
    }

    /// The click window of a view has closed.
    pub(crate) fn decide(&mut self, number: u64) {
        self.touch(number / CHUNK);
        if let Some(kept) = self.kept_mut(number) {
            kept.state |= DECIDED;
        }
        if self.click == Some(number) {
            self.click = self.after(number, DECIDED | LATE | GONE);
        }
    }

    pub(crate) fn set_outcome(&mut self, number: u64, outcome: u32) {
        debug_assert!(outcome <= OUTCOME, "more outcomes than a state can name");
        if let Some(kept) = self.kept_mut(number) {
            kept.state = kept.state & !OUTCOME | outcome;
        }
    }

    /// The purchase window of a view has closed. Where the user's chain begins now.
    pub(crate) fn remove(&mut self, number: u64, newest: Link) -> Link {
        self.touch(number / CHUNK);
        let Some(kept) = self.kept_mut(number) else { return newest };
        kept.state |= GONE;
        self.live -= 1;
        let at = ((number / CHUNK) - self.first) as usize;
        self.chunks[at].live -= 1;
        if self.purchase == Some(number) {
            self.purchase = self.after(number, LATE | GONE);
        }
        while self.chunks.front().is_some_and(|chunk| chunk.live == 0) {
            self.chunks.pop_front();
            self.first += 1;
        }
        if self.at(newest).is_some() { newest } else { Link::NONE }
    }

    /// The next view without any of these bits.
    fn after(&self, number: u64, without: u32) -> Option<u64> {
        let mut number = number + 1;
        loop {
            match self.kept(number) {
                Some(kept) if kept.state & without == 0 => return Some(number),
                Some(_) => number += 1,
                None if (number / CHUNK).saturating_sub(self.first) + 1 < self.chunks.len() as u64 => {
                    number = (number / CHUNK + 1) * CHUNK;
                }
                None => return None,
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail so")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The queue against a list, with views out of order and times far apart.
        #[test]
        fn the_queue_is_a_list(moves in proptest::collection::vec((0..4_u32, 0..60_i64, prop::bool::weighted(0.02), 0..5_u8), 1..900)) {
            let mut views = Views::default();
            let mut chains = [Link::NONE; 4];
            let mut list: Vec<OpenView> = Vec::new();
            let mut now = 0;
            for (offset, (user, step, far, what)) in (0_i64..).zip(moves) {
                if what == 0 && !list.is_empty() {
                    // The first in time goes, as by its timer.
                    let at = (0..list.len()).min_by_key(|&at| list[at].key()).unwrap();
                    let gone = list.remove(at);
                    let chain = &mut chains[gone.user as usize];
                    let (number, _) = views.chain(*chain).find(|(_, view)| view.key() == gone.key()).unwrap();
                    views.decide(number);
                    *chain = views.remove(number, *chain);
                } else {
                    now += if far { 1 << 33 } else { step - 8 };
                    let view = OpenView {
                        time_ms: now, offset, id: (offset % 3) as u64, subject: 3, user,
                        decided: false, outcome: 0, late: false,
                    };
                    let chain = &mut chains[user as usize];
                    *chain = views.push(&view, *chain).1;
                    list.push(view);
                }
                prop_assert_eq!(views.len(), list.len());
                let got: Vec<_> = views.iter().map(|(_, view)| (view.key(), view.id)).collect();
                let want: Vec<_> = list.iter().map(|view| (view.key(), view.id)).collect();
                prop_assert_eq!(got, want);
                for (user, chain) in (0..).zip(chains) {
                    let mut of: Vec<_> = list.iter().filter(|v| v.user == user).map(OpenView::key).collect();
                    of.sort_unstable_by(|a, b| b.cmp(a));
                    prop_assert_eq!(views.chain(chain).map(|(_, view)| view.key()).collect::<Vec<_>>(), of);
                }
                let next = views.next_purchase().map(|(_, view)| view.key());
                let in_line = views.iter().filter(|(_, view)| !view.late).map(|(_, view)| view.key()).min();
                prop_assert_eq!(next, in_line);
                let late = views.iter().filter(|(_, view)| view.late).count();
                prop_assert!(late == 0 || list.len() > 1 || next.is_none());
            }
            while let Some((number, view)) = views.next_click() {
                views.decide(number);
                prop_assert!(!view.late && views.get(number).unwrap().decided);
            }
            prop_assert!(views.iter().all(|(_, view)| view.decided || view.late));
        }
    }
}
