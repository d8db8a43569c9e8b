//! The chaos test: the whole system on a cluster of three brokers, and a seeded schedule of faults.
//!
//! The market is fed at a steady rate while services, brokers, the network and the store fail. At
//! the end every invariant must hold, recomputed, the counts must be the seed's, and no service may
//! have needed a hand: whatever exits is started again as any cluster would, nothing else is done.

mod act;
mod clock;
mod cluster;
mod deployment;
mod dice;
mod disk;
mod feed;
mod fleet;
mod frames;
mod proxy;
pub mod report;
mod run;
pub mod schedule;
mod wire;

pub use run::{Options, planned, program_beside, run};
