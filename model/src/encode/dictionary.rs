//! The ids of one field that have an embedding of their own, as keys (hashes) and their rows.

use std::sync::Arc;

/// Keys of the admitted ids. Cheap to clone, compared by content's digest.
#[derive(Debug, Clone)]
pub struct Dictionary {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// In the order of their rows.
    keys: Vec<u64>,
    /// Open addressing over `keys`: 1 + position, 0 where free. At most half full.
    slots: Vec<u32>,
    digest: u128,
}

impl PartialEq for Dictionary {
    fn eq(&self, other: &Self) -> bool {
        self.inner.digest == other.inner.digest && self.len() == other.len()
    }
}

impl Eq for Dictionary {}

impl Default for Dictionary {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { keys: Vec::new(), slots: vec![0; 2], digest: digest(&[]) }) }
    }
}

fn digest(keys: &[u64]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for key in keys {
        hasher.update(&key.to_le_bytes());
    }
    hasher.digest128()
}

impl Dictionary {
    /// A dictionary of these keys; `None` where one is 0 ("not given") or comes twice, or where
    /// there are 2^31 or more.
    pub fn new(keys: Vec<u64>) -> Option<Self> {
        if keys.len() >= 1 << 31 {
            return None;
        }
        let mut slots = vec![0_u32; (keys.len() * 2).next_power_of_two().max(2)];
        let mask = slots.len() - 1;
        for (position, &key) in keys.iter().enumerate() {
            let mut at = key as usize & mask;
            while slots[at] != 0 {
                if keys[slots[at] as usize - 1] == key {
                    return None;
                }
                at = (at + 1) & mask;
            }
            if key == 0 {
                return None;
            }
            slots[at] = position as u32 + 1;
        }
        let digest = digest(&keys);
        Some(Self { inner: Arc::new(Inner { keys, slots, digest }) })
    }

    /// How many ids it holds.
    pub fn len(&self) -> usize {
        self.inner.keys.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.inner.keys.is_empty()
    }

    /// The keys, in the order of their rows.
    pub fn keys(&self) -> &[u64] {
        &self.inner.keys
    }

    /// What tells these keys, in this order, from others.
    pub fn digest(&self) -> u128 {
        self.inner.digest
    }

    /// Position of a key.
    #[inline]
    pub fn get(&self, key: u64) -> Option<u32> {
        let Inner { keys, slots, .. } = &*self.inner;
        let mask = slots.len() - 1;
        let mut at = key as usize & mask;
        // Ends: half of the slots are free.
        while slots[at] != 0 {
            let position = slots[at] - 1;
            if keys[position as usize] == key {
                return Some(position);
            }
            at = (at + 1) & mask;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::random::Random;

    #[test]
    fn finds_what_it_holds_and_nothing_else() {
        let mut random = Random::new(3, "keys");
        for count in [0, 1, 2, 3, 1_000, 4_096] {
            // Few low bits differ: many share a slot.
            let keys: Vec<u64> =
                (0..count).map(|at| (u64::from(at as u32 + 1) << 40) | (random.next_u64() & 7)).collect();
            let dictionary = Dictionary::new(keys.clone()).unwrap();
            assert_eq!((dictionary.len(), dictionary.is_empty()), (count, count == 0));
            assert!(keys.iter().enumerate().all(|(at, &key)| dictionary.get(key) == Some(at as u32)));
            assert!((0..2_000).all(|_| dictionary.get(random.next_u64() >> 32).is_none()));
            assert_eq!(dictionary, Dictionary::new(keys).unwrap());
        }
        assert_eq!(Dictionary::default().get(5), None);
    }

    #[test]
    fn refuses_keys_that_could_not_be_told_apart() {
        assert!(Dictionary::new(vec![4, 5, 4]).is_none());
        assert!(Dictionary::new(vec![4, 0]).is_none());
        assert_ne!(Dictionary::new(vec![4, 5]), Dictionary::new(vec![5, 4]));
    }
}
