//! `bench takeover`: how long vectors stop coming when the instance of `features` that owns the users' state
//! leaves or is killed, with a standby at the one that takes over and without.
//!
//! Two processes and one partition: "a" owns it, "b" takes it over. Views come at a steady rate meanwhile.

mod instance;
mod load;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use runtime::kafka::Sender;
use runtime::shutdown::Shutdown;
use runtime::snapshot;
use serde::Serialize;

use self::instance::Instance;
use self::load::Arrivals;
use super::sandbox;
use crate::config::Sources;
use crate::context::Context;

/// The benchmark's settings, under the user's.
pub const PRESET: &str = include_str!("../../../presets/takeover.toml");

/// Of the instances, under the user's settings. As short as brokers take it by default: how long a killed member is
/// waited for is no property of Salience.
const MEMBERS: &str = "\n[kafka.consumer]\n\"session.timeout.ms\" = \"6000\"\n";

/// How long any one thing may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(5);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// Vectors that must come again until a takeover has ended.
const RESUMED: usize = 40;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Users whose state is taken over.
    pub users: u32,
    /// The program that instances run.
    pub program: PathBuf,
    /// Use the cluster that the configuration names instead of an embedded broker.
    pub cluster: bool,
}

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
        events_per_user: load::EVENTS_PER_USER,
        broker: if options.cluster { "cluster" } else { "embedded" },
        drained: Both { without_standby: drained, with_standby: drained_standby },
        killed: Both { without_standby: killed, with_standby: killed_standby },
    })
}

/// A drained owner, and a killed one.
fn measure(sources: &Sources, context: &Arc<Context>, options: &Options) -> Result<[Times; 2]> {
    let sender = Sender::new(&context.config.kafka)?;
    let (stop, arrivals) = (Shutdown::new(), Arrivals::default());
    let filled = load::fill(context, &sender, options.users)?;
    thread::scope(|scope| {
        let ending = StopOnDrop(&stop);
        let mut stage = Stage {
            context,
            program: &options.program,
            arguments: arguments(sources, context)?,
            arrivals: &arrivals,
            stop: &stop,
        };
        let mut a = stage.start("a")?;
        stage.until("the state is folded", &mut [&mut a], || Ok(committed(context)? >= filled))?;
        let mut b = stage.start("b")?;
        let watching = scope.spawn(|| arrivals.watch(context, &stop).inspect_err(|_| stop.set()));
        let sending =
            scope.spawn(|| load::trickle(context, &sender, options.users, &stop).inspect_err(|_| stop.set()));
        let drained = stage.lose(Loss::Drained, &mut a, &mut b, filled)?;
        let mut a = stage.start("a")?;
        let killed = stage.lose(Loss::Killed, &mut a, &mut b, filled)?;
        drop(ending);
        for ended in [watching.join(), sending.join()] {
            ended.map_err(|_| anyhow!("a thread of the benchmark panicked"))??;
        }
        Ok([drained, killed])
    })
}

/// Sets a shutdown when it is dropped, so that an early return ends scoped threads too.
struct StopOnDrop<'a>(&'a Shutdown);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// The user's settings for an instance, and over them the sandbox's.
fn arguments(sources: &Sources, context: &Context) -> Result<Vec<String>> {
    let config = &context.config;
    let preset = std::path::Path::new(&config.storage.root).join("preset.toml");
    std::fs::create_dir_all(&config.storage.root).context("the sandbox's folder")?;
    std::fs::write(&preset, sources.preset.unwrap_or_default().to_owned() + MEMBERS).context("the preset")?;
    let given = std::env::var_os("SALIENCE_CONFIG").filter(|_| sources.files.is_empty()).map(PathBuf::from);
    let files = [preset].into_iter().chain(given).chain(sources.files.iter().cloned());
    let own = [
        ("kafka.bootstrap", config.kafka.bootstrap.clone()),
        ("kafka.prefix", config.kafka.prefix.clone()),
        ("storage.root", config.storage.root.clone()),
        ("service.standbys", config.service.standbys.to_string()),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    let set = sources.overrides.iter().cloned().chain(own).map(|(key, value)| format!("{key}={value}"));
    Ok(files
        .flat_map(|file| ["--config".to_owned(), file.display().to_string()])
        .chain(set.flat_map(|set| ["--set".to_owned(), set]))
        .collect())
}

/// Next offset that `features` has committed.
fn committed(context: &Context) -> Result<i64> {
    let committed = context.admin.committed(&context.group("features"), &context.names.events)?;
    Ok(committed.first().cloned().flatten().map_or(0, |(offset, _)| offset))
}

/// Where instances come and go.
struct Stage<'a> {
    context: &'a Context,
    program: &'a std::path::Path,
    arguments: Vec<String>,
    arrivals: &'a Arrivals,
    stop: &'a Shutdown,
}

impl Stage<'_> {
    fn start(&self, name: &'static str) -> Result<Instance> {
        Instance::start(self.program, &self.arguments, name)
    }

    /// How many members the group has, while it is at rest.
    fn members(&self) -> Result<Option<usize>> {
        let members = self.context.admin.members(&self.context.group("features"))?;
        Ok(members.map(|members| members.len()))
    }

    /// Waits until "a" owns the partition, all that is needed for a takeover lies ready, and vectors come; then
    /// "a" ends, and "b" takes over.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures the wall clock")]
    fn lose(&mut self, loss: Loss, a: &mut Instance, b: &mut Instance, filled: i64) -> Result<Times> {
        let context = self.context;
        // The range assignor gives the one partition to the first by name.
        self.until("both are in the group", &mut [&mut *a, &mut *b], || Ok(self.members()? == Some(2)))?;
        if context.config.service.standbys > 0 {
            let labels = format!("service=\"features\",topic=\"{}\",partition=\"0\"", context.names.events);
            let lag = format!("salience_standby_lag_offsets{{{labels}}}");
            let at_most = |name: &str, most: f64| b.metric(name).is_some_and(|found| found <= most);
            let follows = || b.metric("salience_standby_partitions{service=\"features\"}") == Some(1.0);
            // Views come all the while, so that it never has all of them.
            self.wait("the standby has come up", || Ok(follows() && at_most(&lag, load::PER_SECOND)))?;
        }
        self.until("a snapshot holds the state", &mut [&mut *a, &mut *b], || {
            let paths = context.store.list_blocking("snapshots/features/0")?;
            Ok(paths.iter().filter_map(|path| snapshot::keys_of(path)).any(|(key, _)| key >= filled as u64))
        })?;
        let since = Instant::now();
        self.until("vectors come", &mut [&mut *a, &mut *b], || Ok(self.arrivals.after(since) >= RESUMED))?;
        let end = Instant::now();
        match loss {
            Loss::Drained => a.drain()?,
            Loss::Killed => a.kill()?,
        }
        self.until("the partition is given to the other", &mut [&mut *b], || Ok(self.members()? == Some(1)))?;
        let assigned = Instant::now();
        self.until("vectors come again", &mut [&mut *b], || Ok(self.arrivals.after(assigned) >= RESUMED))?;
        a.wait()?;
        let silence = self.arrivals.longest_silence(end).context("no vector came")?;
        let ms = |from: Instant, to: Instant| to.saturating_duration_since(from).as_secs_f64() * 1e3;
        Ok(Times {
            end_to_output_ms: ms(end, silence.1),
            assigned_to_output_ms: ms(assigned, silence.1),
            silence_ms: ms(silence.0, silence.1),
        })
    }

    /// Waits for something, as long as these instances run.
    fn until(
        &self,
        what: &str,
        instances: &mut [&mut Instance],
        done: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        self.wait(what, || {
            instances.iter_mut().try_for_each(|instance| instance.check())?;
            done()
        })
    }

    #[expect(clippy::disallowed_methods, reason = "a benchmark goes by the wall clock")]
    fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !done()? {
            ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
            // What is waited for tells nobody.
            if self.stop.sleep(LOOK) {
                bail!("stopped before {what}");
            }
        }
        Ok(())
    }
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
