//! Numbers for the keys of shared entities, so that a key's text is hashed once per record and
//! compared only where an order is wanted.

use std::collections::HashMap;
use std::sync::Arc;

use crate::plan::SHARED_ENTITIES;

/// The keys that are known, by number. A number that is given back is given out again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Numbers {
    of: [HashMap<Arc<str>, u32>; SHARED_ENTITIES],
    /// Per number: index of the shared entity, and which of them.
    keys: Vec<(usize, Arc<str>)>,
    free: Vec<u32>,
}

impl Numbers {
    /// The number of a key; a new one's is made.
    pub(crate) fn intern(&mut self, entity: usize, key: &str) -> u32 {
        if let Some(number) = self.of[entity].get(key) {
            return *number;
        }
        let key: Arc<str> = Arc::from(key);
        let entry = (entity, Arc::clone(&key));
        let number = if let Some(number) = self.free.pop() {
            self.keys[number as usize] = entry;
            number
        } else {
            self.keys.push(entry);
            (self.keys.len() - 1) as u32
        };
        self.of[entity].insert(key, number);
        number
    }

    /// Which entity the key is of.
    pub(crate) fn entity(&self, number: u32) -> usize {
        self.keys[number as usize].0
    }

    /// The key.
    pub(crate) fn text(&self, number: u32) -> &str {
        &self.keys[number as usize].1
    }

    /// Orders numbers by entity and key, which no history of numbering changes.
    pub(crate) fn sort(&self, numbers: &mut [u32]) {
        numbers.sort_unstable_by(|a, b| self.keys[*a as usize].cmp(&self.keys[*b as usize]));
    }

    /// Gives back all numbers but these.
    pub(crate) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        for of in &mut self.of {
            of.retain(|_, number| {
                let kept = keep(*number);
                if !kept {
                    self.free.push(*number);
                }
                kept
            });
        }
        // The map's order is not the log's: nothing may depend on which number comes next.
        self.free.sort_unstable_by(|a, b| b.cmp(a));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_its_keys_until_it_is_given_back() {
        let mut numbers = Numbers::default();
        let made: Vec<u32> = ["b", "a", "c"].into_iter().map(|key| numbers.intern(1, key)).collect();
        assert_eq!(numbers.intern(1, "a"), made[1]);
        assert_ne!(numbers.intern(0, "a"), made[1]);
        let mut sorted = made.clone();
        numbers.sort(&mut sorted);
        assert_eq!(sorted, [made[1], made[0], made[2]]);
        numbers.retain(|number| number != made[1]);
        assert_eq!(numbers.intern(1, "d"), made[1]);
        assert_eq!((numbers.entity(made[1]), numbers.text(made[1])), (1, "d"));
        assert_eq!(numbers.intern(1, "b"), made[0]);
    }
}
