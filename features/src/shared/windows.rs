//! The keys of one shared entity: what all partitions counted of each, and its windows.
//!
//! Knows of a key's tiles and windows only that [`Key`] keeps them.

#![expect(
    clippy::inline_always,
    reason = "what fills a row is compiled once for each processor, with all that it calls"
)]

use schemas::entity::{Row, VALUE_PARTS};

use super::image::InChunks;
use super::key::{self, Key};
use super::plan::SharedPlan;
use crate::ahead::{ask_for, ask_for_all};
use crate::core::AHEAD;
use crate::history::NEVER;
use crate::image::{Chunks as _, Marks};
use crate::interner::{EMPTY, Interner};
use crate::plan::{CART, CLICK, KINDS, PURCHASE, REFUND, VIEW};
use crate::scan::Build;
use crate::totals::{LANES, Lanes, value_slot};

/// Keys that are looked at per version for whether anything is left of them, beside two for each that
/// has come: more than one, so that the sweep outruns the growth.
const SWEPT: usize = 16;

/// Per sum of values: the kind that they are of.
const VALUED: [usize; 3] = [VIEW, PURCHASE, REFUND];
const _: () = assert!(
    matches!(value_slot(VIEW), Some(0))
        && matches!(value_slot(PURCHASE), Some(1))
        && matches!(value_slot(REFUND), Some(2))
);

/// The windows of an entity's key, as a vector reads them: those of one table behind those of the other.
#[derive(Debug, Clone)]
pub(crate) struct SharedRow {
    windows: usize,
    counts: Vec<u32>,
    sums: Vec<f64>,
    last_ms: [i64; KINDS],
}

impl Default for SharedRow {
    fn default() -> Self {
        Self { windows: 0, counts: Vec::new(), sums: Vec::new(), last_ms: [NEVER; KINDS] }
    }
}

impl SharedRow {
    /// Begins to read so many windows.
    pub(crate) fn start(&mut self, windows: usize) {
        if self.windows != windows {
            *self = Self { windows, ..Self::default() };
            self.counts.resize(KINDS * windows + LANES, 0);
            self.sums.resize(KINDS * windows + LANES, 0.0);
        }
        self.last_ms = [NEVER; KINDS];
    }

    #[inline]
    pub(crate) fn lanes(&self) -> Lanes<'_> {
        Lanes { stride: self.windows, counts: &self.counts, sums: &self.sums, last_ms: &self.last_ms }
    }
}

impl Build {
    /// Fills a row from this place on with a key's sums; with nothing where there are none.
    fn fill(self, sums: Option<&[u64]>, plan: &SharedPlan, to: (&mut SharedRow, usize)) {
        match self {
            Self::Any => fill(sums, plan, to),
            // SAFETY: only `all` makes these, for a processor that has the features.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "a function compiled for other processors than the caller")]
            Self::Avx2 => unsafe { fill_avx2(sums, plan, to) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            #[expect(unsafe_code, reason = "a function compiled for other processors than the caller")]
            Self::Avx512 => unsafe { fill_avx512(sums, plan, to) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn fill_avx2(sums: Option<&[u64]>, plan: &SharedPlan, to: (&mut SharedRow, usize)) {
    fill(sums, plan, to);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,bmi2,lzcnt,popcnt")]
fn fill_avx512(sums: Option<&[u64]>, plan: &SharedPlan, to: (&mut SharedRow, usize)) {
    fill(sums, plan, to);
}

#[inline(always)]
fn fill(sums: Option<&[u64]>, plan: &SharedPlan, (row, at): (&mut SharedRow, usize)) {
    let (windows, stride) = (plan.windows.len(), row.windows);
    // Kinds come one behind the other, so that what is written behind one's windows is the next one's to write;
    // not so where others' windows stand there.
    let is_alone = windows == stride;
    let mut next = 0;
    for (number, sum) in plan.sum_of.iter().enumerate() {
        // Carts that are kept with other clicks have no sum of their own.
        if *sum != Some(next) {
            continue;
        }
        let from = usize::from(next) * windows;
        next += 1;
        for first in (0..windows).step_by(LANES) {
            let count = (windows - first).min(LANES);
            let lanes = sums.map_or([0; LANES], |sums| lanes(&sums[from + first..], count));
            match number.checked_sub(KINDS) {
                None => {
                    let mut counts = [0; LANES];
                    for lane in 0..LANES {
                        counts[lane] = lanes[lane].min(u64::from(u32::MAX)) as u32;
                    }
                    let to = &mut row.counts[number * stride + at + first..];
                    if is_alone {
                        to[..LANES].copy_from_slice(&counts);
                    } else {
                        to[..count].copy_from_slice(&counts[..count]);
                    }
                }
                Some(slot) => {
                    let mut values = [0.0; LANES];
                    for lane in 0..LANES {
                        values[lane] = lanes[lane] as i64 as f64 / VALUE_PARTS;
                    }
                    let to = &mut row.sums[VALUED[slot] * stride + at + first..];
                    if is_alone {
                        to[..LANES].copy_from_slice(&values);
                    } else {
                        to[..count].copy_from_slice(&values[..count]);
                    }
                }
            }
        }
    }
}

/// The first numbers of these, of which so many count.
#[inline(always)]
fn lanes(from: &[u64], count: usize) -> [u64; LANES] {
    if let Some(lanes) = from.first_chunk() {
        return *lanes;
    }
    let mut lanes = [0; LANES];
    lanes[..count].copy_from_slice(&from[..count]);
    lanes
}

/// All keys of one entity, each at a place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// Per number of a text: its key's place, counted from 1; 0 for none.
    pub(super) place_of: Vec<u32>,
    /// What [`Key`] keeps, place by place. Of a place that is free the text is [`EMPTY`]; of others it has
    /// a use.
    pub(super) words: Vec<u64>,
    /// Tiles, by place.
    pub(super) strips: Vec<Vec<u8>>,
    pub(super) free: Vec<u32>,
    /// Where the sweep stands.
    pub(super) hand: usize,
    /// Keys that have come since it moved.
    come: usize,
    scratch: Vec<u8>,
    pub(super) marks: Marks,
    /// What the image under way is of. Not part of the state.
    pub(super) image: Of,
}

/// What an image is of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Of {
    /// Number of the table's first chunk.
    pub(super) first: u64,
    /// The version that was in force, in tiles.
    pub(super) version: i64,
}

impl Table {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.strips.len() - self.free.len()
    }

    pub(super) fn find(&self, text: u32) -> Option<usize> {
        self.place_of.get(text as usize)?.checked_sub(1).map(|place| place as usize)
    }

    pub(super) fn words(&self, place: usize, plan: &SharedPlan) -> &[u64] {
        let words = key::words(plan);
        &self.words[place * words..][..words]
    }

    /// The key at a place and its tiles, and the scratch.
    pub(super) fn key<'a>(
        &'a mut self,
        place: usize,
        plan: &SharedPlan,
    ) -> (Key<'a>, &'a mut Vec<u8>, &'a mut Vec<u8>) {
        let words = key::words(plan);
        let key = Key::new(&mut self.words[place * words..][..words], plan);
        (key, &mut self.strips[place], &mut self.scratch)
    }

    /// The key's place, of which this is perhaps the text; a new key's is made.
    fn place(&mut self, key: &str, perhaps: u32, plan: &SharedPlan, texts: &mut Interner) -> usize {
        let is_it = perhaps != EMPTY && texts.is(perhaps, key);
        let text = if is_it { Some(perhaps) } else { texts.find(key) };
        if let Some(place) = text.and_then(|text| self.find(text)) {
            self.touch(place, plan);
            return place;
        }
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None => self.grow(plan),
        };
        self.touch(place, plan);
        self.occupy(place, texts.intern(key), plan);
        self.come += 1;
        place
    }

    /// The key at a place is about to change.
    fn touch(&mut self, place: usize, plan: &SharedPlan) {
        InChunks { table: self, plan }.touch(place as u64);
    }

    /// Moves the tiles of the key at a place out of the windows that they have left at this version.
    fn settle(&mut self, place: usize, version: i64, plan: &SharedPlan) {
        if self.key(place, plan).0.is_due(version) {
            self.touch(place, plan);
            let (mut key, tiles, scratch) = self.key(place, plan);
            key.settle(tiles, version, plan, scratch);
        }
    }

    pub(super) fn grow(&mut self, plan: &SharedPlan) -> usize {
        self.strips.push(Vec::new());
        self.words.resize(self.strips.len() * key::words(plan), 0);
        self.strips.len() - 1
    }

    pub(super) fn occupy(&mut self, place: usize, text: u32, plan: &SharedPlan) {
        if self.place_of.len() <= text as usize {
            self.place_of.resize(text as usize + 1, 0);
        }
        self.place_of[text as usize] = place as u32 + 1;
        self.key(place, plan).0.clear(text);
    }

    /// Reads what adding to these texts' keys, or reading their windows, will read first. Changes
    /// nothing; but the keys wait for memory together and not one after the other.
    pub(crate) fn look_ahead(&self, texts: [u32; AHEAD], plan: &SharedPlan) {
        if self.strips.is_empty() {
            return;
        }
        let places = texts.map(|text| self.find(text).unwrap_or(0));
        let keys = places.map(|place| (self.words(place, plan), &self.strips[place]));
        for (words, tiles) in keys {
            ask_for_all(words);
            ask_for(tiles);
        }
        for (words, tiles) in keys {
            key::begins(words, plan).filter_map(|at| tiles.get(at)).for_each(ask_for);
            if let Some(last) = tiles.last() {
                ask_for(last);
            }
        }
    }

    /// Adds a closed tile of a key, of which this is perhaps the text. Tiles come by time.
    pub(crate) fn add(
        &mut self,
        tile_ms: i64,
        (row, perhaps): (&Row<'_>, u32),
        plan: &SharedPlan,
        texts: &mut Interner,
    ) {
        if !row.key.is_empty() {
            let place = self.place(row.key, perhaps, plan, texts);
            let (mut key, tiles, _) = self.key(place, plan);
            key.add(tiles, tile_ms.div_euclid(plan.tile_ms), row.bytes, plan);
        }
    }

    /// Reads the key's windows at a version, in tiles, from this place of the row on; those of a key of which
    /// nothing is known are empty. Versions ascend.
    pub(crate) fn read(
        &mut self,
        text: u32,
        version: i64,
        plan: &SharedPlan,
        (build, row, at): (Build, &mut SharedRow, usize),
    ) {
        let (windows, stride) = (plan.windows.len(), row.windows);
        let place = self.find(text);
        let known = place.map(|place| {
            self.settle(place, version, plan);
            self.words(place, plan)
        });
        build.fill(known.map(|words| key::sums(words, plan)), plan, (row, at));
        let apart = plan.sum_of[CLICK].zip(plan.sum_of[CART]).is_some_and(|(clicks, carts)| clicks != carts);
        if apart {
            for window in at..at + windows {
                let carts = row.counts[CART * stride + window];
                let clicks = &mut row.counts[CLICK * stride + window];
                *clicks = clicks.saturating_add(carts);
            }
        }
        let Some(words) = known else { return };
        let lasts = key::lasts(words, plan);
        for (kind, last) in plan.last_of.iter().enumerate() {
            let last = last.map_or(0, |last| lasts[usize::from(last)]);
            let last = i64::try_from(last).unwrap_or(i64::MAX);
            if last != 0 && plan.forgets(last) > version {
                row.last_ms[kind] = last.saturating_mul(plan.tile_ms);
            }
        }
        row.last_ms[CLICK] = row.last_ms[CLICK].max(row.last_ms[CART]);
    }

    /// Forgets some of the keys of which nothing is left at this version, in tiles.
    pub(crate) fn sweep(&mut self, version: i64, plan: &SharedPlan, texts: &mut Interner) {
        let looks = 2 * std::mem::take(&mut self.come) + SWEPT;
        for _ in 0..looks.min(self.strips.len()) {
            self.hand = if self.hand + 1 < self.strips.len() { self.hand + 1 } else { 0 };
            let place = self.hand;
            let text = key::text(self.words(place, plan));
            if text == EMPTY {
                continue;
            }
            self.settle(place, version, plan);
            let tiles = &mut self.strips[place];
            if tiles.is_empty() {
                self.touch(place, plan);
                let (mut key, tiles, _) = self.key(place, plan);
                debug_assert!(key.sums().iter().all(|sum| *sum == 0), "no tiles, no sums");
                key.clear(EMPTY);
                *tiles = Vec::new();
                self.place_of[text as usize] = 0;
                self.free.push(place as u32);
                texts.release(text);
            } else if tiles.capacity() > 4 * tiles.len() + 64 {
                tiles.shrink_to_fit();
            }
        }
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let tiles: usize = self.strips.iter().map(Vec::capacity).sum();
        tiles
            + self.strips.capacity() * size_of::<Vec<u8>>()
            + self.words.capacity() * 8
            + (self.place_of.capacity() + self.free.capacity()) * 4
    }
}

#[cfg(test)]
mod tests;
