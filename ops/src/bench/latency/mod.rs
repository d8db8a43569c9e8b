//! `bench latency`: from event to prediction, at steady rates, at least once and exactly once.
//!
//! The load is open: record number `i` is due at `i / rate` and its latency counts from then, so that a
//! pipeline that stalls pays for every record that falls due meanwhile (no "coordinated omission", as in
//! wrk2 and `HdrHistogram`). Its end is the reading of the prediction by a consumer of committed records. The
//! scorer serves the configuration's network.

mod model;
mod steady;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::model::Artefact;
use anyhow::{Result, bail, ensure};
use market::Market;
use runtime::config::Delivery;
use runtime::shutdown::Shutdown;
use serde::Serialize;

use self::steady::{Came, Steady};
use super::sandbox;
use crate::config::Config;
use crate::context::Context;
use crate::pipeline::{Pipeline, Service};

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../../presets/latency.toml");

/// Rates unless others are asked for, raw records a second.
pub const RATES: [u32; 3] = [1_000, 5_000, 20_000];
/// Before each measured time, at the same rate.
const WARM_UP: Duration = Duration::from_secs(1);
/// Records at a time while the services start, and how many a second.
const FIRST: (usize, u32) = (200, 1_000);
/// How long services may take until a model scores.
const START: Duration = Duration::from_secs(30);

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Raw records a second, each rate for itself, in this order.
    pub rates: Vec<u32>,
    /// Seconds measured of each rate.
    pub seconds: f64,
    /// Seed of the market that makes the records.
    pub seed: u64,
    /// Measure the same with `run.chain` as well.
    pub chain: bool,
    /// Use the cluster that the configuration names instead of an embedded broker.
    pub cluster: bool,
}

/// Latency by rate, at least once and exactly once.
#[derive(Debug, Clone, Serialize)]
pub struct Deliveries {
    /// By rate, with `service.delivery = "at-least-once"`.
    pub at_least_once: BTreeMap<u32, Quantiles>,
    /// By rate, with `service.delivery = "exactly-once"`.
    pub exactly_once: BTreeMap<u32, Quantiles>,
}

/// What was measured, in one run.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Each service by itself.
    #[serde(flatten)]
    pub apart: Deliveries,
    /// Features and scorer chained; where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chained: Option<Deliveries>,
    /// The broker: "embedded" or "cluster".
    pub broker: &'static str,
    /// Seconds measured of each rate.
    pub seconds: f64,
}

/// Latency at one rate, ms.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// 99.9th percentile.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Predictions measured.
    pub predictions: u64,
    /// Share of predictions made by the model, of all at this rate; the rest are base rates.
    pub scored: f64,
}

impl From<&Came> for Quantiles {
    fn from(came: &Came) -> Self {
        let ms = |micros: u64| micros as f64 / 1e3;
        let at = |quantile| ms(came.latency.value_at_quantile(quantile));
        Self {
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(came.latency.max()),
            predictions: came.latency.len(),
            scored: came.scored as f64 / came.all.max(1) as f64,
        }
    }
}

/// Runs it.
///
/// # Errors
/// Anything that stops a service; predictions that do not come.
pub fn run(config: &Config, options: &Options) -> Result<Measured> {
    ensure!(!options.rates.is_empty(), "--rates must name a rate");
    ensure!(options.rates.iter().all(|rate| *rate > 0), "--rates must be above 0");
    ensure!(options.seconds > 0.0 && options.seconds.is_finite(), "--seconds must be above 0");
    let artefact = model::train(config, options.seed)?;
    let mode = |chain, delivery| {
        let mut config = config.clone();
        config.service.delivery = delivery;
        config.run.chain = chain;
        sandbox::within(config, options.cluster, |context| measure(context, options, &artefact))
    };
    let deliveries = |chain| -> Result<Deliveries> {
        Ok(Deliveries {
            at_least_once: mode(chain, Delivery::AtLeastOnce)?,
            exactly_once: mode(chain, Delivery::ExactlyOnce)?,
        })
    };
    Ok(Measured {
        apart: deliveries(false)?,
        chained: options.chain.then(|| deliveries(true)).transpose()?,
        broker: if options.cluster { "cluster" } else { "embedded" },
        seconds: options.seconds,
    })
}

fn measure(
    context: &Arc<Context>,
    options: &Options,
    artefact: &Artefact,
) -> Result<BTreeMap<u32, Quantiles>> {
    model::publish(context, artefact)?;
    let services = [Service::Ingest, Service::Features, Service::Merge, Service::Scorer];
    let shutdown = Shutdown::new();
    let pipeline = Pipeline::start(context, &services, &shutdown)?;
    let outcome = rates(context, &shutdown, options);
    shutdown.set();
    pipeline.join()?;
    outcome
}

fn rates(context: &Context, services: &Shutdown, options: &Options) -> Result<BTreeMap<u32, Quantiles>> {
    let mut market = Market::new(&context.config.market, options.seed)?;
    let mut steady = Steady::new(context, services)?;
    until_scored(&mut steady, &mut market)?;
    let mut measured = BTreeMap::new();
    for &rate in &options.rates {
        let count = |seconds: f64| (seconds * f64::from(rate)).ceil() as usize;
        let warm = count(WARM_UP.as_secs_f64());
        let records = market.by_ref().take(warm + count(options.seconds)).collect();
        measured.insert(rate, Quantiles::from(&steady.run(records, rate, warm)?));
    }
    Ok(measured)
}

/// Until all services are up and the scorer has taken the model.
#[expect(clippy::disallowed_methods, reason = "waits for services; no core sees the clock")]
fn until_scored(steady: &mut Steady<'_>, market: &mut Market) -> Result<()> {
    let began = Instant::now();
    let (count, rate) = FIRST;
    loop {
        let came = steady.run(market.by_ref().take(count).collect(), rate, 0)?;
        if came.scored == came.all {
            return Ok(());
        }
        if began.elapsed() > START {
            bail!("{} of {} predictions by the model after {START:?}", came.scored, came.all);
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "from event to prediction, {} s of each rate, {} broker", self.seconds, self.broker)?;
        writeln!(f, "{:>31} {:>9} {:>9} {:>9} {:>9}", "events/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms")?;
        let all = [("", Some(&self.apart)), (", chained", self.chained.as_ref())];
        for (how, Deliveries { at_least_once, exactly_once }) in
            all.into_iter().filter_map(|(how, at)| Some((how, at?)))
        {
            for (name, rates) in [("at least once", at_least_once), ("exactly once", exactly_once)] {
                let name = format!("{name}{how}");
                for (rate, at) in rates {
                    let Quantiles { p50_ms, p99_ms, p999_ms, max_ms, .. } = at;
                    writeln!(
                        f,
                        "{name:>23} {rate:>7} {p50_ms:>9.1} {p99_ms:>9.1} {p999_ms:>9.1} {max_ms:>9.1}"
                    )?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "embedded-broker"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed setup is a failed test")]
    use super::*;
    use crate::config::Sources;

    #[test]
    fn every_impression_is_measured_and_scored_by_the_model() {
        let config = Sources { preset: Some(PRESET), ..Sources::default() }.load().unwrap();
        let options = Options { rates: vec![200], seconds: 1.0, seed: 1, chain: true, cluster: false };
        let measured = run(&config, &options).unwrap();
        let chained = measured.chained.as_ref().unwrap();
        let all = [&measured.apart, chained].map(|one| [&one.at_least_once, &one.exactly_once]);
        for rates in all.into_iter().flatten() {
            let at = rates[&200];
            assert!((at.scored - 1.0).abs() < f64::EPSILON, "{at:?}");
            // Nine of ten records are impressions.
            assert!((150..=200).contains(&at.predictions), "{at:?}");
            assert!(0.0 < at.p50_ms && at.p50_ms <= at.p99_ms && at.p99_ms <= at.max_ms, "{at:?}");
        }
        let json = serde_json::to_value(&measured).unwrap();
        assert!(json["exactly_once"]["200"]["p999_ms"].is_number(), "{json}");
        assert!(json["chained"]["at_least_once"]["200"]["p50_ms"].is_number(), "{json}");
    }
}
