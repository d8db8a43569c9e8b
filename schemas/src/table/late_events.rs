//! Table `late_events`: events behind their source's watermark, whole.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::{Plain, Time};
use super::rows::{self, Rows};
use super::{RowEncoder, TableError};
use crate::{Codec, LateEvent, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "late_events";

fn table() -> Vec<Column<LateEvent>> {
    let mut table = super::events::late_event_columns();
    table.extend(columns![LateEvent;
        "watermark" Time = watermark_ms, "watermark of its source when it came";
        "late_by_ms" Plain = late_by_ms, "how far behind that it was, ms";
    ]);
    table
}

/// An empty encoder.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(
        LateEvent::NAME,
        table(),
        |row| Some(row.event.event_time_ms),
        |record| Protobuf::decode(&record.value::<LateEvent>()?).map(Some),
    )
}

/// The records.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<LateEvent>, TableError> {
    rows::decode(NAME, batch, &table(), LateEvent::default)
}
