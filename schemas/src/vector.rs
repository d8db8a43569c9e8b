//! Feature vectors: what is scored and what is learned from, one per impression.

mod read;

use serde::{Deserialize, Serialize};

use crate::{Origin, Place};

/// One thing that the consumer did before the impression, newest first in a vector.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, prost::Message)]
pub struct Behaviour {
    /// Item it was done to.
    #[prost(string, tag = "1")]
    pub item: String,
    /// Campaign it was done under.
    #[prost(string, tag = "2")]
    pub campaign: String,
    /// Category of the item.
    #[prost(string, tag = "3")]
    pub category: String,
    /// What was done.
    #[prost(enumeration = "crate::Kind", tag = "4")]
    pub kind: i32,
    /// How long before the impression, ms; not negative.
    #[prost(int64, tag = "5")]
    pub age_ms: i64,
}

/// The features of one impression as of its own event time, from what had arrived before it.
#[derive(Clone, PartialEq, Serialize, Deserialize, prost::Message)]
pub struct FeatureVector {
    /// Place of the view in `events`: joins vectors to labels and predictions.
    #[prost(message, required, tag = "1")]
    pub place: Place,
    /// The raw record of the view.
    #[prost(message, required, tag = "2")]
    pub origin: Origin,
    /// As in the view.
    #[prost(string, tag = "3")]
    pub event_id: String,
    /// As in the view.
    #[prost(int64, tag = "4")]
    pub event_time_ms: i64,
    /// The partition's event clock when the vector was made, ms; `i64::MIN` before it started.
    #[prost(int64, tag = "5")]
    pub clock_ms: i64,
    /// As in the view.
    #[prost(int64, tag = "6")]
    pub received_ms: i64,
    /// As in the view.
    #[prost(string, tag = "7")]
    pub user: String,
    /// As in the view.
    #[prost(string, tag = "8")]
    pub item: String,
    /// As in the view.
    #[prost(string, tag = "9")]
    pub campaign: String,
    /// As in the view.
    #[prost(string, tag = "10")]
    pub category: String,
    /// As in the view.
    #[prost(string, tag = "11")]
    pub brand: String,
    /// As in the view.
    #[prost(string, tag = "12")]
    pub placement: String,
    /// As in the view.
    #[prost(string, tag = "13")]
    pub device: String,
    /// As in the view.
    #[prost(string, tag = "14")]
    pub channel: String,
    /// As in the view.
    #[prost(string, tag = "15")]
    pub request_id: String,
    /// As in the view.
    #[prost(string, tag = "16")]
    pub context: String,
    /// Price of the item shown, 0 where unknown.
    #[prost(double, tag = "17")]
    pub price: f64,
    /// As in the view.
    #[prost(string, tag = "18")]
    pub currency: String,
    /// Fingerprint of the [`VectorSchema`] that names `values`.
    #[prost(fixed64, tag = "19")]
    pub fingerprint: u64,
    /// One little-endian f32 per field of the schema; NaN is missing.
    #[prost(bytes = "bytes", tag = "20")]
    pub values: bytes::Bytes,
    /// The item's content embedding, little-endian f32; empty where there is none.
    #[prost(bytes = "bytes", tag = "21")]
    pub embedding: bytes::Bytes,
    /// The consumer's last behaviours, newest first.
    #[prost(message, repeated, tag = "22")]
    pub behaviours: Vec<Behaviour>,
    /// Version of the shared entities that the vector read; 0 where none are declared.
    #[prost(uint64, tag = "23")]
    pub entity_version: u64,
}

impl FeatureVector {
    /// The numbers, read without a copy of the block.
    pub fn numbers(&self) -> impl ExactSizeIterator<Item = f32> + '_ {
        floats(&self.values)
    }
}

/// Reads a little-endian f32 block; a ragged tail is ignored.
pub fn floats(block: &[u8]) -> impl ExactSizeIterator<Item = f32> + '_ {
    block.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk))
}

/// What the numbers of a vector are, in order. Follows from the declared features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorSchema {
    /// One per number: `snake_case`, unique, a valid column name (`user_views_1h`).
    pub fields: Vec<VectorField>,
}

/// How a number is best shown to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Counts, sums, ages: log1p before standardising.
    Log,
    /// Rates, means, anything near symmetric: standardise only.
    Linear,
}

/// One number of a vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorField {
    /// Column name.
    pub name: String,
    /// How it is scaled for the model.
    pub scale: Scale,
    /// One sentence for the column's comment and the docs.
    pub doc: String,
}

impl VectorSchema {
    /// Names and scales, hashed: two schemas with one fingerprint lay their numbers out alike.
    pub fn fingerprint(&self) -> u64 {
        let mut text = String::new();
        for field in &self.fields {
            text.push_str(&field.name);
            text.push(match field.scale {
                Scale::Log => '\u{1}',
                Scale::Linear => '\u{2}',
            });
        }
        xxhash_rust::xxh3::xxh3_64(text.as_bytes())
    }

    /// Position of the field of that name.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name == name)
    }
}
