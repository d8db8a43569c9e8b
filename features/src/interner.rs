//! Texts as small numbers: one copy of each id, found by hash, counted by use.
//!
//! Numbers are handed out in a fixed order (last freed first), so they are part of the fold; the
//! hash table is not, and is rebuilt from the texts.

use crate::text::{Text, mix};
use crate::wire::{Reader, SnapshotError, Writer};

/// The number of the empty text: always there, never counted.
pub(crate) const EMPTY: u32 = 0;

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
}

impl Interner {
    pub(crate) fn new() -> Self {
        Self { slots: vec![Slot::default()], free: Vec::new(), table: vec![0; 16], used: 0 }
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
        std::hint::black_box(ids.map(|id| self.slots[id as usize].hash));
    }

    /// The text's number, with one use more.
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return EMPTY;
        }
        let hash = hash(text);
        match self.probe(text, hash) {
            Ok(id) => {
                self.slots[id as usize].uses += 1;
                id
            }
            Err(mut position) => {
                if (self.used + 1) * 10 > self.table.len() * 7 {
                    self.rebuild(self.table.len() * 2);
                    position = self.vacancy(hash);
                }
                let slot = Slot { text: text.into(), hash, uses: 1 };
                let id = if let Some(id) = self.free.pop() {
                    self.slots[id as usize] = slot;
                    id
                } else {
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
            self.slots[id as usize].uses += 1;
        }
    }

    /// One use less; whether it was the last and the number is free.
    pub(crate) fn release(&mut self, id: u32) -> bool {
        if id == EMPTY {
            return false;
        }
        let slot = &mut self.slots[id as usize];
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
            if slot.hash == hash && slot.text.as_bytes() == text.as_bytes() {
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

    pub(crate) fn write(&self, out: &mut Writer) {
        out.len(self.slots.len());
        for slot in &self.slots {
            out.uint(u64::from(slot.uses));
            out.text(slot.text.as_str());
        }
        out.len(self.free.len());
        for id in &self.free {
            out.uint(u64::from(*id));
        }
    }

    pub(crate) fn read(input: &mut Reader<'_>) -> Result<Self, SnapshotError> {
        let count = input.len()?;
        let mut slots = Vec::with_capacity(count);
        for _ in 0..count {
            let uses = input.id()?;
            let text = input.text()?;
            slots.push(Slot { text: text.into(), hash: hash(text), uses });
        }
        if slots.is_empty() {
            return Err(input.damaged());
        }
        let free = input.free(count, |id| id != EMPTY && slots[id as usize].uses == 0)?;
        let used = slots.iter().filter(|slot| slot.uses > 0).count();
        let mut interner = Self { slots, free, table: Vec::new(), used };
        interner.rebuild((used * 2).next_power_of_two().max(16));
        Ok(interner)
    }
}

fn hash(text: &str) -> u32 {
    mix(0, text) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut out = Writer(Vec::new());
        texts.write(&mut out);
        let mut back = Interner::read(&mut Reader::new(&out.0)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(back.intern("other"), texts.intern("other"));
        assert_eq!(back.find("t39"), texts.find("t39"));
    }

    #[test]
    fn free_numbers_stand_in_a_snapshot_once_and_all() {
        let read = |free: &[u32]| {
            let mut out = Writer(Vec::new());
            out.len(4);
            for (uses, text) in [(0, ""), (1, "a"), (0, ""), (0, "")] {
                out.uint(uses);
                out.text(text);
            }
            out.len(free.len());
            free.iter().for_each(|id| out.uint(u64::from(*id)));
            Interner::read(&mut Reader::new(&out.0)).map(|mut texts| [texts.intern("b"), texts.intern("c")])
        };
        assert_eq!(read(&[3, 2]), Ok([2, 3]));
        let wrong: [&[u32]; 6] = [&[2, 2], &[2], &[2, 3, 3], &[1, 2, 3], &[EMPTY, 2, 3], &[2, 4]];
        for free in wrong {
            assert!(read(free).is_err(), "{free:?}");
        }
    }
}
