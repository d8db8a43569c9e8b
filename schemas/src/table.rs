//! Tables: how the records of a topic become rows, and rows records again.
//!
//! Every row carries where its record stands in the topic (`_salience_partition`,
//! `_salience_offset`) and a `date` that the table is partitioned by, so that a table can be
//! proven to be the image of its topic.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;

use crate::DecodeError;

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
