//! `bench overload`: twice what the services can take for so many minutes, then nothing until they have caught up:
//! how far each stage is behind, what memory each service has, and that nothing is lost.
//!
//! Services are processes. What they can take is how fast they work off records that lie ready.

mod running;

use std::collections::BTreeMap;
use std::fmt;
use std::iter;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use market::{Counts, Market};
use runtime::kafka::Sender;
use runtime::shutdown::Shutdown;
use serde::Serialize;

use self::running::{Flow, Log, Running, SERVICES};
use super::instances::{self, Stage, StopOnDrop};
use super::pace::{self, Pace};
use super::sandbox;
use crate::config::Sources;
use crate::context::Context;
use crate::log::{Range, scan};
use crate::stages;

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../../presets/overload.toml");

/// The rate, as a multiple of what was found that the services can take.
const TIMES: f64 = 2.0;
/// Rows of the table while records are sent.
const ROWS: f64 = 15.0;
/// Records by which the services warm up, and those by which it is found what they can take.
const WARM_UP: usize = 2_000;
const CAPACITY: usize = 50_000;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Minutes of overload.
    pub minutes: f64,
    /// Seed of the market that makes the records.
    pub seed: u64,
    /// The program that services run.
    pub program: PathBuf,
    /// Use the cluster that the configuration names instead of an embedded broker.
    pub cluster: bool,
}

/// What was measured, in one run.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Minutes of overload.
    pub minutes: f64,
    /// The broker: "embedded" or "cluster".
    pub broker: &'static str,
    /// Raw records a second that the services work off where these lie ready.
    pub capacity_per_s: f64,
    /// Raw records a second that were sent.
    pub sent_per_s: f64,
    /// The second over the first: 2 where the sender has kept up.
    pub times_capacity: f64,
    /// Over time, while records are sent and until the services have caught up.
    pub rows: Vec<Row>,
    /// Seconds from the last record sent until all were worked off.
    pub caught_up_s: f64,
    /// The most memory that each service had, MiB.
    pub peak_mib: BTreeMap<&'static str, f64>,
    /// What was sent in the whole run; as much came out.
    pub counts: Sums,
}

/// What came out, in the whole run: as much as was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Predictions, one per impression.
    pub predictions: u64,
    /// Records refused.
    pub dead_letters: u64,
    /// Late events.
    pub late: u64,
    /// Copies dropped.
    pub duplicates: u64,
}

impl From<Counts> for Sums {
    fn from(sent: Counts) -> Self {
        Self {
            predictions: sent.views,
            dead_letters: sent.dead_letters(),
            late: sent.late,
            duplicates: sent.duplicate_lines,
        }
    }
}

/// A look at the services.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Seconds since the overload began.
    pub at_s: f64,
    /// Raw records sent since then.
    pub sent: u64,
    /// Predictions that have come since then.
    pub predictions: u64,
    /// Offsets between what a stage has committed and the end of its input.
    pub lag: BTreeMap<&'static str, i64>,
    /// Memory that each service has, MiB.
    pub resident_mib: BTreeMap<&'static str, f64>,
}

/// Runs it.
///
/// # Errors
/// Anything that stops a service, and records that do not come out.
pub fn run(sources: &Sources, options: &Options) -> Result<Measured> {
    ensure!(options.minutes > 0.0 && options.minutes.is_finite(), "--minutes must be above 0");
    let config = sources.load()?;
    sandbox::within(config, options.cluster, |context| measure(sources, context, options))
}

fn measure(sources: &Sources, context: &Arc<Context>, options: &Options) -> Result<Measured> {
    let (stop, flow) = (Shutdown::new(), Flow::default());
    let sender = Sender::new(&context.config.kafka)?;
    let market = Market::new(&context.config.market, options.seed)?;
    let stage = Stage::new(sources, context, &options.program, &stop)?;
    let mut running = Running::start(&stage, &flow)?;
    thread::scope(|scope| {
        let ending = StopOnDrop(&stop);
        let watching = scope.spawn(|| flow.watch(context, &stop).inspect_err(|_| stop.set()));
        let overload = Overload { context, sender: &sender, flow: &flow, stop: &stop };
        let measured = overload.measure(market, &mut running, options)?;
        drop(ending);
        instances::join(watching)?;
        Ok(measured)
    })
}

/// What was seen of an overload.
struct Overloaded {
    rows: Vec<Row>,
    sent: u64,
    took: Duration,
    caught_up: Duration,
}

/// What sends.
struct Overload<'a> {
    context: &'a Context,
    sender: &'a Sender,
    flow: &'a Flow,
    stop: &'a Shutdown,
}

impl Overload<'_> {
    fn measure(&self, mut market: Market, running: &mut Running<'_>, options: &Options) -> Result<Measured> {
        self.burst(&mut market, running, WARM_UP)?;
        let capacity_per_s = CAPACITY as f64 / self.burst(&mut market, running, CAPACITY)?.as_secs_f64();
        let time = Duration::from_secs_f64(options.minutes * 60.0);
        let overloaded = self.overload(&mut market, running, capacity_per_s * TIMES, time)?;
        let counts = self.came()?;
        let wanted = Sums::from(market.counts());
        ensure!(counts == wanted, "{wanted:?} were sent, {counts:?} came out");
        let sent_per_s = overloaded.sent as f64 / overloaded.took.as_secs_f64();
        Ok(Measured {
            minutes: options.minutes,
            broker: if options.cluster { "cluster" } else { "embedded" },
            capacity_per_s,
            sent_per_s,
            times_capacity: sent_per_s / capacity_per_s,
            rows: overloaded.rows,
            caught_up_s: overloaded.caught_up.as_secs_f64(),
            peak_mib: running.peak_mib(),
            counts,
        })
    }

    /// Sends so many records as fast as it can; the time until they were worked off.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    fn burst(&self, market: &mut Market, running: &mut Running<'_>, count: usize) -> Result<Duration> {
        let began = Instant::now();
        pace::send(self.context, self.sender, market.by_ref().take(count), None, &self.flow.sent)?;
        running.until_done(market.counts().views, |_| Ok(()))?;
        Ok(began.elapsed())
    }

    /// Sends at this rate for this time, and waits until all has been worked off. A row every fifteenth of the time.
    fn overload(
        &self,
        market: &mut Market,
        running: &mut Running<'_>,
        per_s: f64,
        time: Duration,
    ) -> Result<Overloaded> {
        let pace = Pace::from_now(per_s);
        let mut log = Log::new(self.flow, pace.start, time.div_f64(ROWS));
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                // The market counts what it has made: nothing is made that is not sent.
                let is_over = || pace.start.elapsed() >= time || self.stop.is_set();
                let records = iter::from_fn(|| if is_over() { None } else { market.next() });
                pace::send(self.context, self.sender, records, Some(pace), &self.flow.sent)
            });
            let sent = running.until(|running| {
                log.look(running)?;
                Ok(sending.is_finished())
            });
            sent.inspect_err(|_| self.stop.set())?;
            instances::join(sending)
        })?;
        let (took, sent) = (pace.start.elapsed(), log.sent());
        running.until_done(market.counts().views, |running| log.look(running))?;
        let caught_up = pace.start.elapsed().saturating_sub(took);
        log.note(running)?;
        Ok(Overloaded { rows: log.rows, sent, took, caught_up })
    }

    /// What has come out, clicks and copies behind the last impression included.
    fn came(&self) -> Result<Sums> {
        stages::wait_until_drained(self.context, self.stop)?;
        let names = &self.context.names;
        let count = |topic: &Arc<str>| -> Result<u64> {
            let mut count = 0;
            scan(self.context, &Range::whole(self.context, topic)?, |_| {
                count += 1;
                Ok(())
            })?;
            Ok(count)
        };
        Ok(Sums {
            predictions: self.flow.predictions(),
            dead_letters: count(&names.dead_letters)?,
            late: count(&names.late_events)?,
            duplicates: count(&names.duplicates)?,
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { minutes, broker, capacity_per_s, sent_per_s, times_capacity, caught_up_s, counts, .. } =
            self;
        writeln!(
            f,
            "{sent_per_s:.0} records/s for {minutes} min, {times_capacity:.2} of the {capacity_per_s:.0} records/s \
             that the services can take, {broker} broker"
        )?;
        writeln!(
            f,
            "{:>7} {:>10} {:>11} {:^43} {:^39}",
            "s", "sent", "predictions", "offsets behind", "MiB"
        )?;
        let head = |f: &mut fmt::Formatter<'_>, width: usize| {
            SERVICES.iter().try_for_each(|service| write!(f, " {service:>width$}"))
        };
        write!(f, "{:>30}", "")?;
        head(f, 10)?;
        head(f, 9)?;
        writeln!(f)?;
        for Row { at_s, sent, predictions, lag, resident_mib } in &self.rows {
            write!(f, "{at_s:>7.1} {sent:>10} {predictions:>11}")?;
            for service in SERVICES {
                write!(f, " {:>10}", lag.get(service).copied().unwrap_or_default())?;
            }
            for service in SERVICES {
                write!(f, " {:>9.0}", resident_mib.get(service).copied().unwrap_or_default())?;
            }
            writeln!(f)?;
        }
        let peaks: Vec<String> =
            self.peak_mib.iter().map(|(service, mib)| format!("{service} {mib:.0}")).collect();
        writeln!(f, "caught up in {caught_up_s:.1} s; at most {} MiB", peaks.join(", "))?;
        let Sums { predictions, dead_letters, late, duplicates } = counts;
        writeln!(
            f,
            "all that was sent came out: {predictions} predictions, {dead_letters} dead letters, {late} late \
             events, {duplicates} duplicates"
        )
    }
}
