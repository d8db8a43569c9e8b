//! In what order records go out, and what becomes of times that are off.

use schemas::Reason;
use schemas::duration::Millis;

use super::bench::{Bench, HOUR, T, config, event, log};
use crate::config::ClockSource;

#[test]
fn takes_sources_in_order_of_time() {
    let logs = vec![
        log(0, &[event(T, 1), event(T + 2, 2), event(T + 9, 3)]),
        log(1, &[event(T + 1, 4)]),
        log(2, &[event(T + 2, 5), event(T + 8, 6)]),
        log(3, &[]),
    ];
    let mut bench = Bench::new(&config(), logs);
    bench.finish();
    bench.check();
    let times: Vec<_> =
        bench.events().iter().map(|e| (e.event_time_ms - T, e.origin.topic.clone())).collect();
    let (views, clicks) = ("x.views".to_owned(), "x.clicks".to_owned());
    assert_eq!(
        times,
        [
            (0, views.clone()),
            (1, views.clone()),
            (2, views.clone()),
            (2, clicks.clone()),
            (8, clicks),
            (9, views)
        ]
    );
}

#[test]
fn a_wild_time_moves_nothing() {
    let wild = event(T + 6 * HOUR + 1, 1);
    let logs = vec![
        log(0, &[event(T, 1), wild.clone(), event(T + 1, 1), event(T + 6 * HOUR, 1), event(T + 2, 1)]),
        log(1, &[]),
        log(2, &[event(T, 2), event(T + 3, 2)]),
        log(3, &[]),
    ];
    let mut bench = Bench::new(&config(), logs);
    bench.feed(0, 1);
    bench.feed(2, 1);
    bench.feed(0, 1);
    bench.finish();
    bench.check();
    let dead = bench.dead();
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].reason, dead[0].offset), (Reason::FutureTime, 2));
    assert_eq!(dead[0].value.as_deref(), Some(wild.as_bytes()));
    let late = bench.late();
    assert_eq!(late.len(), 1, "what follows a jump of exactly the limit is late, in that source only");
    assert_eq!((late[0].event.event_time_ms, late[0].late_by_ms), (T + 2, 6 * HOUR - 10_000 - 2));
}

#[test]
fn the_clock_may_jump() {
    let mut config = config();
    config.clock = ClockSource::Wall;
    config.max_future = Millis(1_000);
    let times: Vec<String> = (0..6).map(|n| event(T + n, 1)).collect();
    let mut bench = Bench::new(&config, vec![log(0, &times), log(1, &[]), log(2, &[]), log(3, &[])]);
    for jump in [0, 6 * HOUR, -12 * HOUR, 6 * HOUR, 0, 0] {
        bench.now_ms += jump;
        bench.feed(0, 1);
        bench.drain();
    }
    bench.now_ms += 6 * HOUR;
    bench.finish();
    bench.check();
    assert_eq!((bench.events().len(), bench.late().len()), (5, 0));
    assert_eq!(bench.dead()[0].reason, Reason::FutureTime, "while the clock stood 6 hours behind");
}
