//! Training, validation and test examples by event time, with gaps between. Pure.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::config::Split;

/// Where the three parts lie, in event time. Each range is half open, ms since 1970 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundaries {
    /// Training examples happened before this.
    pub train_until_ms: i64,
    /// Validation examples from here,
    pub validation_from_ms: i64,
    /// up to here.
    pub validation_until_ms: i64,
    /// Test examples from here to the last.
    pub test_from_ms: i64,
}

/// The three parts as ranges of the examples, which are in order of event time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// What is learned from.
    pub train: Range<usize>,
    /// What early stopping watches.
    pub validation: Range<usize>,
    /// What the gate judges on.
    pub test: Range<usize>,
}

impl Parts {
    /// The same parts of examples before which there are `first` more.
    #[must_use]
    pub fn moved_by(self, first: usize) -> Self {
        let moved = |range: Range<usize>| range.start + first..range.end + first;
        Self { train: moved(self.train), validation: moved(self.validation), test: moved(self.test) }
    }
}

/// Why examples cannot be split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("too few examples: {rows} in all give {train} to train on, {validation} to validate, {test} to test")]
pub struct TooFew {
    /// Examples in all.
    pub rows: usize,
    /// In training.
    pub train: usize,
    /// In validation.
    pub validation: usize,
    /// In test.
    pub test: usize,
}

/// Splits examples whose event times are `times` (ascending).
///
/// The test part begins no earlier than `judged_after_ms`, so that a champion is not judged on
/// what it was trained and stopped on.
///
/// # Errors
/// A part that would have fewer examples than the config asks for.
pub fn split(
    times: &[i64],
    config: &Split,
    judged_after_ms: Option<i64>,
) -> Result<(Boundaries, Parts), TooFew> {
    debug_assert!(times.is_sorted());
    let rows = times.len();
    let too_few = |train, validation, test| TooFew { rows, train, validation, test };
    let (Some(&first), Some(&last)) = (times.first(), times.last()) else { return Err(too_few(0, 0, 0)) };
    let gap = config.gap.0;
    let at = |share: f64| {
        let index = (rows as f64 * share.clamp(0.0, 1.0)) as usize;
        times.get(index).copied().unwrap_or(last)
    };
    let index = |time_ms: i64| times.partition_point(|&time| time < time_ms);

    let test_from_ms = at(1.0 - config.test_share).max(judged_after_ms.unwrap_or(first));
    // Validation takes its share of what lies before the test part and its gap.
    let validation_until_ms = test_from_ms.saturating_sub(gap);
    let before_test = index(validation_until_ms);
    let validation_rows = (rows as f64 * config.validation_share) as usize;
    let validation_from_ms = times.get(before_test.saturating_sub(validation_rows)).copied().unwrap_or(last);
    let train_until_ms = validation_from_ms.saturating_sub(gap);

    let parts = Parts {
        train: 0..index(train_until_ms),
        validation: index(validation_from_ms)..before_test.max(index(validation_from_ms)),
        test: index(test_from_ms)..rows,
    };
    let (train, validation, test) = (parts.train.len(), parts.validation.len(), parts.test.len());
    if train < config.min_train_rows.max(1)
        || validation < config.min_test_rows.max(1)
        || test < config.min_test_rows.max(1)
    {
        return Err(too_few(train, validation, test));
    }
    Ok((Boundaries { train_until_ms, validation_from_ms, validation_until_ms, test_from_ms }, parts))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use schemas::duration::Millis;

    use super::*;

    fn config() -> Split {
        Split {
            validation_share: 0.2,
            test_share: 0.1,
            max_validation_rows: 1_000,
            gap: Millis(50),
            min_train_rows: 10,
            min_test_rows: 5,
        }
    }

    /// Times with ties and with holes.
    fn times(rows: usize, seed: u64) -> Vec<i64> {
        let mut random = crate::random::SplitMix::new(seed);
        let mut time = 1_000;
        (0..rows)
            .map(|_| {
                time += (random.next() % 8).saturating_sub(3) as i64
                    * if random.next().is_multiple_of(50) { 40 } else { 1 };
                time
            })
            .collect()
    }

    #[test]
    fn parts_do_not_overlap_and_gaps_are_kept() {
        for seed in 0..200 {
            let times = times(300 + seed as usize * 7, seed);
            let Ok((bounds, parts)) = split(&times, &config(), None) else { continue };
            assert!(parts.train.end <= parts.validation.start);
            assert!(parts.validation.end <= parts.test.start);
            assert_eq!((parts.train.start, parts.test.end), (0, times.len()));
            let last = |range: &Range<usize>| times[range.end - 1];
            assert!(times[parts.validation.start] - last(&parts.train) > 50, "seed {seed}");
            assert!(times[parts.test.start] - last(&parts.validation) > 50, "seed {seed}");
            assert!(last(&parts.train) < bounds.train_until_ms);
            assert!(times[parts.test.start] >= bounds.test_from_ms);
        }
    }

    #[test]
    fn shares_are_about_those_asked_for() {
        let times: Vec<i64> = (0..10_000).map(|i| i * 10).collect();
        let (_, parts) = split(&times, &config(), None).unwrap();
        assert_eq!(parts.test.len(), 1_000);
        assert_eq!(parts.validation.len(), 2_000);
        assert_eq!(parts.train.len(), 7_000 - 10);
    }

    #[test]
    fn judges_only_after_what_the_champion_has_seen() {
        let times: Vec<i64> = (0..1_000).collect();
        let (bounds, parts) = split(&times, &config(), Some(980)).unwrap();
        assert_eq!((bounds.test_from_ms, parts.test.clone()), (980, 980..1_000));
        let error = split(&times, &config(), Some(998)).unwrap_err();
        assert_eq!(error.test, 2);
    }

    #[test]
    fn says_so_when_there_is_too_little() {
        assert_eq!(split(&[], &config(), None).unwrap_err().rows, 0);
        // All at one time: nothing lies before the gap.
        assert_eq!(split(&[7; 100], &config(), None).unwrap_err().train, 0);
    }
}
