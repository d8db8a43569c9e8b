//! Instances of services that come and go as processes, under a load: what the benchmarks of this share.

mod arrivals;
mod load;
mod process;

use std::path::{Path, PathBuf};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use runtime::shutdown::Shutdown;
use runtime::snapshot;

pub(super) use self::arrivals::{Arrivals, Silence};
pub(super) use self::load::{EVENTS_PER_USER, Load, PER_SECOND};
pub(super) use self::process::Instance;
use super::sandbox;
use crate::config::Sources;
use crate::context::Context;

/// Of the instances, under the user's settings. As short as brokers take it by default: how long a killed member is
/// waited for is no property of Salience.
const MEMBERS: &str = "\n[kafka.consumer]\n\"session.timeout.ms\" = \"6000\"\n";

/// How long any one thing may take that is waited for.
const PATIENCE: Duration = Duration::from_mins(5);
/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(5);
/// Vectors of a partition that must come again until it has been taken over.
pub(super) const RESUMED: usize = 40;

/// What the command line says.
#[derive(Debug, Clone)]
pub struct Options {
    /// Users whose state moves.
    pub users: u32,
    /// The program that instances run.
    pub program: PathBuf,
    /// Use the cluster that the configuration names instead of an embedded broker.
    pub cluster: bool,
}

/// Where instances come and go.
pub(super) struct Stage<'a> {
    pub(super) context: &'a Context,
    program: &'a Path,
    arguments: Vec<String>,
    stop: &'a Shutdown,
}

impl<'a> Stage<'a> {
    /// Of the deployment, with the user's settings. What waits ends when `stop` is set.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub(super) fn new(
        sources: &Sources,
        context: &'a Context,
        program: &'a Path,
        stop: &'a Shutdown,
    ) -> Result<Self> {
        Ok(Self { context, program, arguments: arguments(sources, context)?, stop })
    }

    /// Starts an instance of a service.
    ///
    /// # Errors
    /// A program that does not run.
    pub(super) fn start(&self, service: &str, name: &'static str) -> Result<Instance> {
        Instance::start(self.program, &self.arguments, service, name)
    }

    /// How many members the group of `features` has, while it is at rest.
    ///
    /// # Errors
    /// A cluster that does not answer.
    pub(super) fn members(&self) -> Result<Option<usize>> {
        let members = self.context.admin.members(&self.context.group("features"))?;
        Ok(members.map(|members| members.len()))
    }

    /// Whether `features` has committed all up to these offsets of `events`, and holds them in snapshots.
    ///
    /// # Errors
    /// A cluster or a store that does not answer.
    pub(super) fn is_saved(&self, ends: &[i64]) -> Result<bool> {
        for (partition, end) in ends.iter().enumerate() {
            let paths = self.context.store.list_blocking(&format!("snapshots/features/{partition}"))?;
            let newest = paths.iter().filter_map(|path| snapshot::keys_of(path)).map(|(key, _)| key).max();
            if newest.is_none_or(|newest| newest < *end as u64) {
                return Ok(false);
            }
        }
        self.is_folded(ends)
    }

    /// Whether `features` has committed all up to these offsets of `events`.
    ///
    /// # Errors
    /// A cluster that does not answer.
    pub(super) fn is_folded(&self, ends: &[i64]) -> Result<bool> {
        let committed =
            self.context.admin.committed(&self.context.group("features"), &self.context.names.events)?;
        let committed = committed.into_iter().map(|at| at.map_or(0, |(offset, _)| offset));
        Ok(committed.zip(ends).all(|(committed, end)| committed >= *end))
    }

    /// Waits for something, as long as these instances run.
    ///
    /// # Errors
    /// An instance that ends, something that does not come.
    pub(super) fn until(
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

    /// Waits for something.
    ///
    /// # Errors
    /// Something that does not come.
    #[expect(clippy::disallowed_methods, reason = "a benchmark goes by the wall clock")]
    pub(super) fn wait(&self, what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !done()? {
            ensure!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} until {what}");
            self.pause(LOOK).with_context(|| format!("before {what}"))?;
        }
        Ok(())
    }

    /// Waits between two looks at what tells nobody.
    ///
    /// # Errors
    /// The benchmark was stopped.
    pub(super) fn pause(&self, time: Duration) -> Result<()> {
        ensure!(!self.stop.sleep(time), "stopped");
        Ok(())
    }
}

/// Sets a shutdown when it is dropped, so that an early return ends scoped threads too.
pub(super) struct StopOnDrop<'a>(pub(super) &'a Shutdown);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// What a thread of the benchmark came to.
///
/// # Errors
/// Its own, or that it panicked.
pub(super) fn join<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the benchmark panicked"))?
}

/// The user's settings for an instance, and over them the sandbox's.
fn arguments(sources: &Sources, context: &Context) -> Result<Vec<String>> {
    let config = &context.config;
    let preset = Path::new(&config.storage.root).join("preset.toml");
    std::fs::create_dir_all(&config.storage.root).context("the sandbox's folder")?;
    std::fs::write(&preset, sources.preset.unwrap_or_default().to_owned() + MEMBERS).context("the preset")?;
    let key = Path::new(&config.storage.root).join("key");
    std::fs::write(&key, sandbox::KEY).context("the key of pseudonyms")?;
    let given = std::env::var_os("SALIENCE_CONFIG").filter(|_| sources.files.is_empty()).map(PathBuf::from);
    let files = [preset].into_iter().chain(given).chain(sources.files.iter().cloned());
    let own = [
        ("kafka.bootstrap", config.kafka.bootstrap.clone()),
        ("kafka.prefix", config.kafka.prefix.clone()),
        ("storage.root", config.storage.root.clone()),
        ("service.standbys", config.service.standbys.to_string()),
        ("ingest.pseudonym_key_file", key.display().to_string()),
    ];
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value));
    let set = sources.overrides.iter().cloned().chain(own).map(|(key, value)| format!("{key}={value}"));
    Ok(files
        .flat_map(|file| ["--config".to_owned(), file.display().to_string()])
        .chain(set.flat_map(|set| ["--set".to_owned(), set]))
        .collect())
}
