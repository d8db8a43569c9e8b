//! One run of the whole pipeline over a feed, from an empty deployment to a verdict: what demo and
//! replay share.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use runtime::kafka::Sender;
use runtime::shutdown::Shutdown;

use crate::config::Config;
use crate::context::Context;
use crate::feed::FeedRecord;
use crate::feeder::{Fed, Feeder, Pace};
use crate::live::{Live, Look};
use crate::pipeline::{Pipeline, Service};
use crate::report::{self, Report};
use crate::sink::Sink;
use crate::stages::{Backlog, wait_until_drained, wait_until_idle};
use crate::{broker, topics, verify};

/// What a session needs to be told.
pub struct Plan {
    /// The configuration; `kafka.bootstrap` is replaced where `embedded` is set.
    pub config: Config,
    /// Whether to start an embedded broker.
    pub embedded: bool,
    /// How fast to feed.
    pub pace: Pace,
    /// How long to feed, wall clock; `None`: to the feed's end.
    pub feed_for: Option<Duration>,
    /// Whether `verify` runs the cores again.
    pub recompute: bool,
    /// Key of pseudonyms where none is configured.
    pub key: Vec<u8>,
    /// Records for the catalogue, sent before anything else: key and JSON.
    pub catalogue: Vec<(String, Vec<u8>)>,
}

/// What a session leaves behind.
pub struct Finished {
    /// Counts, latency, tables, verdict.
    pub report: Report,
    /// The verdict in detail.
    pub verdict: verify::Report,
    /// How to query the tables.
    pub how_to_query: Option<report::Query>,
}

/// Runs it. `sink` sees predictions while they come; `before` each raw record as it is sent.
///
/// # Errors
/// Anything that stops a service, the feed or the verification; a broken invariant is no error.
#[expect(clippy::disallowed_methods, reason = "measures the session by the wall clock")]
pub fn run(
    mut plan: Plan,
    feed: impl Iterator<Item = Result<FeedRecord>>,
    sink: &Sink,
    live: &Live,
    shutdown: &Shutdown,
    before: impl FnMut(&FeedRecord),
) -> Result<Finished> {
    // Dropped last, after every client: a client that loses its broker complains.
    let _held = if plan.embedded { broker::embed(&mut plan.config)? } else { broker::given() };
    if plan.embedded {
        live.say(&format!("embedded broker at {}", plan.config.kafka.bootstrap));
    }
    let context = Arc::new(Context::open(plan.config)?.with_fallback_key(plan.key));
    topics::create(&context)?;
    let sender = Sender::new(&context.config.kafka)?;
    send_catalogue(&context, &sender, plan.catalogue)?;

    // A signal ends the feed, not the services: what is in flight is still drained and verified.
    let services = Shutdown::new();
    let pipeline = Pipeline::start(&context, &Service::ALL, &services)?;
    let views = pipeline.views.clone();
    let fed = Arc::new(Fed::default());
    let began = Instant::now();
    // The sink and the live view end after the services: they have a shutdown of their own.
    let watchers = Shutdown::new();
    thread::scope(|scope| -> Result<Finished> {
        let stop_watching = StopOnDrop(&watchers);
        let reading = scope.spawn(|| sink.run(&context, &watchers));
        let watching = {
            let look = Look { sink, fed: &fed, views: &views, context: &context, began };
            let watchers = &watchers;
            scope.spawn(move || live.run(&look, watchers))
        };
        let backlog = Backlog::new(&context)?;
        let prefix = &context.config.kafka.prefix;
        let feeder = Feeder::new(&sender, prefix, plan.pace, backlog, Arc::clone(&fed), services.clone());
        feeder.run(feed.take_while(|_| !shutdown.is_set()), plan.feed_for, shutdown, before)?;
        let ending = Ending { context: &context, pipeline, services: &services, sink, fed: &fed, began };
        let finished = ending.finish(plan.recompute, live);
        drop(stop_watching);
        let joined = |result: thread::Result<Result<()>>, what: &str| {
            result.map_err(|_| anyhow!("{what} panicked"))?.context(what.to_owned())
        };
        joined(reading.join(), "reading predictions")?;
        joined(watching.join(), "the live view")?;
        finished
    })
}

/// Sets a shutdown when it is dropped, so that an early return ends scoped threads too.
struct StopOnDrop<'a>(&'a Shutdown);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

fn send_catalogue(context: &Context, sender: &Sender, catalogue: Vec<(String, Vec<u8>)>) -> Result<()> {
    for (key, value) in catalogue {
        sender.send(&runtime::processor::OutRecord {
            topic: Arc::clone(&context.names.items),
            partition: None,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        })?;
    }
    Ok(sender.flush(Duration::from_secs(30))?)
}

/// Waits until every table holds everything that its topic holds now.
fn wait_for_tables(context: &Context, lake: &lake::Status) -> Result<()> {
    const PATIENCE: Duration = Duration::from_mins(2);
    let reader = context.reader()?;
    for spec in crate::tables::specs(context)? {
        let ends = reader.end_offsets(&spec.topic)?.into_iter().enumerate();
        let ends: Vec<(i32, i64)> = ends.map(|(partition, end)| (partition as i32, end)).collect();
        if !lake.wait_reached(&spec.table, &ends, PATIENCE) {
            bail!("table {} does not reach {ends:?} of {} in {PATIENCE:?}", spec.table, spec.topic);
        }
    }
    Ok(())
}

struct Ending<'a> {
    context: &'a Arc<Context>,
    pipeline: Pipeline,
    services: &'a Shutdown,
    sink: &'a Sink,
    fed: &'a Fed,
    began: Instant,
}

impl Ending<'_> {
    /// Drains the pipeline, stops the services, verifies, reports.
    fn finish(self, recompute: bool, live: &Live) -> Result<Finished> {
        live.say("draining");
        wait_until_drained(self.context, self.services)?;
        let took = self.began.elapsed();
        wait_until_idle(self.context, self.services)?;
        wait_until_drained(self.context, self.services)?;
        live.say("writing the last rows");
        wait_for_tables(self.context, &self.pipeline.views.lake)?;
        self.services.set();
        let trainer = self.pipeline.views.trainer.clone();
        self.pipeline.join()?;
        live.say(if recompute { "verifying: running the cores again" } else { "verifying" });
        let verdict = verify::run(self.context, verify::Options { recompute })?;
        let tables = report::tables(self.context)?;
        let rows = |table: &str| tables.get(table).map_or(0, |t| t.rows);
        let events_in = self.fed.records.load(std::sync::atomic::Ordering::Relaxed);
        let champion = trainer.get().champion;
        let published = self.context.tokio.block_on(self.context.registry().history())?.len() as u64;
        let report = self.sink.look(|seen| Report {
            events_in,
            events_used: rows("events") - rows("duplicates"),
            duplicates: rows("duplicates"),
            late: rows("late_events"),
            dead_letters: rows("dead_letters"),
            impressions: rows("features"),
            predictions: rows("predictions"),
            predictions_fallback: seen.fallback,
            predictions_scored: seen.scored,
            labels: rows("labels"),
            models_published: published,
            champion,
            latency_ms: seen.latency(),
            events_per_s: events_in as f64 / took.as_secs_f64(),
            verified: verdict.verified(),
            quality: seen.quality.judge(),
            tables: tables.clone(),
        });
        Ok(Finished { report, verdict, how_to_query: report::how_to_query(self.context) })
    }
}
