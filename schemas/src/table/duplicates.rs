//! Table `duplicates`: repeats of events, dropped.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::{Codec, Duplicate, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "duplicates";

fn table() -> Vec<Column<Duplicate>> {
    columns![Duplicate;
        "place_partition" Plain = place.partition, "partition of the dropped event in events";
        "place_offset" Plain = place.offset, "offset of the dropped event in events";
        "first_partition" Plain = first.partition, "partition of the first of its kind";
        "first_offset" Plain = first.offset, "offset of the first of its kind";
        "event_id" Plain = event_id, "id that both share";
        "user" Plain = user, "pseudonym of the consumer";
        "event_time" Time = event_time_ms, "event time of the dropped event";
    ]
}

/// An empty encoder.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        Duplicate::NAME,
        table(),
        |row| Some(row.event_time_ms),
        |record| Protobuf::decode(&record.value::<Duplicate>()?).map(Some),
    )
}

/// The records.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<Duplicate>, TableError> {
    rows::decode(NAME, batch, &table(), Duplicate::default)
}
