//! The demo: a simulated market through the whole pipeline, on an embedded broker.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use market::Market;
use runtime::shutdown::Shutdown;

use crate::config::Config;
use crate::feed::FeedRecord;
use crate::feeder::Pace;
use crate::live::Live;
use crate::session::{self, Finished, Plan};
use crate::sink::{Sink, Truth};

/// The demo's settings, under the user's.
pub const PRESET: &str = include_str!("../presets/demo.toml");

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long the market runs, wall clock; `None`: until a signal.
    pub run_for: Option<Duration>,
    /// Market time that passes in a second of the wall clock.
    pub speed: f64,
    /// Seed of the market.
    pub seed: u64,
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
/// Anything that stops a service; a broken invariant is no error but an exit code.
pub fn run(config: Config, options: &Options, shutdown: &Shutdown) -> Result<Finished> {
    let market = Market::new(&config.market, options.seed)?;
    let catalogue = crate::simulate::catalogue(&market)?;
    let sink = Sink::new()?;
    let live = Live::new();
    let feed = market.map(|emission| {
        if let Some(truth) = &emission.truth {
            sink.know(&truth.event_id, Truth { p_click: truth.p_click, clicked: truth.clicked });
        }
        Ok(FeedRecord {
            topic: emission.topic,
            key: emission.key,
            value: emission.value,
            at_ms: emission.arrival_ms,
        })
    });
    let plan = Plan {
        config,
        embedded: !options.cluster,
        pace: Pace { speed: Some(options.speed), max_backlog: 20_000 },
        feed_for: options.run_for,
        recompute: options.recompute,
        key: b"the people of the simulated market are nobody".to_vec(),
        catalogue,
    };
    let finished = session::run(plan, feed, &sink, &live, shutdown, |_| {})?;
    if let Some(path) = &options.report {
        finished.report.write(path)?;
    }
    Ok(finished)
}
