//! A source that stops for an hour and comes back.

use schemas::EventClock;

use super::bench::{Bench, HOUR, T, config, event, log, sources};
use crate::config::Config;
use crate::processor::*;

const MINUTE: i64 = 60_000;
const LATENESS: i64 = 10_000;

fn bench() -> Bench {
    let minutes = |user| (0..61).map(|minute| event(T + minute * MINUTE, user)).collect::<Vec<_>>();
    let logs = vec![log(0, &minutes(1)), log(1, &minutes(2)), log(2, &[]), log(3, &[])];
    Bench::new(&Config { merge_records: 1_000, ..config() }, logs)
}

/// The first source goes on for an hour; of the others, those stand at their end.
fn an_hour(bench: &mut Bench, at_end: &[usize]) {
    let at_end: Vec<TopicPartition> = at_end.iter().map(|at| sources()[*at].clone()).collect();
    for _ in 0..61 {
        bench.feed(0, 1);
        for _ in 0..6 {
            bench.now_ms += MINUTE / 6;
            bench.step(Input::Drained { at_end: &at_end, now_ms: bench.now_ms });
        }
    }
    bench.commit();
}

fn clock(bench: &Bench) -> i64 {
    let mut clock = EventClock::default();
    for entry in bench.entries(0) {
        if let Entry::Control(control) = entry {
            clock.fold(&control);
        }
    }
    clock.now_ms().unwrap()
}

fn events_of(bench: &Bench, partition: i32) -> usize {
    bench.events().iter().filter(|event| event.origin.partition == partition).count()
}

#[test]
fn a_source_that_cannot_be_read_for_an_hour_holds_the_clock_and_nothing_else() {
    let mut bench = bench();
    bench.feed(1, 1);
    an_hour(&mut bench, &[0, 2, 3]);
    assert_eq!((events_of(&bench, 0), events_of(&bench, 1)), (61, 1), "the others go on");
    assert_eq!(clock(&bench), T - LATENESS, "it may have more of that time");
    bench.finish();
    bench.check();
    assert_eq!((events_of(&bench, 0), events_of(&bench, 1), bench.late().len()), (61, 61, 0));
    assert_eq!(clock(&bench), T + HOUR - LATENESS);
}

#[test]
fn a_source_that_had_nothing_for_an_hour_holds_nothing_and_what_it_had_after_all_is_not_late() {
    let mut bench = bench();
    bench.feed(1, 1);
    an_hour(&mut bench, &[0, 1, 2, 3]);
    assert_eq!(clock(&bench), T + HOUR - LATENESS, "it was recorded idle");
    // What was sent to it meanwhile, and is seen only now, is behind the clock: it counts for all that is
    // not closed, and is told apart from what its own source has gone past.
    bench.finish();
    bench.check();
    assert_eq!((events_of(&bench, 1), bench.late().len()), (61, 0));
    assert_eq!(clock(&bench), T + HOUR - LATENESS, "the clock does not go back");
}
