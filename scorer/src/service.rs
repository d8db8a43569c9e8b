//! The scorer as it runs: workers, and beside them a thread that keeps the model served the champion.

use std::sync::Arc;
use std::thread::JoinHandle;

use runtime::shutdown::Shutdown;
use runtime::worker::Settings;
use schemas::topic::Names;

use crate::Error;
use crate::config::Config;
use crate::processor::{Factory, Lookup};
use crate::slot::Slot;
use crate::watch::{self, Watcher};

/// Scoring, with the champion served until this is dropped.
pub struct Served {
    factory: Arc<Factory>,
    // Its own flag: the watcher ends with the workers, also when these fail.
    ending: Shutdown,
    following: Option<JoinHandle<()>>,
}

impl Served {
    /// Looks for the champion, and follows it. `slot` shows which model serves; `lookup` finds the schemas of
    /// vectors.
    ///
    /// # Errors
    /// Settings that make no sense, a cluster that cannot be reached.
    pub fn start(
        config: &Config,
        lookup: Lookup,
        names: &Names,
        settings: &Settings,
        slot: Slot,
    ) -> Result<Self, Error> {
        config.check()?;
        let watcher = Watcher::new(settings.store.clone(), slot.clone(), &config.model, Arc::clone(&lookup));
        let ending = Shutdown::new();
        let following = watch::start(watcher, &settings.kafka, &names.models, &ending)?;
        let factory = Arc::new(Factory::new(config, lookup, names, slot));
        Ok(Self { factory, ending, following: Some(following) })
    }

    /// Makes the processors that score.
    pub fn factory(&self) -> Arc<Factory> {
        Arc::clone(&self.factory)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.ending.set();
        if self.following.take().is_some_and(|following| following.join().is_err()) {
            tracing::error!("the thread that watches models panicked");
        }
    }
}

/// Runs the scorer until it is asked to stop: looks for the champion, then scores. Blocks its thread.
///
/// # Errors
/// As [`Served::start`], and what the workers say.
pub fn run(
    config: &Config,
    lookup: Lookup,
    names: &Names,
    settings: &Settings,
    slot: Slot,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let served = Served::start(config, lookup, names, settings, slot)?;
    Ok(runtime::worker::run("scorer", served.factory(), settings, shutdown)?)
}
