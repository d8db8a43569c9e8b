//! Table `dead_letters`: what ingest refused, byte for byte, with the reason.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::Plain;
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::{DeadLetter, Reason, Record};

/// Name of the table.
pub const NAME: &str = "dead_letters";

fn table() -> Vec<Column<DeadLetter>> {
    columns![DeadLetter;
        "source_topic" Plain = topic, "raw topic";
        "source_partition" Plain = partition, "partition of the raw topic";
        "source_offset" Plain = offset, "offset of the raw record";
        "stage" Plain = stage, "where it was refused";
        "reason" Plain = reason, "why, from a closed list";
        "message" Plain = message, "why, in words";
        "key" Plain = key, "the key as it came; null where it had none";
        "value" Plain = value, "the value as it came; null where it had none";
    ]
}

/// An empty encoder; a row's date is that of its Kafka timestamp.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        DeadLetter::NAME,
        table(),
        |_| None,
        |record| {
            DeadLetter::from_parts(record.key.as_ref(), record.value.as_ref(), &record.headers).map(Some)
        },
    )
}

/// The dead letters.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<DeadLetter>, TableError> {
    rows::decode(NAME, batch, &table(), || DeadLetter {
        topic: String::new(),
        partition: 0,
        offset: 0,
        stage: String::new(),
        reason: Reason::Undecodable,
        message: String::new(),
        key: None,
        value: None,
    })
}
