//! What a user did, newest first: events one by one while there are few, tiles for the older
//! ones of a user with many. Windows over it are read as of any time.
//!
//! Knows nothing of labels and of repeats. Every event is in exactly one of log and tiles.

use crate::interner::Interner;
use crate::plan::{KINDS, PURCHASE, Plan, REFUND, USER, USER_CAMPAIGN, USER_CATEGORY, VIEW};
use crate::tiles::Hot;
use crate::wire::{Reader, SnapshotError, Writer};

/// No event.
pub(crate) const NEVER: i64 = i64::MIN;

/// One event, 24 bytes: time and kind share a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Logged {
    stamp: i64,
    pub(crate) item: u32,
    pub(crate) campaign: u32,
    pub(crate) category: u32,
    pub(crate) value: f32,
}

impl Logged {
    pub(crate) fn new(time_ms: i64, kind: usize, ids: [u32; 3], value: f32) -> Self {
        let [item, campaign, category] = ids;
        Self { stamp: time_ms << 3 | kind as i64, item, campaign, category, value }
    }

    pub(crate) fn time_ms(&self) -> i64 {
        self.stamp >> 3
    }

    pub(crate) fn kind(&self) -> usize {
        (self.stamp & 7) as usize
    }

    fn release(&self, texts: &mut Interner) {
        texts.release(self.item);
        texts.release(self.campaign);
        texts.release(self.category);
    }
}

/// How many sums of values there are.
const VALUE_SLOTS: usize = 3;
/// Entities of a user: itself, under a campaign, on a category.
const ENTITIES: usize = 3;
const _: () = assert!(USER == 0 && USER_CAMPAIGN == 1 && USER_CATEGORY == 2);

/// Where the sum of a kind's values is kept, for kinds that have a value.
pub(crate) const fn value_slot(kind: usize) -> Option<usize> {
    match kind {
        VIEW => Some(0),
        PURCHASE => Some(1),
        REFUND => Some(2),
        _ => None,
    }
}

/// Counts and sums of one window.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Total {
    pub(crate) counts: [u32; KINDS],
    pub(crate) sums: [f64; 3],
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

/// What a read gives: per entity, a total per window and the last time of each kind.
#[derive(Debug, Clone, Default)]
pub(crate) struct Totals {
    pub(crate) windows: [Vec<Total>; 3],
    pub(crate) last_ms: [[i64; KINDS]; 3],
}

impl Totals {
    /// Empty totals for as many windows.
    pub(crate) fn reset(&mut self, windows: usize) {
        for entity in &mut self.windows {
            entity.clear();
            entity.resize(windows, Total::default());
        }
        self.last_ms = [[NEVER; KINDS]; 3];
    }

    /// Adds what was counted to a window.
    fn add(&mut self, window: usize, counted: &mut Counted) {
        let Counted { counts, sums } = std::mem::take(counted);
        for entity in 0..ENTITIES {
            let total = &mut self.windows[entity][window];
            for (kind, count) in total.counts.iter_mut().enumerate() {
                *count = count.saturating_add((counts[entity] >> (BITS * kind)) as u32 & MOST_COUNTED);
            }
            for (sum, more) in total.sums.iter_mut().zip(sums[entity]) {
                *sum += more;
            }
        }
    }
}

/// Bits of a kind's count.
const BITS: usize = 12;
const MOST_COUNTED: u32 = (1 << BITS) - 1;

/// Events of a window, counted without branches: per entity, a kind's count takes some bits of one
/// number. Holds up to [`MOST_COUNTED`] events.
#[derive(Default)]
struct Counted {
    counts: [u64; ENTITIES],
    sums: [[f64; VALUE_SLOTS + 1]; ENTITIES],
}

impl Counted {
    fn add(&mut self, event: &Logged, read: &Read, last_ms: &mut [[i64; KINDS]; ENTITIES]) {
        let kind = event.kind();
        let slot = value_slot(kind).unwrap_or(VALUE_SLOTS);
        let is_of = [true, event.campaign == read.campaign, event.category == read.category];
        for entity in 0..ENTITIES {
            self.counts[entity] += u64::from(is_of[entity]) << (BITS * kind);
            self.sums[entity][slot] += if is_of[entity] { f64::from(event.value) } else { 0.0 };
            let last = &mut last_ms[entity][kind];
            *last = (*last).max(if is_of[entity] { event.time_ms() } else { NEVER });
        }
    }
}

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

/// The events of a user.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// By time, then arrival.
    log: Vec<Logged>,
    hot: Option<Box<Hot>>,
}

impl History {
    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.hot.is_none()
    }

    /// Reads a little of what a read of the windows will go through.
    pub(crate) fn look_ahead(&self) -> i64 {
        // One event of each cache line, the newest of them.
        self.log.iter().rev().step_by(64 / size_of::<Logged>()).take(16).fold(0, |sum, e| sum ^ e.stamp)
    }

    /// Adds an event, whose texts have been counted for it.
    pub(crate) fn add(&mut self, event: Logged, clock_ms: i64, plan: &Plan, texts: &mut Interner) {
        let at = self.end(event.time_ms());
        if self.log.len() == self.log.capacity() {
            // By a quarter: of a million users, room for as many events again is what costs.
            self.log.reserve_exact((self.log.len() / 4).max(4));
        }
        self.log.insert(at, event);
        let exact = plan.config.exact_events;
        if self.log.len() > exact {
            self.purge(clock_ms, plan, texts);
            self.overflow(clock_ms, exact, plan, texts);
        }
    }

    /// Moves the oldest events to tiles. What the clock has not passed stays if it can, and the
    /// last behaviours before it: then no read of an event in time falls inside a tile or lacks a
    /// behaviour. A clock that stands cannot hold memory.
    fn overflow(&mut self, clock_ms: i64, exact: usize, plan: &Plan, texts: &mut Interner) {
        let len = self.log.len();
        if len <= exact {
            return;
        }
        let closed = self.end(clock_ms).saturating_sub(plan.config.last_n);
        let mut count = closed.min(len - exact / 2);
        if len >= 4 * exact {
            count = count.max(len - 2 * exact);
        } else if count < exact / 8 {
            return;
        }
        let hot = self.hot.get_or_insert_with(|| Box::new(Hot::new(plan)));
        for event in self.log.drain(..count) {
            hot.add(&event, clock_ms, plan, texts);
            event.release(texts);
        }
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn quiet_until_ms(&self, plan: &Plan) -> i64 {
        let expires = |event: &Logged| event.time_ms().saturating_add(plan.retention_ms() - 1);
        // Tiles expire one by one: they are looked at every time.
        if self.hot.is_some() { NEVER } else { self.log.first().map_or(i64::MAX, expires) }
    }

    /// Forgets what no window can reach any more.
    pub(crate) fn purge(&mut self, clock_ms: i64, plan: &Plan, texts: &mut Interner) {
        let horizon = clock_ms.saturating_sub(plan.retention_ms());
        if self.log.first().is_some_and(|oldest| oldest.time_ms() <= horizon) {
            let expired = self.end(horizon);
            for event in self.log.drain(..expired) {
                event.release(texts);
            }
            if self.log.is_empty() {
                self.log = Vec::new();
            }
        }
        if let Some(hot) = &mut self.hot
            && hot.purge(clock_ms, plan, texts)
        {
            self.hot = None;
        }
    }

    /// Position behind the last event of that time or before.
    fn end(&self, time_ms: i64) -> usize {
        // Nearly all events arrive in order.
        match self.log.last() {
            Some(newest) if newest.time_ms() > time_ms => {
                self.log.partition_point(|e| e.time_ms() <= time_ms)
            }
            _ => self.log.len(),
        }
    }

    /// Windows as of the read's time, over the user, the user under a campaign, and on a category.
    pub(crate) fn read(&mut self, read: &Read, plan: &Plan, totals: &mut Totals) {
        let count = plan.windows.len();
        totals.reset(count);
        let oldest = read.horizon(plan.retention_ms());
        let after = |window: usize| oldest.max(read.at_ms.saturating_sub(plan.windows[window]));
        let mut counted = Counted::default();
        let (mut window, mut from) = (0, after(0));
        'log: for events in self.log[..self.end(read.at_ms)].rchunks(MOST_COUNTED as usize) {
            for event in events.iter().rev() {
                if event.time_ms() <= from {
                    totals.add(window, &mut counted);
                    if event.time_ms() <= oldest {
                        break 'log;
                    }
                    while event.time_ms() <= from {
                        window += 1;
                        from = after(window);
                    }
                }
                counted.add(event, read, &mut totals.last_ms);
            }
            totals.add(window, &mut counted);
        }
        // Each event stands in the narrowest window that holds it; the wider ones hold it too.
        for entity in &mut totals.windows {
            for wider in 1..count {
                let narrower = entity[wider - 1];
                entity[wider].merge(&narrower);
            }
        }
        if let Some(hot) = &mut self.hot {
            hot.read(read, plan, totals);
        }
    }

    /// The last events as of a time, oldest first.
    pub(crate) fn recent(&self, read: &Read, plan: &Plan) -> &[Logged] {
        let end = self.end(read.at_ms);
        let from = end.saturating_sub(plan.config.last_n);
        let horizon = read.horizon(plan.retention_ms());
        let recent = &self.log[from..end];
        &recent[recent.partition_point(|event| event.time_ms() <= horizon)..]
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        self.log.capacity() * size_of::<Logged>() + self.hot.as_ref().map_or(0, |hot| hot.bytes())
    }

    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.log.len());
        let mut before = 0;
        for event in &self.log {
            out.int(event.stamp.wrapping_sub(before));
            before = event.stamp;
            out.uint(u64::from(event.item));
            out.uint(u64::from(event.campaign));
            out.uint(u64::from(event.category));
            out.f32(event.value);
        }
        out.bool(self.hot.is_some());
        if let Some(hot) = &self.hot {
            hot.write(out);
        }
    }

    pub(crate) fn read_from(
        input: &mut Reader<'_>,
        texts: usize,
        plan: &Plan,
    ) -> Result<Self, SnapshotError> {
        let count = input.len()?;
        let mut log = Vec::with_capacity(count);
        let mut before = 0_i64;
        for _ in 0..count {
            before = before.wrapping_add(input.int()?);
            let ids = [input.id()?, input.id()?, input.id()?];
            if ids.iter().any(|id| *id as usize >= texts) || before & 7 >= KINDS as i64 {
                return Err(input.damaged());
            }
            let [item, campaign, category] = ids;
            log.push(Logged { stamp: before, item, campaign, category, value: input.f32()? });
        }
        let hot = if input.bool()? { Some(Box::new(Hot::read_from(input, texts, plan)?)) } else { None };
        Ok(Self { log, hot })
    }
}
