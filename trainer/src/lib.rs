//! Training, judging and publishing models: from the tables `labels` and `features` to a champion.
//!
//! Reads tables, never topics; of topics it knows `models` alone, to announce champions on.

mod config;
pub mod dataset;
mod error;
pub mod fit;
pub mod gate;
pub mod join;
mod random;
pub mod registry;
pub mod report;
mod run;
pub mod schedule;
mod service;
pub mod split;
mod status;
mod telemetry;
mod trainer;

pub use config::{Config, DEFAULTS, Gate, Split};
pub use error::Error;
pub use gate::Decision;
pub use registry::{Champion, Claim, Listed, Registry};
pub use run::{Data, Parent, Run};
pub use schedule::Trigger;
pub use service::{Announcer, run};
pub use status::{Phase, Snapshot, Status};
pub use trainer::{Ended, Retrained, Trainer, retrain};
