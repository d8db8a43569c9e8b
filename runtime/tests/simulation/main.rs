//! The loop's state machine against a broker in memory, over many seeds and through named
//! scenarios. After each run: every input is reflected exactly once in what `read_committed`
//! readers see, and the outputs are the pure fold of the inputs.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod processors;
mod scenarios;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use processors::{
    HashingFactory, INPUT, MergingFactory, OUTPUT, RenewingFactory, SPREAD_TO, SpreadingFactory, spread,
};
use runtime::core::Delivery;
use runtime::processor::ProcessorFactory;
use runtime::processor::TopicPartition;
use simulation::{Broker, Cluster, Faults, Totals, seeds};

/// The one service of these clusters, which is its group.
pub(crate) const SERVICE: &str = "test";

/// A cluster without workers.
pub(crate) fn cluster(
    factory: impl ProcessorFactory + 'static,
    delivery: Delivery,
    partitions: i32,
    seed: u64,
) -> Cluster {
    // The processors name partitions themselves.
    let mut broker = Broker::new(|_, _| 0);
    broker.create(&INPUT.into(), partitions);
    broker.create(&OUTPUT.into(), partitions.max(SPREAD_TO));
    let mut cluster = Cluster::new(broker, seed);
    cluster.add_service(SERVICE, Arc::new(factory), delivery);
    cluster
}

pub(crate) fn inputs(cluster: &Cluster) -> Vec<TopicPartition> {
    cluster.broker.partitions(&INPUT.into())
}

pub(crate) fn partition(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition }
}

/// Writes `count` records to random inputs, some in transactions, some of these aborted.
pub(crate) fn feed(cluster: &mut Cluster, count: u64) {
    for _ in 0..count {
        let inputs = inputs(cluster);
        let to = &inputs[cluster.rng.below(inputs.len() as u64) as usize];
        let value = (cluster.rng.next() % 1_000_000).to_string();
        let (marker, aborted) = (cluster.rng.chance(200), cluster.rng.chance(50));
        cluster.broker.feed(to, Bytes::from(value), marker, aborted);
    }
}

/// What the pure fold of a partition gives.
fn fold(cluster: &Cluster, number: i32) -> Vec<Bytes> {
    let mut processor = processors::Hashing::default();
    let input = cluster.broker.all(&partition(INPUT, number));
    let records = input.iter().flat_map(|record| {
        processor.take(number, record.offset, record.value.as_deref().unwrap_or_default())
    });
    records.map(|record| record.value.unwrap()).collect()
}

fn outputs(cluster: &Cluster, number: i32) -> Vec<Bytes> {
    cluster.broker.visible(&partition(OUTPUT, number)).into_iter().map(|(_, value)| value).collect()
}

/// Exactly the fold, byte for byte and in order.
pub(crate) fn check_fold(cluster: &Cluster, what: &str) {
    for of in &inputs(cluster) {
        let (expected, found) = (fold(cluster, of.partition), outputs(cluster, of.partition));
        assert_eq!(found.len(), expected.len(), "{what}: outputs of partition {}", of.partition);
        let differs = expected.iter().zip(&found).position(|(expected, found)| expected != found);
        assert_eq!(differs, None, "{what}: first different output of partition {}", of.partition);
    }
}

/// Every output partition has every input's fold, in order, byte for byte: what was marked in one
/// was marked in all.
fn check_spread(cluster: &Cluster, what: &str) {
    for of in &inputs(cluster) {
        let mut processor = processors::Hashing::default();
        let input = cluster.broker.visible(of);
        let made: Vec<_> = input
            .iter()
            .flat_map(|(offset, value)| processor.take(of.partition, *offset, value))
            .flat_map(|made| spread(of.partition, &made))
            .collect();
        let head = format!("{} ", of.partition);
        for to in 0..SPREAD_TO {
            let expected = made.iter().filter(|record| record.partition == Some(to));
            let expected: Vec<_> = expected.filter_map(|record| record.value.clone()).collect();
            let found = outputs(cluster, to).into_iter().filter(|value| value.starts_with(head.as_bytes()));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{what}: {of} in partition {to}");
        }
    }
}

/// All of the fold, repeats allowed, and nothing else.
fn check_nothing_lost(cluster: &Cluster, what: &str) {
    for of in &inputs(cluster) {
        let expected: BTreeSet<Bytes> = fold(cluster, of.partition).into_iter().collect();
        let found: BTreeSet<Bytes> = outputs(cluster, of.partition).into_iter().collect();
        assert_eq!(found, expected, "{what}: partition {}", of.partition);
    }
}

/// Each event once, each partition's in order, and ticks that only rise.
pub(crate) fn check_merge(cluster: &Cluster, what: &str) {
    for of in &inputs(cluster) {
        let mut events = Vec::new();
        let mut last_tick = 0_u64;
        for line in outputs(cluster, of.partition) {
            let line = String::from_utf8(line.to_vec()).unwrap();
            let mut words = line.split(' ');
            let (kind, first) = (words.next().unwrap(), words.next().unwrap());
            let number: u64 = first.parse().unwrap();
            if kind == "tick" {
                assert!(number > last_tick, "{what}: tick {number} after {last_tick} in {of}");
                last_tick = number;
            } else {
                events.push(number as i64);
            }
        }
        let expected: Vec<i64> = cluster.broker.visible(of).into_iter().map(|(offset, _)| offset).collect();
        assert_eq!(events, expected, "{what}: events of {of}");
    }
}

/// What a run may meet, from its seed.
fn faults(seed: u64) -> Faults {
    match seed % 5 {
        0 => Faults::default(),
        1 => Faults { retriable: 60, doubtful: 60, ..Faults::default() },
        2 => Faults { abortable: 80, doubtful: 30, ..Faults::default() },
        3 => Faults { crash: 15, fatal: 10, ..Faults::default() },
        _ => Faults { retriable: 40, abortable: 40, doubtful: 40, crash: 10, fatal: 5, freeze: 5 },
    }
}

/// Seeds of a test, unless the environment says otherwise.
const SEEDS: u64 = 1500;

/// Runs a cluster of three workers through everything at once.
fn run(seed: u64, delivery: Delivery, factory: impl ProcessorFactory + 'static) -> (Cluster, Totals) {
    let mut cluster = cluster(factory, delivery, 4, seed);
    for id in ["a", "b", "c"] {
        cluster.start(SERVICE, id);
    }
    cluster.faults = faults(seed);
    for _ in 0..250 {
        let index = cluster.rng.below(3) as usize;
        match cluster.rng.below(100) {
            0..=14 => {
                let count = 1 + cluster.rng.below(8);
                feed(&mut cluster, count);
            }
            15 => cluster.rebalance(SERVICE),
            16 => cluster.freeze(index),
            17 if cluster.workers[index].frozen => {
                cluster.evict(index);
                if cluster.rng.chance(500) {
                    cluster.time_out(index);
                }
            }
            18 | 19 => cluster.thaw(index),
            20 => {
                let hours = cluster.rng.below(13) as i64 - 6;
                cluster.jump(hours * 3_600_000);
            }
            21 => {
                let unit = cluster.rng.below(4) as u32;
                cluster.truncate_snapshot(SERVICE, unit);
            }
            22 => cluster.shuffle_standbys(index),
            23..=34 => cluster.turn_standbys(index),
            _ => {
                cluster.turn_or_restart(index);
                let ms = cluster.rng.below(20);
                cluster.pass(ms);
            }
        }
    }
    cluster.settle();
    let totals = cluster.finish();
    (cluster, totals)
}

#[test]
fn outputs_are_the_pure_fold_of_the_inputs_whatever_happens() {
    let mut sum = Totals::default();
    for seed in seeds(SEEDS) {
        let (cluster, totals) = run(seed, Delivery::ExactlyOnce, HashingFactory);
        check_fold(&cluster, &format!("seed {seed}"));
        sum.add(&totals);
    }
    // The run met what it is meant to meet; second processes, slow coordinators and expiry are met by
    // the whole pipeline's simulation.
    let elsewhere = ["zombies", "slowed", "expired"];
    for (what, count) in sum.named().filter(|(what, _)| !elsewhere.contains(what)) {
        assert!(count > 0, "no {what} in {sum:?}");
    }
    println!("{sum:?}");
}

#[test]
fn a_unit_that_asks_to_be_built_anew_loses_and_repeats_nothing_whatever_happens() {
    let (mut sum, mut renewed) = (Totals::default(), 0);
    for seed in seeds(SEEDS).step_by(3) {
        let factory = RenewingFactory::default();
        let asked = Arc::clone(&factory.renewed);
        let (cluster, totals) = run(seed, Delivery::ExactlyOnce, factory);
        check_fold(&cluster, &format!("seed {seed}"));
        sum.add(&totals);
        renewed += *asked.lock().unwrap();
    }
    assert!(renewed > 0, "none was asked for");
    assert!(sum.aborts > 0 && sum.restored > 0 && sum.replayed > 0, "{sum:?}");
}

#[test]
fn what_is_marked_in_one_partition_is_marked_in_all_whatever_happens() {
    let mut sum = Totals::default();
    for seed in seeds(SEEDS).step_by(3) {
        let (cluster, totals) = run(seed, Delivery::ExactlyOnce, SpreadingFactory);
        check_spread(&cluster, &format!("seed {seed}"));
        sum.add(&totals);
    }
    assert!(sum.aborts > 0 && sum.restored > 0 && sum.crashes > 0, "{sum:?}");
}

#[test]
fn a_merge_that_holds_back_and_ticks_loses_repeats_and_rewinds_nothing() {
    let mut sum = Totals::default();
    for seed in seeds(SEEDS) {
        let (cluster, totals) = run(seed, Delivery::ExactlyOnce, MergingFactory);
        check_merge(&cluster, &format!("seed {seed}"));
        sum.add(&totals);
    }
    assert!(sum.aborts > 0 && sum.fenced > 0 && sum.crashes > 0, "{sum:?}");
    println!("{sum:?}");
}

#[test]
fn at_least_once_loses_nothing() {
    for seed in seeds(SEEDS).step_by(2) {
        let (cluster, _) = run(seed, Delivery::AtLeastOnce, HashingFactory);
        check_nothing_lost(&cluster, &format!("seed {seed}"));
    }
}
