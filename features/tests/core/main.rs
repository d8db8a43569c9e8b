//! The feature core against naive oracles: windows, labels, state, declarations, the shell.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod aggregates;
mod changes;
mod cluster;
mod common;
mod declarations;
mod declared;
mod drift;
mod exactness;
mod expiry;
mod hot;
mod label_cases;
mod labels;
mod leaks;
mod replay;
mod shared;
mod shared_cases;
mod shell;
mod spill;
mod state;
mod summaries;
mod time_zones;
mod windows;
