//! Training, judging and publishing models: from the tables `labels` and `features` to a champion.
//!
//! Reads tables, never topics; of topics it knows `models` alone, to announce champions on.

mod config;
pub mod dataset;
mod draw;
pub mod drift;
mod error;
pub mod fit;
pub mod gate;
pub mod join;
mod judging;
pub mod lease;
mod planner;
mod random;
pub mod registry;
pub mod report;
mod run;
mod rundir;
pub mod schedule;
mod service;
pub mod spill;
pub mod split;
mod status;
mod telemetry;
pub mod tensorboard;
mod trainer;
pub mod tune;
mod turn;

pub use config::{Config, DEFAULTS, Drift, Explanation, Gate, Incremental, Split};
pub use error::Error;
pub use gate::Decision;
pub use planner::{InForce, Planner};
pub use registry::{Champion, Claim, Listed, Registry};
pub use run::{Data, Parent, Run};
pub use rundir::REVISION;
pub use schedule::{Due, Mode, Trigger};
pub use service::{Announcer, run};
pub use status::{Phase, Snapshot, Status};
pub use trainer::{Ended, Retrained, Trainer, retrain};
