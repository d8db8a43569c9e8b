//! From feature vectors to what the network reads: hashed ids, scaled numbers, past behaviours.
//!
//! One code path for training and serving. Knows no label and no network.

mod encoder;
mod groups;
mod set;
mod statistics;

pub use encoder::{EncodeError, EncodedBehaviour, Encoder, FIELDS, Row, RowBuffer};
pub use groups::{Group, group_fields};
pub use set::{EncodedSet, Examples, Outcome, seconds};
pub use statistics::{Fitting, Statistics};
