//! Runs a log through the whole pipeline.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use runtime::shutdown::Shutdown;

use super::{Format, Log, Mapping, open};
use crate::config::Config;
use crate::feeder::Pace;
use crate::live::Live;
use crate::session::{self, Finished, Plan};
use crate::sink::Sink;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// The logs, in the order of their times.
    pub files: Vec<PathBuf>,
    /// Their format.
    pub format: Format,
    /// Names of the log's fields.
    pub map: Option<PathBuf>,
    /// Log time that passes in a second of the wall clock; `None`: full speed.
    pub speed: Option<f64>,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Whether `verify` runs the cores again at the end.
    pub recompute: bool,
    /// Use the cluster that the configuration names instead of an embedded broker.
    pub cluster: bool,
}

/// Runs it.
///
/// # Errors
/// A log that cannot be read, anything that stops a service; a broken invariant is no error but an
/// exit code.
pub fn run(config: Config, options: &Options, shutdown: &Shutdown) -> Result<Finished> {
    let mapping = options.map.as_deref().map(Mapping::load).transpose()?;
    let logs = options
        .files
        .iter()
        .map(|path| open(path, options.format, mapping.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let bar = progress(logs.iter().map(|log| log.size).sum());
    let (counts, rows): (Vec<_>, Vec<_>) =
        logs.into_iter().map(|Log { rows, read, .. }| (read, rows)).unzip();
    let feed = rows.into_iter().flatten().map(|row| Ok(row?));
    let plan = Plan {
        config,
        embedded: !options.cluster,
        pace: Pace { speed: options.speed, max_backlog: 20_000 },
        feed_for: None,
        recompute: options.recompute,
        key: random_key()?,
        catalogue: Vec::new(),
    };
    let sink = Sink::new()?;
    let mut sent = 0u64;
    let finished = session::run(plan, feed, &sink, &Live::new(), shutdown, |_| {
        sent += 1;
        if sent.is_multiple_of(256) {
            bar.set_position(counts.iter().map(|read| read.load(Ordering::Relaxed)).sum());
        }
    })?;
    bar.finish_and_clear();
    if let Some(path) = &options.report {
        finished.report.write(path)?;
    }
    Ok(finished)
}

/// A key that is forgotten when the process ends: the log's ids cannot be found again from the
/// tables. Set `SALIENCE_PSEUDONYM_KEY` to keep pseudonyms over several replays.
fn random_key() -> Result<Vec<u8>> {
    let mut key = vec![0; 32];
    File::open("/dev/urandom").and_then(|mut system| system.read_exact(&mut key)).context("/dev/urandom")?;
    Ok(key)
}

fn progress(size: u64) -> ProgressBar {
    // The template is a constant: a mistake in it falls back to the default bar.
    let style = ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(size).with_style(style)
}
