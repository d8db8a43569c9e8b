//! Named scenarios: one fault each, made to happen at the worst moment.

use runtime::core::{CoreError, Delivery, Event};
use simulation::{Cluster, CrashAt, Faults};

use crate::processors::{HashingFactory, INPUT, MergingFactory, OUTPUT};
use crate::{SERVICE, check_fold, check_merge, cluster, feed, inputs, partition};

fn hashing(seed: u64) -> Cluster {
    let mut cluster = cluster(HashingFactory, Delivery::ExactlyOnce, 2, seed);
    cluster.start(SERVICE, "a");
    cluster
}

fn turns(cluster: &mut Cluster, index: usize, count: usize) {
    for _ in 0..count {
        cluster.turn_or_restart(index);
        cluster.pass(10);
    }
}

#[test]
fn an_abort_after_events_were_folded_sends_the_same_bytes_again() {
    let mut cluster = hashing(1);
    turns(&mut cluster, 0, 4);
    feed(&mut cluster, 40);
    cluster.faults = Faults { abortable: 600, ..Faults::default() };
    turns(&mut cluster, 0, 40);
    cluster.settle();
    check_fold(&cluster, "aborts");
    let totals = cluster.finish();
    assert!(totals.aborts > 5, "{totals:?}");
    assert_eq!(totals.replayed, 0, "an abort does not touch the fold");
}

#[test]
fn a_fenced_producer_stops_and_names_the_cause() {
    let mut cluster = hashing(2);
    feed(&mut cluster, 20);
    turns(&mut cluster, 0, 3);
    // Somebody else starts under the same transactional id.
    cluster.broker.init("a");
    feed(&mut cluster, 20);
    let error = (0..20).find_map(|_| cluster.turn(0).err()).expect("it must notice");
    assert!(matches!(error, CoreError::Fenced { .. }));
    assert!(error.to_string().contains("service.instance"), "{error}");
    cluster.crash(0);
    cluster.settle();
    check_fold(&cluster, "fenced");
}

#[test]
fn a_partition_lost_in_the_middle_of_a_batch_is_folded_once_by_its_next_owner() {
    for turns_before in 1..12 {
        let mut cluster = cluster(HashingFactory, Delivery::ExactlyOnce, 4, turns_before);
        cluster.start(SERVICE, "a");
        cluster.start(SERVICE, "b");
        feed(&mut cluster, 60);
        for _ in 0..turns_before {
            turns(&mut cluster, 0, 1);
            turns(&mut cluster, 1, 1);
        }
        // "a" has folded and perhaps produced, and commits nothing any more: it is put out.
        let records = cluster.broker.poll(&partition(INPUT, 0), 0, 5);
        let clock = cluster.clock;
        cluster.faults = Faults { retriable: 1000, ..Faults::default() };
        cluster.tell(0, Event::Records { records, clock }).unwrap();
        cluster.faults = Faults::default();
        cluster.broker.group(SERVICE).evict("a");
        turns(&mut cluster, 1, 6);
        cluster.settle();
        check_fold(&cluster, &format!("lost after {turns_before} turns"));
    }
}

#[test]
fn a_frozen_merge_that_wakes_with_only_ticks_to_write_is_fenced_by_its_generation() {
    let mut cluster = cluster(MergingFactory, Delivery::ExactlyOnce, 2, 4);
    cluster.start(SERVICE, "a");
    feed(&mut cluster, 20);
    turns(&mut cluster, 0, 30);
    let frozen_at = cluster.clock;
    // The group gives its partitions to "b", which goes on and ticks.
    cluster.workers[0].frozen = true;
    cluster.broker.group(SERVICE).evict("a");
    cluster.start(SERVICE, "b");
    feed(&mut cluster, 10);
    for _ in 0..30 {
        turns(&mut cluster, 1, 1);
    }
    let before = cluster.broker.visible(&partition(OUTPUT, 0)).len();
    // "a" wakes before it hears that it was put out, and before its clock is read anew: it counts
    // polls at the end, makes ticks that are long past, and tries to commit them.
    let at_end = vec![partition(INPUT, 0), partition(INPUT, 1)];
    for tick in 1..8 {
        let clock = runtime::core::Clock {
            wall_ms: frozen_at.wall_ms + tick,
            steady_ms: cluster.clock.steady_ms + tick as u64,
        };
        cluster.tell(0, Event::Drained { at_end: at_end.clone(), clock }).unwrap();
    }
    let after = cluster.broker.visible(&partition(OUTPUT, 0)).len();
    assert_eq!(before, after, "nothing that the zombie wrote is visible");
    cluster.settle();
    check_merge(&cluster, "zombie");
    assert!(cluster.finish().aborts > 0, "it must have tried");
}

#[test]
fn a_clock_that_jumps_six_hours_changes_nothing_but_ticks() {
    let run = |jump_ms: i64| {
        let mut cluster = hashing(5);
        for round in 0..10 {
            feed(&mut cluster, 10);
            turns(&mut cluster, 0, 5);
            if round == 4 {
                cluster.clock.wall_ms += jump_ms;
            }
        }
        cluster.settle();
        check_fold(&cluster, "jump");
        let output = cluster.broker.visible(&partition(OUTPUT, 0));
        (output, cluster.finish().calls)
    };
    let straight = run(0);
    assert_eq!(run(6 * 3_600_000), straight, "forward");
    assert_eq!(run(-6 * 3_600_000), straight, "back");

    // Ticks follow the clock, and never go back.
    let mut cluster = cluster(MergingFactory, Delivery::ExactlyOnce, 2, 5);
    cluster.start(SERVICE, "a");
    for jump_hours in [6, -6, 0, 6] {
        turns(&mut cluster, 0, 20);
        cluster.clock.wall_ms += jump_hours * 3_600_000;
        feed(&mut cluster, 5);
    }
    cluster.settle();
    check_merge(&cluster, "jump");
}

#[test]
fn a_crash_at_every_point_loses_and_repeats_nothing() {
    let script = |crash_at: Option<CrashAt>, merging: bool| {
        let mut cluster = if merging {
            cluster(MergingFactory, Delivery::ExactlyOnce, 2, 6)
        } else {
            cluster(HashingFactory, Delivery::ExactlyOnce, 2, 6)
        };
        cluster.crash_at = crash_at;
        cluster.start(SERVICE, "a");
        for _ in 0..5 {
            feed(&mut cluster, 8);
            turns(&mut cluster, 0, 5);
        }
        cluster.settle();
        let what = format!("{crash_at:?}");
        if merging {
            check_merge(&cluster, &what);
        } else {
            check_fold(&cluster, &what);
        }
        cluster.finish()
    };
    for merging in [false, true] {
        let calls = script(None, merging).calls;
        assert!(calls > 20, "too few calls to be worth it: {calls}");
        let mut crashes = 0;
        for call in 0..calls {
            for after in [false, true] {
                crashes += script(Some(CrashAt { call, after }), merging).crashes;
            }
        }
        assert!(crashes >= calls, "{crashes} crashes in {calls} calls");
    }
}

#[test]
fn a_commit_that_succeeded_but_was_reported_failed_is_not_made_twice() {
    let mut cluster = hashing(7);
    cluster.faults = Faults { doubtful: 700, ..Faults::default() };
    for _ in 0..10 {
        feed(&mut cluster, 10);
        turns(&mut cluster, 0, 8);
    }
    cluster.settle();
    check_fold(&cluster, "doubt");
    assert!(cluster.finish().aborts > 0, "some retries must have met a coordinator that had forgotten");
}

#[test]
fn a_truncated_snapshot_is_refused_and_the_one_before_it_used() {
    let mut cluster = hashing(8);
    for _ in 0..30 {
        feed(&mut cluster, 6);
        turns(&mut cluster, 0, 6);
    }
    assert!(cluster.truncate_snapshot(SERVICE, 0), "there must be a snapshot by now");
    cluster.crash(0);
    cluster.settle();
    check_fold(&cluster, "truncated");
    let totals = cluster.finish();
    assert!(totals.refused >= 1 && totals.restored >= 1, "{totals:?}");
    assert!(totals.replayed > 0, "the one before it stands further back: {totals:?}");
}

#[test]
fn without_any_snapshot_the_log_is_replayed_from_its_beginning() {
    let mut cluster = hashing(9);
    for _ in 0..10 {
        feed(&mut cluster, 6);
        turns(&mut cluster, 0, 6);
    }
    cluster.files.clear();
    cluster.crash(0);
    feed(&mut cluster, 6);
    cluster.settle();
    check_fold(&cluster, "no snapshot");
    assert!(cluster.finish().replayed > 20);
}

#[test]
fn a_log_cut_behind_the_committed_offset_stops_with_a_clear_message() {
    let mut cluster = hashing(10);
    feed(&mut cluster, 40);
    turns(&mut cluster, 0, 20);
    cluster.files.clear();
    let committed = cluster.broker.group(SERVICE).committed(&partition(INPUT, 0)).unwrap().0;

    // Cut, and no snapshot from which to go on.
    cluster.broker.cut(&partition(INPUT, 0), committed - 1);
    cluster.crash(0);
    let error = (0..5).find_map(|_| cluster.turn(0).err()).expect("it must notice");
    assert!(matches!(error, CoreError::Cut { .. }), "{error}");

    // Cut beyond what was committed: records expired before they were read.
    cluster.broker.cut(&partition(INPUT, 0), committed + 1);
    cluster.crash(0);
    let error = (0..5).find_map(|_| cluster.turn(0).err()).expect("it must notice");
    assert!(matches!(error, CoreError::OutOfRange { .. }), "{error}");
    assert!(error.to_string().contains("expired"), "{error}");
}

#[test]
fn stopping_commits_and_saves_so_that_nothing_is_replayed() {
    let mut cluster = hashing(11);
    feed(&mut cluster, 40);
    turns(&mut cluster, 0, 6);
    cluster.tell(0, Event::Stop).unwrap();
    for _ in 0..20 {
        turns(&mut cluster, 0, 1);
    }
    cluster.crash(0);
    cluster.settle();
    check_fold(&cluster, "stopped");
    assert_eq!(cluster.finish().replayed, 0);
}

/// Two workers, of which "b" follows what "a" owns; both have taken turns until all was committed.
fn followed(seed: u64) -> Cluster {
    let mut cluster = cluster(HashingFactory, Delivery::ExactlyOnce, 4, seed);
    cluster.start(SERVICE, "a");
    turns(&mut cluster, 0, 3);
    cluster.start(SERVICE, "b");
    for _ in 0..60 {
        feed(&mut cluster, 4);
        turns(&mut cluster, 0, 2);
        turns(&mut cluster, 1, 2);
        let all = inputs(&cluster);
        cluster.place_standbys(1, all);
        cluster.turn_standbys(1);
        cluster.turn_standbys(1);
    }
    cluster
}

/// "a" is gone for good.
fn lose_a(cluster: &mut Cluster) {
    cluster.freeze(0);
    cluster.evict(0);
    cluster.time_out(0);
}

#[test]
fn a_standby_takes_over_and_replays_only_what_it_lacks() {
    for seed in 0..20 {
        let mut cluster = followed(seed);
        // Without any snapshot a restore would read the logs from their beginnings.
        cluster.files.clear();
        lose_a(&mut cluster);
        let before = cluster.workers[1].counters();
        turns(&mut cluster, 1, 60);
        let after = cluster.workers[1].counters();
        check_fold(&cluster, &format!("taken over, seed {seed}"));
        assert_eq!((after.taken_over - before.taken_over, after.restored - before.restored), (2, 0));
        assert!(after.replayed - before.replayed < 40, "{before:?} {after:?}");
    }
}

#[test]
fn what_an_owner_has_folded_and_not_committed_is_in_no_standby() {
    for seed in 0..20 {
        let mut cluster = followed(seed);
        // "a" folds more, and commits nothing any more, while "b" reads it.
        cluster.faults = Faults { retriable: 1000, ..Faults::default() };
        feed(&mut cluster, 30);
        turns(&mut cluster, 0, 6);
        cluster.faults = Faults::default();
        for _ in 0..20 {
            cluster.turn_standbys(1);
        }
        lose_a(&mut cluster);
        cluster.settle();
        check_fold(&cluster, &format!("folded and not committed, seed {seed}"));
        assert!(cluster.finish().taken_over > 0);
    }
}

#[test]
fn a_crash_at_every_call_around_a_takeover_loses_and_repeats_nothing() {
    let script = |crash_at: Option<CrashAt>| {
        let mut cluster = followed(3);
        cluster.crash_at = crash_at;
        lose_a(&mut cluster);
        for _ in 0..6 {
            feed(&mut cluster, 6);
            turns(&mut cluster, 1, 3);
            cluster.turn_standbys(1);
        }
        cluster.settle();
        check_fold(&cluster, &format!("{crash_at:?}"));
        cluster.finish()
    };
    let totals = script(None);
    assert!(totals.taken_over > 0, "{totals:?}");
    let mut crashes = 0;
    for call in 0..totals.calls {
        for after in [false, true] {
            crashes += script(Some(CrashAt { call, after })).crashes;
        }
    }
    assert!(crashes > 20, "{crashes} crashes");
}

#[test]
fn a_standby_whose_log_is_cut_before_it_goes_on_from_a_snapshot() {
    for seed in 0..20 {
        let mut cluster = followed(seed);
        // Nothing is heard of for a while, and what it was to read next expires.
        for _ in 0..20 {
            feed(&mut cluster, 8);
            turns(&mut cluster, 0, 3);
            turns(&mut cluster, 1, 3);
        }
        for of in inputs(&cluster) {
            cluster.expire(&of, 1);
        }
        // Its owner saves what stands behind that, and the standby looks again after a rest.
        for round in 0..90 {
            feed(&mut cluster, 2);
            turns(&mut cluster, 0, 1);
            turns(&mut cluster, 1, 1);
            cluster.turn_standbys(1);
            if round == 30 || round == 60 {
                cluster.pass(60_000);
            }
        }
        lose_a(&mut cluster);
        let before = cluster.workers[1].counters();
        turns(&mut cluster, 1, 60);
        let after = cluster.workers[1].counters();
        check_fold(&cluster, &format!("expired, seed {seed}"));
        assert_eq!((after.taken_over - before.taken_over, after.restored - before.restored), (2, 0));
        assert!(cluster.finish().expired > 0);
    }
}
