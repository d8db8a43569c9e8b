//! `salience backfill`: the features core over the lake's history, into a table of its own.
//!
//! Partitions are folded side by side, each in the order of its log. In memory are, per thread, the
//! state of one partition (of the users of the longest window, not of the history), a batch of each
//! file that is open, and a commit's worth of rows. What is in the table is never put into it again,
//! whatever was killed meanwhile. Where the log's versions of shared entities are of other
//! declarations, these are made anew first.

mod checkpoint;
mod fold;
mod job;
mod objects;
mod progress;
mod tiles;
mod vectors;
mod versions;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use features::{Config, Plan};
use runtime::shutdown::Shutdown;
use schemas::duration::Millis;
use serde::Serialize;

use self::checkpoint::Checkpoints;
use self::fold::{Fold, Target};
use self::job::{Job, Part};
use self::progress::Progress;
use self::tiles::Tiles;
use self::vectors::Vectors;
use crate::context::Context;

/// The command's settings, under the user's: partitions commit to one table side by side, and that each
/// commit finds others' before it is no warning here.
pub const PRESET: &str = "[telemetry]\nfilter = \"info,buoyant_kernel=warn,buoyant_kernel_engine=warn,deltalake=warn,\
                          deltalake_core=warn,deltalake_core::kernel::transaction=error\"\n";

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// First event time of the vectors written, ms; none: from the first.
    pub from_ms: Option<i64>,
    /// First event time of those no longer written, ms; none: to the last.
    pub to_ms: Option<i64>,
    /// How long before `from_ms` the fold begins; none: at the beginning of the history.
    pub warm_up: Option<Millis>,
    /// The table written.
    pub out: String,
    /// Partitions folded side by side; 0: as many as there are cores.
    pub threads: usize,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The table written.
    pub table: String,
    /// Its address.
    pub url: String,
    /// Vectors in it.
    pub vectors: u64,
    /// Records folded by this run: fewer than the history's where it went on with another.
    pub records: u64,
    /// Vectors written by this run.
    pub written: u64,
    /// How long this run took, seconds.
    pub seconds: f64,
    /// Records folded a second.
    pub records_per_s: f64,
    /// Partitions folded side by side.
    pub threads: usize,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, url, vectors, records, written, seconds, records_per_s, threads } = self;
        writeln!(
            f,
            "{table}: {vectors} vectors, {written} written now from {records} records of events in {seconds:.1} s \
             ({records_per_s:.0}/s, {threads} threads)\n  {url}"
        )
    }
}

/// How it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With the whole range in the table.
    Ended(Report),
    /// At a signal; the same command goes on.
    Stopped(String),
}

/// Runs a backfill, or goes on with the one that was stopped or killed.
///
/// # Errors
/// No tables of events, a range that they do not hold, a history whose beginning is gone, a table that
/// holds something else; a store that cannot be read or written.
#[expect(clippy::disallowed_methods, reason = "measures how long it takes; no output follows from it")]
pub fn run(context: &Context, options: &Options, shutdown: &Shutdown) -> Result<Outcome> {
    let began = Instant::now();
    let job = Job::open(context, options)?;
    let progress = Progress::new(job.offsets());
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let threads = threads.min(job.partitions.len()).max(1);
    let run = Run { context, job: &job, threads, progress: &progress, shutdown };
    progress.shown(|| run.all())?;
    if shutdown.is_set() {
        let done = progress.share() * 100.0;
        return Ok(Outcome::Stopped(format!(
            "stopped after {done:.0} %; the same command goes on from there"
        )));
    }
    let table = job.finish(context)?;
    let seconds = began.elapsed().as_secs_f64();
    let records = progress.records();
    Ok(Outcome::Ended(Report {
        vectors: table.row_count()?,
        url: table.url(),
        table: options.out.clone(),
        records,
        written: progress.vectors(),
        seconds,
        records_per_s: records as f64 / seconds.max(1e-9),
        threads,
    }))
}

/// What one pass over a partition is.
struct Pass<'a> {
    /// What is computed.
    config: &'a Config,
    /// Folder of its checkpoints.
    states: String,
    /// The first offset that is not folded.
    end: i64,
    /// It ends when the clock has reached this time, too, ms.
    until_ms: i64,
    /// Versions of shared entities in place of the log's.
    versions: Option<versions::Reader>,
}

/// One run of a backfill.
struct Run<'a> {
    context: &'a Context,
    job: &'a Job,
    threads: usize,
    progress: &'a Progress,
    shutdown: &'a Shutdown,
}

impl Run<'_> {
    fn all(&self) -> Result<()> {
        let Self { context, job, shutdown, .. } = self;
        if job.makes_versions {
            if versions::are_made(&context.store, &job.folder)? {
                self.progress.pass(job.partitions.iter().map(|of| self.reached(of)).sum());
            } else {
                tracing::info!(
                    "the log's versions of shared entities are of other declarations: making them anew"
                );
                self.every_partition(|of| self.tiles(of))?;
                if !shutdown.is_set() {
                    versions::make(&context.store, job)?;
                }
            }
        }
        if !shutdown.is_set() {
            self.every_partition(|of| self.vectors(of))?;
        }
        Ok(())
    }

    /// What the tables have of a partition.
    fn reached(&self, of: &Part) -> i64 {
        self.job.stored.ends[of.partition as usize]
    }

    /// Folds one partition to its tiles of shared entities.
    fn tiles(&self, of: &Part) -> Result<()> {
        let Self { context, job, .. } = self;
        let pass = Pass {
            config: &tiles::declarations(&context.config.features),
            states: format!("{}/tile-states/{}", job.folder, of.partition),
            end: self.reached(of),
            until_ms: job.times.end,
            versions: None,
        };
        self.fold(of, pass, Tiles::open(&context.store, &job.folder, of.partition)?)
    }

    /// Folds one partition to its vectors.
    fn vectors(&self, of: &Part) -> Result<()> {
        let Self { context, job, .. } = self;
        let versions = job.makes_versions.then(|| versions::Reader::open(&context.store, &job.folder));
        let pass = Pass {
            config: &context.config.features,
            states: format!("{}/states/{}", job.folder, of.partition),
            end: of.end,
            until_ms: i64::MAX,
            versions: versions.transpose()?,
        };
        self.fold(of, pass, Vectors::open(context, job, of, self.threads, self.progress)?)
    }

    /// Folds one partition from where its target stands.
    fn fold(&self, of: &Part, pass: Pass<'_>, mut target: impl Target) -> Result<()> {
        let Self { context, job, progress, shutdown, .. } = *self;
        if target.committed() >= pass.end {
            progress.pass(pass.end);
            return Ok(());
        }
        let checkpoints = Checkpoints::new(context, pass.states, pass.config, of.partition)?;
        let plan = Arc::new(Plan::compile(pass.config)?);
        let (core, from) = checkpoints.newest(&plan, target.committed())?;
        let fold = Fold {
            core,
            offsets: from..pass.end,
            begin: of.begin,
            until_ms: pass.until_ms,
            versions: pass.versions,
            checkpoints,
            progress,
            shutdown,
        };
        fold.run(&job.stored, &mut target)
    }

    /// Runs `work` for every partition on so many threads; the first failure stops the others.
    fn every_partition(&self, work: impl Fn(&Part) -> Result<()> + Sync) -> Result<()> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<anyhow::Error>> = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    while !self.progress.is_over() && !self.shutdown.is_set() {
                        let Some(of) = self.job.partitions.get(next.fetch_add(1, Ordering::SeqCst)) else {
                            break;
                        };
                        if let Err(error) = work(of) {
                            self.progress.end();
                            let error = error.context(format!("events[{}]", of.partition));
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        }
                    }
                });
            }
        });
        failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }
}
