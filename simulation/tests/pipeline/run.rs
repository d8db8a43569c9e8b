//! One seed: what happens to the pipeline, and in which order.

use std::sync::Arc;

use scorer::Slot;
use simulation::{Broker, Cluster, Faults, Sabotage, Totals};

use crate::feed::Feed;
use crate::lake::Lake;
use crate::models::MODELS;
use crate::pipeline::{Deployed, PARTS, cluster, start};

/// Decisions before everything is let settle.
const STEPS: usize = 700;

/// What calls may meet, from the seed.
fn faults(seed: u64) -> Faults {
    match seed % 6 {
        0 => Faults::default(),
        1 => Faults { retriable: 60, doubtful: 80, ..Faults::default() },
        2 => Faults { abortable: 60, doubtful: 30, freeze: 5, ..Faults::default() },
        3 => Faults { crash: 12, fatal: 8, ..Faults::default() },
        4 => Faults { crash: 8, freeze: 15, doubtful: 40, ..Faults::default() },
        _ => Faults { retriable: 30, abortable: 30, doubtful: 40, crash: 6, fatal: 4, freeze: 6 },
    }
}

/// What is left of a run: the logs and the tables.
pub(crate) struct Ended {
    pub(crate) broker: Broker,
    pub(crate) lake: Lake,
}

/// Runs a seed to its end: all that was sent is processed.
pub(crate) fn run(seed: u64, sabotage: Sabotage) -> (Ended, Totals) {
    let slot = Slot::new();
    let deployed = Deployed::of(seed);
    let mut cluster = cluster(seed, deployed, &slot);
    let (mut feed, mut lake) = (Feed::new(seed), Lake::new(seed, &cluster.broker));
    start(&mut cluster, deployed);
    cluster.faults = faults(seed);
    cluster.sabotage = sabotage;
    for _ in 0..STEPS {
        step(&mut cluster, deployed, &mut feed, &slot);
        lake.step(&cluster.broker);
    }
    feed.send_rest(&mut cluster);
    cluster.settle();
    let mut totals = cluster.finish();
    totals.add(&lake.totals);
    (Ended { broker: cluster.broker, lake }, totals)
}

fn step(cluster: &mut Cluster, deployed: Deployed, feed: &mut Feed, slot: &Slot) {
    let index = cluster.rng.below(cluster.workers.len() as u64) as usize;
    let services = deployed.services();
    let service = services[cluster.rng.below(services.len() as u64) as usize];
    match cluster.rng.below(200) {
        0..=17 => {
            let count = 1 + cluster.rng.below(9) as usize;
            feed.send(cluster, count);
        }
        18 => cluster.rebalance(service),
        19 => cluster.freeze(index),
        20..=23 if cluster.workers[index].frozen => {
            cluster.evict(index);
            if cluster.rng.chance(500) {
                cluster.time_out(index);
            }
        }
        24..=33 => cluster.thaw(index),
        34 => {
            let hours = cluster.rng.below(13) as i64 - 6;
            cluster.jump(hours * 3_600_000);
        }
        35 | 36 => {
            let (service, unit) =
                [("features", 0), ("features", 1), ("merge", 0)][cluster.rng.below(3) as usize];
            cluster.truncate_snapshot(service, unit);
        }
        37 => {
            let ms = 20 + cluster.rng.below(300);
            cluster.slow_down(service, ms);
        }
        38 => cluster.double(index),
        39 => expire(cluster),
        40 => {
            slot.put(Arc::clone(&MODELS[cluster.rng.below(2) as usize]));
        }
        41 | 42 => cluster.shuffle_standbys(index),
        43..=58 => cluster.turn_standbys(index),
        _ => {
            cluster.turn_or_restart(index);
            let ms = cluster.rng.below(12);
            cluster.pass(ms);
        }
    }
}

/// Deletes the head of a raw log: ingest keeps no state, it needs nothing of it any more.
fn expire(cluster: &mut Cluster) {
    let names = &PARTS.names;
    let topics = [&names.views, &names.clicks, &names.purchases];
    let topic = topics[cluster.rng.below(topics.len() as u64) as usize];
    let partitions = cluster.broker.partitions(topic);
    let of = &partitions[cluster.rng.below(partitions.len() as u64) as usize];
    let kept = cluster.rng.below(3) as i64;
    cluster.expire(of, kept);
}
