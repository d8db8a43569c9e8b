//! What every service stands on: Kafka, snapshots, configuration, telemetry, shutdown.
//!
//! Knows nothing of features or models; the only crate that links rdkafka.

pub mod config;
pub mod processor;
pub mod shutdown;
pub mod store;
