//! The users of a partition: a small head for each, blocks of events, and what only some have.
//!
//! Knows where things lie, and not what they mean.

use std::collections::VecDeque;

use crate::ahead::{ask_for, ask_for_all};
use crate::answers::Answers;
use crate::block::Block;
use crate::by_item::ByItem;
use crate::dedupe::Seen;
use crate::slab::{Moved, NONE, Slabs};
use crate::tiles::Hot;
use crate::views::Link;

/// Older blocks of a user that are looked at ahead.
const MOST_AHEAD: usize = 4;

/// What every user has, 16 bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// Up to when there is nothing to forget. Not part of the state: a look at what is held gives it.
    quiet: Quiet,
    /// Block of the newest events; [`NONE`] where there is none, and [`COLD`] where it is not in memory.
    pub(crate) log: u32,
    /// The newest view whose purchase window is open.
    pub(crate) views: Link,
    /// Number of what only some have; [`NONE`] where there is none.
    extra: u32,
}

/// In the place of the newest block: the user is out of memory, but for open views.
const COLD: u32 = NONE - 1;

const EMPTY_HEAD: Head = Head { quiet: Quiet(u32::MAX), log: NONE, views: Link::NONE, extra: NONE };

/// A time of the clock in whole seconds, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Quiet(u32);

impl Quiet {
    fn until(time_ms: i64) -> Self {
        let seconds = time_ms.div_euclid(1_000);
        Self(u32::try_from(seconds.clamp(0, i64::from(u32::MAX))).unwrap_or(0))
    }

    fn holds(self, now_ms: i64) -> bool {
        self.0 > 0 && now_ms <= i64::from(self.0) * 1_000
    }
}

/// What only users with many or with recent events have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extra {
    /// Blocks of older events, oldest first, and how many events they hold.
    pub(crate) older: VecDeque<u32>,
    pub(crate) older_events: usize,
    /// Tiles of still older ones.
    pub(crate) hot: Option<Box<Hot>>,
    pub(crate) seen: Seen,
    pub(crate) answers: Answers,
    /// Open views by item, of a user with many. Not part of the state.
    pub(crate) by_item: Option<Box<ByItem>>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.older.is_empty()
            && self.hot.is_none()
            && self.seen.is_empty()
            && self.answers.is_empty()
            && self.by_item.is_none()
    }

    fn bytes(&self) -> usize {
        self.older.capacity() * size_of::<u32>()
            + self.hot.as_ref().map_or(0, |hot| hot.bytes())
            + self.seen.bytes()
            + self.answers.bytes()
            + self.by_item.as_ref().map_or(0, |by_item| by_item.bytes())
    }
}

/// All users. A user's number is that of the name.
#[derive(Debug, Clone)]
pub(crate) struct Users {
    heads: Vec<Head>,
    extras: Vec<Extra>,
    free_extras: Vec<u32>,
    pub(crate) blocks: Slabs,
}

impl Users {
    pub(crate) fn new() -> Self {
        Self {
            heads: vec![EMPTY_HEAD],
            extras: Vec::new(),
            free_extras: Vec::new(),
            blocks: Slabs::default(),
        }
    }

    /// Numbers of users that there is room for.
    pub(crate) fn len(&self) -> usize {
        self.heads.len()
    }

    /// Makes room for one more.
    pub(crate) fn push(&mut self) {
        grow(&mut self.heads);
        self.heads.push(EMPTY_HEAD);
    }

    pub(crate) fn head(&self, user: u32) -> &Head {
        &self.heads[user as usize]
    }

    pub(crate) fn head_mut(&mut self, user: u32) -> &mut Head {
        &mut self.heads[user as usize]
    }

    /// The user's head, or the empty user's for a number that is not there.
    pub(crate) fn look_ahead<const N: usize>(&self, users: [u32; N]) {
        let heads = users.map(|user| *self.heads.get(user as usize).unwrap_or(&EMPTY_HEAD));
        let logs = heads.map(|head| if head.log >= COLD { &[][..] } else { self.blocks.get(head.log) });
        let extras = heads.map(|head| self.extras.get(head.extra as usize));
        for extra in extras.into_iter().flatten() {
            ask_for(extra);
            ask_for(&extra.answers);
            ask_for(&extra.by_item);
        }
        for log in logs {
            ask_for_all(log);
        }
        for extra in extras.into_iter().flatten() {
            for handle in extra.older.iter().rev().take(MOST_AHEAD) {
                ask_for_all(self.blocks.get(*handle));
            }
            if let Some(hot) = &extra.hot {
                hot.look_ahead();
            }
        }
    }

    pub(crate) fn extra(&self, user: u32) -> Option<&Extra> {
        self.extras.get(self.head(user).extra as usize)
    }

    pub(crate) fn extra_mut(&mut self, user: u32) -> Option<&mut Extra> {
        self.extras.get_mut(self.heads[user as usize].extra as usize)
    }

    /// The user's extra, made if there is none.
    pub(crate) fn extra_or_new(&mut self, user: u32) -> &mut Extra {
        let head = &mut self.heads[user as usize];
        if head.extra == NONE {
            head.extra = self.free_extras.pop().unwrap_or_else(|| {
                grow(&mut self.extras);
                self.extras.push(Extra::default());
                self.extras.len() as u32 - 1
            });
        }
        &mut self.extras[head.extra as usize]
    }

    /// Gives back an extra of which nothing is left.
    pub(crate) fn drop_empty_extra(&mut self, user: u32) {
        let head = &mut self.heads[user as usize];
        let extra = self.extras.get_mut(head.extra as usize).filter(|extra| extra.is_empty());
        if let Some(extra) = extra {
            // Its lists may hold room.
            *extra = Extra::default();
            self.free_extras.push(head.extra);
            head.extra = NONE;
        }
    }

    pub(crate) fn is_empty(&self, user: u32) -> bool {
        let head = self.head(user);
        head.log == NONE && head.views == Link::NONE && self.extra(user).is_none_or(Extra::is_empty)
    }

    /// Whether there is nothing to forget of the user yet.
    pub(crate) fn is_quiet(&self, user: u32, now_ms: i64) -> bool {
        self.head(user).quiet.holds(now_ms)
    }

    /// Something more of the user is to be forgotten after that.
    pub(crate) fn keep_quiet_until(&mut self, user: u32, time_ms: i64) {
        let quiet = &mut self.heads[user as usize].quiet;
        *quiet = (*quiet).min(Quiet::until(time_ms));
    }

    /// Nothing of the user is to be forgotten up to then.
    pub(crate) fn set_quiet_until(&mut self, user: u32, time_ms: i64) {
        self.heads[user as usize].quiet = Quiet::until(time_ms);
    }

    /// Whether the user is out of memory.
    pub(crate) fn is_cold(&self, user: u32) -> bool {
        self.head(user).log == COLD
    }

    /// Whether the user can go out of memory: has events, and nothing that a decision could ask for.
    pub(crate) fn can_cool(&self, user: u32) -> bool {
        self.head(user).log < COLD && self.extra(user).is_none_or(|extra| extra.answers.is_empty())
    }

    /// Time of the user's newest event; the least where none is in memory.
    pub(crate) fn last_event_ms(&self, user: u32) -> i64 {
        self.blocks_of(user).next().map_or(i64::MIN, Block::last_ms)
    }

    /// Drops the user from memory, but for open views.
    pub(crate) fn cool(&mut self, user: u32) {
        while self.oldest(user) < COLD {
            let handle = self.oldest(user);
            // Out of its place first: freeing a block looks for handles there.
            match self.extra_mut(user) {
                Some(extra) if !extra.older.is_empty() => drop(extra.older.pop_front()),
                _ => self.head_mut(user).log = COLD,
            }
            self.free_block(handle);
        }
        if let Some(extra) = self.extra_mut(user) {
            *extra = Extra::default();
        }
        self.drop_empty_extra(user);
    }

    /// A user who was out of memory is about to be read back.
    pub(crate) fn warm(&mut self, user: u32) {
        debug_assert!(self.is_cold(user), "who is in memory would be lost");
        self.head_mut(user).log = NONE;
    }

    /// Frees a block. The block that takes its place is found again by its owner.
    pub(crate) fn free_block(&mut self, handle: u32) {
        let Some(Moved { owner, from, to }) = self.blocks.free(handle) else { return };
        let head = &mut self.heads[owner as usize];
        let place = if head.log == from {
            Some(&mut head.log)
        } else {
            let extra = self.extras.get_mut(head.extra as usize);
            extra.and_then(|extra| extra.older.iter_mut().find(|older| **older == from))
        };
        debug_assert!(place.is_some(), "a block without an owner");
        if let Some(place) = place {
            *place = to;
        }
    }

    /// The user's blocks, newest first.
    pub(crate) fn blocks_of(&self, user: u32) -> impl DoubleEndedIterator<Item = Block<'_>> {
        let newest = Some(self.head(user).log).filter(|log| *log < COLD);
        let older = self.extra(user).map(|extra| extra.older.iter().rev().copied());
        newest.into_iter().chain(older.into_iter().flatten()).map(|handle| Block(self.blocks.get(handle)))
    }

    /// Handle of the user's oldest block; [`NONE`] where there is none.
    pub(crate) fn oldest(&self, user: u32) -> u32 {
        let older = self.extra(user).and_then(|extra| extra.older.front());
        older.copied().unwrap_or(self.head(user).log)
    }

    /// Bytes of the user's extra.
    pub(crate) fn extra_bytes(&self, user: u32) -> usize {
        self.extra(user).map_or(0, Extra::bytes)
    }

    /// Bytes held, about, but for what is in extras.
    pub(crate) fn outer_bytes(&self) -> usize {
        self.heads.capacity() * size_of::<Head>()
            + self.extras.capacity() * size_of::<Extra>()
            + self.blocks.bytes()
    }

    /// Bytes held, about. Goes over all extras.
    pub(crate) fn bytes(&self) -> usize {
        self.outer_bytes()
            + self.extras.iter().map(Extra::bytes).sum::<usize>()
            + self.free_extras.capacity() * size_of::<u32>()
    }
}

/// Makes room by an eighth where there is none: of a million users, room for as many again is what costs.
pub(crate) fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(16));
    }
}
