//! How often and when last keys were met, in bounded memory: exact while few, beyond that exact for
//! none and close for those that are met often.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::distinct::Distinct;

/// Keys are hashes already.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Met {
    /// Times that it was met for sure.
    pub(super) count: u32,
    /// Times that it may have been met before, while it was not counted.
    pub(super) missed: u32,
    /// When last, as far as it was counted, ms.
    pub(super) last_ms: i64,
}

/// Counts of keys, at most `limit` of them at a time.
///
/// When there are more, all that are met no oftener than the median are forgotten, and whatever
/// comes anew may have been met that often before: Space-Saving (Metwally, Agrawal, El Abbadi 2005),
/// for many keys at once (Anderson et al., "A high-performance algorithm for identifying frequent
/// items in data streams", 2017). Of `n` keys met, none has been missed more than [`Self::missed`]
/// times, at most `2 n / limit`: each time that this rises by one, half of `limit` keys have been met
/// once more than before. What is forgotten depends on nothing but the keys and their order.
pub(super) struct Frequent {
    keys: HashMap<u64, Met, BuildHasherDefault<KeyHasher>>,
    limit: usize,
    missed: u32,
    met: u64,
    /// Of the keys that were there when some were forgotten.
    seen: Distinct,
}

impl Frequent {
    /// Holds at most `limit` keys, 25 to 50 bytes each; counts at most `exact` different ones exactly.
    pub(super) fn new(limit: usize, exact: usize) -> Self {
        let limit = limit.max(2);
        Self { keys: HashMap::default(), limit, missed: 0, met: 0, seen: Distinct::new(exact) }
    }

    /// Counts a key.
    #[inline]
    pub(super) fn add(&mut self, key: u64, time_ms: i64) {
        self.met += 1;
        let new = Met { count: 0, missed: self.missed, last_ms: i64::MIN };
        let met = self.keys.entry(key).or_insert(new);
        met.count = met.count.saturating_add(1);
        met.last_ms = met.last_ms.max(time_ms);
        if self.keys.len() > self.limit {
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.keys.keys().for_each(|&key| self.seen.add(key));
        let most = |met: &Met| met.count.saturating_add(met.missed);
        let mut counts: Vec<u32> = self.keys.values().map(most).collect();
        let half = self.limit / 2;
        let (_, &mut median, _) = counts.select_nth_unstable_by(half, |a, b| b.cmp(a));
        self.keys.retain(|_, met| most(met) > median);
        self.missed = median;
    }

    /// The keys that are counted now, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Met)> + '_ {
        self.keys.iter().map(|(&key, &met)| (key, met))
    }

    /// How many different keys were met, and whether that is exact.
    pub(super) fn distinct(&self) -> (u64, bool) {
        if self.missed == 0 {
            return (self.keys.len() as u64, true);
        }
        let mut seen = self.seen.clone();
        self.keys.keys().for_each(|&key| seen.add(key));
        let counted = seen.count(1, |_| 0);
        (counted.distinct, counted.exact)
    }

    /// Times that any key may have been met without being counted; 0 while all are.
    pub(super) const fn missed(&self) -> u32 {
        self.missed
    }

    /// Times that keys were met, all together.
    pub(super) const fn met(&self) -> u64 {
        self.met
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::Random;

    /// Streams of keys, some of which come far oftener than others, and of keys that all come once.
    fn streams() -> Vec<Vec<u64>> {
        let mut random = Random::new(5, "frequent");
        let mut streams: Vec<Vec<u64>> = (0..40)
            .map(|number| {
                let (length, spread) = (200 + 400 * number, 1 + number % 7);
                let mut key = || {
                    // The product of some lots: skewed the more of them there are.
                    (0..spread).fold(1_000, |bound, _| 1 + random.next_u64() % bound)
                };
                (0..length).map(|_| key()).collect()
            })
            .collect();
        streams.push((1..5_000).collect());
        streams.push((1..5_000).map(|at| if at % 3 == 0 { 7 } else { at }).collect());
        streams
    }

    #[test]
    fn every_count_is_within_its_bounds() {
        let mut forgot = 0;
        for stream in streams() {
            for limit in [2, 3, 16, 100, 401] {
                let mut frequent = Frequent::new(limit, 1 << 20);
                let mut exact: BTreeMap<u64, (u32, i64)> = BTreeMap::new();
                for (at, &key) in stream.iter().enumerate() {
                    frequent.add(key, at as i64);
                    let of_key = exact.entry(key).or_default();
                    *of_key = (of_key.0 + 1, at as i64);
                    assert!(frequent.keys.len() <= limit);
                }
                assert_eq!(frequent.met(), stream.len() as u64);
                let missed = frequent.missed();
                assert!(f64::from(missed) <= stream.len() as f64 / (limit / 2) as f64, "{missed} of {limit}");
                assert_eq!(frequent.distinct(), (exact.len() as u64, true));
                let counted: BTreeMap<u64, Met> = frequent.iter().collect();
                for (key, (count, last_ms)) in exact {
                    let Some(met) = counted.get(&key) else {
                        assert!(count <= missed, "{key} came {count} times, {missed} may be missed");
                        continue;
                    };
                    assert!((met.count..=met.count + met.missed).contains(&count), "{key}: {count} {met:?}");
                    assert!(met.missed <= missed && met.last_ms == last_ms);
                    // So a key that came `missed` times oftener than is asked for is always found.
                    assert!(met.count >= count.saturating_sub(missed));
                }
                forgot += u32::from(missed > 0);
            }
        }
        assert!(forgot > 100, "{forgot}");
    }

    #[test]
    fn few_are_counted_exactly_in_any_order() {
        let stream: Vec<u64> = (0..1_000).map(|at| at * at % 97).collect();
        let count = |stream: &mut dyn Iterator<Item = u64>| -> BTreeMap<u64, Met> {
            let mut frequent = Frequent::new(97, 97);
            stream.for_each(|key| frequent.add(key, 3));
            assert_eq!(frequent.missed(), 0);
            frequent.iter().collect()
        };
        assert_eq!(count(&mut stream.iter().copied()), count(&mut stream.iter().rev().copied()));
    }
}
