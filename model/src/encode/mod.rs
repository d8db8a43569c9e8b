//! From feature vectors to what the network reads: ids, scaled numbers, past behaviours.
//!
//! One code path for training and serving. Knows no label and no network.

mod block;
mod dictionary;
mod distinct;
mod encoder;
mod fields;
mod frequent;
mod groups;
mod keyed;
mod set;
mod statistics;
mod vocabulary;

pub use block::BlockError;
pub use dictionary::Dictionary;
pub use encoder::{EncodeError, EncodedBehaviour, Encoder, Row, RowBuffer};
pub use fields::{FieldTable, field_names};
pub use groups::{Group, group_fields};
pub use keyed::KeyedSet;
pub use set::{EncodedSet, Examples, Outcome, seconds, without_person};
pub use statistics::{Fitting, Statistics};
pub use vocabulary::{Admission, FieldIds, VocabularyFit};
