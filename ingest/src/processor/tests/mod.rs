//! The processor fed from small logs, with restarts at any point: what is out must account for
//! every raw record once, and promise nothing that it does not keep.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod assignment;
mod bench;
mod catalogue;
mod idleness;
mod order;
mod outage;
mod restarts;
mod skew;
