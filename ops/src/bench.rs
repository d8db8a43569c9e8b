//! `salience bench ...`: each a measurement of one thing, beside a peer or a floor in the same run.

pub mod backfill;
pub mod classic;
pub mod explain;
pub mod features;
pub mod ingest;
mod instances;
pub mod latency;
pub mod overload;
mod pace;
pub mod peers;
pub mod pipeline;
pub mod quality;
mod sandbox;
pub mod scale;
pub mod speed;
pub mod takeover;
mod watch;
