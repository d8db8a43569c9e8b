//! Looking for better settings by successive halving (Jamieson & Talwalkar 2016, "Non-stochastic
//! Best Arm Identification and Hyperparameter Optimization"): many settings with a small budget, the
//! best `1 / eta` of them with `eta` times that, and so on.

mod halving;
mod search;
mod space;

pub use halving::{Rung, rungs};
pub use search::{Best, Entry, Log, search};
pub use space::{Budget, SpaceError, Tune};

/// A file to begin with, commented.
pub const EXAMPLE: &str = include_str!("example.toml");
