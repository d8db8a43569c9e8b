//! What makes a source idle, and what a lane waits for.

use std::collections::BTreeMap;

use schemas::duration::Millis;

use super::bench::{Bench, HOUR, T, config, event, log, sources};
use crate::processor::*;

#[test]
fn a_frozen_ingest_wakes_with_only_ticks_to_write() {
    let mut bench =
        Bench::new(&config(), vec![log(0, &[event(T, 1)]), log(1, &[]), log(2, &[]), log(3, &[])]);
    bench.feed(0, 1);
    bench.drain();
    bench.commit();
    let before = bench.out.len();
    bench.now_ms += 6 * HOUR;
    bench.drain();
    bench.drain();
    let ticks = bench.open.records.len();
    assert!(ticks > 0 && bench.open.records.iter().all(|record| record.key.is_none()));
    let offsets: BTreeMap<_, _> =
        bench.open.positions.iter().map(|p| (p.partition.clone(), (p.offset, p.metadata.clone()))).collect();
    assert_eq!(offsets.len(), 4, "a tick alone carries the offsets, so that a fenced worker cannot pass");
    assert_eq!(offsets[&sources()[0]].0, 1);
    bench.commit();
    assert_eq!(bench.out.len(), before + ticks);
    bench.check();
}

#[test]
fn sleep_alone_makes_nothing_idle() {
    let mut config = config();
    config.tick_interval = Millis(100);
    let mut bench = Bench::new(&config, vec![log(0, &[event(T, 1)]), log(1, &[]), log(2, &[]), log(3, &[])]);
    bench.feed(0, 1);
    for _ in 0..10 {
        bench.drain();
    }
    let idle = |bench: &Bench| {
        bench.open.records.iter().any(|record| {
            let Ok(Entry::Control(Control::Ticks(ticks))) = Protobuf::decode(record.value.as_ref().unwrap())
            else {
                return false;
            };
            ticks.ticks.iter().any(|tick| tick.idle)
        })
    };
    assert!(!idle(&bench), "ten polls at one time count once");
    bench.now_ms += 6 * HOUR;
    bench.step(Input::Drained { at_end: &[], now_ms: bench.now_ms });
    assert!(!idle(&bench), "a poll that does not find the end does not count");
    for _ in 0..2 {
        assert!(!idle(&bench));
        bench.now_ms += 100;
        bench.drain();
    }
    assert!(idle(&bench));
}

#[test]
fn full_lanes_pause_and_an_unreadable_source_is_given_up() {
    let times: Vec<String> = (0..20).map(|n| event(T + n, 1)).collect();
    let mut bench = Bench::new(&config(), vec![log(0, &times), log(1, &[]), log(2, &[]), log(3, &[])]);
    // Source 1 never answers; the others stand at their end.
    let at_end: Vec<TopicPartition> = [2, 3].map(|at| sources()[at].clone()).to_vec();
    bench.feed(0, 4);
    assert_eq!(bench.paused, [sources()[0].clone()]);
    bench.feed(0, 4);
    assert_eq!(bench.read[0], 4, "a paused source is not read");
    for _ in 0..5 {
        assert!(bench.open.records.iter().all(|record| record.key.is_none()), "no event is out");
        bench.now_ms += 250;
        bench.step(Input::Drained { at_end: &at_end, now_ms: bench.now_ms });
    }
    assert_eq!(bench.open.records.iter().filter(|record| record.key.is_some()).count(), 4);
    assert!(bench.paused.is_empty());
    bench.finish();
    bench.check();
}
