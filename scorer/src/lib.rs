//! Scoring: feature vectors in, predictions out, with the champion hot-swapped underneath.
//!
//! Knows nothing of training: a model is an artefact in a store, announced on a topic.

mod config;
mod error;
mod fallback;
mod loaded;
mod processor;
mod score;
mod service;
mod slot;
mod telemetry;
#[cfg(test)]
mod testing;
mod watch;

pub use config::{Config, DEFAULTS, Explanation};
pub use error::Error;
pub use fallback::{Fallback, KERNEL as FALLBACK_KERNEL, VERSION as FALLBACK_VERSION};
pub use loaded::Loaded;
pub use processor::{Factory, Lookup};
pub use score::Scorer;
pub use service::{Served, run};
pub use slot::Slot;
pub use watch::Watcher;
