//! The pipeline in one simulation: ingest, features, merge, scorer and lake, over one broker in memory,
//! fed by a simulated market. After each seed the invariants are checked from the logs.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed setup is a failed test")]

mod checks;
mod feed;
mod lake;
mod models;
mod pipeline;
mod run;
mod sabotages;
mod scenarios;

use std::time::{Duration, Instant};

use checks::{Checked, check};
use run::run;
use simulation::{Sabotage, Totals, seeds};

/// Seeds of the test, unless the environment says otherwise.
const SEEDS: u64 = 1_000;

/// What many seeds met and how much was checked.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    totals: Totals,
    checked: Checked,
}

/// Runs these seeds, and so on by `step`.
fn run_all(seeds: impl Iterator<Item = u64>) -> Sum {
    let mut sum = Sum::default();
    for seed in seeds {
        let (mut ended, totals) = run(seed, Sabotage::None);
        match check(&mut ended) {
            Ok(checked) => sum.checked.add(&checked),
            Err(what) => panic!("seed {seed}: {what} (SIMULATION_SEED={seed} traces it)"),
        }
        sum.totals.add(&totals);
        sum.seeds += 1;
    }
    sum
}

#[test]
fn the_invariants_hold_whatever_happens() {
    let started = now();
    let seeds = seeds(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let sum = std::thread::scope(|scope| {
        let part = |first| {
            let seeds = seeds.clone().skip(first).step_by(threads);
            scope.spawn(move || run_all(seeds))
        };
        let parts: Vec<_> = (0..threads).map(part).collect();
        let mut sum = Sum::default();
        for part in parts {
            let part = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sum.seeds += part.seeds;
            sum.totals.add(&part.totals);
            sum.checked.add(&part.checked);
        }
        sum
    });
    let a_minute =
        |count: u64| count as f64 * 60.0 / started.elapsed().max(Duration::from_millis(1)).as_secs_f64();
    println!(
        "{} seeds, {:.0} a minute; {} faults, {:.0} a minute",
        sum.seeds,
        a_minute(sum.seeds),
        sum.totals.faults(),
        a_minute(sum.totals.faults()),
    );
    println!("{:?}\n{:?}", sum.totals, sum.checked);
    if sum.seeds < 100 {
        return;
    }
    // The runs met what they are meant to meet, and what was checked was there.
    for (what, count) in sum.totals.named().chain(sum.checked.named()) {
        assert!(count > 0, "no {what}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the rate is for people; no decision depends on it")]
fn now() -> Instant {
    Instant::now()
}
