//! The trainer over real tables, stores and an embedded broker: one binary, linked once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod dataset;
mod drift;
mod registry;
mod spill;
mod tensorboard;
mod training;
