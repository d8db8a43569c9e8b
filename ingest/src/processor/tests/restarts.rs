//! Whatever comes in, with restarts at any point.

use proptest::prelude::*;
use schemas::duration::Millis;

use super::bench::{Bench, HOUR, T, config, event, log};
use crate::config::Config;

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => (0_i64..60_000, 0_u8..5).prop_map(|(time, user)| event(T + time, user)),
        1 => Just(event(T + 100 * 24 * HOUR, 1)),
        1 => "[ -~]{0,12}",
        1 => (0_i64..60_000, 1_usize..4).prop_map(|(time, lines)| {
            let lines = vec![r#"{"item_id":"i","price":2}"#; lines].join(",");
            format!(r#"{{"event_time":{},"user_id":"u1","lines":[{lines}]}}"#, T + time)
        }),
    ]
}

#[derive(Debug, Clone)]
enum Act {
    Feed(usize, usize),
    Drain,
    Commit,
    Restart,
    Pass(i64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0_usize..4, 1_usize..6).prop_map(|(source, count)| Act::Feed(source, count)),
        3 => Just(Act::Drain),
        2 => Just(Act::Commit),
        1 => Just(Act::Restart),
        1 => (0_i64..1_000).prop_map(Act::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn accounts_for_everything_over_restarts(
        values in proptest::collection::vec(proptest::collection::vec(any_value(), 0..15), 4),
        acts in proptest::collection::vec(any_act(), 0..60),
        tick_interval in prop_oneof![Just(0_i64), Just(100)],
    ) {
        let config = Config { tick_interval: Millis(tick_interval), ..config() };
        let logs = values.iter().enumerate().map(|(source, values)| log(source, values)).collect();
        let mut bench = Bench::new(&config, logs);
        for act in acts {
            match act {
                Act::Feed(source, count) => bench.feed(source, count),
                Act::Drain => bench.drain(),
                Act::Commit => bench.commit(),
                Act::Restart => bench.restart(),
                Act::Pass(ms) => bench.now_ms += ms,
            }
        }
        bench.finish();
        bench.check();
    }
}
