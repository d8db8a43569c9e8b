//! Scoring: feature vectors in, predictions out, with the champion hot-swapped underneath.
//!
//! Knows nothing of training: a model is an artefact in a store, announced on a topic.

mod config;
mod error;
mod fallback;
mod loaded;
mod processor;
mod score;
mod slot;
mod telemetry;
#[cfg(test)]
mod testing;
mod watch;

use std::sync::Arc;

use runtime::shutdown::Shutdown;
use runtime::worker::Settings;
use schemas::topic::Names;

pub use config::{Config, DEFAULTS, Explanation};
pub use error::Error;
pub use fallback::{Fallback, KERNEL as FALLBACK_KERNEL, VERSION as FALLBACK_VERSION};
pub use loaded::Loaded;
pub use processor::{Factory, Lookup};
pub use score::{Scorer, Vector};
pub use slot::Slot;
pub use watch::Watcher;

/// Runs the scorer until it is asked to stop: looks for the champion, then scores. Blocks its
/// thread. `slot` shows which model serves; `lookup` finds the schemas of vectors.
///
/// # Errors
/// Settings that make no sense, a cluster that cannot be reached, what the workers say.
pub fn run(
    config: &Config,
    lookup: Lookup,
    names: &Names,
    settings: &Settings,
    slot: Slot,
    shutdown: Shutdown,
) -> Result<(), Error> {
    config.check()?;
    let watcher = Watcher::new(settings.store.clone(), slot.clone(), &config.model, Arc::clone(&lookup));
    // Its own flag: the watcher ends with the workers, also when these fail.
    let ending = Shutdown::new();
    let following = watch::start(watcher, &settings.kafka, &names.models, &ending)?;
    let factory = Arc::new(Factory::new(config, lookup, names, slot));
    let result = runtime::worker::run("scorer", factory, settings, shutdown);
    ending.set();
    if following.join().is_err() {
        tracing::error!("the thread that watches models panicked");
    }
    Ok(result?)
}
