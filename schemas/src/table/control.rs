//! Table `control`: the records of `events` that are not customers' events, one row each.

use arrow::record_batch::RecordBatch;

use super::column::{Column, columns};
use super::form::Plain;
use super::rows::{self, Rows};
use super::{RowEncoder, TableError, TopicRecord};
use crate::{Codec, Control, DecodeError, Entry, Place, Protobuf, Record};

/// Name of the table.
pub const NAME: &str = "control";

#[derive(Default)]
struct Row {
    kind: String,
    body: String,
}

fn table() -> Vec<Column<Row>> {
    columns![Row;
        "kind" Plain = kind, "what it is: ticks (watermarks moved), sources (the set of sources), entities (tiles of shared entities closed) or declared (other declarations of features are in force)";
        "body" Plain = body, "the record as JSON";
    ]
}

/// An empty encoder; takes records of `events`, leaves events out.
pub fn encoder() -> Box<dyn RowEncoder> {
    Rows::boxed(Entry::NAME, table(), |_| None, parse)
}

fn parse(record: &TopicRecord) -> Result<Option<Row>, DecodeError> {
    let control = match Protobuf::decode(&record.value::<Entry>()?)? {
        Entry::Event(_) => return Ok(None),
        Entry::Control(control) => control,
    };
    let (kind, body) = match &control {
        Control::Ticks(ticks) => ("ticks", serde_json::to_string(ticks)),
        Control::Sources(sources) => ("sources", serde_json::to_string(sources)),
        Control::Entities(version) => ("entities", serde_json::to_string(version)),
        Control::Declared(declaration) => ("declared", serde_json::to_string(declaration)),
    };
    let body = body.map_err(|source| DecodeError::Json { record: Entry::NAME, source })?;
    Ok(Some(Row { kind: kind.to_owned(), body }))
}

/// The control records, each with its place in `events`.
///
/// # Errors
/// Rows that no encoder of this table wrote.
pub fn decode(batch: &RecordBatch) -> Result<Vec<(Place, Control)>, TableError> {
    let rows = rows::decode(NAME, batch, &table(), Row::default)?;
    let places = rows::positions(NAME, batch)?;
    places.into_iter().zip(rows).map(|(place, row)| Ok((place, read(&row)?))).collect()
}

fn read(row: &Row) -> Result<Control, TableError> {
    let wrong = |column: &str, what| TableError::Column { table: NAME, column: column.to_owned(), what };
    let body = |error: serde_json::Error| wrong("body", error.to_string());
    match row.kind.as_str() {
        "ticks" => serde_json::from_str(&row.body).map(Control::Ticks).map_err(body),
        "sources" => serde_json::from_str(&row.body).map(Control::Sources).map_err(body),
        "entities" => serde_json::from_str(&row.body).map(Control::Entities).map_err(body),
        "declared" => serde_json::from_str(&row.body).map(Control::Declared).map_err(body),
        other => Err(wrong("kind", format!("{other:?} is no control record that this build knows"))),
    }
}
