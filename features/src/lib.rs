//! Features: declared windows over what users did and over what all of them did together,
//! duplicates, labels and hourly sums.
//!
//! A pure core ([`Core`]) folds one partition of `events`; a thin shell ([`factory`]) gives it to
//! the loop. What users share is merged by [`Merge`] and [`Aggregates`] behind [`merge_factory`]. What is computed is declared in the config ([`Config`]) and compiled to a [`Plan`].
//! Knows no model, no lake and no broker.

mod ahead;
mod answers;
mod block;
mod by_click;
mod by_item;
mod change;
mod clicks;
mod cold;
mod config;
mod core;
mod declare;
mod declared;
mod dedupe;
mod describe;
mod evaluate;
mod filters;
mod history;
mod image;
mod interner;
mod kinds;
mod labels;
mod labels_state;
mod layout;
mod merge_processor;
mod names;
mod nearest;
mod orders;
mod out;
mod outcomes;
mod plan;
mod processor;
mod rates;
mod recent;
mod scan;
mod shared;
mod slab;
mod snapshot;
mod spread;
mod subjects;
mod summary;
mod table;
mod telemetry;
mod text;
mod tiles;
mod timers;
mod totals;
mod users;
mod uses;
mod vector;
mod views;
mod window;
mod wire;

pub use crate::change::{Changes, ColumnChange, Fate, Part, SettingChange, StateChange};
pub use crate::config::{Config, DEFAULTS, EntityConfig, keys};
pub use crate::core::{AHEAD, Core};
pub use crate::declared::{Declarations, Declared, NotFollowed, Reading};
pub use crate::describe::{Aggregation, Column, Made};
pub use crate::filters::FilterConfig;
pub use crate::merge_processor::{MergeFactory, merge_factory};
pub use crate::out::{Counts, Out, Output, Silent, Sink};
pub use crate::plan::{DeclarationError, Plan};
pub use crate::processor::{Factory, factory};
pub use crate::shared::aggregates::{AggregateCounts, Aggregates};
pub use crate::shared::merge::{Merge, MergeCounts};
pub use crate::snapshot::FORMAT;
pub use crate::vector::VectorView;
pub use crate::window::{NotAWindow, Window};
pub use crate::wire::SnapshotError;
