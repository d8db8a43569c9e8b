//! `bench backfill`: records of history folded to vectors in a table a second, and the most memory
//! that it takes; the user's windows alone beside `DuckDB`'s.

mod duckdb;
mod history;
mod stream;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use runtime::shutdown::Shutdown;
use serde::Serialize;

pub use self::duckdb::Beside;
use super::peers::Peers;
use super::watch::{ProcessWatch, peak_rss_mib};
use crate::backfill;
use crate::config::Config;
use crate::context::Context;

/// The table that is made.
const MADE: &str = "made";

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events of the history.
    pub events: u64,
    /// Days that it lasts.
    pub days: u32,
    /// Partitions of `events`.
    pub partitions: i32,
    /// Partitions folded side by side; 0 takes all cores.
    pub threads: usize,
    /// Offsets of every 100,000 whose vectors are compared with those that the stream makes; 0: none.
    pub sample: i64,
    /// What to compare with.
    pub peers: Option<Peers>,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Records of `events` read, folded and their vectors written, a second of the wall clock.
    pub backfill_rows_per_s: f64,
    /// The same a second of the cores' time.
    pub rows_per_core_s: f64,
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
    /// Vectors compared with those that the stream made of the same records: all are equal to the bit.
    pub compared: u64,
    /// The user's windows alone, and `DuckDB`'s of the same tables.
    pub beside: Option<Beside>,
    /// Our records of the user's windows alone a second of a core's time, over `DuckDB`'s.
    #[serde(rename = "backfill_ratio_to_duckdb")]
    pub ratio_to_duckdb: Option<f64>,
    /// Why there is nothing to compare with.
    pub without_peers: Option<String>,
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
    let measured = measure(config, &folder, options);
    // What is left of a run that failed is the system's to clear away.
    let _removed = std::fs::remove_dir_all(&folder);
    measured
}

fn measure(config: Config, folder: &Path, options: &Options) -> Result<Measured> {
    let context = Context::open(config)?;
    runtime::kafka::record_partitions(&context.store, &context.names.events, options.partitions)?;
    let history::Made { views, sample } = history::make(&context, options)?;
    let pass = Pass::run(&context, MADE, options.threads, views)?;
    let compared = stream::compare(&context, MADE, sample)?;
    let numbers = context.vector_schema.fields.len();
    let without_peers = match &options.peers {
        Some(peers) => peers.without_duckdb(),
        None => Some("it is not asked for (--peers)".to_owned()),
    };
    let beside = match &options.peers {
        Some(peers) if without_peers.is_none() => {
            Some(duckdb::run(context.config, folder, peers, options.events, views)?)
        }
        _ => None,
    };
    Ok(Measured {
        backfill_rows_per_s: pass.report.records_per_s,
        rows_per_core_s: pass.report.records as f64 / pass.cpu_s,
        seconds: pass.report.seconds,
        peak_rss_mib: pass.peak_rss_mib,
        events: options.events,
        vectors: pass.report.vectors,
        numbers,
        threads: pass.report.threads,
        compared,
        ratio_to_duckdb: beside.as_ref().map(Beside::ratio),
        beside,
        without_peers,
    })
}

/// The history folded once.
struct Pass {
    report: backfill::Report,
    cpu_s: f64,
    peak_rss_mib: f64,
}

impl Pass {
    /// Folds it to a table of this name.
    fn run(context: &Context, out: &str, threads: usize, views: u64) -> Result<Self> {
        let job =
            backfill::Options { from_ms: None, to_ms: None, warm_up: None, out: out.to_owned(), threads };
        forget_peak();
        let watch = ProcessWatch::start();
        let backfill::Outcome::Ended(report) = backfill::run(context, &job, &Shutdown::new())? else {
            bail!("stopped")
        };
        ensure!(report.vectors == views, "{views} views made {} vectors", report.vectors);
        Ok(Self { report, cpu_s: watch.seconds(), peak_rss_mib: peak_rss_mib() })
    }
}

/// What the process held so far no longer counts as its peak, where the system allows it.
fn forget_peak() {
    let _unsupported = std::fs::write("/proc/self/clear_refs", "5");
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backfill_rows_per_s, seconds, peak_rss_mib, events, vectors, numbers, threads, .. } = self;
        writeln!(
            f,
            "{events} events to {vectors} vectors of {numbers} numbers in {seconds:.1} s on {threads} threads: \
             {backfill_rows_per_s:.0} records/s ({:.0} a core's second), at most {peak_rss_mib:.0} MiB",
            self.rows_per_core_s
        )?;
        if self.compared > 0 {
            writeln!(f, "{} vectors are those that the stream made of the same records", self.compared)?;
        }
        if let Some(beside) = &self.beside {
            writeln!(f, "{beside}")?;
        }
        if let Some(why) = &self.without_peers {
            writeln!(f, "no DuckDB: {why}")?;
        }
        Ok(())
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
        let options =
            Options { events: 5_000, days: 3, partitions: 3, threads: 2, sample: 1_500, peers: None };
        let measured = run(config, &options).unwrap();
        assert!(measured.vectors > 3_500 && measured.backfill_rows_per_s > 0.0, "{measured}");
        assert!(measured.compared > 3_000, "{measured}");
    }
}
