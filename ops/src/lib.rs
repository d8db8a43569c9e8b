//! What needs several services: demo, replay, verify, bench, and running them in one process.
//!
//! Knows how services are wired, and nothing of how any of them works inside.

pub mod asof;
pub mod backfill;
pub mod bench;
pub mod broker;
mod chain;
pub mod clock;
pub mod config;
pub mod context;
mod declared;
pub mod demo;
pub mod docs;
pub mod feed;
pub mod feeder;
mod history;
pub mod live;
mod log;
pub mod models;
pub mod pipeline;
pub mod plan;
pub mod quality;
pub mod replay;
pub mod report;
pub mod run;
pub mod session;
pub mod simulate;
pub mod sink;
pub mod stages;
pub mod status;
pub mod tables;
pub mod time;
pub mod topics;
pub mod train;
pub mod verify;
pub mod watermark;

/// The pseudonym of a raw user id under the configured key.
///
/// # Errors
/// A key that is not there.
pub fn pseudonym(config: &config::Config, user: &str) -> anyhow::Result<String> {
    Ok(ingest::Pseudonymizer::new(&ingest::PseudonymKey::load(&config.ingest)?).pseudonym(user))
}
