//! `bench scale`: how long vectors of a partition stop coming while `features` goes from one instance to four and
//! back, and that none is lost, repeated or different.
//!
//! Instances are processes. They join one at a time, then leave one at a time (`POST /drain`); views come at a
//! steady rate meanwhile. In the end everything is folded again and compared byte for byte.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use runtime::shutdown::Shutdown;
use serde::Serialize;

pub use super::instances::Options;
use super::instances::{self, Arrivals, Instance, Load, RESUMED, Silence, Stage, StopOnDrop};
use super::sandbox;
use crate::config::Sources;
use crate::context::Context;
use crate::verify::{self, Verdict};

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../presets/scale.toml");

/// Instances at most, in the order of joining; the first stays.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Standbys are placed by two looks at the group, a second apart: where nothing has changed for this long, nothing
/// does.
const PLACED: Duration = Duration::from_secs(3);
/// Vectors of each partition while nothing changes: a second and a half of them.
const STEADY: usize = 300;

/// What was measured, in one run.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Users whose state moved.
    pub users: u32,
    /// Events of each that it was made of.
    pub events_per_user: usize,
    /// Partitions of `events`.
    pub partitions: i32,
    /// The broker: "embedded" or "cluster".
    pub broker: &'static str,
    /// State from a snapshot, and what was committed since replayed.
    pub without_standby: Scaled,
    /// `service.standbys = 1`: those that stay have the state of one that leaves. One that joins has none.
    pub with_standby: Scaled,
}

/// From one instance to four and back.
#[derive(Debug, Clone, Serialize)]
pub struct Scaled {
    /// The longest time without a vector of a partition while nothing changed, ms.
    pub steady_ms: f64,
    /// One instance more, or one less.
    pub steps: Vec<Step>,
    /// Views sent, and as many vectors read: the fold of `events`, byte for byte.
    pub vectors: u64,
}

/// One instance more, or one less.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Step {
    /// "join" or "drain".
    pub change: Change,
    /// Which instance.
    pub instance: &'static str,
    /// The longest time without a vector of a partition, ms.
    pub silence_ms: f64,
    /// Which partition.
    pub partition: usize,
    /// From the start of the process, or the request to leave, until the group was at rest again, ms.
    pub at_rest_ms: f64,
}

/// What an instance does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is started.
    Join,
    /// It leaves the group for good.
    Drain,
}

/// Runs it.
///
/// # Errors
/// Anything that stops an instance, a partition of which no vectors come any more, and vectors that are missing,
/// repeated or not what a fold of the log makes.
pub fn run(sources: &Sources, options: &Options) -> Result<Measured> {
    ensure!(options.users > 0, "--users must be at least 1");
    let partitions = sources.load()?.topics.internal_partitions;
    let instances = NAMES.len() as i32;
    ensure!(
        partitions > 0 && partitions % instances == 0,
        "topics.internal_partitions = {partitions}: must be a multiple of the {instances} instances"
    );
    let mode = |standbys| {
        let mut config = sources.load()?;
        config.service.standbys = standbys;
        sandbox::within(config, options.cluster, |context| measure(sources, context, options))
    };
    Ok(Measured {
        users: options.users,
        events_per_user: instances::EVENTS_PER_USER,
        partitions,
        broker: if options.cluster { "cluster" } else { "embedded" },
        without_standby: mode(0)?,
        with_standby: mode(1)?,
    })
}

fn measure(sources: &Sources, context: &Arc<Context>, options: &Options) -> Result<Scaled> {
    let (stop, arrivals) =
        (Shutdown::new(), Arrivals::new(context.config.topics.internal_partitions as usize));
    let load = Load::new(context, options.users)?;
    let filled = load.fill()?;
    let ends = context.admin.end_offsets(&context.names.events)?;
    let end = Shutdown::new();
    let (steady_ms, steps, views) = thread::scope(|scope| {
        let (ending, _end) = (StopOnDrop(&stop), StopOnDrop(&end));
        let stage = Stage::new(sources, context, &options.program, &stop)?;
        let mut scaling = Scaling { stage, arrivals: &arrivals, running: Vec::new() };
        scaling.running.push(scaling.stage.start("features", NAMES[0])?);
        scaling.until("snapshots hold the state", |stage| stage.is_saved(&ends))?;
        let watching = scope.spawn(|| arrivals.watch(context, &stop).inspect_err(|_| stop.set()));
        let sending = scope.spawn(|| load.trickle(&end).inspect_err(|_| stop.set()));
        let steady_ms = scaling.rest()?;
        let mut steps = Vec::new();
        for name in &NAMES[1..] {
            steps.push(scaling.step(Change::Join, name)?);
        }
        for name in NAMES[1..].iter().rev() {
            steps.push(scaling.step(Change::Drain, name)?);
        }
        end.set();
        let views = filled + instances::join(sending)?;
        let ends = context.admin.end_offsets(&context.names.events)?;
        scaling.until("all is folded", |stage| stage.is_folded(&ends))?;
        // A vector that comes twice comes at once.
        scaling.until("every view has a vector", |_| Ok(arrivals.count() >= views))?;
        drop(ending);
        instances::join(watching)?;
        Ok::<_, anyhow::Error>((steady_ms, steps, views))
    })?;
    check(context, views, &arrivals)?;
    Ok(Scaled { steady_ms, steps, vectors: views })
}

/// That every view has one vector, and that these are what the log says.
fn check(context: &Context, views: u64, arrivals: &Arrivals) -> Result<()> {
    ensure!(arrivals.count() == views, "{views} views were sent, {} vectors came", arrivals.count());
    for outcome in verify::of_features(context)? {
        ensure!(outcome.verdict == Verdict::Holds, "{}: {}", outcome.says, outcome.differences.join("; "));
    }
    Ok(())
}

/// Instances that come and go.
struct Scaling<'a> {
    stage: Stage<'a>,
    arrivals: &'a Arrivals,
    running: Vec<Instance>,
}

impl Scaling<'_> {
    /// Waits for something while the instances run.
    fn until(&mut self, what: &str, done: impl Fn(&Stage<'_>) -> Result<bool>) -> Result<()> {
        let Self { stage, running, .. } = self;
        stage.until(what, &mut running.iter_mut().collect::<Vec<_>>(), || done(stage))
    }

    /// Waits until so many vectors of every partition have come after `time`.
    fn come(&mut self, time: Instant, most: usize) -> Result<()> {
        let arrivals = self.arrivals;
        self.until("vectors of every partition come", |_| Ok(arrivals.after(time) >= most))
    }

    /// The longest silence while nothing changes, ms.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    fn rest(&mut self) -> Result<f64> {
        self.come(Instant::now(), RESUMED)?;
        let since = Instant::now();
        self.come(since, STEADY)?;
        Ok(self.longest(since)?.ms())
    }

    /// The longest silence since `time`.
    fn longest(&self, time: Instant) -> Result<Silence> {
        self.arrivals.longest_silence(time).context("no vector came")
    }

    /// One more, or one less, from when it is told until vectors of every partition come again.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    fn step(&mut self, change: Change, instance: &'static str) -> Result<Step> {
        if change == Change::Drain && self.stage.context.config.service.standbys > 0 {
            self.wait_for_standbys()?;
        }
        let began = Instant::now();
        let mut leaving = match change {
            Change::Join => {
                self.running.push(self.stage.start("features", instance)?);
                None
            }
            Change::Drain => self.running.pop(),
        };
        if let Some(leaving) = &leaving {
            leaving.drain()?;
        }
        let members = self.running.len();
        self.until("the group is at rest", |stage| Ok(stage.members()? == Some(members)))?;
        let at_rest = Instant::now();
        self.come(at_rest, RESUMED)?;
        if let Some(leaving) = &mut leaving {
            leaving.wait()?;
        }
        let silence = self.longest(began)?;
        let at_rest_ms = (at_rest - began).as_secs_f64() * 1e3;
        Ok(Step { change, instance, silence_ms: silence.ms(), partition: silence.partition, at_rest_ms })
    }

    /// Waits until standbys are placed and have come up.
    #[expect(clippy::disallowed_methods, reason = "a benchmark goes by the wall clock")]
    fn wait_for_standbys(&mut self) -> Result<()> {
        let Self { stage, running, .. } = self;
        let topic = &stage.context.names.events;
        let partitions = stage.context.config.topics.internal_partitions;
        let (mut placed, mut since) = (Vec::new(), Instant::now());
        stage.wait("standbys have come up", || {
            running.iter_mut().try_for_each(Instance::check)?;
            let shown =
                running.iter().map(|it| it.metric("salience_standby_partitions{service=\"features\"}"));
            let shown: Vec<Option<f64>> = shown.collect();
            let is_behind = running.iter().any(|instance| {
                (0..partitions).any(|partition| {
                    let labels = format!("service=\"features\",topic=\"{topic}\",partition=\"{partition}\"");
                    let lag = instance.metric(&format!("salience_standby_lag_offsets{{{labels}}}"));
                    // Views come all the while, so that it never has all of them.
                    lag.is_some_and(|lag| lag > instances::PER_SECOND)
                })
            });
            if is_behind || shown != placed {
                (placed, since) = (shown, Instant::now());
            }
            Ok(since.elapsed() >= PLACED)
        })
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, events_per_user, partitions, broker, without_standby, with_standby } = self;
        writeln!(
            f,
            "from 1 to {} instances and back, {partitions} partitions, {users} users of {events_per_user} events, \
             {broker} broker: longest silence of a partition, ms",
            NAMES.len()
        )?;
        writeln!(f, "{:>8} {:>16} {:>13}", "", "without standby", "with standby")?;
        let line = |f: &mut fmt::Formatter<'_>, what: &str, [without, with]: [f64; 2]| {
            writeln!(f, "{what:>8} {without:>16.0} {with:>13.0}")
        };
        line(f, "steady", [without_standby.steady_ms, with_standby.steady_ms])?;
        for (without, with) in without_standby.steps.iter().zip(&with_standby.steps) {
            let change = match without.change {
                Change::Join => "join",
                Change::Drain => "drain",
            };
            let what = format!("{change} {}", without.instance);
            line(f, &what, [without.silence_ms, with.silence_ms])?;
        }
        writeln!(
            f,
            "every view has one vector, byte for byte the fold of events: {} and {}",
            without_standby.vectors, with_standby.vectors
        )
    }
}
