//! States that no fold makes. Each is refused: what follows from it would be a panic, or a number handed out
//! twice.

use schemas::{Control, Entry, Event, Kind, Place, Source, SourceSet, Tick, Ticks};

use super::*;
use crate::config::Config;
use crate::out::Out;

const START_MS: i64 = 1_700_000_000_000;

/// A core with a view, a click and a purchase of one user.
fn folded() -> Core {
    let plan = Plan::compile(&Config::default()).unwrap_or_else(|error| panic!("{error}"));
    let mut core = Core::new(Arc::new(plan), 3);
    let source = || Source { topic: "views".into(), partition: 0 };
    let event = |kind: Kind, id: &str| {
        Entry::Event(Box::new(Event {
            kind: kind as i32,
            event_id: id.into(),
            event_time_ms: START_MS,
            user: "u".into(),
            item: "i".into(),
            campaign: "c".into(),
            currency: "EUR".into(),
            quantity: 1,
            ..Event::default()
        }))
    };
    let entries = [
        Entry::Control(Control::Sources(SourceSet { sources: vec![source()] })),
        Entry::Control(Control::Ticks(Ticks {
            ticks: vec![Tick { source: source(), watermark_ms: START_MS - 1, idle: false }],
        })),
        event(Kind::View, "e-1"),
        event(Kind::Click, "e-2"),
        event(Kind::Purchase, "e-3"),
    ];
    for (offset, entry) in (0..).zip(&entries) {
        core.step(entry, Place { partition: 3, offset }, &mut Out::default());
    }
    core
}

/// Whether a core that was changed so cannot be restored.
fn is_refused(change: impl FnOnce(&mut Core)) -> bool {
    let mut core = folded();
    change(&mut core);
    let restored = Core::restore(Arc::clone(&core.plan), 3, &core.snapshot());
    matches!(restored, Err(SnapshotError::Damaged { .. }))
}

#[test]
fn uses_that_nothing_has_are_refused() {
    assert!(!is_refused(|_| {}));
    assert!(is_refused(|core| core.texts.retain(1)), "a text would never be free again");
    assert!(is_refused(|core| core.subjects.retain(1)), "a subject would never be free again");
    assert!(
        is_refused(|core| core.subjects.release(1, &mut core.texts)),
        "a subject would be free while something names it"
    );
}

#[test]
fn times_that_cannot_be_added_are_refused() {
    for far_ms in [i64::MAX, i64::MIN, 1 << 60, -(1 << 60)] {
        assert!(is_refused(|core| core.clock = EventClock::from_parts(None, Some(far_ms))), "{far_ms}");
    }
    let source = || Source { topic: "views".into(), partition: 0 };
    let ticked = |watermark_ms| Some(vec![(source(), Some((watermark_ms, false)))]);
    assert!(is_refused(|core| core.clock = EventClock::from_parts(ticked(i64::MAX), Some(START_MS))));
}

#[test]
fn a_hand_and_users_without_names_are_refused() {
    assert!(is_refused(|core| core.hand = core.users.len()));
    assert!(is_refused(|core| core.names.remove(1)), "a user without a name");
}
