//! Ingest: raw records in, canonical events and control records out.
//!
//! The one service that reads a clock or decides anything that a rerun might decide otherwise,
//! and it writes each such decision down in `events`. Every raw record ends in exactly one of
//! `events`, `late-events` and `dead-letters`; no input stops it.
//!
//! The core is [`processor`] with what it is made of: [`decode`] (bytes to events), [`horizon`]
//! (which times are believed), [`watermark`], [`merge`] (in which order partitions are taken), [`skew`]
//! (how far it may run ahead of other instances). The shell is [`service`], [`pseudonym::key`] and the
//! refreshing of the [`catalogue`]. Knows nothing of windows or models.

pub mod catalogue;
pub mod config;
pub mod dead_letter;
pub mod decode;
pub mod horizon;
pub mod merge;
pub mod partitioner;
pub mod processor;
pub mod pseudonym;
pub mod service;
pub mod skew;
mod telemetry;
pub mod watermark;

pub use catalogue::{Catalogue, SharedCatalogue};
pub use config::{Config, ConfigError, DEFAULTS};
pub use processor::{Factory, RawPartitions, factory};
pub use pseudonym::{Pseudonymizer, key::PseudonymKey};
pub use service::{RunError, run};
