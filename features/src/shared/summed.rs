//! The keys of one shared entity of which more is declared than counts and values by kind: their summaries in
//! tiles, and the numbers that vectors read of them.
//!
//! A summary cannot be taken back out of a sum, as counts can. So each key has tiles of every width that its
//! windows have at their tails, and a window is made of its tiles, at most about 64, when it is read: once a
//! version, however often. What is in a window is decided as [`super::key`] does.

use std::ops::Range;

use super::cells::Cells;
use crate::image::{self, Chunks, Image, Marks, record};
use crate::interner::{EMPTY, Interner};
use crate::summary::packed::{merge, pack, unpack};
use crate::summary::plan::{Of, Reading, What};
use crate::summary::{Part, packed};
use crate::uses::Uses;
use crate::wire::{Reader, SnapshotError, Writer};

/// Keys that are looked at per version for whether anything is left of them, beside two for each that has
/// come: more than one, so that the sweep outruns the growth.
const SWEPT: usize = 16;

/// Tiles of one width of one key, oldest first: of each its start in tiles, zigzagged, and its summary.
#[derive(Debug, Clone, Default)]
struct Strip {
    bytes: Vec<u8>,
    /// Where the newest begins.
    newest: usize,
}

/// The tile that a reader stands at: its start, in tiles, and its summary.
fn tile<'a>(input: &mut Reader<'a>) -> Result<(i64, &'a [u8]), SnapshotError> {
    Ok((input.int()?, input.bytes()?))
}

impl Strip {
    /// The tiles from an offset on.
    fn tiles(&self, from: usize) -> impl Iterator<Item = (i64, &[u8])> {
        let mut input = Reader::new(&self.bytes[from..]);
        std::iter::from_fn(move || tile(&mut input).ok())
    }

    fn push(&mut self, start: i64, summary: &[u8]) {
        self.newest = self.bytes.len();
        let mut out = Writer(std::mem::take(&mut self.bytes));
        out.int(start);
        out.bytes(summary);
        self.bytes = out.0;
    }

    /// Where the first tile begins that has not left by this version.
    fn live(&self, cells: &Cells, level: usize, version: i64) -> usize {
        let mut input = Reader::new(&self.bytes);
        let mut at = 0;
        while let Ok((start, _)) = tile(&mut input)
            && cells.leaves(start, level, cells.levels[level].holds) <= version
        {
            at = input.at();
        }
        at
    }

    /// Drops what has left.
    fn settle(&mut self, cells: &Cells, level: usize, version: i64) {
        let live = self.live(cells, level, version);
        self.bytes.drain(..live);
        self.newest = self.newest.saturating_sub(live);
        if self.bytes.capacity() > 4 * self.bytes.len() + 64 {
            self.bytes.shrink_to_fit();
        }
    }
}

/// A number that has been read as of the version in force.
#[derive(Debug, Clone)]
enum Known {
    /// It is the same for all views.
    Number(f64),
    /// It depends on the view.
    Part(Part),
}

#[derive(Debug, Clone)]
struct Key {
    /// [`EMPTY`] where the place is free; otherwise it has a use of it.
    text: u32,
    /// As many as levels.
    strips: Vec<Strip>,
    /// By window and number. Not part of the state.
    known: Option<Box<[Known]>>,
}

impl Key {
    /// Drops what has left.
    fn settle(&mut self, cells: &Cells, version: i64) {
        for (level, strip) in self.strips.iter_mut().enumerate() {
            strip.settle(cells, level, version);
        }
    }
}

/// All keys of one entity, each at a place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Summed {
    /// Per number of a text: its key's place, counted from 1; 0 for none.
    place_of: Vec<u32>,
    keys: Vec<Key>,
    free: Vec<u32>,
    /// Where the sweep stands.
    hand: usize,
    /// Keys that have come since it moved.
    come: usize,
    /// Places of keys that have been read as of the version in force. Not part of the state.
    read: Vec<u32>,
    marks: Marks,
    /// Number of its first chunk in the image under way. Not part of the state.
    first: u64,
}

impl Summed {
    fn find(&self, text: u32) -> Option<usize> {
        self.place_of.get(text as usize)?.checked_sub(1).map(|place| place as usize)
    }

    fn occupy(&mut self, place: usize, text: u32, cells: &Cells) {
        if self.place_of.len() <= text as usize {
            self.place_of.resize(text as usize + 1, 0);
        }
        self.place_of[text as usize] = place as u32 + 1;
        let strips = vec![Strip::default(); cells.levels.len()];
        self.keys[place] = Key { text, strips, known: None };
    }

    fn grow(&mut self) -> usize {
        self.keys.push(Key { text: EMPTY, strips: Vec::new(), known: None });
        self.keys.len() - 1
    }

    fn place(&mut self, key: &str, cells: &Cells, texts: &mut Interner) -> usize {
        if let Some(place) = texts.find(key).and_then(|text| self.find(text)) {
            self.touch(place as u64);
            return place;
        }
        let place = match self.free.pop() {
            Some(place) => place as usize,
            None => self.grow(),
        };
        self.touch(place as u64);
        self.occupy(place, texts.intern(key), cells);
        self.come += 1;
        place
    }

    /// Adds the summary of a closed tile of a key. Tiles come by time. A summary that is none, as only other
    /// bytes than a core's can be, is passed over.
    pub(crate) fn add(
        &mut self,
        tile_ms: i64,
        (key, summary): (&str, &[u8]),
        cells: &Cells,
        texts: &mut Interner,
    ) {
        let parts = unpack(&cells.packed, tile_ms, summary).filter(|parts| !parts.is_empty());
        let Some(parts) = parts.filter(|_| !key.is_empty()) else { return };
        let start = tile_ms.div_euclid(cells.tile_ms);
        let place = self.place(key, cells, texts);
        let mut packed = Vec::new();
        for (level, strip) in self.keys[place].strips.iter_mut().enumerate() {
            let wide = cells.wide(start, level);
            let newest = strip.tiles(strip.newest).next().filter(|(newest, _)| *newest >= wide);
            let begins = newest.map_or(wide, |(newest, _)| newest);
            let base_ms = begins.saturating_mul(cells.tile_ms);
            if newest.is_none() && base_ms == tile_ms {
                strip.push(wide, summary);
                continue;
            }
            let mut sum = cells.nothing(i64::MIN);
            if let Some((_, before)) = newest {
                merge(&mut sum, &unpack(&cells.packed, base_ms, before).unwrap_or_default());
                strip.bytes.truncate(strip.newest);
            }
            merge(&mut sum, &parts);
            packed.clear();
            pack(&cells.packed, &mut sum, base_ms, &mut packed);
            strip.push(begins, &packed);
        }
    }

    /// Reads the numbers of a key at a version, in tiles, for a view at a time whose texts have these hashes;
    /// those of a key of which nothing is known are of no event. Between two calls of [`Self::sweep`] the
    /// version is one.
    pub(crate) fn read(
        &mut self,
        (text, version): (u32, i64),
        (at_ms, own): (i64, &[u64; Of::ALL.len()]),
        cells: &Cells,
        out: &mut [f64],
    ) {
        let place = self.find(text);
        let mut unknown = None;
        let known: &[Known] = match place {
            Some(place) => {
                let key = &mut self.keys[place];
                if key.known.is_none() {
                    self.read.push(place as u32);
                }
                key.known.get_or_insert_with(|| known(&key.strips, version, cells))
            }
            None => unknown.insert(known(&[], version, cells)),
        };
        let numbers = cells.windows.iter().flat_map(|window| &window.numbers);
        for ((cell, place, reading), known) in numbers.zip(known) {
            out[*place] = match known {
                Known::Number(number) => *number,
                Known::Part(part) => {
                    let own = match cells.packed[*cell].what {
                        What::Top(of) => own[of as usize],
                        _ => 0,
                    };
                    number(&mut part.clone(), *reading, at_ms, own)
                }
            };
        }
    }

    /// A version is in force: forgets what was read of the one before, and some of the keys of which nothing
    /// is left.
    pub(crate) fn sweep(&mut self, version: i64, cells: &Cells, texts: &mut Interner) {
        for place in self.read.drain(..) {
            self.keys[place as usize].known = None;
        }
        let looks = 2 * std::mem::take(&mut self.come) + SWEPT;
        for _ in 0..looks.min(self.keys.len()) {
            self.hand = if self.hand + 1 < self.keys.len() { self.hand + 1 } else { 0 };
            let key = &self.keys[self.hand];
            if key.text == EMPTY {
                continue;
            }
            let mut strips = (0..).zip(&key.strips);
            if strips.any(|(level, strip)| strip.live(cells, level, version) > 0) {
                self.touch(self.hand as u64);
            }
            let key = &mut self.keys[self.hand];
            key.settle(cells, version);
            if key.strips.iter().all(|strip| strip.bytes.is_empty()) {
                let text = std::mem::replace(&mut key.text, EMPTY);
                key.strips = Vec::new();
                self.place_of[text as usize] = 0;
                self.free.push(self.hand as u32);
                texts.release(text);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len() - self.free.len()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let known = |known: &Known| match known {
            Known::Number(_) => size_of::<Known>(),
            Known::Part(part) => size_of::<Known>() + part.bytes(),
        };
        let of_key = |key: &Key| {
            let strips = key.strips.iter().map(|strip| size_of::<Strip>() + strip.bytes.capacity());
            strips.sum::<usize>() + key.known.iter().flatten().map(known).sum::<usize>()
        };
        self.keys.iter().map(of_key).sum::<usize>()
            + self.keys.capacity() * size_of::<Key>()
            + (self.place_of.capacity() + self.free.capacity() + self.read.capacity()) * 4
    }

    /// Begins an image, in which its first chunk has this number.
    pub(super) fn begin_at(&mut self, first: u64, whole: bool) {
        self.first = first;
        self.begin(whole);
    }

    /// Writes what is in no chunk.
    pub(super) fn write_head(&self, out: &mut Writer) {
        out.len(self.keys.len());
        out.ids(&self.free);
        out.len(self.hand);
    }

    /// Writes all chunks as of a version, in tiles: equal states are equal bytes, however many tiles have been
    /// dropped that had left.
    pub(super) fn write_all_at(&self, (first, version): (u64, i64), cells: &Cells, out: &mut Writer) {
        for (number, key) in (first..).zip(&self.keys) {
            let live = |(level, strip): (usize, &Strip)| strip.live(cells, level, version);
            let from = key.strips.iter().enumerate().map(live);
            record(image::Part::Summed, number, out, |out| key.write(from, out));
        }
    }

    /// `head` is what [`Self::write_head`] wrote.
    pub(super) fn read_from(
        (head, image): (&mut Reader<'_>, &Image<'_>),
        (first, version): (u64, i64),
        texts: &mut Uses,
        cells: &Cells,
    ) -> Result<Self, SnapshotError> {
        let mut all = Self::default();
        let end = first + u64::from(head.id()?);
        for chunk in image.chunks(image::Part::Summed, first..end) {
            let (_, mut input) = chunk?;
            let text = input.used(texts)?;
            let place = all.grow();
            if text != EMPTY {
                if all.find(text).is_some() {
                    return Err(input.damaged());
                }
                all.occupy(place, text, cells);
                let key = &mut all.keys[place];
                for strip in &mut key.strips {
                    strip.bytes = input.bytes()?.to_vec();
                    strip.newest = newest(&strip.bytes, cells).ok_or_else(|| input.damaged())?;
                }
                // It may have been written as of an earlier version.
                key.settle(cells, version);
            }
            input.end()?;
        }
        all.free = head.free(all.keys.len(), |place| all.keys[place as usize].text == EMPTY)?;
        all.hand = head.uint()? as usize;
        if all.hand >= all.keys.len().max(1) {
            return Err(head.damaged());
        }
        Ok(all)
    }
}

impl Key {
    /// Writes the strips, each from a place on.
    fn write(&self, from: impl Iterator<Item = usize>, out: &mut Writer) {
        out.uint(u64::from(self.text));
        for (strip, from) in self.strips.iter().zip(from) {
            out.bytes(&strip.bytes[from..]);
        }
    }
}

/// Each key has a chunk: see [`super::image`].
impl Chunks for Summed {
    const PART: image::Part = image::Part::Summed;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        0..self.keys.len() as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        self.keys[number as usize].write(std::iter::repeat(0), out);
    }

    fn write_record(&self, number: u64, out: &mut Writer) {
        record(Self::PART, self.first + number, out, |out| self.write_chunk(number, out));
    }
}

/// Where the newest of these tiles begins; none where they are damaged.
fn newest(bytes: &[u8], cells: &Cells) -> Option<usize> {
    let mut input = Reader::new(bytes);
    let (mut newest, mut before) = (0, None);
    while !input.at_end() {
        let at = input.at();
        let (start, summary) = tile(&mut input).ok()?;
        let parts = unpack(&cells.packed, start.saturating_mul(cells.tile_ms), summary)?;
        if parts.is_empty() || before.is_some_and(|before| before >= start) {
            return None;
        }
        (newest, before) = (at, Some(start));
    }
    Some(newest)
}

/// All numbers as of a version, of tiles by level; none are known of a key without.
fn known(strips: &[Strip], version: i64, cells: &Cells) -> Box<[Known]> {
    let mut known = Vec::new();
    for window in &cells.windows {
        let mut sum = cells.nothing(i64::MIN);
        // From the oldest tile to the newest, so that what is weighed by age is rounded alike.
        for (start, summary) in strips.get(window.level).into_iter().flat_map(|strip| strip.tiles(0)) {
            if cells.leaves(start, window.level, window.holds) > version {
                let base_ms = start.saturating_mul(cells.tile_ms);
                merge(&mut sum, &unpack(&cells.packed, base_ms, summary).unwrap_or_default());
            }
        }
        sum.iter_mut().for_each(Part::bound);
        known.extend(window.numbers.iter().map(|(cell, _, reading)| match reading {
            Reading::Age | Reading::Decayed | Reading::Rank(_) => Known::Part(sum[*cell].clone()),
            _ => Known::Number(number(&mut sum[*cell], *reading, 0, 0)),
        }));
    }
    known.into()
}

/// A number of a part; NaN where it is missing.
fn number(part: &mut Part, reading: Reading, at_ms: i64, own: u64) -> f64 {
    packed::number(part, reading, at_ms, own).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests;
