//! `bench takeover`: how long vectors stop coming when the instance of `features` that owns the users' state
//! leaves or is killed, with a standby at the one that takes over and without.
//!
//! Two processes and one partition: "a" owns it, "b" takes it over. Views come at a steady rate meanwhile.

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use runtime::shutdown::Shutdown;
use serde::Serialize;

pub use super::instances::Options;
use super::instances::{self, Arrivals, Instance, Load, RESUMED, Stage, StopOnDrop};
use super::sandbox;
use crate::config::Sources;
use crate::context::Context;

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../presets/takeover.toml");

/// What was measured, in one run.
#[derive(Debug, Clone, Serialize)]
pub struct Measured {
    /// Users whose state was taken over.
    pub users: u32,
    /// Events of each that it was made of.
    pub events_per_user: usize,
    /// The broker: "embedded" or "cluster".
    pub broker: &'static str,
    /// An owner that leaves the group (`POST /drain`).
    pub drained: Both,
    /// An owner that is killed: the group waits for it until its session ends.
    pub killed: Both,
}

/// One way to lose an owner.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Both {
    /// State from a snapshot, and what was committed since replayed.
    pub without_standby: Times,
    /// `service.standbys = 1`.
    pub with_standby: Times,
}

/// One takeover, ms.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Times {
    /// From the request to leave, or the kill, to the first vector of the new owner that a reader of committed
    /// records sees.
    pub end_to_output_ms: f64,
    /// To the same from when the group had given the partition to the new owner.
    pub assigned_to_output_ms: f64,
    /// The longest time without any vector.
    pub silence_ms: f64,
}

/// How an owner is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Drained,
    Killed,
}

/// Runs it.
///
/// # Errors
/// Anything that stops an instance; a partition that is not taken over.
pub fn run(sources: &Sources, options: &Options) -> Result<Measured> {
    ensure!(options.users > 0, "--users must be at least 1");
    let mode = |standbys| {
        let mut config = sources.load()?;
        config.service.standbys = standbys;
        sandbox::within(config, options.cluster, |context| measure(sources, context, options))
    };
    let ([drained, killed], [drained_standby, killed_standby]) = (mode(0)?, mode(1)?);
    Ok(Measured {
        users: options.users,
        events_per_user: instances::EVENTS_PER_USER,
        broker: if options.cluster { "cluster" } else { "embedded" },
        drained: Both { without_standby: drained, with_standby: drained_standby },
        killed: Both { without_standby: killed, with_standby: killed_standby },
    })
}

/// A drained owner, and a killed one.
fn measure(sources: &Sources, context: &Arc<Context>, options: &Options) -> Result<[Times; 2]> {
    let (stop, arrivals) = (Shutdown::new(), Arrivals::new(1));
    let load = Load::new(context, options.users)?;
    load.fill()?;
    let filled = context.admin.end_offsets(&context.names.events)?;
    thread::scope(|scope| {
        let ending = StopOnDrop(&stop);
        let stage = Stage::new(sources, context, &options.program, &stop)?;
        let mut a = stage.start("features", "a")?;
        stage.until("the state is folded", &mut [&mut a], || stage.is_folded(&filled))?;
        let mut b = stage.start("features", "b")?;
        let watching = scope.spawn(|| arrivals.watch(context, &stop).inspect_err(|_| stop.set()));
        let sending = scope.spawn(|| load.trickle(&stop).inspect_err(|_| stop.set()));
        let drained = lose(&stage, &arrivals, Loss::Drained, &mut a, &mut b, &filled)?;
        let mut a = stage.start("features", "a")?;
        let killed = lose(&stage, &arrivals, Loss::Killed, &mut a, &mut b, &filled)?;
        drop(ending);
        instances::join(watching)?;
        instances::join(sending)?;
        Ok([drained, killed])
    })
}

/// Waits until "a" owns the partition, all that is needed for a takeover lies ready, and vectors come; then
/// "a" ends, and "b" takes over.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
fn lose(
    stage: &Stage<'_>,
    arrivals: &Arrivals,
    loss: Loss,
    a: &mut Instance,
    b: &mut Instance,
    filled: &[i64],
) -> Result<Times> {
    let context = stage.context;
    // The range assignor gives the one partition to the first by name.
    stage.until("both are in the group", &mut [&mut *a, &mut *b], || Ok(stage.members()? == Some(2)))?;
    if context.config.service.standbys > 0 {
        let labels = format!("service=\"features\",topic=\"{}\",partition=\"0\"", context.names.events);
        let lag = format!("salience_standby_lag_offsets{{{labels}}}");
        let at_most = |name: &str, most: f64| b.metric(name).is_some_and(|found| found <= most);
        let follows = || b.metric("salience_standby_partitions{service=\"features\"}") == Some(1.0);
        // Views come all the while, so that it never has all of them.
        stage.wait("the standby has come up", || Ok(follows() && at_most(&lag, instances::PER_SECOND)))?;
    }
    stage.until("a snapshot holds the state", &mut [&mut *a, &mut *b], || stage.is_saved(filled))?;
    let since = Instant::now();
    stage.until("vectors come", &mut [&mut *a, &mut *b], || Ok(arrivals.after(since) >= RESUMED))?;
    let end = Instant::now();
    match loss {
        Loss::Drained => a.drain()?,
        Loss::Killed => a.kill()?,
    }
    stage.until("the partition is given to the other", &mut [&mut *b], || Ok(stage.members()? == Some(1)))?;
    let assigned = Instant::now();
    stage.until("vectors come again", &mut [&mut *b], || Ok(arrivals.after(assigned) >= RESUMED))?;
    a.wait()?;
    let silence = arrivals.longest_silence(end).context("no vector came")?;
    let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
    Ok(Times {
        end_to_output_ms: ms(end, silence.ended),
        assigned_to_output_ms: ms(assigned, silence.ended),
        silence_ms: silence.ms(),
    })
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, events_per_user, broker, .. } = self;
        writeln!(f, "takeover of {users} users of {events_per_user} events, {broker} broker, ms")?;
        writeln!(f, "{:>26} {:>14} {:>18} {:>9}", "", "end to output", "assigned to output", "silence")?;
        for (name, both) in [("drained", &self.drained), ("killed", &self.killed)] {
            for (how, times) in
                [("without standby", &both.without_standby), ("with standby", &both.with_standby)]
            {
                let Times { end_to_output_ms, assigned_to_output_ms, silence_ms } = times;
                writeln!(
                    f,
                    "{name:>8}, {how:<16} {end_to_output_ms:>14.0} {assigned_to_output_ms:>18.0} \
                     {silence_ms:>9.0}"
                )?;
            }
        }
        Ok(())
    }
}
