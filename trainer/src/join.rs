//! Which examples a run learns from: the last label of each place, the most recent places. Pure.

use std::cmp::Reverse;

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
    /// Number of its value's currency.
    currency: u16,
}

impl Target {
    /// What came of it, known at `clock_ms`.
    pub fn outcome(&self, clock_ms: i64) -> Outcome {
        Outcome { elapsed_s: seconds(self.event_time_ms, clock_ms), ..self.outcome }
    }
}

impl Target {
    fn new(label: &Label, currency: u16) -> Self {
        Self {
            place: label.place,
            event_time_ms: label.event_time_ms,
            revision: label.revision,
            outcome: Outcome::from(label),
            currency,
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
    /// By number.
    currencies: Vec<String>,
    /// Label records seen.
    pub seen: u64,
}

impl Labels {
    /// An empty collection.
    pub fn new(max_rows: usize) -> Self {
        Self {
            targets: Vec::new(),
            settled: 0,
            max_rows: max_rows.max(1),
            clock_ms: i64::MIN,
            currencies: Vec::new(),
            seen: 0,
        }
    }

    /// Takes one label record; they come in any order. Of two of one revision, the later counts.
    pub fn add(&mut self, label: &Label) {
        self.seen += 1;
        self.clock_ms = self.clock_ms.max(label.clock_ms);
        let currency = self.currency(&label.currency);
        self.targets.push(Target::new(label, currency));
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

    /// A currency's number. More of them than numbers there are share the last.
    fn currency(&mut self, code: &str) -> u16 {
        let known = self.currencies.iter().position(|known| known == code);
        let number = known.unwrap_or_else(|| {
            if self.currencies.len() < usize::from(u16::MAX) {
                self.currencies.push(code.to_owned());
            }
            self.currencies.len() - 1
        });
        number as u16
    }

    /// The currency of most purchases, of those as common the first by name; empty where none has a
    /// value. Values in others count as not known: sums of them mean nothing, and nothing here knows a
    /// rate between them.
    fn settle_currency(&mut self) -> String {
        let mut counts = vec![0_u64; self.currencies.len()];
        for target in self.targets.iter().filter(|target| target.outcome.final_value().is_some()) {
            counts[usize::from(target.currency)] += 1;
        }
        let commonest = (0..counts.len())
            .filter(|&number| counts[number] > 0)
            .min_by_key(|&number| (Reverse(counts[number]), &self.currencies[number]));
        let Some(commonest) = commonest else { return String::new() };
        for target in &mut self.targets {
            if usize::from(target.currency) != commonest {
                target.outcome.value = 0.0;
            }
        }
        let others = counts.iter().sum::<u64>() - counts[commonest];
        if others > 0 {
            tracing::info!(others, currency = %self.currencies[commonest], "values in other currencies are left out");
        }
        self.currencies[commonest].clone()
    }

    /// The targets by place.
    pub fn finish(mut self) -> Selection {
        self.settle();
        self.targets.shrink_to_fit();
        let currency = self.settle_currency();
        Selection { targets: self.targets, clock_ms: self.clock_ms, currency, cursor: 0 }
    }
}

/// The examples of a run, before their vectors are known.
#[derive(Debug)]
pub struct Selection {
    /// By place.
    pub targets: Vec<Target>,
    /// The newest event clock of all labels, ms: a label without a later one still holds then.
    pub clock_ms: i64,
    /// ISO 4217 code of the values; empty where there are none.
    pub currency: String,
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
    fn a_target_is_as_small_as_it_says() {
        assert_eq!(size_of::<Target>(), 48);
    }

    #[test]
    fn values_are_those_of_the_commonest_currency() {
        let of = |offset: i64, currency: &str, value: f64, matured: bool| Label {
            place: Place { partition: 0, offset },
            purchased_after_view: true,
            matured,
            value,
            currency: currency.to_owned(),
            ..Label::default()
        };
        let mut labels = [
            of(0, "USD", 3.0, true),
            of(1, "EUR", 5.0, true),
            of(2, "EUR", 6.0, true),
            // None of these counts: no value, and not final.
            of(3, "USD", 0.0, true),
            of(4, "USD", 9.0, false),
        ];
        let selection = |all: &[Label]| {
            let mut labels = Labels::new(100);
            for label in all {
                labels.add(label);
            }
            let selection = labels.finish();
            let values: Vec<f32> = selection.targets.iter().map(|target| target.outcome(0).value).collect();
            (selection.currency, values)
        };
        let expected = ("EUR".to_owned(), vec![0.0, 5.0, 6.0, 0.0, 0.0]);
        assert_eq!(selection(&labels), expected);
        labels.reverse();
        assert_eq!(selection(&labels), expected);
        // As common: the first by name.
        assert_eq!(selection(&labels[2..4]), selection(&[labels[3].clone(), labels[2].clone()]));
        assert_eq!(selection(&labels[..2]), (String::new(), vec![0.0, 9.0]));
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
            assert_eq!(got.targets, wanted.iter().map(|l| Target::new(l, 0)).collect::<Vec<_>>());
            for _ in 0..200 {
                let place = Place { partition: random.below(4) as i32, offset: random.below(95) as i64 };
                let expected = wanted.iter().position(|l| l.place == place);
                assert_eq!(got.find(place), expected, "seed {seed} {place}");
            }
        }
    }
}
