//! Texts as small numbers: one copy of each id, found by hash, counted by use.
//!
//! Numbers are handed out in a fixed order (last freed first), so they are part of the fold; the
//! hash table is not, and is rebuilt from the texts.

use std::ops::Range;

use crate::ahead::ask_for;
use crate::image::{Chunks, Image, Marks, Part};
use crate::text::{Text, mix};
use crate::wire::{Reader, SnapshotError, Writer, are_all_free};

/// The number of the empty text: always there, never counted.
pub(crate) const EMPTY: u32 = 0;
/// Numbers of a chunk.
const CHUNK: usize = 64;

#[derive(Debug, Clone, Default)]
struct Slot {
    text: Text,
    hash: u32,
    uses: u32,
}

/// The texts of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Interner {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Open addressing, linear probing: 0 is empty, else number. The empty text is not in it.
    table: Vec<u32>,
    used: usize,
    marks: Marks,
}

impl Interner {
    pub(crate) fn new() -> Self {
        let (slots, free, table) = (vec![Slot::default()], Vec::new(), vec![0; 16]);
        Self { slots, free, table, used: 0, marks: Marks::default() }
    }

    /// How many texts there are, the empty one left out.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// How many numbers have been handed out; the greatest is one less.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Bytes held, about.
    pub(crate) fn bytes(&self) -> usize {
        let texts: usize = self.slots.iter().map(|slot| slot.text.more_bytes()).sum();
        texts + self.slots.capacity() * size_of::<Slot>() + self.table.len() * 4 + self.free.capacity() * 4
    }

    pub(crate) fn text(&self, id: u32) -> &str {
        self.slots[id as usize].text.as_str()
    }

    pub(crate) fn bytes_of(&self, id: u32) -> &[u8] {
        self.slots[id as usize].text.as_bytes()
    }

    /// Whether the number is this text's.
    #[inline]
    pub(crate) fn is(&self, id: u32, text: &str) -> bool {
        self.slots[id as usize].text.is(text)
    }

    /// The text's number, if it has one; counts no use.
    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        if text.is_empty() {
            return Some(EMPTY);
        }
        self.probe(text, hash(text)).ok()
    }

    /// The numbers of these texts as far as their hashes tell; 0 where there is none. All that
    /// [`Interner::intern`] will read is in the cache, or on its way to it.
    pub(crate) fn look_ahead<const N: usize>(&self, texts: [&str; N]) -> [u32; N] {
        let mask = self.table.len() - 1;
        // Step by step for all of them: what one step reads does not depend on the others' reads, so
        // that they wait for memory together.
        let hashes = texts.map(hash);
        let first = hashes.map(|hash| self.table[hash as usize & mask]);
        let first = first.map(|id| (id, self.slots[id as usize].hash));
        let mut hashes = hashes.into_iter();
        first.map(|(mut id, mut found)| {
            let hash = hashes.next().unwrap_or(0);
            let mut position = hash as usize & mask;
            while id != 0 && found != hash {
                position = (position + 1) & mask;
                id = self.table[position];
                found = self.slots[id as usize].hash;
            }
            id
        })
    }

    /// Reads these texts.
    pub(crate) fn look_at<const N: usize>(&self, ids: [u32; N]) {
        for id in ids {
            ask_for(&self.slots[id as usize]);
        }
    }

    /// The text's number, with one use more.
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return EMPTY;
        }
        let hash = hash(text);
        match self.probe(text, hash) {
            Ok(id) => {
                self.slot_mut(id).uses += 1;
                id
            }
            Err(mut position) => {
                if (self.used + 1) * 10 > self.table.len() * 7 {
                    self.rebuild(self.table.len() * 2);
                    position = self.vacancy(hash);
                }
                let slot = Slot { text: text.into(), hash, uses: 1 };
                let id = if let Some(id) = self.free.pop() {
                    *self.slot_mut(id) = slot;
                    id
                } else {
                    self.touch((self.slots.len() / CHUNK) as u64);
                    self.slots.push(slot);
                    self.slots.len() as u32 - 1
                };
                self.table[position] = id;
                self.used += 1;
                id
            }
        }
    }

    /// One use more.
    pub(crate) fn retain(&mut self, id: u32) {
        if id != EMPTY {
            self.slot_mut(id).uses += 1;
        }
    }

    /// A slot that is about to change.
    fn slot_mut(&mut self, id: u32) -> &mut Slot {
        self.touch(u64::from(id) / CHUNK as u64);
        &mut self.slots[id as usize]
    }

    /// One use less; whether it was the last and the number is free.
    pub(crate) fn release(&mut self, id: u32) -> bool {
        if id == EMPTY {
            return false;
        }
        let slot = self.slot_mut(id);
        debug_assert!(slot.uses > 0, "released more often than used");
        slot.uses -= 1;
        if slot.uses > 0 {
            return false;
        }
        let hash = slot.hash;
        *slot = Slot::default();
        self.remove(id, hash);
        self.free.push(id);
        self.used -= 1;
        true
    }

    fn probe(&self, text: &str, hash: u32) -> Result<u32, usize> {
        let mask = self.table.len() - 1;
        let mut position = hash as usize & mask;
        loop {
            let id = self.table[position];
            if id == 0 {
                return Err(position);
            }
            let slot = &self.slots[id as usize];
            if slot.hash == hash && slot.text.is(text) {
                return Ok(id);
            }
            position = (position + 1) & mask;
        }
    }

    fn vacancy(&self, hash: u32) -> usize {
        let mask = self.table.len() - 1;
        let mut position = hash as usize & mask;
        while self.table[position] != 0 {
            position = (position + 1) & mask;
        }
        position
    }

    fn rebuild(&mut self, size: usize) {
        self.table = vec![0; size];
        for id in 1..self.slots.len() {
            if self.slots[id].uses > 0 {
                let position = self.vacancy(self.slots[id].hash);
                self.table[position] = id as u32;
            }
        }
    }

    /// Takes a number out of the table and moves back what had been pushed past it.
    fn remove(&mut self, id: u32, hash: u32) {
        let mask = self.table.len() - 1;
        let mut hole = hash as usize & mask;
        while self.table[hole] != id {
            hole = (hole + 1) & mask;
        }
        let mut next = (hole + 1) & mask;
        while self.table[next] != 0 {
            let home = self.slots[self.table[next] as usize].hash as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.table[hole] = self.table[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.table[hole] = 0;
    }

    /// How often each is used, by number.
    pub(crate) fn uses(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().map(|slot| slot.uses)
    }

    /// Writes what is not in chunks.
    pub(crate) fn write_head(&self, out: &mut Writer) {
        out.len(self.slots.len());
        out.ids(&self.free);
    }

    /// What [`Self::write_head`] wrote: how many numbers there are, and which are free.
    pub(crate) fn read_head(input: &mut Reader<'_>) -> Result<(usize, Vec<u32>), SnapshotError> {
        let count = input.uint()? as usize;
        Ok((count, input.ids_below(count)?))
    }

    /// `head` is what [`Self::read_head`] read.
    pub(crate) fn read_from(
        (count, free): (usize, Vec<u32>),
        image: &Image<'_>,
    ) -> Result<Self, SnapshotError> {
        let mut slots = Vec::new();
        for chunk in image.chunks(Part::Texts, 0..count.div_ceil(CHUNK) as u64) {
            let (_, mut input) = chunk?;
            for _ in 0..(count - slots.len()).min(CHUNK) {
                let uses = input.id()?;
                let text = input.text()?;
                slots.push(Slot { text: text.into(), hash: hash(text), uses });
            }
            input.end()?;
        }
        let is_free = |id: u32| id != EMPTY && slots[id as usize].uses == 0;
        if slots.is_empty() || !are_all_free(&free, count, is_free) {
            return Err(SnapshotError::Missing { part: Part::Texts as u8, number: 0 });
        }
        let used = slots.iter().filter(|slot| slot.uses > 0).count();
        let mut interner = Self { slots, free, table: Vec::new(), used, marks: Marks::default() };
        interner.rebuild((used * 2).next_power_of_two().max(16));
        Ok(interner)
    }
}

impl Chunks for Interner {
    const PART: Part = Part::Texts;

    fn marks(&self) -> &Marks {
        &self.marks
    }

    fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    fn range(&self) -> Range<u64> {
        0..self.slots.len().div_ceil(CHUNK) as u64
    }

    fn write_chunk(&self, number: u64, out: &mut Writer) {
        for slot in self.slots.iter().skip(number as usize * CHUNK).take(CHUNK) {
            out.uint(u64::from(slot.uses));
            out.text(slot.text.as_str());
        }
    }
}

fn hash(text: &str) -> u32 {
    mix(0, text) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::record;

    #[test]
    fn gives_a_text_one_number_until_its_last_use_ends() {
        let mut texts = Interner::new();
        let ids: Vec<u32> = (0..500).map(|n| texts.intern(&format!("item-{n}"))).collect();
        assert_eq!(texts.len(), 500);
        assert_eq!(texts.intern("item-7"), ids[7]);
        assert!(!texts.release(ids[7]));
        for n in (0..500).step_by(2) {
            assert!(texts.release(ids[n]));
        }
        for (n, id) in ids.iter().enumerate() {
            let want = (n % 2 == 1).then_some(*id);
            assert_eq!(texts.find(&format!("item-{n}")), want, "item-{n}");
        }
        assert_eq!(texts.intern("new"), ids[498], "last freed first");
        assert_eq!(texts.text(ids[498]), "new");
        assert_eq!(texts.intern(""), EMPTY);
        assert!(!texts.release(EMPTY));
    }

    #[test]
    fn survives_a_snapshot() {
        let mut texts = Interner::new();
        for n in 0..40 {
            texts.intern(&format!("t{n}"));
        }
        let freed = texts.find("t3").unwrap_or_default();
        texts.release(freed);
        let (mut head, mut bytes) = (Writer(Vec::new()), Writer(Vec::new()));
        texts.write_head(&mut head);
        record(Part::Head, 0, &mut bytes, |_| {});
        texts.write_all(&mut bytes);
        let image = Image::read(&bytes.0, |_| Ok(true)).unwrap_or_else(|e| panic!("{e}"));
        let head = Interner::read_head(&mut Reader::new(&head.0)).unwrap_or_else(|e| panic!("{e}"));
        let back = Interner::read_from(head, &image);
        let mut back = back.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(back.intern("other"), texts.intern("other"));
        assert_eq!(back.find("t39"), texts.find("t39"));
    }

    #[test]
    fn free_numbers_stand_in_a_snapshot_once_and_all() {
        let read = |free: &[u32]| {
            let (mut head, mut bytes) = (Writer(Vec::new()), Writer(Vec::new()));
            head.len(4);
            head.ids(free);
            record(Part::Head, 0, &mut bytes, |_| {});
            record(Part::Texts, 0, &mut bytes, |out| {
                for (uses, text) in [(0, ""), (1, "a"), (0, ""), (0, "")] {
                    out.uint(uses);
                    out.text(text);
                }
            });
            let image = Image::read(&bytes.0, |_| Ok(true))?;
            let texts = Interner::read_from(Interner::read_head(&mut Reader::new(&head.0))?, &image);
            texts.map(|mut texts| [texts.intern("b"), texts.intern("c")])
        };
        assert_eq!(read(&[3, 2]), Ok([2, 3]));
        let wrong: [&[u32]; 6] = [&[2, 2], &[2], &[2, 3, 3], &[1, 2, 3], &[EMPTY, 2, 3], &[2, 4]];
        for free in wrong {
            assert!(read(free).is_err(), "{free:?}");
        }
    }
}
