//! Table `features`: one vector per impression, a column per declared number.
//!
//! The declared numbers come as a [`VectorSchema`], or as several where declarations have changed: a table has
//! the columns of all of them, and a row is null where its own has no such number. What they mean is not
//! known here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float32Builder};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;

use super::column::{Cells, Column, columns, typed};
use super::form::{Floats, Hex, KindName, Plain, Time, present};
use super::rows::{self, Rows};
use super::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, RowEncoder, TableError};
use crate::{Behaviour, Codec, DecodeError, FeatureVector, Protobuf, Record, VectorSchema};

/// Name of the table.
pub const NAME: &str = "features";

/// A vector, its numbers while they are read back, and which of the schemas is its.
#[derive(Default)]
struct Row {
    vector: FeatureVector,
    block: Vec<u8>,
    schema: usize,
}

/// The columns of all schemas, each name once, as the first that has it describes it.
fn table(schemas: &[VectorSchema]) -> Vec<Column<Row>> {
    let mut table = fixed();
    let fields =
        schemas.iter().enumerate().flat_map(|(at, schema)| schema.fields.iter().map(move |f| (at, f)));
    for (at, field) in fields {
        if schemas[..at].iter().any(|before| before.position(&field.name).is_some()) {
            continue;
        }
        let positions = schemas.iter().map(|schema| schema.position(&field.name)).collect();
        table.push(Column {
            name: column_name(&field.name),
            comment: field.doc.clone(),
            cells: Box::new(NumberCells { positions, builder: Float32Builder::new() }),
        });
    }
    table
}

fn fixed() -> Vec<Column<Row>> {
    let mut table = columns![Row;
        "place_partition" Plain = vector.place.partition, "partition of the view in events";
        "place_offset" Plain = vector.place.offset, "offset of the view in events";
        "event_id" Plain = vector.event_id, "the customer's id of the view";
        "event_time" Time = vector.event_time_ms, "when the view happened; the vector is as of then";
        "clock" Time = vector.clock_ms, "event clock when the vector was made; null before it started";
        "received" Time = vector.received_ms, "Kafka timestamp of the raw view";
        "user" Plain = vector.user, "pseudonym of the consumer";
        "item" Plain = vector.item, "item shown";
        "campaign" Plain = vector.campaign, "campaign that it was shown for";
        "category" Plain = vector.category, "category of the item";
        "brand" Plain = vector.brand, "brand of the item";
        "placement" Plain = vector.placement, "slot on the page or screen";
        "device" Plain = vector.device, "device class of the consumer";
        "channel" Plain = vector.channel, "channel, such as web, app or mail";
        "request_id" Plain = vector.request_id, "the customer's request id";
        "context" Plain = vector.context, "the customer's own text, passed through";
        "price" Plain = vector.price, "price of the item shown; 0 where unknown";
        "currency" Plain = vector.currency, "ISO 4217 code of price";
        "fingerprint" Hex = vector.fingerprint, "vector schema that names the numbers";
        "entity_version" Plain = vector.entity_version, "version of the shared entities that it read";
        "embedding" Floats = vector.embedding, "content embedding of the item";
        "source_topic" Plain = vector.origin.topic, "raw topic";
        "source_partition" Plain = vector.origin.partition, "partition of the raw topic";
        "source_offset" Plain = vector.origin.offset, "offset of the raw record";
        "source_line" Plain = vector.origin.line, "which of the raw record's events this is, from 0";
        "source_lines" Plain = vector.origin.lines, "how many events the raw record became";
    ];
    table.push(Column::structs::<Behaviour>(
        "behaviours",
        "the consumer's last behaviours before the view, newest first",
        |row| &row.vector.behaviours,
        |row| &mut row.vector.behaviours,
        columns![Behaviour;
            "item" Plain = item, "item it was done to";
            "campaign" Plain = campaign, "campaign it was done under";
            "category" Plain = category, "category of the item";
            "kind" KindName = kind, "what was done";
            "age_ms" Plain = age_ms, "how long before the view, ms";
        ],
    ));
    table
}

/// The column of the declared number of that name: its own name, with `number_` in front where
/// this table uses the name itself.
pub fn column_name(field: &str) -> String {
    let bookkeeping = [DATE_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN].contains(&field);
    if bookkeeping || fixed().iter().any(|column| column.name == field) {
        format!("number_{field}")
    } else {
        field.to_owned()
    }
}

/// An empty encoder for vectors of that schema.
pub fn encoder(schema: &VectorSchema) -> Box<dyn RowEncoder> {
    encoder_of(std::slice::from_ref(schema))
}

/// An empty encoder for vectors of any of these schemas; there must be one.
pub fn encoder_of(schemas: &[VectorSchema]) -> Box<dyn RowEncoder> {
    let known: Vec<(u64, usize)> =
        schemas.iter().map(|schema| (schema.fingerprint(), schema.fields.len() * 4)).collect();
    let expected = known.first().map_or(0, |(fingerprint, _)| *fingerprint);
    Rows::boxed(
        FeatureVector::NAME,
        table(schemas),
        |row: &Row| Some(row.vector.event_time_ms),
        move |record| {
            let vector: FeatureVector = Protobuf::decode(&record.value::<FeatureVector>()?)?;
            let record = FeatureVector::NAME;
            let Some(schema) = known.iter().position(|(known, _)| *known == vector.fingerprint) else {
                return Err(DecodeError::Fingerprint { record, found: vector.fingerprint, expected });
            };
            if vector.values.len() != known[schema].1 {
                return Err(DecodeError::Invalid {
                    record,
                    what: "as many numbers as its schema has fields are needed",
                });
            }
            Ok(Some(Row { vector, block: Vec::new(), schema }))
        },
    )
}

/// The vectors of a batch whose rows are of any of these schemas.
///
/// # Errors
/// [`TableError::Fingerprint`] for rows of none of them, else rows that no encoder wrote.
pub fn decode_of(batch: &RecordBatch, schemas: &[VectorSchema]) -> Result<Vec<FeatureVector>, TableError> {
    let found = fingerprints(batch)?;
    let mut vectors: Vec<Option<FeatureVector>> = vec![None; found.len()];
    for schema in schemas {
        let of: Vec<usize> = (0..found.len()).filter(|at| found[*at] == schema.fingerprint()).collect();
        // A run of rows at a time: those of one schema follow one another.
        for run in of.chunk_by(|a, b| a + 1 == *b) {
            let Some(first) = run.first() else { continue };
            for (at, vector) in run.iter().zip(decode(&batch.slice(*first, run.len()), schema)?) {
                vectors[*at] = Some(vector);
            }
        }
    }
    let expected = schemas.first().map_or(0, VectorSchema::fingerprint);
    let of_none = |found: u64| TableError::Fingerprint { found: format!("{found:016x}"), expected };
    vectors.into_iter().zip(found).map(|(vector, found)| vector.ok_or_else(|| of_none(found))).collect()
}

/// The vectors.
///
/// # Errors
/// [`TableError::Fingerprint`] for rows of another schema, else rows that no encoder wrote.
pub fn decode(batch: &RecordBatch, schema: &VectorSchema) -> Result<Vec<FeatureVector>, TableError> {
    let expected = schema.fingerprint();
    check_fingerprints(batch, expected)?;
    let block = schema.fields.len() * 4;
    let seed = || Row { vector: FeatureVector::default(), block: vec![0; block], schema: 0 };
    let rows = rows::decode(NAME, batch, &table(std::slice::from_ref(schema)), seed)?;
    Ok(rows.into_iter().map(|row| FeatureVector { values: row.block.into(), ..row.vector }).collect())
}

/// Before the columns: those of another schema are absent, which would say less.
fn check_fingerprints(batch: &RecordBatch, expected: u64) -> Result<(), TableError> {
    match fingerprints(batch)?.into_iter().find(|found| *found != expected) {
        Some(found) => Err(TableError::Fingerprint { found: format!("{found:016x}"), expected }),
        None => Ok(()),
    }
}

/// Each row's fingerprint.
fn fingerprints(batch: &RecordBatch) -> Result<Vec<u64>, TableError> {
    let only = columns![Row; "fingerprint" Hex = vector.fingerprint, "";];
    let rows = rows::decode(NAME, batch, &only, Row::default)?;
    Ok(rows.into_iter().map(|row| row.vector.fingerprint).collect())
}

/// One declared number; null is missing. Per schema its place among the numbers.
struct NumberCells {
    positions: Vec<Option<usize>>,
    builder: Float32Builder,
}

impl Cells<Row> for NumberCells {
    fn data_type(&self) -> DataType {
        DataType::Float32
    }

    fn check(&self, _record: &Row) -> Result<(), &'static str> {
        Ok(())
    }

    fn append(&mut self, record: &Row) {
        let chunk =
            self.positions[record.schema].and_then(|at| record.vector.values.as_chunks::<4>().0.get(at));
        self.builder.append_option(chunk.and_then(|bytes| present(f32::from_le_bytes(*bytes))));
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.builder.finish())
    }

    fn read(&self, array: &dyn Array, records: &mut [Row]) -> Result<(), String> {
        let array = typed(array, &DataType::Float32)?;
        let Some(numbers) = array.as_any().downcast_ref::<Float32Array>() else {
            return Err(format!("is {}, not Float32", array.data_type()));
        };
        for (number, record) in numbers.iter().zip(records) {
            let at = self.positions[record.schema];
            if let Some(chunk) = at.and_then(|at| record.block.as_chunks_mut::<4>().0.get_mut(at)) {
                *chunk = number.unwrap_or(f32::NAN).to_le_bytes();
            }
        }
        Ok(())
    }
}
