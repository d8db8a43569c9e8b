//! What the control records of a partition say of its event time. Pure.

use std::collections::BTreeMap;

use schemas::{Control, Entry, EventClock, Source};

use super::{EntityState, PartitionState, Report, SourceState};

/// The fold of one partition of `events`.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    partition: i32,
    clock: EventClock,
    version_ms: Option<i64>,
    /// First offset of what was folded, where that is not the log's beginning.
    pub(super) known_from: i64,
}

impl Fold {
    pub(super) fn new(partition: i32) -> Self {
        Self { partition, clock: EventClock::default(), version_ms: None, known_from: 0 }
    }

    pub(super) fn step(&mut self, entry: &Entry) {
        let Entry::Control(control) = entry else { return };
        self.clock.fold(control);
        if let Control::Entities(version) = control
            && version.last
        {
            self.version_ms = self.version_ms.max(Some(version.version_ms));
        }
    }
}

/// Who holds what. `closed_ms` and `unread` are by partition of `events`, `raw` is what is unread of
/// each source.
pub(super) fn report(
    folds: &[Fold],
    closed_ms: &[Option<i64>],
    raw: &BTreeMap<Source, i64>,
    unread: &[i64],
) -> Report {
    let furthest = folds.iter().filter_map(|fold| fold.clock.now_ms()).max();
    let partition = |fold: &Fold| {
        let at = fold.partition as usize;
        let clock_ms = fold.clock.now_ms();
        PartitionState {
            partition: fold.partition,
            clock_ms,
            behind_ms: furthest.zip(clock_ms).map(|(furthest, clock)| furthest - clock),
            known_from: fold.known_from,
            sources: sources(&fold.clock, raw),
            entity_version_ms: fold.version_ms,
            closed_ms: closed_ms.get(at).copied().flatten(),
            unread: unread.get(at).copied(),
        }
    };
    Report { partitions: folds.iter().map(partition).collect(), entities: entities(closed_ms) }
}

fn sources(clock: &EventClock, raw: &BTreeMap<Source, i64>) -> Vec<SourceState> {
    let known = clock.parts().0.unwrap_or_default();
    let started = known.iter().all(|(_, state)| state.is_some());
    let leader = known.iter().filter_map(|(_, state)| *state).map(|(watermark, _)| watermark).max();
    let awake = || known.iter().filter_map(|(_, state)| state.filter(|(_, idle)| !idle));
    let least = awake().map(|(watermark, _)| watermark).min();
    let state = |(source, state): &(&Source, Option<(i64, bool)>)| SourceState {
        topic: source.topic.clone(),
        partition: source.partition,
        watermark_ms: state.map(|(watermark, _)| watermark),
        idle: state.is_some_and(|(_, idle)| idle),
        behind_ms: leader.zip(*state).map(|(leader, (watermark, _))| leader - watermark),
        // Until every source has said something there is no clock.
        holds: match state {
            None => true,
            Some((watermark, idle)) => started && !idle && least == Some(*watermark),
        },
        unread: raw.get(*source).copied(),
    };
    known.iter().map(state).collect()
}

fn entities(closed_ms: &[Option<i64>]) -> Option<EntityState> {
    let most = closed_ms.iter().copied().flatten().max()?;
    // One without a mark has closed nothing.
    let least = closed_ms.iter().copied().min().flatten();
    let held_by =
        (0..).zip(closed_ms).filter(|(_, closed)| **closed == least).map(|(partition, _)| partition);
    Some(EntityState {
        closed_ms: least,
        held_by: held_by.collect(),
        behind_ms: least.map(|least| most - least),
    })
}

#[cfg(test)]
mod tests {
    use schemas::{EntityVersion, SourceSet, Tick, Ticks};

    use super::*;

    fn source(topic: &str) -> Source {
        Source { topic: topic.into(), partition: 0 }
    }

    fn set(topics: &[&str]) -> Entry {
        Entry::Control(Control::Sources(SourceSet { sources: topics.iter().map(|t| source(t)).collect() }))
    }

    fn tick(topic: &str, watermark_ms: i64, idle: bool) -> Entry {
        let tick = Tick { source: source(topic), watermark_ms, idle };
        Entry::Control(Control::Ticks(Ticks { ticks: vec![tick] }))
    }

    fn folded(entries: &[Entry]) -> Fold {
        let mut fold = Fold::new(0);
        for entry in entries {
            fold.step(entry);
        }
        fold
    }

    fn look(folds: &[Fold], closed_ms: &[Option<i64>]) -> Report {
        report(folds, closed_ms, &BTreeMap::from([(source("b"), 12)]), &[3, 4])
    }

    fn holders(report: &Report) -> Vec<&str> {
        let sources = report.partitions.iter().flat_map(|partition| &partition.sources);
        sources.filter(|source| source.holds).map(|source| source.topic.as_str()).collect()
    }

    #[test]
    fn the_slowest_source_that_is_not_idle_holds_the_clock() {
        let entries =
            [set(&["a", "b", "c"]), tick("a", 900, false), tick("b", 500, false), tick("c", 100, true)];
        let report = look(&[folded(&entries)], &[]);
        assert_eq!(holders(&report), ["b"]);
        let partition = &report.partitions[0];
        assert_eq!((partition.clock_ms, partition.behind_ms), (Some(500), Some(0)));
        let behind: Vec<_> = partition.sources.iter().map(|source| source.behind_ms).collect();
        assert_eq!(behind, [Some(0), Some(400), Some(800)]);
        assert_eq!((partition.sources[1].unread, partition.sources[0].unread), (Some(12), None));
    }

    #[test]
    fn sources_that_have_not_ticked_hold_the_start() {
        let report = look(&[folded(&[set(&["a", "b"]), tick("a", 900, false)])], &[]);
        assert_eq!((report.partitions[0].clock_ms, holders(&report)), (None, vec!["b"]));
    }

    #[test]
    fn nobody_holds_when_all_are_idle() {
        let report = look(&[folded(&[set(&["a", "b"]), tick("a", 9, true), tick("b", 5, true)])], &[]);
        assert_eq!((report.partitions[0].clock_ms, holders(&report).len()), (Some(9), 0));
    }

    #[test]
    fn a_partition_that_lags_is_said_to_and_holds_the_version() {
        let version = |version_ms, last| {
            let version = EntityVersion { version_ms, last, ..EntityVersion::default() };
            Entry::Control(Control::Entities(version))
        };
        let mut ahead =
            folded(&[set(&["a"]), tick("a", 9_000, false), version(60, true), version(120, false)]);
        ahead.partition = 1;
        let folds = [folded(&[set(&["a"]), tick("a", 2_000, false)]), ahead];
        let report = look(&folds, &[Some(60), Some(180)]);
        assert_eq!(report.partitions[0].behind_ms, Some(7_000));
        // The second version is not in force: its last record is missing.
        assert_eq!(report.partitions[1].entity_version_ms, Some(60));
        let entities = EntityState { closed_ms: Some(60), held_by: vec![0], behind_ms: Some(120) };
        assert_eq!(report.entities, Some(entities));
        let silent = EntityState { closed_ms: None, held_by: vec![0], behind_ms: None };
        assert_eq!(look(&folds, &[None, Some(180)]).entities, Some(silent));
        assert_eq!(look(&folds, &[None, None]).entities, None);
    }
}
