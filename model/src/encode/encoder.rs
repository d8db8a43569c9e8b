//! Hashing, scaling and laying out of one vector.

use bytes::Bytes;
use schemas::vector::{Scale, floats};
use schemas::{FeatureVector, VectorSchema};
use serde::{Deserialize, Serialize};

use super::groups::{Group, group_fields};
use crate::config::EncoderConfig;

/// The categorical fields, in the order of their tokens.
pub const FIELDS: [&str; 7] = ["item", "campaign", "category", "brand", "placement", "device", "channel"];

/// Why a vector can't be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its numbers are laid out by other declarations.
    #[error("vector at {place:?} has schema {found:016x}, the model reads {expected:016x}")]
    Schema {
        /// Place of the vector's event.
        place: schemas::Place,
        /// Fingerprint in the vector.
        found: u64,
        /// Fingerprint that the encoder was made for.
        expected: u64,
    },
    /// Not as many numbers as its schema has fields.
    #[error("vector at {place:?} carries {found} numbers, its schema has {expected}")]
    Length {
        /// Place of the vector's event.
        place: schemas::Place,
        /// Numbers in the vector.
        found: usize,
        /// Fields of the schema.
        expected: usize,
    },
}

/// A past behaviour, encoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EncodedBehaviour {
    /// Embedding rows of its item, campaign and category.
    pub rows: [u32; 3],
    /// log(1 + seconds) / 10 before the impression.
    pub age: f32,
    /// [`schemas::Kind`] as a number; 0 where unknown.
    pub kind: u8,
    /// Bit 0: the impression's item; bit 1: its campaign; bit 2: its category.
    pub same: u8,
}

/// An encoded vector.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// One per numeric field, scaled but not standardised; NaN is missing.
    pub numbers: &'a [f32],
    /// Embedding rows of [`FIELDS`].
    pub ids: &'a [u32; FIELDS.len()],
    /// Newest first.
    pub behaviours: &'a [EncodedBehaviour],
    /// The content embedding; empty where there is none.
    pub embedding: &'a [f32],
}

/// An encoded vector that owns its memory; reused from vector to vector.
#[derive(Debug, Clone, Default)]
pub struct RowBuffer {
    pub(crate) numbers: Vec<f32>,
    pub(crate) ids: [u32; FIELDS.len()],
    pub(crate) behaviours: Vec<EncodedBehaviour>,
    pub(crate) embedding: Vec<f32>,
}

impl RowBuffer {
    /// A copy of a row.
    pub(crate) fn of(row: &Row<'_>) -> Self {
        Self {
            numbers: row.numbers.to_vec(),
            ids: *row.ids,
            behaviours: row.behaviours.to_vec(),
            embedding: row.embedding.to_vec(),
        }
    }

    /// What it holds.
    pub fn row(&self) -> Row<'_> {
        Row {
            numbers: &self.numbers,
            ids: &self.ids,
            behaviours: &self.behaviours,
            embedding: &self.embedding,
        }
    }
}

/// What an encoder is made from; the rest follows.
#[derive(Serialize, Deserialize)]
struct Parts {
    schema: VectorSchema,
    config: EncoderConfig,
}

/// Turns vectors of one schema into rows. Fitted to nothing: standardisation, which is, belongs to
/// the model ([`super::Statistics`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Parts", into = "Parts")]
pub struct Encoder {
    schema: VectorSchema,
    config: EncoderConfig,
    fingerprint: u64,
    names: Vec<String>,
    groups: Vec<Group>,
    first_rows: [u32; FIELDS.len()],
    price: bool,
}

impl From<Parts> for Encoder {
    fn from(parts: Parts) -> Self {
        Self::new(&parts.schema, &parts.config)
    }
}

impl From<Encoder> for Parts {
    fn from(encoder: Encoder) -> Self {
        Self { schema: encoder.schema, config: encoder.config }
    }
}

impl Encoder {
    /// An encoder of vectors of `schema`.
    pub fn new(schema: &VectorSchema, config: &EncoderConfig) -> Self {
        let mut names: Vec<String> = schema.fields.iter().map(|field| field.name.clone()).collect();
        // The price of the item shown stands beside the numbers; declared features may repeat it.
        let price = !names.iter().any(|name| name == "price");
        if price {
            names.push("price".to_owned());
        }
        let groups = group_fields(names.iter().map(String::as_str), config.max_fields_per_token);
        let mut first_rows = [0; FIELDS.len()];
        let mut next = 0;
        for (first, buckets) in first_rows.iter_mut().zip(Self::bucket_counts(config)) {
            *first = next;
            next += buckets;
        }
        Self {
            schema: schema.clone(),
            config: config.clone(),
            fingerprint: schema.fingerprint(),
            names,
            groups,
            first_rows,
            price,
        }
    }

    const fn bucket_counts(config: &EncoderConfig) -> [u32; FIELDS.len()] {
        [
            config.item_buckets,
            config.campaign_buckets,
            config.category_buckets,
            config.brand_buckets,
            config.placement_buckets,
            config.device_buckets,
            config.channel_buckets,
        ]
    }

    /// The schema of the vectors it reads.
    pub const fn schema(&self) -> &VectorSchema {
        &self.schema
    }

    /// Fingerprint of that schema.
    pub const fn schema_fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The config it was made with.
    pub const fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Names of a row's numbers: the schema's fields, then `price` unless it is one of them.
    pub fn number_names(&self) -> &[String] {
        &self.names
    }

    /// Which numbers share a token.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The embedding tables: field, first row, rows; one after the other in one matrix.
    pub fn tables(&self) -> impl Iterator<Item = (&'static str, u32, u32)> + '_ {
        FIELDS
            .iter()
            .zip(self.first_rows)
            .zip(Self::bucket_counts(&self.config))
            .map(|((field, first), buckets)| (*field, first, buckets))
    }

    /// Rows of all embedding tables.
    pub fn table_rows(&self) -> usize {
        Self::bucket_counts(&self.config).iter().map(|&buckets| buckets as usize).sum()
    }

    /// Row of the matrix of embeddings for a value of field `field` ([`FIELDS`]); the table's first
    /// row stands for "not given".
    fn table_row(&self, field: usize, value: &str) -> u32 {
        let first = self.first_rows[field];
        if value.is_empty() {
            return first;
        }
        let others = u64::from(Self::bucket_counts(&self.config)[field] - 1);
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(value.as_bytes(), field as u64);
        first + 1 + ((u128::from(hash) * u128::from(others)) >> 64) as u32
    }

    /// Encodes one vector into `buffer`.
    ///
    /// # Errors
    /// A vector of another schema, or one whose block of numbers is too short or too long.
    pub fn encode(&self, vector: &FeatureVector, buffer: &mut RowBuffer) -> Result<(), EncodeError> {
        if vector.fingerprint != self.fingerprint {
            return Err(EncodeError::Schema {
                place: vector.place,
                found: vector.fingerprint,
                expected: self.fingerprint,
            });
        }
        let fields = &self.schema.fields;
        if vector.values.len() != fields.len() * 4 {
            return Err(EncodeError::Length {
                place: vector.place,
                found: vector.values.len() / 4,
                expected: fields.len(),
            });
        }
        buffer.numbers.clear();
        buffer.numbers.extend(vector.numbers().zip(fields).map(|(value, field)| scaled(value, field.scale)));
        if self.price {
            let price = if vector.price > 0.0 { vector.price as f32 } else { f32::NAN };
            buffer.numbers.push(scaled(price, Scale::Log));
        }
        let values = [
            &vector.item,
            &vector.campaign,
            &vector.category,
            &vector.brand,
            &vector.placement,
            &vector.device,
            &vector.channel,
        ];
        for (field, value) in values.into_iter().enumerate() {
            buffer.ids[field] = self.table_row(field, value);
        }
        buffer.behaviours.clear();
        buffer.behaviours.extend(vector.behaviours.iter().take(self.config.max_behaviours).map(
            |behaviour| {
                let texts = [&behaviour.item, &behaviour.campaign, &behaviour.category];
                let mut rows = [0; 3];
                let mut same = 0;
                for (field, text) in texts.into_iter().enumerate() {
                    rows[field] = self.table_row(field, text);
                    if !text.is_empty() && text == values[field] {
                        same |= 1 << field;
                    }
                }
                let kind = schemas::Kind::try_from(behaviour.kind).unwrap_or(schemas::Kind::Unknown);
                let seconds = behaviour.age_ms.max(0) as f32 / 1000.0;
                EncodedBehaviour { rows, age: libm::log1pf(seconds) / 10.0, kind: kind as i32 as u8, same }
            },
        ));
        self.embed(&vector.embedding, &mut buffer.embedding);
        Ok(())
    }

    /// Copies a content embedding of the expected length; any other counts as none.
    fn embed(&self, block: &Bytes, out: &mut Vec<f32>) {
        out.clear();
        let length = self.config.content_embedding;
        if length > 0 && block.len() == length * 4 {
            out.extend(floats(block));
            if out.iter().any(|value| !value.is_finite()) {
                out.clear();
            }
        }
    }
}

/// Missing and infinite numbers become NaN; counts and sums their logarithm, sign kept.
fn scaled(value: f32, scale: Scale) -> f32 {
    if !value.is_finite() {
        return f32::NAN;
    }
    match scale {
        Scale::Linear => value,
        Scale::Log if value == 0.0 => 0.0,
        Scale::Log => libm::log1pf(value.abs()).copysign(value),
    }
}
