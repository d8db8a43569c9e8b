//! What users did: events one by one while there are few, in blocks; tiles for the older ones of a user
//! with many. Windows over it are read as of any time.
//!
//! Knows nothing of labels and of repeats. Every event is in exactly one of blocks and tiles. How events
//! are spread over blocks is not part of the state.

use crate::block::{Block, BlockMut, Logged, MOST, PAST, room_for, tag, words_for};
use crate::interner::Interner;
use crate::plan::{KINDS, Plan};
use crate::scan::{Build, Scan};
use crate::slab::NONE;
use crate::subjects::Subjects;
use crate::tiles::Hot;
use crate::totals::Totals;
use crate::users::Users;
use crate::uses::Used;
use crate::wire::{Reader, SnapshotError, Writer};

/// No event.
pub(crate) const NEVER: i64 = i64::MIN;
/// Windows of the user's entities, at most.
pub(crate) const MOST_WINDOWS: usize = 64;

/// What a read is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// As of when.
    pub(crate) at_ms: i64,
    /// The event clock; [`NEVER`] before it has started.
    pub(crate) clock_ms: i64,
    pub(crate) campaign: u32,
    pub(crate) category: u32,
}

impl Read {
    /// A window of that length begins after this time. A read behind the clock finds the tail of
    /// the window gone, whether the state has been swept by then or not.
    pub(crate) fn horizon(&self, window_ms: i64) -> i64 {
        self.at_ms.max(self.clock_ms).saturating_sub(window_ms)
    }
}

/// Texts and subjects: what events name, counted by use.
pub(crate) struct Ids<'a> {
    pub(crate) texts: &'a mut Interner,
    pub(crate) subjects: &'a mut Subjects,
}

impl Ids<'_> {
    pub(crate) fn release(&mut self, number: u32) {
        self.subjects.release(number, self.texts);
    }
}

impl Logged {
    pub(crate) fn new(time_ms: i64, kind: usize, number: u32, value: f32, subjects: &Subjects) -> Self {
        let subject = subjects.get(number);
        let tags = [tag(subject.campaign), tag(subject.category)];
        Self { time_ms, number, value, kind: kind as u8, tags }
    }
}

impl Users {
    /// Adds an event, whose subject's use has been counted for it.
    pub(crate) fn log(&mut self, user: u32, event: &Logged, clock_ms: i64, plan: &Plan, ids: &mut Ids<'_>) {
        self.insert(user, event);
        let exact = plan.config.exact_events;
        if self.events(user) > exact {
            self.purge_history(user, clock_ms, plan, ids);
            self.overflow(user, clock_ms, exact, plan, ids);
        }
    }

    /// Events that are held one by one.
    fn events(&self, user: u32) -> usize {
        let newest = self.blocks_of(user).next().map_or(0, Block::len);
        newest + self.extra(user).map_or(0, |extra| extra.older_events)
    }

    fn insert(&mut self, user: u32, event: &Logged) {
        let handle = self.head(user).log;
        if handle == NONE {
            self.head_mut(user).log = self.block_of(user, &[*event]);
            return;
        }
        let block = Block(self.blocks.get(handle));
        let at = block.end(event.time_ms);
        let is_newest = at == block.len();
        let is_here = at > 0 || self.extra(user).is_none_or(|extra| extra.older.is_empty());
        match block.delta(event.time_ms) {
            Some(delta) if is_here && block.len() < MOST => {
                let handle = if block.fits(event) {
                    handle
                } else {
                    let (room, values) = block.with(event);
                    let handle = self.rebuild(user, handle, room, values);
                    self.head_mut(user).log = handle;
                    handle
                };
                BlockMut(self.blocks.get_mut(handle)).insert(at, delta, event);
            }
            _ if is_newest => {
                let len = block.len();
                let extra = self.extra_or_new(user);
                extra.older.push_back(handle);
                extra.older_events += len;
                self.head_mut(user).log = self.block_of(user, &[*event]);
            }
            _ => self.insert_before(user, event),
        }
    }

    /// Adds an event that belongs into an older block, into a full one, or before a block's base: that
    /// block is made anew, as two if need be.
    fn insert_before(&mut self, user: u32, event: &Logged) {
        let newer = self.blocks_of(user).position(|block| block.first_ms() <= event.time_ms);
        let blocks = self.blocks_of(user).count();
        let newer = newer.unwrap_or(blocks - 1);
        let Some(block) = self.blocks_of(user).nth(newer) else { return };
        let mut events: Vec<Logged> = block.events().collect();
        events.insert(events.partition_point(|other| other.time_ms <= event.time_ms), *event);
        let most = if events.len() > MOST { events.len().div_ceil(2) } else { MOST };

        let before = blocks - 1 - newer;
        let (handle, len) = (self.handles(user)[before], events.len() - 1);
        // Out of its place first: freeing a block looks for handles there.
        if newer == 0 {
            self.head_mut(user).log = NONE;
        } else {
            let extra = self.extra_or_new(user);
            extra.older.remove(before);
            extra.older_events -= len;
        }
        self.free_block(handle);
        let mut parts = self.blocks_for(user, &events, most);
        if newer == 0 {
            self.head_mut(user).log = parts.pop().unwrap_or(NONE);
        }
        if parts.is_empty() {
            return;
        }
        let lens: usize = parts.iter().map(|part| Block(self.blocks.get(*part)).len()).sum();
        let extra = self.extra_or_new(user);
        extra.older_events += lens;
        for (at, part) in parts.into_iter().enumerate() {
            extra.older.insert(before + at, part);
        }
    }

    /// Handles of the user's blocks, oldest first.
    fn handles(&self, user: u32) -> Vec<u32> {
        let older = self.extra(user).into_iter().flat_map(|extra| extra.older.iter().copied());
        older.chain(Some(self.head(user).log).filter(|log| *log != NONE)).collect()
    }

    /// A block of these events, which fit into one.
    fn block_of(&mut self, user: u32, events: &[Logged]) -> u32 {
        let values = events.iter().filter(|event| event.value.to_bits() != 0).count();
        let (base_ms, room) = (events[0].time_ms, room_for(events.len()));
        let handle = self.blocks.alloc(words_for(room, values));
        let mut block = BlockMut(self.blocks.get_mut(handle));
        block.start(user, base_ms, room);
        for (at, event) in events.iter().enumerate() {
            block.insert(at, (event.time_ms - base_ms) as u32, event);
        }
        handle
    }

    /// Blocks of at most so many of these events, oldest first.
    fn blocks_for(&mut self, user: u32, mut events: &[Logged], most: usize) -> Vec<u32> {
        let mut handles = Vec::new();
        while let Some(first) = events.first() {
            let is_near = |event: &&Logged| {
                event.time_ms.checked_sub(first.time_ms).is_some_and(|delta| delta < i64::from(PAST))
            };
            let near = events.iter().take(most).take_while(is_near).count();
            handles.push(self.block_of(user, &events[..near]));
            events = &events[near..];
        }
        handles
    }

    /// Copies a block into one with other room. Where it was pointed to is for the caller to mend.
    fn rebuild(&mut self, user: u32, handle: u32, room: usize, values: usize) -> u32 {
        let words = words_for(room, values);
        debug_assert!(words != self.blocks.get(handle).len(), "a block of that size would do as it is");
        let fresh = self.blocks.alloc(words);
        if let Some((from, to)) = self.blocks.get_both(handle, fresh) {
            let mut block = BlockMut(to);
            block.start(user, Block(from).base_ms(), room);
            block.copy_from(Block(from));
        }
        // Of the other size: the new block stays where it is.
        self.free_block(handle);
        fresh
    }

    /// Moves the oldest events to tiles. What the clock has not passed stays if it can, and the
    /// last behaviours before it: then no read of an event in time falls inside a tile or lacks a
    /// behaviour. A clock that stands cannot hold memory.
    fn overflow(&mut self, user: u32, clock_ms: i64, exact: usize, plan: &Plan, ids: &mut Ids<'_>) {
        let len = self.events(user);
        if len <= exact {
            return;
        }
        let closed: usize = self.blocks_of(user).map(|block| block.end(clock_ms)).sum();
        let closed = closed.saturating_sub(plan.config.last_n);
        let mut count = closed.min(len - exact / 2);
        if len >= 4 * exact {
            count = count.max(len - 2 * exact);
        } else if count < exact / 8 {
            return;
        }
        let hot = self.extra_or_new(user).hot.take();
        let mut hot = hot.unwrap_or_else(|| Box::new(Hot::new(plan)));
        self.take_oldest(user, count, |event| {
            hot.add(&event, clock_ms, plan, ids);
            ids.release(event.number);
        });
        self.extra_or_new(user).hot = Some(hot);
        // Tiles of short windows expire sooner than any event.
        self.set_quiet_until(user, NEVER);
    }

    /// Takes the oldest events out, one by one.
    fn take_oldest(&mut self, user: u32, mut count: usize, mut each: impl FnMut(Logged)) {
        while count > 0 {
            let handle = self.oldest(user);
            if handle == NONE {
                return;
            }
            let block = Block(self.blocks.get(handle));
            let (len, taken) = (block.len(), block.len().min(count));
            block.events().take(taken).for_each(&mut each);
            count -= taken;
            let is_older = handle != self.head(user).log;
            if is_older && let Some(extra) = self.extra_mut(user) {
                extra.older_events -= taken;
            }
            if taken == len {
                match self.extra_mut(user) {
                    Some(extra) if is_older => drop(extra.older.pop_front()),
                    _ => self.head_mut(user).log = NONE,
                }
                self.free_block(handle);
                continue;
            }
            let mut words = BlockMut(self.blocks.get_mut(handle));
            words.drop_front(taken);
            let block = Block(words.0);
            if block.is_loose() {
                let (room, values) = block.least();
                let handle = self.rebuild(user, handle, room, values);
                match self.extra_mut(user).and_then(|extra| extra.older.front_mut()) {
                    Some(front) if is_older => *front = handle,
                    _ => self.head_mut(user).log = handle,
                }
            }
        }
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn history_quiet_until_ms(&self, user: u32, plan: &Plan) -> i64 {
        let oldest = self.oldest(user);
        let log = if oldest == NONE {
            i64::MAX
        } else {
            Block(self.blocks.get(oldest)).first_ms().saturating_add(plan.retention_ms() - 1)
        };
        let hot = self.extra(user).and_then(|extra| extra.hot.as_ref());
        log.min(hot.map_or(i64::MAX, |hot| hot.quiet_until_ms(plan)))
    }

    /// Forgets what no window can reach any more.
    pub(crate) fn purge_history(&mut self, user: u32, clock_ms: i64, plan: &Plan, ids: &mut Ids<'_>) {
        let horizon = clock_ms.saturating_sub(plan.retention_ms());
        loop {
            let oldest = self.oldest(user);
            if oldest == NONE {
                break;
            }
            let block = Block(self.blocks.get(oldest));
            if block.first_ms() > horizon {
                break;
            }
            self.take_oldest(user, block.end(horizon), |event| ids.release(event.number));
        }
        if let Some(extra) = self.extra_mut(user)
            && let Some(hot) = &mut extra.hot
            && hot.purge(clock_ms, plan, ids.texts)
        {
            extra.hot = None;
        }
    }

    /// Windows as of the read's time, over the user, the user under a campaign, and on a category.
    pub(crate) fn read(
        &mut self,
        user: u32,
        read: &Read,
        plan: &Plan,
        (build, subjects): (Build, &Subjects),
        totals: &mut Totals,
    ) {
        let count = plan.windows.len();
        totals.reset(count, &plan.needs);
        let oldest = read.horizon(plan.retention_ms());
        let mut after_ms = [i64::MAX; MOST_WINDOWS];
        for (after, window) in after_ms.iter_mut().zip(&plan.windows) {
            *after = oldest.max(window.after_ms(read.at_ms).unwrap_or(read.at_ms));
        }
        let scan = Scan {
            at_ms: read.at_ms,
            after_ms: &after_ms[..count.next_multiple_of(crate::totals::LANES)],
            oldest_ms: oldest,
            campaign: read.campaign,
            category: read.category,
            needs: &plan.needs,
        };
        for block in self.blocks_of(user) {
            if block.last_ms() <= oldest {
                break;
            }
            if block.first_ms() <= read.at_ms {
                build.scan(block, &scan, subjects, totals);
            }
        }
        if let Some(hot) = self.extra_mut(user).and_then(|extra| extra.hot.as_mut()) {
            hot.read(read, plan, totals);
        }
    }

    pub(crate) fn write_history(&self, user: u32, plan: &Plan, out: &mut Writer) {
        out.len(self.events(user));
        let mut before_ms = 0;
        for event in self.blocks_of(user).rev().flat_map(Block::events) {
            let has_value = event.value.to_bits() != 0;
            out.byte(event.kind | u8::from(has_value) << 3);
            out.int(event.time_ms.wrapping_sub(before_ms));
            before_ms = event.time_ms;
            out.uint(u64::from(event.number));
            if has_value {
                out.f32(event.value);
            }
        }
        let hot = self.extra(user).and_then(|extra| extra.hot.as_ref());
        out.bool(hot.is_some());
        if let Some(hot) = hot {
            hot.write(plan, out);
        }
    }

    /// Reads a user's history; `events` is scratch.
    pub(crate) fn read_history(
        &mut self,
        user: u32,
        input: &mut Reader<'_>,
        plan: &Plan,
        (used, subjects): (&mut Used, &Subjects),
        events: &mut Vec<Logged>,
    ) -> Result<(), SnapshotError> {
        self.set_quiet_until(user, NEVER);
        events.clear();
        let mut time_ms = 0_i64;
        for _ in 0..input.len()? {
            let code = input.byte()?;
            let before_ms = time_ms;
            time_ms = input.time_from(before_ms)?;
            let number = input.used(&mut used.subjects)?;
            let is_known = code < 16 && usize::from(code & 7) < KINDS;
            if !is_known || (!events.is_empty() && time_ms < before_ms) {
                return Err(input.damaged());
            }
            let value = if code & 8 > 0 { input.f32()? } else { 0.0 };
            events.push(Logged::new(time_ms, usize::from(code & 7), number, value, subjects));
        }
        let mut handles = self.blocks_for(user, events, MOST);
        self.head_mut(user).log = handles.pop().unwrap_or(NONE);
        if !handles.is_empty() {
            let older_events =
                handles.iter().map(|handle| Block(self.blocks.get(*handle)).len()).sum::<usize>();
            let extra = self.extra_or_new(user);
            (extra.older, extra.older_events) = (handles.into(), older_events);
        }
        if input.bool()? {
            self.extra_or_new(user).hot = Some(Box::new(Hot::read_from(input, &mut used.texts, plan)?));
        }
        Ok(())
    }
}
