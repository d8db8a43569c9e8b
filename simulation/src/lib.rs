//! A broker in memory and workers that drive the loop's state machine against it, for tests alone.
//!
//! Knows Kafka's rules as far as the loop leans on them, and what goes wrong between a process and a
//! broker. One seed is one run: every decision comes from [`Rng`], and time is a number that the test
//! moves. What the processors do is theirs; `runtime` drives artificial ones here, `tests` the pipeline's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "for tests alone: a topic, group or worker that it does not know is the test's mistake"
)]

mod broker;
mod cluster;
mod faults;
mod group;
mod log;
mod rng;
mod seeds;
mod totals;
mod worker;

pub use broker::{Broker, Partitioner};
pub use cluster::Cluster;
pub use faults::{CrashAt, Faults, Sabotage};
pub use group::{Group, GroupEvent};
pub use log::Written;
pub use rng::Rng;
pub use seeds::seeds;
pub use totals::Totals;
pub use worker::Worker;
