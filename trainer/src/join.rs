//! Which examples a run learns from: the last label of each place, the most recent places. Pure.

use model::encode::{Outcome, seconds};
use schemas::{Label, Place};

/// What a learner needs of a label: 48 bytes a place, where a label is hundreds. This is all
/// that a run holds of every example at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Its impression.
    pub place: Place,
    /// Event time of the impression, ms.
    pub event_time_ms: i64,
    /// Counts the labels of the place.
    pub revision: u32,
    /// What came of it, as the model reads it.
    outcome: Outcome,
}

impl Target {
    /// What came of it, known at `clock_ms`.
    pub fn outcome(&self, clock_ms: i64) -> Outcome {
        Outcome { elapsed_s: seconds(self.event_time_ms, clock_ms), ..self.outcome }
    }
}

impl From<&Label> for Target {
    fn from(label: &Label) -> Self {
        Self {
            place: label.place,
            event_time_ms: label.event_time_ms,
            revision: label.revision,
            outcome: Outcome::from(label),
        }
    }
}

/// Label records that are added before the superseded ones among them are dropped.
const SLACK: usize = 1 << 16;

/// Collects labels: the last of each place, the `max_rows` most recent places by (event time,
/// place). Holds at most about twice as many.
#[derive(Debug)]
pub struct Labels {
    /// Sorted by place up to `settled`, one a place; then in order of arrival.
    targets: Vec<Target>,
    settled: usize,
    max_rows: usize,
    clock_ms: i64,
    /// Label records seen.
    pub seen: u64,
}

impl Labels {
    /// An empty collection.
    pub fn new(max_rows: usize) -> Self {
        Self { targets: Vec::new(), settled: 0, max_rows: max_rows.max(1), clock_ms: i64::MIN, seen: 0 }
    }

    /// Takes one label record; they come in any order. Of two of one revision, the later counts.
    pub fn add(&mut self, label: &Label) {
        self.seen += 1;
        self.clock_ms = self.clock_ms.max(label.clock_ms);
        self.targets.push(Target::from(label));
        let slack = self.settled.min(self.max_rows).max(SLACK.min(self.max_rows));
        if self.targets.len() - self.settled > slack {
            self.settle();
        }
    }

    /// Keeps the last of each place and the most recent `max_rows` places. A place that is
    /// forgotten has `max_rows` more recent ones, and what was seen only grows: it could never
    /// come back in.
    fn settle(&mut self) {
        // Stable: what was added later stays behind, and so wins.
        self.targets.sort_by_key(|target| (target.place, target.revision));
        self.targets.dedup_by(|later, kept| {
            let same = later.place == kept.place;
            if same {
                *kept = *later;
            }
            same
        });
        if self.targets.len() > self.max_rows {
            let recency = |target: &Target| (target.event_time_ms, target.place);
            let mut order: Vec<(i64, Place)> = self.targets.iter().map(recency).collect();
            let cut = order.len() - self.max_rows;
            let (_, &mut oldest_kept, _) = order.select_nth_unstable(cut);
            self.targets.retain(|target| recency(target) >= oldest_kept);
        }
        self.settled = self.targets.len();
    }

    /// The targets by place.
    pub fn finish(mut self) -> Selection {
        self.settle();
        self.targets.shrink_to_fit();
        Selection { targets: self.targets, clock_ms: self.clock_ms, cursor: 0 }
    }
}

/// The examples of a run, before their vectors are known.
#[derive(Debug)]
pub struct Selection {
    /// By place.
    pub targets: Vec<Target>,
    /// The newest event clock of all labels, ms: a label without a later one still holds then.
    pub clock_ms: i64,
    /// Where the last place was found: the next is often behind it.
    cursor: usize,
}

impl Selection {
    /// Position of a place among the targets.
    pub fn find(&mut self, place: Place) -> Option<usize> {
        let at = |index: usize| self.targets.get(index).map(|target| target.place);
        let near = (self.cursor..self.cursor + 2).find(|&index| at(index) == Some(place));
        let found = near.or_else(|| self.targets.binary_search_by_key(&place, |target| target.place).ok())?;
        self.cursor = found;
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;
    use crate::random::SplitMix;

    fn label(partition: i32, offset: i64, time: i64, revision: u32) -> Label {
        Label {
            place: Place { partition, offset },
            event_time_ms: time,
            revision,
            clicked: time % 3 == 0,
            matured: revision > 1,
            purchased_after_click: revision > 0,
            ..Label::default()
        }
    }

    #[test]
    fn keeps_the_last_of_each_place_and_the_most_recent_places() {
        for seed in 0..40 {
            let mut random = SplitMix::new(seed);
            let max_rows = 1 + random.below(60);
            let mut labels = Labels::new(max_rows);
            let mut oracle: BTreeMap<Place, Label> = BTreeMap::new();
            for _ in 0..600 {
                let (partition, offset) = (random.below(3) as i32, random.below(90) as i64);
                // The event time is a function of the place, as it is of an impression.
                let time = offset * 10 + (i64::from(partition) * 37) % 11;
                let label = label(partition, offset, time, random.below(4) as u32);
                labels.add(&label);
                assert!(labels.targets.len() <= 2 * max_rows + 1);
                let kept = oracle.entry(label.place).or_insert_with(|| label.clone());
                if label.revision >= kept.revision {
                    *kept = label;
                }
            }
            let mut wanted: Vec<&Label> = oracle.values().collect();
            wanted.sort_by_key(|l| (l.event_time_ms, l.place));
            let mut wanted = wanted.split_off(wanted.len().saturating_sub(max_rows));
            wanted.sort_by_key(|l| l.place);
            let mut got = labels.finish();
            // A place that was forgotten and came back may only have missed revisions if it is out.
            assert_eq!(got.targets, wanted.iter().map(|l| Target::from(*l)).collect::<Vec<_>>());
            for _ in 0..200 {
                let place = Place { partition: random.below(4) as i32, offset: random.below(95) as i64 };
                let expected = wanted.iter().position(|l| l.place == place);
                assert_eq!(got.find(place), expected, "seed {seed} {place}");
            }
        }
    }
}
