//! The event clock against what is promised of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use schemas::{Control, EntityVersion, EventClock, Source, SourceSet, Tick, Ticks};

fn source(partition: i32) -> Source {
    Source { topic: "views".into(), partition }
}

fn set(partitions: &[i32]) -> Control {
    Control::Sources(SourceSet { sources: partitions.iter().map(|p| source(*p)).collect() })
}

fn tick(partition: i32, watermark_ms: i64, idle: bool) -> Control {
    Control::Ticks(Ticks { ticks: vec![Tick { source: source(partition), watermark_ms, idle }] })
}

fn folded(controls: &[Control]) -> EventClock {
    let mut clock = EventClock::default();
    for control in controls {
        clock.fold(control);
    }
    clock
}

#[test]
fn it_starts_when_every_source_has_ticked_or_is_idle() {
    assert_eq!(folded(&[]).now_ms(), None);
    assert_eq!(folded(&[set(&[])]).now_ms(), None);
    assert_eq!(folded(&[set(&[1, 2]), tick(1, 10, false)]).now_ms(), None);
    assert_eq!(folded(&[set(&[1, 2]), tick(1, 10, false), tick(2, 7, false)]).now_ms(), Some(7));
    assert_eq!(folded(&[set(&[1, 2]), tick(1, 10, false), tick(2, i64::MIN, true)]).now_ms(), Some(10));
    assert_eq!(folded(&[set(&[1]), tick(1, i64::MIN, true)]).now_ms(), None);
}

#[test]
fn ticks_before_any_set_count_for_nothing() {
    assert_eq!(folded(&[tick(1, 10, false), set(&[1])]).now_ms(), None);
}

#[test]
fn when_all_are_idle_it_goes_to_the_greatest() {
    for order in [[1, 2], [2, 1]] {
        let mut clock = folded(&[set(&[1, 2]), tick(1, 10, false), tick(2, 90, false)]);
        for partition in order {
            clock.fold(&tick(partition, if partition == 1 { 10 } else { 90 }, true));
        }
        assert_eq!(clock.now_ms(), Some(90), "whichever fell idle first");
        assert!(!clock.fold(&tick(1, 20, false)), "and it does not come back from there");
        assert_eq!(clock.now_ms(), Some(90));
    }
}

#[test]
fn a_source_that_wakes_behind_does_not_pull_it_back() {
    let mut clock = folded(&[set(&[1, 2]), tick(1, 10, false), tick(2, 0, true)]);
    assert!(!clock.fold(&tick(2, 3, false)));
    assert_eq!(clock.now_ms(), Some(10));
    // But it holds it there until it has caught up.
    assert!(!clock.fold(&tick(1, 50, false)));
    assert!(clock.fold(&tick(2, 30, false)));
    assert_eq!(clock.now_ms(), Some(30));
}

#[test]
fn a_source_that_the_set_does_not_name_is_stale() {
    let mut clock = folded(&[set(&[1]), tick(1, 10, false)]);
    assert!(!clock.fold(&tick(9, 5, false)));
    assert!(clock.fold(&tick(1, 20, false)));
    assert_eq!(clock.now_ms(), Some(20));
}

#[test]
fn a_new_set_keeps_what_is_known_and_waits_for_what_is_not() {
    let mut clock = folded(&[set(&[1, 2]), tick(1, 10, false), tick(2, 20, false)]);
    assert!(clock.fold(&set(&[2])), "the source that held it is gone");
    assert_eq!(clock.now_ms(), Some(20));
    assert!(!clock.fold(&set(&[2, 3])));
    assert!(!clock.fold(&tick(2, 99, false)), "3 has not ticked");
    assert_eq!(clock.now_ms(), Some(20));
    assert!(clock.fold(&tick(3, 40, false)));
    assert_eq!(clock.now_ms(), Some(40));
    // Gone and back: it must tick again.
    clock.fold(&set(&[2]));
    clock.fold(&set(&[2, 3]));
    assert!(!clock.fold(&tick(2, 200, false)));
}

#[test]
fn it_survives_a_snapshot() {
    let clock = folded(&[set(&[1, 2]), tick(1, 10, false), tick(2, 20, true)]);
    let text = serde_json::to_string(&clock).unwrap();
    assert_eq!(serde_json::from_str::<EventClock>(&text).unwrap(), clock);
    let new = serde_json::to_string(&EventClock::default()).unwrap();
    assert_eq!(serde_json::from_str::<EventClock>(&new).unwrap(), EventClock::default());
}

fn control() -> impl Strategy<Value = Control> {
    let one = (0..5, prop_oneof![4 => 0..1_000_i64, 1 => any::<i64>(), 1 => Just(i64::MIN)], any::<bool>())
        .prop_map(|(p, watermark_ms, idle)| Tick { source: source(p), watermark_ms, idle });
    prop_oneof![
        6 => vec(one, 1..4).prop_map(|ticks| Control::Ticks(Ticks { ticks })),
        1 => btree_set(0..5, 0..5).prop_map(|set| Control::Sources(SourceSet {
            sources: set.into_iter().map(source).collect(),
        })),
        1 => any::<i64>().prop_map(|version_ms| {
            Control::Entities(EntityVersion { version_ms, ..EntityVersion::default() })
        }),
    ]
}

proptest! {
    /// Against the words: recomputed from all records so far, at each of them.
    #[test]
    fn it_is_what_the_words_say(controls in vec(control(), 0..60)) {
        let mut clock = EventClock::default();
        let mut known: Option<BTreeMap<Source, Option<(i64, bool)>>> = None;
        let mut now = None;
        for control in &controls {
            let before = clock.now_ms();
            let moved = clock.fold(control);
            match control {
                Control::Sources(set) => {
                    let old = known.take().unwrap_or_default();
                    let kept = |s: &Source| (s.clone(), old.get(s).copied().flatten());
                    known = Some(set.sources.iter().map(kept).collect());
                }
                Control::Ticks(ticks) => for tick in &ticks.ticks {
                    if let Some(state) = known.as_mut().and_then(|known| known.get_mut(&tick.source)) {
                        *state = Some((tick.watermark_ms, tick.idle));
                    }
                },
                Control::Entities(_) | Control::Declared(_) => {}
            }
            let states: Vec<_> = known.iter().flat_map(BTreeMap::values).collect();
            if !states.is_empty() && states.iter().all(|state| state.is_some()) {
                let awake = states.iter().filter_map(|state| state.filter(|(_, idle)| !idle)).map(|(w, _)| w);
                let greatest = states.iter().filter_map(|state| state.map(|(w, _)| w)).max();
                let reached = awake.min().or(greatest).filter(|reached| *reached > i64::MIN);
                now = reached.max(now);
            }
            prop_assert_eq!(clock.now_ms(), now);
            prop_assert_eq!(moved, clock.now_ms() != before);
            prop_assert!(clock.now_ms() >= before, "never back");
        }
    }
}
