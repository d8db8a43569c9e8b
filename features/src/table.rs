//! Numbers by hash: open addressing in entries of 8 bytes, hash and number together.
//!
//! Knows no keys: who asks compares. Not part of any state, and made anew from the keys.

/// Linear probing; 0 is empty, so that number 0 cannot be held.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    entries: Vec<u64>,
    used: usize,
}

impl Table {
    /// Room for so many without growing.
    pub(crate) fn with_room(count: usize) -> Self {
        let size = (count + 1) * 10 / 7 + 1;
        Self { entries: vec![0; size.next_power_of_two().max(16)], used: 0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u64>()
    }

    pub(crate) fn len(&self) -> usize {
        self.used
    }

    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    /// The first number of that hash, which is nearly always the one; 0 where there is none.
    pub(crate) fn first(&self, hash: u32) -> u32 {
        self.find(hash, |_| true).unwrap_or(0)
    }

    /// The number of that hash of which `is` says that it is the one.
    pub(crate) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let mut position = hash as usize & self.mask();
        loop {
            let entry = self.entries[position];
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == hash && is(entry as u32) {
                return Some(entry as u32);
            }
            position = (position + 1) & self.mask();
        }
    }

    /// Adds a number that is not there.
    pub(crate) fn insert(&mut self, hash: u32, number: u32) {
        debug_assert!(number > 0, "0 stands for nothing");
        if (self.used + 1) * 10 > self.entries.len() * 7 {
            let entries = vec![0; self.entries.len() * 2];
            for entry in std::mem::replace(&mut self.entries, entries).into_iter().filter(|entry| *entry > 0)
            {
                self.place(entry);
            }
        }
        self.used += 1;
        self.place(u64::from(hash) << 32 | u64::from(number));
    }

    fn place(&mut self, entry: u64) {
        let mask = self.mask();
        let mut position = (entry >> 32) as usize & mask;
        while self.entries[position] > 0 {
            position = (position + 1) & mask;
        }
        self.entries[position] = entry;
    }

    /// Takes all out.
    pub(crate) fn clear(&mut self) {
        self.entries.fill(0);
        self.used = 0;
    }

    /// Takes a number out that is there, and moves back what had been pushed past it.
    pub(crate) fn remove(&mut self, hash: u32, number: u32) {
        let mask = self.mask();
        let mut hole = hash as usize & mask;
        while self.entries[hole] as u32 != number {
            hole = (hole + 1) & mask;
        }
        let mut next = (hole + 1) & mask;
        while self.entries[next] > 0 {
            let home = (self.entries[next] >> 32) as usize & mask;
            if (next.wrapping_sub(home) & mask) >= (next.wrapping_sub(hole) & mask) {
                self.entries[hole] = self.entries[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.entries[hole] = 0;
        self.used -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_put_in_and_not_taken_out() {
        // Few different hashes: long runs, and numbers that stand far from home.
        let hash = |number: u32| (number % 37) << 3;
        let mut table = Table::with_room(0);
        (1..=500).for_each(|number| table.insert(hash(number), number));
        (1..=500).filter(|number| number % 3 == 0).for_each(|number| table.remove(hash(number), number));
        assert_eq!(table.len(), 500 - 166);
        for number in 1..=500 {
            let found = table.find(hash(number), |other| other == number);
            assert_eq!(found, (number % 3 > 0).then_some(number));
        }
    }
}
