//! `bench backfill`: records of history folded to vectors in a table a second, and the most memory
//! that it takes.
//!
//! The history is made by a seed, record by record, straight into the tables `events` and `control`.

use std::fmt;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use lake::Writer;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Zipf};
use runtime::shutdown::Shutdown;
use schemas::table::{self, TopicRecord};
use schemas::{Codec as _, Control, Entry, Event, Kind, Origin, Protobuf, Source, SourceSet, Tick, Ticks};
use serde::Serialize;

use crate::backfill;
use crate::config::Config;
use crate::context::Context;

/// When the history begins, ms.
const START_MS: i64 = 1_760_000_000_000;
const DAY_MS: i64 = 86_400_000;
/// Nothing comes later than this, ms.
const LATENESS_MS: i64 = 60_000;
const ITEMS: u32 = 20_000;
const CAMPAIGNS: u32 = 200;
const EVENTS_PER_USER: u64 = 20;
/// Events between two ticks.
const TICK_EVERY: u64 = 1_000;

/// What the command line says.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Events of the history.
    pub events: u64,
    /// Days that it lasts.
    pub days: u32,
    /// Partitions of `events`.
    pub partitions: i32,
    /// Partitions folded side by side; 0 takes all cores.
    pub threads: usize,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Records of `events` read, folded and their vectors written, a second of the wall clock.
    pub backfill_rows_per_s: f64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Most memory of the process while it ran, MiB; 0 where the system does not say.
    pub peak_rss_mib: f64,
    /// Events of the history.
    pub events: u64,
    /// Vectors in the table.
    pub vectors: u64,
    /// Numbers of a vector.
    pub numbers: usize,
    /// Partitions folded side by side.
    pub threads: usize,
}

/// Makes a history in a temporary folder and folds it.
///
/// # Errors
/// A folder that cannot be written; a view without a vector.
pub fn run(mut config: Config, options: &Options) -> Result<Measured> {
    ensure!(options.events > 0 && options.partitions > 0, "--events and --partitions must be at least 1");
    let folder = std::env::temp_dir().join(format!("salience-bench-{}", crate::clock::wall_ms()));
    config.storage.root = folder.display().to_string();
    config.topics.internal_partitions = options.partitions;
    let measured = measure(config, options);
    // What is left of a run that failed is the system's to clear away.
    let _removed = std::fs::remove_dir_all(&folder);
    measured
}

fn measure(config: Config, options: &Options) -> Result<Measured> {
    let context = Context::open(config)?;
    runtime::kafka::record_partitions(&context.store, &context.names.events, options.partitions)?;
    let views = make(&context, options)?;
    forget_peak();
    let job = backfill::Options {
        from_ms: None,
        to_ms: None,
        warm_up: None,
        out: "made".into(),
        threads: options.threads,
    };
    let backfill::Outcome::Ended(report) = backfill::run(&context, &job, &Shutdown::new())? else {
        bail!("stopped")
    };
    ensure!(report.vectors == views, "{views} views made {} vectors", report.vectors);
    Ok(Measured {
        backfill_rows_per_s: report.records_per_s,
        seconds: report.seconds,
        peak_rss_mib: super::peak_rss_mib(),
        events: options.events,
        vectors: report.vectors,
        numbers: context.vector_schema.fields.len(),
        threads: report.threads,
    })
}

/// The history's tables while they are written.
struct History<'a> {
    context: &'a Context,
    tables: [Writer; 2],
    /// Next offset of each partition.
    next: Vec<i64>,
}

impl History<'_> {
    fn push(&mut self, partition: i32, entry: &Entry) -> Result<()> {
        let offset = &mut self.next[partition as usize];
        let value = Some(Protobuf::to_vec(entry).into());
        let record = TopicRecord {
            partition,
            offset: *offset,
            timestamp_ms: START_MS,
            key: None,
            value,
            headers: Vec::new(),
        };
        *offset += 1;
        for writer in &mut self.tables {
            writer.push(&record)?;
            if writer.full() {
                self.context.tokio.block_on(writer.commit())?;
            }
        }
        Ok(())
    }

    fn push_all(&mut self, control: Control) -> Result<()> {
        let entry = Entry::Control(control);
        (0..self.next.len() as i32).try_for_each(|partition| self.push(partition, &entry))
    }
}

/// Writes the history; how many views it has.
fn make(context: &Context, options: &Options) -> Result<u64> {
    let mut tables = Vec::new();
    for (name, encoder) in
        [(table::events::NAME, table::events::encoder()), (table::control::NAME, table::control::encoder())]
    {
        let (root, topic) = (context.store.root_url(), Arc::clone(&context.names.events));
        tables.push(context.tokio.block_on(Writer::open(
            root,
            name,
            topic,
            encoder,
            &context.config.lake,
        ))?);
    }
    let Ok(tables) = <[Writer; 2]>::try_from(tables) else { bail!("two tables hold a history") };
    let mut history = History { context, tables, next: vec![0; options.partitions as usize] };
    for partition in 0..options.partitions {
        history.tables.iter_mut().for_each(|writer| writer.begin(partition, 0));
    }
    let source = Source { topic: "views".to_owned(), partition: 0 };
    history.push_all(Control::Sources(SourceSet { sources: vec![source.clone()] }))?;

    let mut random = ChaCha8Rng::seed_from_u64(42);
    let users = Zipf::new((options.events / EVENTS_PER_USER).max(1) as f64, 0.8)?;
    let items = Zipf::new(f64::from(ITEMS), 1.1)?;
    let span_ms = i64::from(options.days.max(1)) * DAY_MS;
    let mut views = 0;
    for number in 0..options.events {
        let arrives_ms = START_MS + (span_ms as f64 * (number as f64 / options.events as f64)) as i64;
        if number.is_multiple_of(TICK_EVERY) {
            let tick = Tick { source: source.clone(), watermark_ms: arrives_ms - LATENESS_MS, idle: false };
            history.push_all(Control::Ticks(Ticks { ticks: vec![tick] }))?;
        }
        let late_ms = if random.random::<f64>() < 0.02 { random.random_range(0..LATENESS_MS) } else { 0 };
        let kind = match random.random::<f64>() {
            share if share < 0.80 => Kind::View,
            share if share < 0.97 => Kind::Click,
            _ => Kind::Purchase,
        };
        views += u64::from(kind == Kind::View);
        let (user, item) = (users.sample(&mut random) as u64, items.sample(&mut random) as u32);
        let event = Event {
            origin: Origin {
                topic: "views".to_owned(),
                partition: 0,
                offset: number as i64,
                line: 0,
                lines: 1,
            },
            kind: kind as i32,
            event_id: format!("event-{number:012}"),
            event_time_ms: arrives_ms - late_ms,
            // As long as what ingest makes of a user's name.
            user: format!("k1-{user:032x}"),
            item: format!("item-{item}"),
            campaign: format!("campaign-{}", item % CAMPAIGNS),
            category: format!("category-{}", item % 20),
            value: if kind == Kind::Click { 0.0 } else { f64::from(item % 100) },
            quantity: 1,
            ..Event::default()
        };
        let partition = ingest::partitioner::partition_of(event.user.as_bytes(), options.partitions);
        history.push(partition, &Entry::Event(Box::new(event)))?;
    }
    for writer in &mut history.tables {
        context.tokio.block_on(writer.commit())?;
    }
    Ok(views)
}

/// What the process held so far no longer counts as its peak, where the system allows it.
fn forget_peak() {
    let _unsupported = std::fs::write("/proc/self/clear_refs", "5");
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backfill_rows_per_s, seconds, peak_rss_mib, events, vectors, numbers, threads } = self;
        writeln!(
            f,
            "{events} events to {vectors} vectors of {numbers} numbers in {seconds:.1} s on {threads} threads: \
             {backfill_rows_per_s:.0} records/s, at most {peak_rss_mib:.0} MiB"
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;
    use crate::config::Sources;

    #[test]
    fn every_view_of_a_small_history_has_its_vector() {
        let config: Config = Sources::default().resolve().unwrap().extract().unwrap();
        let options = Options { events: 5_000, days: 3, partitions: 3, threads: 2 };
        let measured = run(config, &options).unwrap();
        assert!(measured.vectors > 3_500 && measured.backfill_rows_per_s > 0.0, "{measured}");
    }
}
