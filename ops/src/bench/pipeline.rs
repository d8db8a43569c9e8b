//! `bench pipeline`: events per second through all hops, beside a plain copy of the same bytes over
//! the same hops on the same broker.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use market::Market;
use runtime::kafka::{Reader, Sender, TopicSpec};
use runtime::processor::{OutRecord, TopicPartition};
use runtime::shutdown::Shutdown;
use serde::Serialize;

use super::sandbox;
use super::watch::peak_rss_mib;
use crate::config::Config;
use crate::context::Context;
use crate::feed::FeedRecord;
use crate::feeder::{Fed, Feeder, Pace};
use crate::pipeline::{Pipeline, Service};
use crate::stages::Backlog;

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../presets/bench.toml");

/// How long either half may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often to look how far the pipeline is: each look takes the time of a broker and of a core.
const LOOK: Duration = Duration::from_millis(20);
/// How long after the last prediction to ask whether there will be more.
const QUIET: Duration = Duration::from_millis(500);

/// What the command line says.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Raw records.
    pub events: u64,
    /// Seed of the market that makes them.
    pub seed: u64,
    /// Measure the same with `run.chain` as well.
    pub chain: bool,
    /// Use the cluster that the configuration names instead of an embedded broker.
    pub cluster: bool,
}

/// What was measured, in one run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Measured {
    /// Raw records through ingest, features and scorer, per second.
    pub events_per_s: f64,
    /// Raw records through a plain consume-produce copy of each hop's bytes, per second.
    pub copy_events_per_s: f64,
    /// The first over the second.
    pub ratio_to_copy: f64,
    /// Most memory this process held, MiB (an embedded broker included).
    pub peak_rss_mib: f64,
    /// Raw records.
    pub events: u64,
    /// Predictions that came out.
    pub predictions: u64,
    /// As `events_per_s`, with features and scorer chained; where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chained_events_per_s: Option<f64>,
    /// That over `copy_events_per_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chained_ratio_to_copy: Option<f64>,
}

/// Runs it: the pipeline over records that lie ready, then the copy.
///
/// # Errors
/// Anything that stops a service; a half that does not end in two minutes.
pub fn run(config: &Config, options: Options) -> Result<Measured> {
    let with = |chain| {
        let mut config = config.clone();
        config.run.chain = chain;
        config
    };
    let mut measured = sandbox::within(with(false), options.cluster, |context| measure(context, options))?;
    if options.chain {
        let (_, per_s) =
            sandbox::within(with(true), options.cluster, |context| through_all_hops(context, options))?;
        measured.chained_events_per_s = Some(per_s);
        measured.chained_ratio_to_copy = Some(per_s / measured.copy_events_per_s);
        measured.peak_rss_mib = peak_rss_mib();
    }
    Ok(measured)
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events_per_s, copy_events_per_s, ratio_to_copy, peak_rss_mib, .. } = self;
        write!(
            f,
            "{events_per_s:.0} events/s through all hops, {copy_events_per_s:.0} events/s by a plain copy: "
        )?;
        write!(f, "{ratio_to_copy:.2} of it")?;
        if let (Some(per_s), Some(ratio)) = (self.chained_events_per_s, self.chained_ratio_to_copy) {
            write!(f, "; {per_s:.0} events/s with features and scorer chained: {ratio:.2} of it")?;
        }
        writeln!(f, "; at most {peak_rss_mib:.0} MiB")
    }
}

fn measure(context: &Arc<Context>, options: Options) -> Result<Measured> {
    let (predictions, events_per_s) = through_all_hops(context, options)?;
    let copy_events_per_s = options.events as f64 / copy(context)?.as_secs_f64();
    Ok(Measured {
        events_per_s,
        copy_events_per_s,
        ratio_to_copy: events_per_s / copy_events_per_s,
        peak_rss_mib: peak_rss_mib(),
        events: options.events,
        predictions,
        chained_events_per_s: None,
        chained_ratio_to_copy: None,
    })
}

/// Predictions of all records, and records a second.
fn through_all_hops(context: &Arc<Context>, options: Options) -> Result<(u64, f64)> {
    preload(context, options)?;
    let services = [Service::Ingest, Service::Features, Service::Merge, Service::Scorer];
    let shutdown = Shutdown::new();
    let pipeline = Pipeline::start(context, &services, &shutdown)?;
    let outcome = Running { context, shutdown: &shutdown }.measure(options.events);
    shutdown.set();
    pipeline.join()?;
    outcome
}

fn preload(context: &Context, options: Options) -> Result<()> {
    let market = Market::new(&context.config.market, options.seed)?;
    let sender = Sender::new(&context.config.kafka)?;
    let feed = market.take(options.events as usize).map(|emission| {
        Ok(FeedRecord {
            topic: emission.topic,
            key: emission.key,
            value: emission.value,
            at_ms: emission.arrival_ms,
        })
    });
    let pace = Pace { speed: None, max_backlog: i64::MAX };
    let backlog = Backlog::new(context)?;
    let prefix = &context.config.kafka.prefix;
    Feeder::new(&sender, prefix, pace, backlog, Arc::new(Fed::default()), Shutdown::new()).run(
        feed,
        None,
        &Shutdown::new(),
        |_| {},
    )
}

/// A pipeline under measurement.
struct Running<'a> {
    context: &'a Context,
    shutdown: &'a Shutdown,
}

impl Running<'_> {
    /// Predictions that came, and raw records per second from ingest's first commit (what it had
    /// done by then is not counted) to the last prediction: starting clients and joining groups is
    /// not throughput.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    fn measure(&self, events: u64) -> Result<(u64, f64)> {
        let context = self.context;
        let topic = &context.names.predictions;
        let mut reader = context.reader()?;
        let end = |of: &Reader, topic: &Arc<str>| -> Result<i64> { Ok(of.end_offsets(topic)?.iter().sum()) };
        let began = Instant::now();
        let (first, done_by_then) = loop {
            let seen = end(&reader, &context.names.events)?;
            if seen > 0 {
                break (Instant::now(), seen as u64);
            }
            self.still_running(began)?;
            thread::yield_now();
        };
        // They are read afterwards: a consumer beside the pipeline would be a hop that the copy does not have.
        let (mut seen, mut last) = (0, first);
        let most_markers = 2 * reader.end_offsets(topic)?.len() as i64;
        loop {
            let now_seen = end(&reader, topic)?;
            if now_seen > seen {
                (seen, last) = (now_seen, Instant::now());
            } else if last.elapsed() > QUIET
                && seen > 0
                // Done when every stage has caught up but for transaction markers.
                && Backlog::new(context)?.now()? <= most_markers
            {
                break;
            }
            self.still_running(began)?;
            // A topic tells nobody that it grows.
            self.shutdown.sleep(LOOK);
        }
        let rest = events.saturating_sub(done_by_then).max(1);
        Ok((count(&mut reader, topic)?, rest as f64 / (last - first).as_secs_f64()))
    }

    fn still_running(&self, began: Instant) -> Result<()> {
        if self.shutdown.is_set() {
            bail!("stopped: {}", self.shutdown.failure().unwrap_or_default());
        }
        if began.elapsed() > PATIENCE {
            bail!("the pipeline is not done after {PATIENCE:?}");
        }
        Ok(())
    }
}

/// Records of a topic that a reader of committed ones sees.
fn count(reader: &mut Reader, topic: &Arc<str>) -> Result<u64> {
    let ends = reader.end_offsets(topic)?;
    let whole = |(partition, end): (usize, i64)| {
        let partition = TopicPartition { topic: Arc::clone(topic), partition: partition as i32 };
        (end > 0).then_some((partition, 0))
    };
    let open: Vec<_> = ends.into_iter().enumerate().filter_map(whole).collect();
    reader.assign(&open)?;
    let mut seen = 0;
    while !open.iter().all(|(partition, _)| reader.at_end(partition)) {
        seen += reader.poll(10_000, Duration::from_millis(20))?.len() as u64;
    }
    Ok(seen)
}

/// The topics that the copy writes to, one per hop.
fn copies(context: &Context) -> [Arc<str>; 3] {
    ["copy-1", "copy-2", "copy-3"].map(|name| format!("{}{name}", context.config.kafka.prefix).into())
}

/// Copies the input of each hop, all hops at once, one thread each; the time from the first record
/// that any of them read until all have been delivered.
fn copy(context: &Arc<Context>) -> Result<Duration> {
    let n = &context.names;
    let hops = [vec![&n.views, &n.clicks, &n.purchases], vec![&n.events], vec![&n.feature_vectors]];
    let targets = copies(context);
    let specs: Vec<_> = targets
        .iter()
        .map(|name| TopicSpec {
            name: Arc::clone(name),
            partitions: context.config.topics.internal_partitions,
            replication_factor: context.config.topics.replication_factor,
            config: Vec::new(),
        })
        .collect();
    context.admin.create_topics(&specs)?;
    let first = OnceLock::new();
    thread::scope(|scope| {
        let running: Vec<_> = hops
            .iter()
            .zip(&targets)
            .map(|(inputs, target)| scope.spawn(|| copy_hop(context, inputs, target, &first)))
            .collect();
        running
            .into_iter()
            .try_for_each(|hop| hop.join().map_err(|_| anyhow!("a copying thread panicked"))?)
    })?;
    let first = first.get().context("there was nothing to copy")?;
    Ok(first.elapsed())
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn copy_hop(
    context: &Context,
    inputs: &[&Arc<str>],
    target: &Arc<str>,
    first: &OnceLock<Instant>,
) -> Result<()> {
    let mut reader = context.reader()?;
    let sender = Sender::new(&context.config.kafka)?;
    let mut open = Vec::new();
    for topic in inputs {
        for (partition, end) in reader.end_offsets(topic)?.into_iter().enumerate() {
            if end > 0 {
                open.push((TopicPartition { topic: Arc::clone(topic), partition: partition as i32 }, end));
            }
        }
    }
    let starts: Vec<_> = open.iter().map(|(at, _)| (at.clone(), 0)).collect();
    reader.assign(&starts)?;
    while !open.is_empty() {
        for record in reader.poll(10_000, Duration::from_millis(20))? {
            first.get_or_init(Instant::now);
            sender.send(&OutRecord {
                topic: Arc::clone(target),
                partition: None,
                key: record.record.key,
                value: record.record.value,
                headers: record.record.headers,
            })?;
        }
        // Raw topics have no markers, so their positions reach their ends; of a single topic the
        // reader knows when it has ended.
        let at: BTreeMap<_, _> = reader.positions().into_iter().collect();
        open.retain(|(partition, end)| {
            !reader.at_end(partition) && at.get(partition).is_none_or(|next| next < end)
        });
    }
    Ok(sender.flush(Duration::from_secs(30))?)
}
