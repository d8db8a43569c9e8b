//! Hashing, scaling and laying out of one vector.

use bytes::Bytes;
use schemas::vector::{Scale, floats};
use schemas::{FeatureVector, VectorSchema};
use serde::{Deserialize, Serialize};

use super::dictionary::Dictionary;
use super::fields::{self, FieldTable};
use super::groups::{Group, group_fields};
use crate::config::{ConfigError, EncoderConfig};

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
    /// Embedding rows of the encoder's fields.
    pub ids: &'a [u32],
    /// Newest first.
    pub behaviours: &'a [EncodedBehaviour],
    /// The content embedding; empty where there is none.
    pub embedding: &'a [f32],
}

/// An encoded vector that owns its memory; reused from vector to vector.
#[derive(Debug, Clone, Default)]
pub struct RowBuffer {
    pub(crate) numbers: Vec<f32>,
    pub(crate) ids: Vec<u32>,
    pub(crate) behaviours: Vec<EncodedBehaviour>,
    pub(crate) embedding: Vec<f32>,
}

impl RowBuffer {
    /// A copy of a row.
    pub(crate) fn of(row: &Row<'_>) -> Self {
        Self {
            numbers: row.numbers.to_vec(),
            ids: row.ids.to_vec(),
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

/// What a vector holds beside its numbers, as it is read.
pub(super) enum Seen {
    /// The id in a field: its key.
    Id {
        /// Position of the field.
        field: usize,
        /// Hash of the id, 0 where it is not given.
        key: u64,
    },
    /// A past behaviour.
    Behaviour {
        /// Keys of its item, campaign and category.
        keys: [u64; 3],
        /// As in [`EncodedBehaviour`].
        age: f32,
        /// As in [`EncodedBehaviour`].
        kind: u8,
        /// As in [`EncodedBehaviour`].
        same: u8,
    },
}

/// What an encoder is made from; the rest follows, but for the dictionaries.
#[derive(Serialize, Deserialize)]
struct Parts {
    schema: VectorSchema,
    config: EncoderConfig,
}

/// Turns vectors of one schema into rows. Standardisation, which is fitted, belongs to the model
/// ([`super::Statistics`]); so are dictionaries ([`super::VocabularyFit`]): an encoder fresh from
/// its config takes every id of such a field for unknown. Serialised without its dictionaries,
/// which an artefact keeps among the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct Encoder {
    schema: VectorSchema,
    config: EncoderConfig,
    fingerprint: u64,
    names: Vec<String>,
    groups: Vec<Group>,
    tables: Vec<FieldTable>,
    price: bool,
}

impl TryFrom<Parts> for Encoder {
    type Error = ConfigError;

    fn try_from(parts: Parts) -> Result<Self, ConfigError> {
        parts.config.validate()?;
        Ok(Self::new(&parts.schema, &parts.config))
    }
}

impl From<Encoder> for Parts {
    fn from(encoder: Encoder) -> Self {
        Self { schema: encoder.schema, config: encoder.config }
    }
}

impl Encoder {
    /// An encoder of vectors of `schema`, its dictionaries still empty.
    pub fn new(schema: &VectorSchema, config: &EncoderConfig) -> Self {
        let mut names: Vec<String> = schema.fields.iter().map(|field| field.name.clone()).collect();
        // The price of the item shown stands beside the numbers; declared features may repeat it.
        let price = !names.iter().any(|name| name == "price");
        if price {
            names.push("price".to_owned());
        }
        let groups = group_fields(names.iter().map(String::as_str), config.max_fields_per_token);
        Self {
            schema: schema.clone(),
            config: config.clone(),
            fingerprint: schema.fingerprint(),
            names,
            groups,
            tables: fields::tables(config, &[]),
            price,
        }
    }

    /// An encoder of rows that are made elsewhere ([`super::EncodedSet::push_row`]), for benchmarks of
    /// other shapes than a feature vector's: it reads no vector. `fields` are the categorical ones,
    /// each with the rows of its table; each of `numbers` is a token of its own.
    pub fn of_rows(fields: &[(&'static str, u32)], numbers: &[String], config: &EncoderConfig) -> Self {
        let schema = VectorSchema { fields: Vec::new() };
        let config = EncoderConfig { max_behaviours: 0, content_embedding: 0, ..config.clone() };
        let mut first = 0;
        let tables = fields
            .iter()
            .map(|&(name, rows)| {
                let table = FieldTable { name, first, rows, dictionary: None };
                first += rows;
                table
            })
            .collect();
        Self {
            // No vector has it.
            fingerprint: !schema.fingerprint(),
            groups: group_fields(numbers.iter().map(String::as_str), 1),
            names: numbers.to_vec(),
            schema,
            config,
            tables,
            price: false,
        }
    }

    /// The same with these dictionaries, by field; those of hashed fields are passed over.
    #[must_use]
    pub fn with_dictionaries(mut self, dictionaries: &[Option<Dictionary>]) -> Self {
        self.tables = fields::tables(&self.config, dictionaries);
        self
    }

    /// Whether it reads the same of a vector as `other`: whether one's keyed examples
    /// ([`super::KeyedSet`]) can be given the other's rows. Tables may differ.
    pub fn reads_as(&self, other: &Self) -> bool {
        let reads = |encoder: &Self| {
            let EncoderConfig { max_behaviours, content_embedding, .. } = encoder.config;
            (max_behaviours, content_embedding, encoder.tables.len())
        };
        self.schema == other.schema && reads(self) == reads(other)
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

    /// The tables of the categorical fields, in the order of their tokens; they lie one after the
    /// other in one matrix.
    pub fn tables(&self) -> &[FieldTable] {
        &self.tables
    }

    /// Rows of all tables.
    pub fn table_rows(&self) -> usize {
        self.tables.iter().map(|table| table.rows as usize).sum()
    }

    /// Row, in the matrix of all tables, of a key of field `field`.
    #[inline]
    pub(super) fn row_of(&self, field: usize, key: u64) -> u32 {
        self.tables[field].row(key)
    }

    /// Encodes one vector into `buffer`.
    ///
    /// # Errors
    /// A vector of another schema, or one whose block of numbers is too short or too long.
    pub fn encode(&self, vector: &FeatureVector, buffer: &mut RowBuffer) -> Result<(), EncodeError> {
        let RowBuffer { numbers, ids, behaviours, embedding } = buffer;
        numbers.clear();
        ids.clear();
        behaviours.clear();
        embedding.clear();
        self.read(vector, numbers, embedding, |seen| match seen {
            Seen::Id { field, key } => ids.push(self.row_of(field, key)),
            Seen::Behaviour { keys, age, kind, same } => {
                let rows = [0, 1, 2].map(|field| self.row_of(field, keys[field]));
                behaviours.push(EncodedBehaviour { rows, age, kind, same });
            }
        })
    }

    /// Reads one vector: its numbers and its content embedding are put behind what is there, its ids
    /// and then its behaviours are shown to `see`.
    pub(super) fn read(
        &self,
        vector: &FeatureVector,
        numbers: &mut Vec<f32>,
        embedding: &mut Vec<f32>,
        mut see: impl FnMut(Seen),
    ) -> Result<(), EncodeError> {
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
        numbers.extend(vector.numbers().zip(fields).map(|(value, field)| scaled(value, field.scale)));
        if self.price {
            let price = if vector.price > 0.0 { vector.price as f32 } else { f32::NAN };
            numbers.push(scaled(price, Scale::Log));
        }
        let values = fields::values(vector);
        for (field, value) in values.iter().enumerate().take(self.tables.len()) {
            see(Seen::Id { field, key: fields::key(field, value) });
        }
        for behaviour in vector.behaviours.iter().take(self.config.max_behaviours) {
            let texts = [&behaviour.item, &behaviour.campaign, &behaviour.category];
            let mut keys = [0; 3];
            let mut same = 0;
            for (field, text) in texts.into_iter().enumerate() {
                keys[field] = fields::key(field, text);
                if !text.is_empty() && text == values[field] {
                    same |= 1 << field;
                }
            }
            let kind = schemas::Kind::try_from(behaviour.kind).unwrap_or(schemas::Kind::Unknown);
            let seconds = behaviour.age_ms.max(0) as f32 / 1000.0;
            see(Seen::Behaviour { keys, age: libm::log1pf(seconds) / 10.0, kind: kind as i32 as u8, same });
        }
        self.embed(&vector.embedding, embedding);
        Ok(())
    }

    /// Copies a content embedding of the expected length; any other counts as none.
    fn embed(&self, block: &Bytes, out: &mut Vec<f32>) {
        let length = self.config.content_embedding;
        if length > 0 && block.len() == length * 4 && floats(block).all(f32::is_finite) {
            out.extend(floats(block));
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
