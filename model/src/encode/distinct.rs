//! How many different keys there were, and how many of them share a hash bucket: exact while few,
//! from an even sample of the keys beyond.

use std::collections::HashSet;

/// Distinct keys, exactly up to a limit; beyond it those alone whose low bits are all zero
/// (adaptive sampling, Flajolet 1990): one key in 2^level is kept, so that memory stays bounded.
#[derive(Debug, Clone)]
pub(super) struct Distinct {
    kept: HashSet<u64>,
    limit: usize,
    level: u32,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Counted {
    /// Distinct keys; an estimate where not `exact`.
    pub(super) distinct: u64,
    /// Whether every key was counted.
    pub(super) exact: bool,
    /// Share of the distinct keys whose bucket is another's too.
    pub(super) collision_rate: f64,
}

impl Distinct {
    /// Keeps at most `limit` keys, 8 to 16 bytes each.
    pub(super) fn new(limit: usize) -> Self {
        Self { kept: HashSet::new(), limit: limit.max(64), level: 0 }
    }

    /// Counts a key, the hash of an id.
    #[inline]
    pub(super) fn add(&mut self, key: u64) {
        if key.trailing_zeros() < self.level || !self.kept.insert(key) {
            return;
        }
        while self.kept.len() > self.limit {
            self.level += 1;
            let level = self.level;
            self.kept.retain(|key| key.trailing_zeros() >= level);
        }
    }

    /// Counts what shares a bucket, `bucket_of` giving a key's of `buckets`.
    ///
    /// Exact where every key was kept. Else from the estimated number n of keys: each of the others
    /// misses a key's bucket with probability 1 - 1/buckets.
    pub(super) fn count(&self, buckets: u64, bucket_of: impl Fn(u64) -> u64) -> Counted {
        let distinct = (self.kept.len() as u64) << self.level;
        if distinct == 0 {
            return Counted { distinct, exact: true, collision_rate: 0.0 };
        }
        if self.level > 0 {
            let others = (distinct - 1) as f64;
            let alone = libm::exp(others * libm::log1p(-1.0 / buckets.max(2) as f64));
            return Counted { distinct, exact: false, collision_rate: 1.0 - alone };
        }
        let mut taken: Vec<u64> = self.kept.iter().map(|&key| bucket_of(key)).collect();
        taken.sort_unstable();
        let alone = taken.chunk_by(|a, b| a == b).filter(|bucket| bucket.len() == 1).count();
        Counted { distinct, exact: true, collision_rate: 1.0 - alone as f64 / distinct as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn a_few_are_counted_exactly() {
        let mut few = Distinct::new(1_000);
        assert_eq!(few.count(10, |key| key % 10).distinct, 0);
        for key in [3, 13, 4, 4, 23, 5] {
            few.add(key);
        }
        let counted = few.count(10, |key| key % 10);
        // 3, 13 and 23 share a bucket; 4 and 5 have one each.
        assert_eq!((counted.distinct, counted.exact), (5, true));
        assert!((counted.collision_rate - 0.6).abs() < 1e-12);
    }

    #[test]
    fn many_are_estimated_in_bounded_memory() {
        let (buckets, ids) = (30_000_u64, 50_000);
        let bucket = |key: u64| ((u128::from(key) * u128::from(buckets)) >> 64) as u64;
        let (mut all, mut some) = (Distinct::new(1 << 20), Distinct::new(4_096));
        let mut random = Random::new(9, "ids");
        for _ in 0..ids {
            let key = random.next_u64();
            for _ in 0..3 {
                all.add(key);
                some.add(key);
            }
        }
        assert!(some.kept.len() <= 4_096);
        let (exact, estimate) = (all.count(buckets, bucket), some.count(buckets, bucket));
        assert_eq!((exact.distinct, exact.exact, estimate.exact), (ids, true, false));
        // Adaptive sampling's relative error is about 1.2 / sqrt(limit): 2 %.
        assert!((estimate.distinct as f64 / ids as f64 - 1.0).abs() < 0.06, "{estimate:?}");
        assert!((estimate.collision_rate - exact.collision_rate).abs() < 0.02, "{exact:?} {estimate:?}");
    }
}
