//! The market, fed at a steady rate, and what came out at the other end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use market::{Counts, Market};
use runtime::config::Kafka;
use runtime::kafka::{Isolation, Reader, Sender};
use runtime::processor::{OutRecord, TopicPartition};
use schemas::topic::{self, Names};
use schemas::{Codec as _, Json, Prediction};
use serde::Deserialize;

use super::clock::{now, wall_ms};

/// Market time that passes in a second, about: an hour in half a minute. A partition whose leader
/// is away for a while stays within what ingest lets one source be ahead of another.
const SPEED: f64 = 120.0;
/// A prediction that took less had no backlog before it, ms.
const SOON_MS: u64 = 2_000;
/// Records that come of a view: itself, clicks, carts, orders, copies, bad ones; about.
const RECORDS_PER_VIEW: f64 = 1.2;

/// The settings of a market that sends about `rate` records a second.
///
/// # Errors
/// None in practice: the defaults are the market's own.
pub(super) fn config(rate: u32) -> Result<market::Config> {
    #[derive(Deserialize)]
    struct Sections {
        market: market::Config,
    }
    let mut config =
        toml::from_str::<Sections>(market::DEFAULTS).context("the market's defaults are none")?.market;
    let views_per_day = f64::from(rate) / RECORDS_PER_VIEW / SPEED * 86_400.0;
    config.users = ((views_per_day / config.views_per_user_day) as u32).max(1);
    config.day_rhythm = 0.0;
    config.duplicates = 0.02;
    config.late = 0.01;
    config.out_of_order = 0.05;
    config.future = 0.002;
    config.garbage = 0.004;
    config.wrong_type = 0.004;
    config.huge = 0.002;
    Ok(config)
}

/// Sends the catalogue, then records of the market of this seed, `rate` a second, until told to
/// stop; returns when the cluster has them all.
///
/// # Errors
/// A record that the cluster does not take within librdkafka's five minutes.
pub(super) fn run(
    kafka: &Kafka,
    config: &market::Config,
    seed: u64,
    rate: u32,
    stop: &AtomicBool,
) -> Result<Counts> {
    let mut market = Market::new(config, seed)?;
    let mut kafka = kafka.clone();
    // With several requests on their way librdkafka's idempotent producer answers one that a broker refused for the
    // sake of the one before it with a new epoch. What was written and not acknowledged is then written twice.
    kafka.producer.insert("max.in.flight.requests.per.connection".to_owned(), "1".to_owned());
    let sender = Sender::new(&kafka)?;
    let names = Names::new(&kafka.prefix);
    for item in market.catalogue() {
        let (key, value) = (item.item_id.clone(), serde_json::to_vec(&item)?);
        sender.send(&record(&names.items, key, value))?;
    }
    sender.flush(Duration::from_mins(1))?;
    let began = now();
    for number in 0_u64.. {
        let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
        let wait = due.saturating_sub(began.elapsed());
        if wait > Duration::from_millis(2) {
            // The pace, which is what is wanted here.
            std::thread::sleep(wait);
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Some(emission) = market.next() else { break };
        let topic = match emission.topic {
            topic::CLICKS => &names.clicks,
            topic::PURCHASES => &names.purchases,
            _ => &names.views,
        };
        sender.send(&record(topic, emission.key, emission.value))?;
    }
    sender.flush(Duration::from_mins(5))?;
    Ok(market.counts())
}

fn record(topic: &Arc<str>, key: String, value: Vec<u8>) -> OutRecord {
    OutRecord {
        topic: Arc::clone(topic),
        partition: None,
        key: Some(Bytes::from(key)),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

/// A prediction that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When its view was sent, ms since 1970 UTC.
    pub sent_ms: i64,
    /// When it was read, ms since 1970 UTC.
    pub came_ms: i64,
}

impl Arrival {
    /// How long it took, ms.
    pub const fn latency_ms(self) -> u64 {
        let took = self.came_ms - self.sent_ms;
        if took < 0 { 0 } else { took as u64 }
    }
}

/// Reads predictions as an optimizer would, until told to stop, and counts in `fresh` those that came
/// soon. What does not pass by itself is
/// tried again, from where it was.
///
/// # Errors
/// A topic that is not there at the beginning, a record that is no prediction.
pub(super) fn probe(kafka: &Kafka, fresh: &AtomicU64, stop: &AtomicBool) -> Result<Vec<Arrival>> {
    let topic = Names::new(&kafka.prefix).predictions;
    let mut reader = Reader::new(kafka, Isolation::ReadCommitted)?;
    let partitions = reader.begin_offsets(&topic)?;
    let mut from: Vec<(TopicPartition, i64)> = (0..)
        .zip(partitions)
        .map(|(partition, begin)| (TopicPartition { topic: Arc::clone(&topic), partition }, begin))
        .collect();
    reader.assign(&from)?;
    let mut arrivals = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match reader.poll(5_000, Duration::from_millis(50)) {
            Ok(records) => {
                let came_ms = wall_ms();
                for record in records {
                    let value = record.record.value.unwrap_or_default();
                    let prediction: Prediction = Json::decode(&value).context("no prediction")?;
                    let arrival = Arrival { sent_ms: prediction.received_ms, came_ms };
                    fresh.fetch_add(u64::from(arrival.latency_ms() < SOON_MS), Ordering::Relaxed);
                    arrivals.push(arrival);
                }
                from = reader.positions();
            }
            Err(error) => {
                eprintln!("chaos: the probe reads again: {error}");
                reader = Reader::new(kafka, Isolation::ReadCommitted)?;
                reader.assign(&from)?;
            }
        }
    }
    Ok(arrivals)
}
