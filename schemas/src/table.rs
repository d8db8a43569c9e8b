//! Tables: how the records of a topic become rows, and rows records again.
//!
//! Every row carries where its record stands in the topic (`_salience_partition`,
//! `_salience_offset`) and a `date` that the table is partitioned by, so that a table can be
//! proven to be the image of its topic.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use crate::{DecodeError, Place, Record, VectorSchema, topic};

pub mod aggregates;
mod column;
pub mod control;
pub mod dead_letters;
pub mod duplicates;
pub mod entity_tiles;
pub mod events;
pub mod features;
mod form;
pub mod labels;
pub mod late_events;
pub mod predictions;
mod rows;

/// Column of the record's partition in its topic (Int32, not null).
pub const PARTITION_COLUMN: &str = "_salience_partition";
/// Column of the record's offset in that partition (Int64, not null).
pub const OFFSET_COLUMN: &str = "_salience_offset";
/// Column that tables are partitioned by (Date32, not null): the UTC day of the row's event time,
/// of the Kafka timestamp where the record has none.
pub const DATE_COLUMN: &str = "date";

/// A record as it stands in a topic.
#[derive(Debug, Clone)]
pub struct TopicRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its Kafka timestamp, ms since 1970 UTC; 0 where it has none.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers, in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl TopicRecord {
    /// Its place in its topic.
    pub fn place(&self) -> Place {
        Place { partition: self.partition, offset: self.offset }
    }

    /// Its value, to be read as a `T`.
    fn value<T: Record>(&self) -> Result<Bytes, DecodeError> {
        self.value.clone().ok_or(DecodeError::Empty { record: T::NAME })
    }
}

/// Collects records of one topic into rows of one table.
pub trait RowEncoder: Send {
    /// The table's columns, bookkeeping and `date` included; constant.
    fn schema(&self) -> SchemaRef;

    /// Appends the record's row; `false` if the record does not belong in this table (a control
    /// record, where the table is of events).
    ///
    /// # Errors
    /// A record that cannot be read; nothing was appended.
    fn append(&mut self, record: &TopicRecord) -> Result<bool, DecodeError>;

    /// Rows appended since the last `finish`.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows, in order of appending; empties the encoder.
    fn finish(&mut self) -> RecordBatch;
}

/// A table and the topic (without prefix) that it is the image of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Name of the table.
    pub table: &'static str,
    /// One of the constants of [`crate::topic`].
    pub topic: &'static str,
    /// Columns that its rows are clustered by when small files are merged: the entity, then the time. None
    /// for what is read in the order of its topic.
    pub clustered_by: &'static [&'static str],
}

/// All tables, each once. `events` and `control` share a topic: together they hold each of its
/// records once.
pub const fn spec() -> &'static [Spec] {
    const fn of(table: &'static str, topic: &'static str, clustered_by: &'static [&'static str]) -> Spec {
        Spec { table, topic, clustered_by }
    }
    const USER: &[&str] = &["user", "event_time"];
    const SPEC: &[Spec] = &[
        of(events::NAME, topic::EVENTS, &[]),
        of(control::NAME, topic::EVENTS, &[]),
        of(features::NAME, topic::FEATURE_VECTORS, &[]),
        of(labels::NAME, topic::LABELS, USER),
        of(predictions::NAME, topic::PREDICTIONS, USER),
        of(late_events::NAME, topic::LATE_EVENTS, USER),
        of(dead_letters::NAME, topic::DEAD_LETTERS, &[]),
        of(duplicates::NAME, topic::DUPLICATES, USER),
        of(aggregates::NAME, topic::AGGREGATES, &["campaign", "item", "hour"]),
        of(entity_tiles::NAME, topic::ENTITY_TILES, &[]),
    ];
    SPEC
}

/// An empty encoder for the table of that name; `None` if there is no such table, or if it is
/// `features` and no vector schema was given. Vectors may be of any of those given.
pub fn encoder(table: &str, vectors: &[VectorSchema]) -> Option<Box<dyn RowEncoder>> {
    match table {
        events::NAME => Some(events::encoder()),
        control::NAME => Some(control::encoder()),
        features::NAME => (!vectors.is_empty()).then(|| features::encoder(vectors)),
        labels::NAME => Some(labels::encoder()),
        predictions::NAME => Some(predictions::encoder()),
        late_events::NAME => Some(late_events::encoder()),
        dead_letters::NAME => Some(dead_letters::encoder()),
        duplicates::NAME => Some(duplicates::encoder()),
        aggregates::NAME => Some(aggregates::encoder()),
        entity_tiles::NAME => Some(entity_tiles::encoder()),
        _ => None,
    }
}

/// Why rows could not be read back as records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A column is absent, of another type, or holds what no record holds.
    #[error("table {table}, column {column}: {what}")]
    Column {
        /// Name of the table.
        table: &'static str,
        /// Name of the column.
        column: String,
        /// What is wrong, with the row where it is one's.
        what: String,
    },
    /// A row of `features` was made under another declaration.
    #[error(
        "table features: a row has vector schema {found}, this reader was given {expected:016x}; read it with \
         the declarations of that fingerprint, or leave these rows out"
    )]
    Fingerprint {
        /// Fingerprint in the row, as it stands there.
        found: String,
        /// Fingerprint of the schema given.
        expected: u64,
    },
}

/// Where each row's record stands in its topic (partition and offset of that topic, not the
/// place of an event, except in `events` and `control`).
///
/// # Errors
/// A batch without the bookkeeping columns.
pub fn positions(batch: &RecordBatch) -> Result<Vec<Place>, TableError> {
    rows::positions("of any name", batch)
}
