//! Snapshots, and what is forgotten.

use std::sync::Arc;

use features::{Config, Core, Out, Plan, SnapshotError};
use proptest::prelude::*;
use schemas::{Entry, Kind, Place};

use crate::common::*;
use crate::replay;

/// Few exact events and timers, so that tiles and backlogs are part of the state.
fn tight() -> Config {
    Config { exact_events: 64, last_n: 16, timers_per_record: 3, dedupe_events: 8, ..config() }
}

fn image(core: &mut Core, whole: bool) -> Vec<u8> {
    core.begin_image(whole);
    std::iter::from_fn(|| core.next_part(1_000)).flatten().collect()
}

/// One user does nearly all of it.
pub(crate) fn hot(entries: &mut [Entry]) {
    for (index, entry) in entries.iter_mut().enumerate() {
        if let Entry::Event(event) = entry
            && index % 9 > 0
        {
            event.user = "bot".into();
        }
    }
}

/// Takes images of a core that folds these entries, one after the other, each after some of them more, and restores
/// them; how many.
fn images<'a>(
    (plan, partition): (&Arc<Plan>, i32),
    entries: impl Iterator<Item = (i64, &'a Entry)>,
    draws: &[(u8, usize)],
) -> usize {
    let mut core = Core::new(plan.clone(), partition);
    let (mut whole, mut under_way) = (None::<Vec<u8>>, None::<(bool, Vec<u8>, Vec<u8>)>);
    let mut checked = 0;
    for ((offset, entry), &(draw, bytes)) in entries.zip(draws.iter().cycle()) {
        core.step(entry, Place { partition, offset }, &mut Out::default());
        if draw < 2 {
            let is_whole = whole.is_none() || draw == 0;
            core.begin_image(is_whole);
            under_way = Some((is_whole, core.snapshot(), Vec::new()));
            // Changes are since the last whole one was begun, and that one may be given up.
            whole = whole.filter(|_| !is_whole);
        }
        let Some((is_whole, want, image)) = &mut under_way else { continue };
        if let Some(part) = core.next_part(bytes) {
            image.extend(part);
            continue;
        }
        let image = if *is_whole { image.clone() } else { [whole.as_deref().unwrap(), image].concat() };
        let back = Core::restore(plan.clone(), partition, &image).unwrap();
        assert!(back.snapshot() == *want, "at {offset}");
        checked += 1;
        whole = if *is_whole { Some(image) } else { whole };
        under_way = None;
    }
    checked
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_restored_core_goes_on_as_if_nothing_had_been(moves in moves(250)) {
        let plan = plan(&tight());
        let mut entries = stream(&moves);
        hot(&mut entries);
        for late in 0..20 {
            entries.push(tick(START + 500_000_000_000 + late));
        }
        let mut straight = Core::new(plan.clone(), 3);
        let mut restarted = Core::new(plan.clone(), 3);
        for (offset, entry) in entries.iter().enumerate() {
            let (mut a, mut b) = (Out::default(), Out::default());
            straight.step(entry, place(offset), &mut a);
            restarted.step(entry, place(offset), &mut b);
            prop_assert_eq!(a, b);
            let bytes = restarted.snapshot();
            prop_assert!(bytes == straight.snapshot(), "one state, one snapshot, at {}", offset);
            restarted = Core::restore(plan.clone(), 3, &bytes).unwrap();
        }
    }

    /// Images that are begun and written on while the core folds: whole, and what has changed since.
    #[test]
    fn an_image_is_of_the_state_in_which_it_was_begun(
        moves in moves(250), draws in proptest::collection::vec((0..12_u8, 1..400_usize), 260),
    ) {
        let mut entries = stream(&moves);
        hot(&mut entries);
        entries.push(tick(START + 500_000_000_000));
        let checked = images((&plan(&tight()), 3), (0..).zip(&entries), &draws);
        prop_assume!(checked > 0 || entries.len() < 100);
    }

    /// The same of entities that users share, whose versions come in between.
    #[test]
    fn an_image_is_of_the_versions_in_force_when_it_was_begun(
        moves in moves(250), takes in proptest::collection::vec(0..9_usize, 150),
        all in prop::bool::weighted(0.3),
        draws in proptest::collection::vec((0..12_u8, 1..20_000_usize), 400),
    ) {
        let cluster = replay::logs(&replay::declared(all), &replay::entries(&moves, &[0]), &takes, None);
        for (partition, log) in (0..).zip(&cluster.logs) {
            let entries = log.iter().map(|(offset, entry)| (*offset, entry));
            images((&cluster.plan, partition), entries, &draws);
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused_or_harmless(moves in moves(60), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        let plan = plan(&tight());
        let mut core = Core::new(plan.clone(), 3);
        run(&mut core, &stream(&moves));
        let mut bytes = core.snapshot();
        let cut = at.index(bytes.len());
        prop_assert!(Core::restore(plan.clone(), 3, &bytes[..cut]).is_err());
        bytes[cut] ^= 1 << bit;
        // The store's checksum is what finds a flipped bit; reading it must not panic.
        let _ = Core::restore(plan, 3, &bytes);
    }

    #[test]
    fn everything_is_forgotten_in_the_end(moves in moves(200)) {
        let mut entries = stream(&moves);
        hot(&mut entries);
        let mut core = Core::new(plan(&tight()), 3);
        run(&mut core, &entries);
        let mut out = Out::default();
        for late in 0..600 {
            core.step(&tick(START + 500_000_000_000 + late), place(1_000 + late as usize), &mut out);
        }
        prop_assert_eq!((core.users(), core.timers(), core.texts()), (0, 0, 0));
    }
}

#[test]
fn snapshots_of_other_declarations_or_partitions_are_refused() {
    let core = Core::new(plan(&config()), 3);
    let bytes = core.snapshot();
    let other = Core::restore(plan(&tight()), 3, &bytes);
    assert!(matches!(other, Err(SnapshotError::Declarations { .. })), "{other:?}");
    let other = Core::restore(plan(&config()), 4, &bytes);
    assert!(matches!(other, Err(SnapshotError::Partition { found: 3, wanted: 4 })), "{other:?}");
    assert!(matches!(Core::restore(plan(&config()), 3, b"{}"), Err(SnapshotError::Format { .. })));
}

#[test]
fn changes_without_a_whole_image_are_refused() {
    let mut core = Core::new(plan(&config()), 3);
    let whole = image(&mut core, true);
    run(&mut core, &[sources(), tick(START)]);
    let changes = image(&mut core, false);
    assert!(changes.len() < whole.len() + 200);
    assert!(Core::restore(plan(&config()), 3, &changes).is_err());
    let clock_ms = |bytes: &[u8]| Core::restore(plan(&config()), 3, bytes).unwrap().clock_ms();
    assert_eq!(clock_ms(&[whole.as_slice(), &changes].concat()), Some(START));
    assert_eq!(clock_ms(&[whole.as_slice(), &changes, &whole].concat()), None, "a whole one stands alone");
}

#[test]
fn content_is_an_id_only_where_the_config_says_so() {
    let entries: Vec<Entry> = (0..3).map(|_| entry(event(Kind::View, "", START, "u", "i", "c"))).collect();
    let mut config = config();
    assert!(duplicates(&run(&mut Core::new(plan(&config), 3), &entries)).is_empty());
    config.dedupe_by_content = true;
    let outputs = run(&mut Core::new(plan(&config), 3), &entries);
    let got: Vec<_> = duplicates(&outputs).iter().map(|d| (d.place.offset, d.first.offset)).collect();
    assert_eq!(got, [(1, 0), (2, 0)]);
    assert_eq!(duplicates(&outputs)[0].event_id.len(), 16);
}
