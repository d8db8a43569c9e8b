//! `bench ingest`: raw records that one core makes canonical events of a second, beside a bare parse of the
//! same bytes.
//!
//! The records are those of the simulated market with the configuration's faults, as they lie in the raw
//! topics: in each partition in order of arrival. What is measured is all that ingest's core does of them: decoding,
//! checks, pseudonyms, the join with the catalogue, the merge of the partitions by event time, the
//! encoded records of `events`, `late-events` and `dead-letters`. No broker is there.

use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use ingest::{Catalogue, PseudonymKey, RawPartitions, SharedCatalogue, partitioner};
use market::Market;
use runtime::processor::{
    InRecord, Input, Outputs, Position, Processor, ProcessorFactory as _, TopicPartition, UnitId,
};
use schemas::table::TopicRecord;
use schemas::topic::Names;
use serde::Serialize;

use super::watch::Watch;
use crate::config::Config;

/// The benchmark's settings, under the user's.
pub const PRESET: &str = "[ingest]\nclock = \"data\"\n\n[telemetry]\nfilter = \"error\"\n";

/// Records of a poll.
const POLL: usize = 1_000;
/// Partitions of each raw topic, and of `events`.
const PARTITIONS: i32 = 4;
/// Both sides are measured so often in turn; the best turn of each counts.
const TURNS: usize = 5;

/// What the command line says.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Raw records.
    pub events: u64,
    /// Seed of the market that makes them.
    pub seed: u64,
}

/// What was measured, in one run on one thread.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measured {
    /// Raw records through ingest's core a second of a core's time.
    pub events_per_s: f64,
    /// Raw records that simd-json parses to its tape a second of a core's time, and nothing more.
    pub parsed_per_s: f64,
    /// The first over the second.
    pub ratio_to_parse: f64,
    /// Raw records.
    pub events: u64,
    /// Bytes of a raw record's value, on average.
    pub bytes_per_event: f64,
    /// Records that came out, control records included.
    pub records_out: u64,
    /// Raw records that simd-json takes for JSON; `market.garbage` makes some that are none.
    pub json: u64,
}

/// Runs it.
///
/// # Errors
/// Settings that make no sense; a core that leaves a record behind.
pub fn run(config: &Config, options: Options) -> Result<Measured> {
    ensure!(options.events > 0, "--events must be at least 1");
    let made = Made::new(config, options)?;
    let bytes: usize = made.values().map(Bytes::len).sum();
    let (mut ours, mut parse) = (f64::INFINITY, f64::INFINITY);
    let (mut records_out, mut json) = (0, 0);
    for _ in 0..TURNS {
        let (seconds, records) = made.ingest(config)?;
        (ours, records_out) = (ours.min(seconds), records);
        let (seconds, whole) = made.parse();
        (parse, json) = (parse.min(seconds), whole);
    }
    let events = options.events as f64;
    Ok(Measured {
        events_per_s: events / ours,
        parsed_per_s: events / parse,
        ratio_to_parse: parse / ours,
        events: options.events,
        bytes_per_event: bytes as f64 / events,
        records_out,
        json,
    })
}

/// The market's records as the consumer hands them over, and its catalogue.
struct Made {
    names: Names,
    polls: Vec<Vec<InRecord>>,
    items: Vec<TopicRecord>,
}

impl Made {
    fn new(config: &Config, options: Options) -> Result<Self> {
        let names = Names::new("");
        let mut market = Market::new(&config.market, options.seed)?;
        let items = crate::simulate::catalogue(&market)?;
        let items = items.into_iter().enumerate().map(|(at, (key, value))| record(0, at as i64, key, value));
        let items = items.collect();
        let mut ends = [[0_i64; PARTITIONS as usize]; 3];
        let mut records = Vec::with_capacity(options.events as usize);
        for emission in market.by_ref().take(options.events as usize) {
            let topics = [&names.views, &names.clicks, &names.purchases];
            // The market sends to the raw topics alone.
            let at = topics.iter().position(|topic| ***topic == *emission.topic).unwrap_or(0);
            let partition = partitioner::partition_of(emission.key.as_bytes(), PARTITIONS);
            let end = &mut ends[at][partition as usize];
            let record = record(partition, *end, emission.key, emission.value);
            *end += 1;
            records.push(InRecord { topic: Arc::clone(topics[at]), record });
        }
        let polls = records.chunks(POLL).map(<[InRecord]>::to_vec).collect();
        Ok(Self { names, polls, items })
    }

    fn values(&self) -> impl Iterator<Item = &Bytes> {
        self.polls.iter().flatten().filter_map(|record| record.record.value.as_ref())
    }

    /// A core over nothing yet.
    fn core(&self, config: &Config) -> Result<Box<dyn Processor>> {
        let mut catalogue = Catalogue::new(&config.ingest);
        for item in &self.items {
            catalogue.apply(item)?;
        }
        let key = PseudonymKey::new("bench", b"the people of the simulated market are nobody".to_vec())?;
        let partitions = RawPartitions { views: PARTITIONS, clicks: PARTITIONS, purchases: PARTITIONS };
        let catalogue = SharedCatalogue::new(catalogue);
        let names = self.names.clone();
        let factory = ingest::factory(&config.ingest, names, partitions, PARTITIONS, &key, catalogue)?;
        let mut core = factory.create(UnitId(0), None)?;
        let positions: Vec<Position> = self
            .partitions()
            .map(|partition| Position { partition, offset: 0, metadata: String::new() })
            .collect();
        core.step(Input::Assigned { positions: &positions, now_ms: 0 }, &mut Outputs::default())?;
        Ok(core)
    }

    fn partitions(&self) -> impl Iterator<Item = TopicPartition> {
        let topics = [&self.names.views, &self.names.clicks, &self.names.purchases];
        topics.into_iter().flat_map(|topic| {
            (0..PARTITIONS).map(|partition| TopicPartition { topic: Arc::clone(topic), partition })
        })
    }

    /// Seconds through the core, and the records that came out.
    fn ingest(&self, config: &Config) -> Result<(f64, u64)> {
        let mut core = self.core(config)?;
        let at_end: Vec<TopicPartition> = self.partitions().collect();
        let (mut out, mut records) = (Outputs::default(), 0);
        let mut reached = BTreeMap::new();
        let mut take = |out: &mut Outputs| {
            records += black_box(&out.records).len() as u64;
            reached.extend(out.positions.drain(..).map(|position| (position.partition, position.offset)));
            out.records.clear();
            out.pause.clear();
        };
        let watch = Watch::start();
        // A millisecond a poll: ticks come as often as they would at a million records a second.
        for (now_ms, poll) in (0..).zip(&self.polls) {
            core.step(Input::Records { records: poll, now_ms }, &mut out)?;
            take(&mut out);
        }
        // Several polls that give nothing: no partition is waited for any more.
        let (first, wait) = (self.polls.len() as i64, config.ingest.merge_wait.0.max(1));
        for poll in 0..8 {
            let now_ms = first + poll * wait;
            core.step(Input::Drained { at_end: &at_end, now_ms }, &mut out)?;
            take(&mut out);
        }
        let seconds = watch.seconds();
        let (done, made) = (reached.values().sum::<i64>(), self.values().count() as i64);
        ensure!(done == made, "of {made} records {done} came out: a bug");
        Ok((seconds, records))
    }

    /// Seconds of a bare parse, and how many records are JSON. The parser writes into its input, so that
    /// each record is copied first, to a buffer that is used again.
    fn parse(&self) -> (f64, u64) {
        let mut buffers = simd_json::Buffers::default();
        let (mut bytes, mut json) = (Vec::new(), 0);
        let watch = Watch::start();
        for value in self.values() {
            bytes.clear();
            bytes.extend_from_slice(value);
            json += u64::from(black_box(simd_json::to_tape_with_buffers(&mut bytes, &mut buffers)).is_ok());
        }
        (watch.seconds(), json)
    }
}

fn record(partition: i32, offset: i64, key: String, value: Vec<u8>) -> TopicRecord {
    TopicRecord {
        partition,
        offset,
        timestamp_ms: 0,
        key: Some(key.into()),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events_per_s, parsed_per_s, ratio_to_parse, events, bytes_per_event, .. } = self;
        writeln!(f, "ingest's core, one thread, {events} raw records of {bytes_per_event:.0} bytes")?;
        writeln!(f, "  events/s             {events_per_s:>10.0}  {} records out", self.records_out)?;
        writeln!(f, "  bare parse/s         {parsed_per_s:>10.0}  simd-json, to its tape")?;
        writeln!(f, "  ratio                {ratio_to_parse:>10.2}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;
    use crate::config::Sources;

    #[test]
    fn every_record_of_the_market_comes_out() {
        let config = Sources { preset: Some(PRESET), ..Sources::default() }.load().unwrap();
        let measured = run(&config, Options { events: 3_000, seed: 1 }).unwrap();
        // Orders have several lines, and ticks come besides.
        assert!(measured.records_out > 3_000, "{measured:?}");
        // By default the market sends no garbage.
        assert_eq!(measured.json, 3_000);
        assert!(measured.ratio_to_parse > 0.0 && measured.ratio_to_parse.is_finite(), "{measured:?}");
    }
}
