//! Which examples a run learns from: the last label of each place, the most recent places, in a
//! fixed order. Pure.

use std::collections::HashMap;

use model::encode::{Outcome, seconds};
use schemas::{Label, Place};

/// What a learner needs of a label. 24 bytes, where a label is hundreds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Event time of the impression, ms.
    pub event_time_ms: i64,
    /// Counts the labels of the place.
    pub revision: u32,
    /// A click came.
    pub clicked: bool,
    /// A purchase came, so far.
    pub purchased: bool,
    /// The purchase window has closed, so that the above is final.
    pub matured: bool,
    /// How long after the impression the purchase came, s.
    pub delay_s: f32,
}

impl Target {
    /// The same as the model reads it, known at `clock_ms`.
    pub fn outcome(&self, clock_ms: i64) -> Outcome {
        Outcome {
            clicked: self.clicked,
            purchased: self.purchased,
            matured: self.matured,
            elapsed_s: seconds(self.event_time_ms, clock_ms),
            delay_s: self.delay_s,
        }
    }
}

impl From<&Label> for Target {
    fn from(label: &Label) -> Self {
        let outcome = Outcome::from(label);
        Self {
            event_time_ms: label.event_time_ms,
            revision: label.revision,
            clicked: outcome.clicked,
            purchased: outcome.purchased,
            matured: outcome.matured,
            delay_s: outcome.delay_s,
        }
    }
}

/// Collects labels: the last of each place, the `max_rows` most recent places by (event time,
/// place). Holds at most twice as many.
#[derive(Debug)]
pub struct Labels {
    last: HashMap<Place, Target>,
    max_rows: usize,
    clock_ms: i64,
    /// Label records seen.
    pub seen: u64,
}

impl Labels {
    /// An empty collection.
    pub fn new(max_rows: usize) -> Self {
        Self { last: HashMap::new(), max_rows: max_rows.max(1), clock_ms: i64::MIN, seen: 0 }
    }

    /// Takes one label record; they come in any order.
    pub fn add(&mut self, label: &Label) {
        self.seen += 1;
        self.clock_ms = self.clock_ms.max(label.clock_ms);
        let target = Target::from(label);
        let kept = self.last.entry(label.place).or_insert(target);
        if target.revision >= kept.revision {
            *kept = target;
        }
        if self.last.len() >= self.max_rows.saturating_mul(2) {
            self.forget_oldest();
        }
    }

    /// Keeps the most recent `max_rows`. A place that is forgotten has `max_rows` more recent ones,
    /// and what was seen only grows: it could never come back in.
    fn forget_oldest(&mut self) {
        if self.last.len() <= self.max_rows {
            return;
        }
        let mut order: Vec<(i64, Place)> = self.last.iter().map(|(p, t)| (t.event_time_ms, *p)).collect();
        let cut = order.len() - self.max_rows;
        let (_, &mut oldest_kept, _) = order.select_nth_unstable(cut);
        self.last.retain(|place, target| (target.event_time_ms, *place) >= oldest_kept);
    }

    /// The targets by place, and the places in the order of the examples: event time, then place.
    pub fn finish(mut self) -> Selection {
        self.forget_oldest();
        let mut order: Vec<(i64, Place)> = self.last.iter().map(|(p, t)| (t.event_time_ms, *p)).collect();
        order.sort_unstable();
        let index = order.iter().enumerate().map(|(at, (_, place))| (*place, at)).collect();
        let targets = order.iter().filter_map(|(_, place)| self.last.get(place).copied()).collect();
        let places = order.into_iter().map(|(_, place)| place).collect();
        Selection { index, targets, places, clock_ms: self.clock_ms }
    }
}

/// The examples of a run, before their vectors are known.
#[derive(Debug)]
pub struct Selection {
    /// Position of each place in the order.
    pub index: HashMap<Place, usize>,
    /// Targets, in order.
    pub targets: Vec<Target>,
    /// Places, in order.
    pub places: Vec<Place>,
    /// The newest event clock of all labels, ms: a label without a later one still holds then.
    pub clock_ms: i64,
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
                let kept = oracle.entry(label.place).or_insert_with(|| label.clone());
                if label.revision >= kept.revision {
                    *kept = label;
                }
            }
            let mut wanted: Vec<&Label> = oracle.values().collect();
            wanted.sort_by_key(|l| (l.event_time_ms, l.place));
            let wanted = &wanted[wanted.len().saturating_sub(max_rows)..];
            let got = labels.finish();
            assert_eq!(got.places, wanted.iter().map(|l| l.place).collect::<Vec<_>>(), "seed {seed}");
            // A place that was forgotten and came back may only have missed revisions if it is out.
            assert_eq!(got.targets, wanted.iter().map(|l| Target::from(*l)).collect::<Vec<_>>());
            assert!(got.places.iter().enumerate().all(|(at, place)| got.index[place] == at));
        }
    }
}
