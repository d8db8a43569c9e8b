//! What every service stands on: Kafka, snapshots, configuration, telemetry, shutdown.
//!
//! Knows nothing of features or models; the only crate that links rdkafka.

pub mod admin;
pub mod chain;
pub mod config;
pub mod core;
#[cfg(feature = "embedded-broker")]
pub mod embedded;
pub mod kafka;
pub mod pages;
pub mod processor;
pub mod shutdown;
pub mod snapshot;
pub mod spill;
pub mod store;
pub mod telemetry;
pub mod worker;
