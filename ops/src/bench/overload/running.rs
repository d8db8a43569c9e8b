//! The services under load, and what is seen of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use runtime::processor::TopicPartition;
use runtime::shutdown::Shutdown;

use super::Row;
use crate::bench::instances::{Instance, Stage};
use crate::context::Context;
use crate::stages::Backlog;

/// The services from raw records to predictions, in the order of the flow.
pub(super) const SERVICES: [&str; 4] = ["ingest", "features", "merge", "scorer"];
/// How long no prediction may come.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a backlog that may have been worked off is asked for.
const LOOK: Duration = Duration::from_millis(100);

/// What went in and came out so far.
#[derive(Default)]
pub(super) struct Flow {
    /// Raw records.
    pub(super) sent: AtomicU64,
    predictions: AtomicU64,
}

impl Flow {
    pub(super) fn predictions(&self) -> u64 {
        self.predictions.load(Ordering::Relaxed)
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Counts predictions as a reader of committed records sees them, until told to stop.
    ///
    /// # Errors
    /// A topic that cannot be read.
    pub(super) fn watch(&self, context: &Context, stop: &Shutdown) -> Result<()> {
        let topic = &context.names.predictions;
        let mut reader = context.reader()?;
        let of = |partition| TopicPartition { topic: Arc::clone(topic), partition };
        let begins = reader.begin_offsets(topic)?.into_iter().enumerate();
        let from: Vec<_> = begins.map(|(partition, begin)| (of(partition as i32), begin)).collect();
        reader.assign(&from)?;
        while !stop.is_set() {
            let came = reader.poll(10_000, Duration::from_millis(20))?.len();
            self.predictions.fetch_add(came as u64, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The services, each a process.
pub(super) struct Running<'a> {
    stage: &'a Stage<'a>,
    flow: &'a Flow,
    backlog: Backlog<'a>,
    services: Vec<(&'static str, Instance)>,
}

impl<'a> Running<'a> {
    /// Starts them.
    ///
    /// # Errors
    /// A program that does not run, a cluster that does not answer.
    pub(super) fn start(stage: &'a Stage<'a>, flow: &'a Flow) -> Result<Self> {
        let services = SERVICES.iter().map(|service| Ok((*service, stage.start(service, service)?)));
        let services = services.collect::<Result<_>>()?;
        Ok(Self { stage, flow, backlog: Backlog::new(stage.context)?, services })
    }

    /// Waits for something while the services run.
    ///
    /// # Errors
    /// A service that ends, and what `done` says.
    pub(super) fn until(&mut self, mut done: impl FnMut(&Self) -> Result<bool>) -> Result<()> {
        loop {
            for (_, service) in &mut self.services {
                service.check()?;
            }
            if done(self)? {
                return Ok(());
            }
            self.stage.pause(LOOK)?;
        }
    }

    /// Waits until so many predictions have come and no raw record is left.
    ///
    /// # Errors
    /// A service that ends, predictions that do not come, and what `look` says.
    #[expect(clippy::disallowed_methods, reason = "a benchmark goes by the wall clock")]
    pub(super) fn until_done(
        &mut self,
        predictions: u64,
        mut look: impl FnMut(&Self) -> Result<()>,
    ) -> Result<()> {
        let (mut came, mut since) = (self.flow.predictions(), Instant::now());
        self.until(|running| {
            look(running)?;
            let now = running.flow.predictions();
            if now != came {
                (came, since) = (now, Instant::now());
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "{now} of {predictions} predictions came, then none for {PATIENCE:?}"
            );
            Ok(now >= predictions && running.lag()?.get("ingest") == Some(&0))
        })
    }

    /// By stage, offsets between what it has committed and the end of its input.
    fn lag(&self) -> Result<BTreeMap<&'static str, i64>> {
        Ok(self.backlog.by_stage()?.into_iter().collect())
    }

    /// The most memory that each had, MiB.
    pub(super) fn peak_mib(&self) -> BTreeMap<&'static str, f64> {
        self.services.iter().map(|(service, instance)| (*service, instance.peak_mib())).collect()
    }
}

/// A row every so often.
pub(super) struct Log<'a> {
    flow: &'a Flow,
    start: Instant,
    every: Duration,
    before: [u64; 2],
    pub(super) rows: Vec<Row>,
}

impl<'a> Log<'a> {
    /// From `start` on, of what flows from now on.
    pub(super) fn new(flow: &'a Flow, start: Instant, every: Duration) -> Self {
        Self { flow, start, every, before: [flow.sent(), flow.predictions()], rows: Vec::new() }
    }

    /// Raw records sent.
    pub(super) fn sent(&self) -> u64 {
        self.flow.sent() - self.before[0]
    }

    /// A row, if one is due.
    ///
    /// # Errors
    /// A cluster that does not answer.
    pub(super) fn look(&mut self, running: &Running<'_>) -> Result<()> {
        if self.start.elapsed() >= self.every * (self.rows.len() as u32 + 1) {
            self.note(running)?;
        }
        Ok(())
    }

    /// A row.
    ///
    /// # Errors
    /// A cluster that does not answer.
    pub(super) fn note(&mut self, running: &Running<'_>) -> Result<()> {
        let resident = |(service, instance): &(_, Instance)| (*service, instance.resident_mib());
        self.rows.push(Row {
            at_s: self.start.elapsed().as_secs_f64(),
            sent: self.sent(),
            predictions: self.flow.predictions() - self.before[1],
            lag: running.lag()?,
            resident_mib: running.services.iter().map(resident).collect(),
        });
        Ok(())
    }
}
