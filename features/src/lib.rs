//! Features: declared windows over what users did, duplicates, labels and hourly sums.
//!
//! A pure core ([`Core`]) folds one partition of `events`; a thin shell ([`factory`]) gives it to
//! the loop. What is computed is declared in the config ([`Config`]) and compiled to a [`Plan`].
//! Knows no model, no lake and no broker.

mod config;
mod core;
mod declare;
mod dedupe;
mod history;
mod hours;
mod interner;
mod labels;
mod labels_state;
mod out;
mod plan;
mod processor;
mod snapshot;
mod telemetry;
mod tiles;
mod timers;
mod vector;
mod wire;

pub use crate::config::{Config, DEFAULTS, EntityConfig};
pub use crate::core::Core;
pub use crate::out::{Counts, Out, Output, Sink};
pub use crate::plan::{DeclarationError, Plan};
pub use crate::processor::{Factory, factory};
pub use crate::snapshot::FORMAT;
pub use crate::vector::VectorView;
pub use crate::wire::SnapshotError;
