//! Older events of a user with many: sums per tile, at most about 64 tiles to a window.
//!
//! A tile is inside a window if its newest event is, so a window of length w holds all of (t - w, t]
//! and less than one tile more. A tile that holds something later than the time of a read is
//! left out of it: rounding never shows the future.

use crate::ahead::ask_for;
use crate::block::Logged;
use crate::history::{Ids, NEVER, Read};
use crate::interner::Interner;
use crate::plan::{KINDS, Level, Plan, USER, USER_CAMPAIGN, USER_CATEGORY};
use crate::summary::tiles::Tiles as Summaries;
use crate::totals::{Total, Totals, VALUE_SLOTS};
use crate::uses::Uses;
use crate::wire::{Reader, SnapshotError, Writer};

/// Tiles of one size held at most: a window's 64, and as many again while the clock stands.
const MOST_TILES: usize = 160;
/// Campaigns, and categories, of one user that are tiled at most; that of the oldest last event
/// makes room.
const MOST_SUBKEYS: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq)]
struct Tile {
    start_ms: i64,
    /// Time of its newest event.
    last_ms: i64,
    total: Total,
}

/// What a window held when it was last read.
#[derive(Debug, Clone, Copy)]
struct Sum {
    /// Its first tile.
    from: usize,
    total: Total,
}

impl Sum {
    /// The same for a window that begins after this time, there or later, of tiles of which the newest is
    /// in it; `None` where it is to be added up anew.
    ///
    /// Counts are exact, and adding a 0 changes no sum: only where a value has left does the order of adding
    /// tell.
    fn moved(mut self, tiles: &[Tile], horizon: i64) -> Option<Self> {
        if self.from.checked_sub(1).is_some_and(|before| tiles[before].last_ms > horizon) {
            return None;
        }
        let gone = tiles[self.from..].iter().take_while(|tile| tile.last_ms <= horizon);
        let mut has_lost = false;
        for tile in gone {
            for (count, gone) in self.total.counts.iter_mut().zip(tile.total.counts) {
                // One that can count no further is no sum.
                *count = count.checked_sub(gone).filter(|_| *count < u32::MAX)?;
            }
            has_lost |= tile.total.sums.iter().any(|sum| *sum != 0.0);
            self.from += 1;
        }
        if has_lost {
            self.total.sums = [0.0; VALUE_SLOTS];
            for tile in &tiles[self.from..] {
                self.total.sums.iter_mut().zip(tile.total.sums).for_each(|(sum, more)| *sum += more);
            }
        }
        Some(self)
    }
}

/// The tiles of one key, of all sizes.
#[derive(Debug, Clone, Default)]
struct TileSet {
    /// One list per level of the plan, each by time.
    levels: Vec<Vec<Tile>>,
    /// Per window its last sum: good until a tile changes or goes. Not part of the state: adding up anew
    /// gives the same.
    sums: Vec<Option<Sum>>,
    last_ms: [i64; KINDS],
}

impl TileSet {
    fn new(plan: &Plan) -> Self {
        Self { levels: vec![Vec::new(); plan.levels.len()], sums: Vec::new(), last_ms: [NEVER; KINDS] }
    }

    fn add(&mut self, event: &Logged, clock_ms: i64, plan: &Plan) {
        let (time, kind) = (event.time_ms, usize::from(event.kind));
        let last = &mut self.last_ms[kind];
        *last = (*last).max(time);
        self.sums.clear();
        for (tiles, level) in self.levels.iter_mut().zip(&plan.levels) {
            if time <= clock_ms.saturating_sub(level.span_ms) {
                continue;
            }
            let start_ms = time.div_euclid(level.size_ms) * level.size_ms;
            let at = match tiles.last() {
                Some(newest) if newest.start_ms == start_ms => tiles.len() - 1,
                Some(newest) if newest.start_ms > start_ms => {
                    tiles.partition_point(|t| t.start_ms < start_ms)
                }
                _ => tiles.len(),
            };
            if tiles.get(at).is_none_or(|tile| tile.start_ms != start_ms) {
                if tiles.len() == tiles.capacity() {
                    // Of most campaigns of a user there are one or two.
                    tiles.reserve_exact(tiles.len() / 2 + 1);
                }
                tiles.insert(at, Tile { start_ms, last_ms: time, total: Total::default() });
            }
            let tile = &mut tiles[at];
            tile.last_ms = tile.last_ms.max(time);
            tile.total.add(kind, f64::from(event.value));
            if tiles.len() > MOST_TILES {
                tiles.remove(0);
            }
        }
    }

    /// Drops what has expired; whether nothing is left.
    fn purge(&mut self, clock_ms: i64, plan: &Plan) -> bool {
        for (at, (tiles, level)) in self.levels.iter_mut().zip(&plan.levels).enumerate() {
            let horizon = clock_ms.saturating_sub(level.span_ms);
            if tiles.first().is_some_and(|oldest| oldest.last_ms <= horizon) {
                let expired = tiles.partition_point(|tile| tile.last_ms <= horizon);
                tiles.drain(..expired);
                for (sum, _) in self.sums.iter_mut().zip(&plan.level_of).filter(|(_, of)| **of == at) {
                    *sum = sum.and_then(|sum| Some(Sum { from: sum.from.checked_sub(expired)?, ..sum }));
                }
            }
        }
        self.levels.iter().all(Vec::is_empty)
    }

    /// Up to this time of the clock there is nothing to forget.
    fn quiet_until_ms(&self, plan: &Plan) -> i64 {
        let expires = |(tiles, level): (&Vec<Tile>, &Level)| {
            tiles.first().map(|tile| tile.last_ms.saturating_add(level.span_ms - 1))
        };
        let first = self.levels.iter().zip(&plan.levels).filter_map(expires).min();
        first.unwrap_or(NEVER)
    }

    fn read(&mut self, read: &Read, entity: usize, plan: &Plan, totals: &mut Totals) {
        let at_ms = read.at_ms;
        self.sums.resize(plan.windows.len(), None);
        for (window, (of, &level)) in plan.windows.iter().zip(&plan.level_of).enumerate() {
            let Some(after_ms) = of.after_ms(at_ms) else { continue };
            let tiles = &self.levels[level];
            // The clock cuts the tiles of a level at its longest window, as a sweep would.
            let horizon = read.horizon(plan.levels[level].span_ms).max(after_ms);
            let Some(newest) = tiles.last().filter(|tile| tile.last_ms > horizon) else { continue };
            let is_whole = newest.last_ms <= at_ms;
            let known = self.sums[window].filter(|_| is_whole);
            let total = if let Some(sum) = known.and_then(|sum| sum.moved(tiles, horizon)) {
                self.sums[window] = Some(sum);
                sum.total
            } else {
                let from = tiles.partition_point(|tile| tile.last_ms <= horizon);
                let mut total = Total::default();
                for tile in tiles[from..].iter().filter(|tile| tile.last_ms <= at_ms) {
                    total.merge(&tile.total);
                }
                if is_whole {
                    self.sums[window] = Some(Sum { from, total });
                }
                total
            };
            totals.merge(entity, window, &total);
        }
        let horizon = read.horizon(plan.retention_ms());
        for kind in 0..KINDS {
            let mut last = self.last_ms[kind];
            if last > at_ms {
                // The last one is in the future of this read: the newest tile before it stands in.
                let tiles = self.levels.last().map_or(&[][..], Vec::as_slice);
                let before = tiles.iter().rev().find(|t| t.last_ms <= at_ms && t.total.counts[kind] > 0);
                last = before.map_or(NEVER, |tile| tile.last_ms);
            }
            if last > horizon {
                totals.saw(entity, kind, last);
            }
        }
    }

    fn write(&self, out: &mut Writer) {
        for last in self.last_ms {
            out.int(last);
        }
        for tiles in &self.levels {
            out.len(tiles.len());
            for tile in tiles {
                out.int(tile.start_ms);
                out.int(tile.last_ms - tile.start_ms);
                for count in tile.total.counts {
                    out.uint(u64::from(count));
                }
                for sum in tile.total.sums {
                    out.f64(sum);
                }
            }
        }
    }

    fn read_from(input: &mut Reader<'_>, plan: &Plan) -> Result<Self, SnapshotError> {
        let mut set = Self::new(plan);
        for last in &mut set.last_ms {
            *last = input.time_or_never()?;
        }
        for (tiles, level) in set.levels.iter_mut().zip(&plan.levels) {
            for _ in 0..input.len()? {
                let start_ms = input.time()?;
                let last_ms = input.time_from(start_ms)?;
                let before_ms = tiles.last().map(|before: &Tile| before.start_ms);
                if !level.is_next(before_ms, start_ms, last_ms) {
                    return Err(input.damaged());
                }
                let mut total = Total::default();
                for count in &mut total.counts {
                    *count = input.id()?;
                }
                for sum in &mut total.sums {
                    *sum = input.f64()?;
                }
                tiles.push(Tile { start_ms, last_ms, total });
            }
        }
        Ok(set)
    }

    fn bytes(&self) -> usize {
        let tiles = |tiles: &Vec<Tile>| size_of::<Vec<Tile>>() + tiles.capacity() * size_of::<Tile>();
        self.levels.iter().map(tiles).sum::<usize>() + self.sums.capacity() * size_of::<Option<Sum>>()
    }
}

#[derive(Debug, Clone)]
struct SubKey {
    newest_ms: i64,
    /// Up to this time of the clock there is nothing to forget. Not part of the state.
    quiet_until_ms: i64,
    tiles: TileSet,
}

/// Tiles of campaigns or of categories within one user.
#[derive(Debug, Clone)]
struct SubKeys {
    /// Numbers of the texts, apart: to find one is to go through them.
    ids: Vec<u32>,
    keys: Vec<SubKey>,
    /// The first of theirs: up to this time of the clock there is nothing to forget.
    quiet_until_ms: i64,
}

impl Default for SubKeys {
    fn default() -> Self {
        Self { ids: Vec::new(), keys: Vec::new(), quiet_until_ms: NEVER }
    }
}

impl SubKeys {
    fn add(&mut self, id: u32, event: &Logged, clock_ms: i64, plan: &Plan, texts: &mut Interner) {
        let at = if let Some(at) = self.ids.iter().position(|known| *known == id) {
            at
        } else {
            if self.ids.len() == MOST_SUBKEYS {
                let coldest = (0..self.ids.len()).min_by_key(|&at| (self.keys[at].newest_ms, self.ids[at]));
                if let Some(coldest) = coldest {
                    self.keys.remove(coldest);
                    texts.release(self.ids.remove(coldest));
                }
            }
            texts.retain(id);
            self.ids.push(id);
            self.keys.push(SubKey { newest_ms: NEVER, quiet_until_ms: NEVER, tiles: TileSet::new(plan) });
            self.ids.len() - 1
        };
        let sub = &mut self.keys[at];
        sub.newest_ms = sub.newest_ms.max(event.time_ms);
        sub.quiet_until_ms = NEVER;
        self.quiet_until_ms = NEVER;
        sub.tiles.add(event, clock_ms, plan);
    }

    fn purge(&mut self, clock_ms: i64, plan: &Plan, texts: &mut Interner) {
        if clock_ms <= self.quiet_until_ms {
            return;
        }
        let mut ids = std::mem::take(&mut self.ids).into_iter();
        let mut quiet_until_ms = i64::MAX;
        self.keys.retain_mut(|sub| {
            let empty = clock_ms > sub.quiet_until_ms && {
                let empty = sub.tiles.purge(clock_ms, plan);
                sub.quiet_until_ms = sub.tiles.quiet_until_ms(plan);
                empty
            };
            if let Some(id) = ids.next() {
                if empty {
                    texts.release(id);
                } else {
                    quiet_until_ms = quiet_until_ms.min(sub.quiet_until_ms);
                    self.ids.push(id);
                }
            }
            !empty
        });
        self.quiet_until_ms = quiet_until_ms;
    }

    fn read(&mut self, id: u32, read: &Read, entity: usize, plan: &Plan, totals: &mut Totals) {
        if let Some(at) = self.ids.iter().position(|known| *known == id) {
            self.keys[at].tiles.read(read, entity, plan, totals);
        }
    }

    fn write(&self, out: &mut Writer) {
        out.len(self.ids.len());
        for (id, sub) in self.ids.iter().zip(&self.keys) {
            out.uint(u64::from(*id));
            out.int(sub.newest_ms);
            sub.tiles.write(out);
        }
    }

    fn read_from(input: &mut Reader<'_>, texts: &mut Uses, plan: &Plan) -> Result<Self, SnapshotError> {
        let mut keys = Self::default();
        for _ in 0..input.len()? {
            keys.ids.push(input.used(texts)?);
            let newest_ms = input.time()?;
            let tiles = TileSet::read_from(input, plan)?;
            keys.keys.push(SubKey { newest_ms, quiet_until_ms: NEVER, tiles });
        }
        if keys.ids.len() > MOST_SUBKEYS { Err(input.damaged()) } else { Ok(keys) }
    }

    fn bytes(&self) -> usize {
        let keys: usize = self.keys.iter().map(|sub| size_of::<SubKey>() + sub.tiles.bytes()).sum();
        keys + self.ids.capacity() * size_of::<u32>()
    }
}

/// The tiles of a user with many events.
#[derive(Debug, Clone)]
pub(crate) struct Hot {
    user: TileSet,
    campaigns: SubKeys,
    categories: SubKeys,
    /// Where the plan has any.
    summaries: Option<Box<Summaries>>,
}

impl Hot {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            user: TileSet::new(plan),
            campaigns: SubKeys::default(),
            categories: SubKeys::default(),
            summaries: (!plan.summaries.is_empty()).then(Box::default),
        }
    }

    pub(crate) fn add(&mut self, event: &Logged, clock_ms: i64, plan: &Plan, ids: &mut Ids<'_>) {
        let subject = ids.subjects.get(event.number);
        self.user.add(event, clock_ms, plan);
        if let Some(summaries) = &mut self.summaries {
            summaries.add(event, clock_ms, plan, ids);
        }
        if plan.used[USER_CAMPAIGN] {
            self.campaigns.add(subject.campaign, event, clock_ms, plan, ids.texts);
        }
        if plan.used[USER_CATEGORY] {
            self.categories.add(subject.category, event, clock_ms, plan, ids.texts);
        }
    }

    /// Up to this time of the clock there is nothing to forget.
    pub(crate) fn quiet_until_ms(&self, plan: &Plan) -> i64 {
        let keys = [&self.campaigns, &self.categories].map(|keys| keys.quiet_until_ms);
        let summaries = self.summaries.as_ref().map(|summaries| summaries.quiet_until_ms(plan));
        keys.into_iter().chain(summaries).fold(self.user.quiet_until_ms(plan), i64::min)
    }

    /// Drops what has expired; whether nothing is left.
    pub(crate) fn purge(&mut self, clock_ms: i64, plan: &Plan, texts: &mut Interner) -> bool {
        let mut empty = self.user.purge(clock_ms, plan);
        if let Some(summaries) = &mut self.summaries {
            empty &= summaries.purge(clock_ms, plan);
        }
        self.campaigns.purge(clock_ms, plan, texts);
        self.categories.purge(clock_ms, plan, texts);
        empty && self.campaigns.ids.is_empty() && self.categories.ids.is_empty()
    }

    /// Reads a little of what a read of the windows will go through.
    pub(crate) fn look_ahead(&self) {
        self.user.levels.iter().filter_map(|tiles| tiles.last()).for_each(ask_for);
        if let Some(first) = self.campaigns.ids.first() {
            ask_for(first);
        }
    }

    pub(crate) fn read(&mut self, read: &Read, plan: &Plan, totals: &mut Totals) {
        self.user.read(read, USER, plan, totals);
        if plan.used[USER_CAMPAIGN] {
            self.campaigns.read(read.campaign, read, USER_CAMPAIGN, plan, totals);
        }
        if plan.used[USER_CATEGORY] {
            self.categories.read(read.category, read, USER_CATEGORY, plan, totals);
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let summaries = self.summaries.as_ref().map_or(0, |summaries| summaries.bytes());
        size_of::<Self>() + self.user.bytes() + self.campaigns.bytes() + self.categories.bytes() + summaries
    }

    /// Tiles of what the plan has beyond counts and sums.
    pub(crate) fn summaries(&self) -> Option<&Summaries> {
        self.summaries.as_deref()
    }

    pub(crate) fn write(&self, plan: &Plan, out: &mut Writer) {
        self.user.write(out);
        self.campaigns.write(out);
        self.categories.write(out);
        if let Some(summaries) = &self.summaries {
            summaries.write(plan, out);
        }
    }

    pub(crate) fn read_from(
        input: &mut Reader<'_>,
        texts: &mut Uses,
        plan: &Plan,
    ) -> Result<Self, SnapshotError> {
        Ok(Self {
            user: TileSet::read_from(input, plan)?,
            campaigns: SubKeys::read_from(input, texts, plan)?,
            categories: SubKeys::read_from(input, texts, plan)?,
            summaries: if plan.summaries.is_empty() {
                None
            } else {
                Some(Box::new(Summaries::read_from(input, plan)?))
            },
        })
    }
}
