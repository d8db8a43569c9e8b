//! Raw records: a piece of a simulated market's day, sent by a customer who sometimes fails too.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use ingest::partitioner::partition_of;
use market::{Emission, Market};
use runtime::processor::TopicPartition;
use simulation::{Cluster, Rng, Written};

use crate::pipeline::{by_wall_clock, section};

/// A few users who are shown a lot: what is declared per user, item and campaign meets many events.
const MARKET: &str = "
users = 24
items = 30
campaigns = 5
categories = 4
brands = 6
views_per_user_day = 80.0
click_rate = 0.2
purchase_rate = 0.1
refund_rate = 0.1
day_rhythm = 0.0
";

/// Everything that a market can do wrong.
const FAULTY: &str = "
duplicates = 0.06
out_of_order = 0.1
late = 0.04
future = 0.01
garbage = 0.02
wrong_type = 0.02
huge = 0.01
";

/// Markets of which runs take pieces; the first is without faults.
static MARKETS: LazyLock<[Vec<Emission>; 4]> = LazyLock::new(|| {
    [0, 1, 2, 3].map(|seed| {
        let changes = if seed == 0 { MARKET.to_owned() } else { format!("{MARKET}{FAULTY}") };
        let config: market::Config = section("market", market::DEFAULTS, &changes);
        Market::new(&config, seed).unwrap().take(6_000).collect()
    })
});

/// What a run is fed.
pub(crate) struct Feed {
    left: &'static [Emission],
    rng: Rng,
    /// Of a thousand records, how many go without their id: no duplicate is found of them.
    nameless: u64,
    by_wall_clock: bool,
}

impl Feed {
    /// A piece of a few hundred records.
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(!seed);
        let market = &MARKETS[rng.below(MARKETS.len() as u64) as usize];
        let length = 150 + rng.below(200) as usize;
        let start = rng.below((market.len() - length) as u64) as usize;
        let left = &market[start..start + length];
        let nameless = [0, 300, 700][rng.below(3) as usize];
        Self { left, rng, nameless, by_wall_clock: by_wall_clock(seed) }
    }

    /// Sends the next records.
    pub(crate) fn send(&mut self, cluster: &mut Cluster, count: usize) {
        let (now, left) = self.left.split_at(count.min(self.left.len()));
        self.left = left;
        for emission in now {
            if self.by_wall_clock {
                cluster.clock.wall_ms = cluster.clock.wall_ms.max(emission.arrival_ms);
            }
            self.post(cluster, emission);
        }
    }

    /// Sends all that is left.
    pub(crate) fn send_rest(&mut self, cluster: &mut Cluster) {
        self.send(cluster, self.left.len());
    }

    fn post(&mut self, cluster: &mut Cluster, emission: &'static Emission) {
        let topic: Arc<str> = emission.topic.into();
        let key = Bytes::from_static(emission.key.as_bytes());
        let partitions = cluster.broker.partitions(&topic).len() as i32;
        let to = TopicPartition { partition: partition_of(&key, partitions), topic };
        let value = if self.rng.chance(self.nameless) {
            without_id(&emission.value).into()
        } else {
            Bytes::from_static(&emission.value)
        };
        let record = Written {
            timestamp_ms: emission.arrival_ms,
            key: Some(key),
            value: Some(value),
            headers: Vec::new(),
        };
        // A producer that fails and tries again: nobody may see the first try.
        if self.rng.chance(40) {
            cluster.broker.feed(&to, record.clone(), false, true);
        }
        let marked = self.rng.chance(200);
        cluster.broker.feed(&to, record, marked, false);
    }
}

/// The same record with its id under a name that nobody reads.
fn without_id(value: &[u8]) -> Vec<u8> {
    const ID: &[u8] = b"\"event_id\":";
    let mut value = value.to_vec();
    if let Some(at) = value.windows(ID.len()).position(|window| window == ID) {
        value[at + 1..at + 9].copy_from_slice(b"whatever");
    }
    value
}
