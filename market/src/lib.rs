//! A seeded simulated market: consumers, a catalogue, campaigns, and what comes of impressions.
//!
//! It knows only the raw records of `schemas`. The true probabilities of every impression are
//! known to it and to nobody in the pipeline. One seed gives the same bytes on every machine: all
//! randomness is `ChaCha8`, and transcendental functions are `libm`'s, not the platform's.

mod calibrate;
mod catalogue;
mod config;
mod counts;
mod dice;
mod drivers;
mod emission;
mod fault;
mod habit;
mod kind;
mod market;
mod record;
mod scene;
mod truth;
mod world;

pub use catalogue::CatalogueItem;
pub use config::{Config, ConfigError, DEFAULTS};
pub use counts::Counts;
pub use drivers::{Driver, Drivers};
pub use emission::{Emission, Fault, Truth};
pub use kind::MarketKind;
pub use market::Market;
