//! Table `features`: one vector per impression, a column per declared number.
//!
//! The declared numbers come as a [`VectorSchema`], or as several where declarations have changed: a table has
//! the columns of all of them, and a row is null where its own has no such number. What they mean is not
//! known here.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float32Builder};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::column::{Cells, Column, columns, typed};
use super::form::{Floats, Hex, KindName, Plain, Time, present};
use super::rows::{self, Rows};
use super::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, RowEncoder, TableError, TopicRecord};
use crate::{Behaviour, Codec, DecodeError, FeatureVector, Place, Protobuf, Record, VectorSchema};

/// Name of the table.
pub const NAME: &str = "features";

/// A vector, which of the schemas is its, and its numbers where they are not the vector's own: while rows are
/// read back, and where they come from elsewhere.
#[derive(Default)]
struct Row {
    vector: FeatureVector,
    block: Vec<u8>,
    schema: usize,
}

impl Row {
    fn numbers(&self) -> &[[u8; 4]] {
        let block = if self.block.is_empty() { &self.vector.values[..] } else { &self.block };
        block.as_chunks().0
    }
}

/// The columns of all schemas, each name once, as the first that has it describes it.
fn table(schemas: &[&VectorSchema]) -> Vec<Column<Row>> {
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

/// An empty encoder for vectors of any of these schemas; there must be one.
pub fn encoder(schemas: &[VectorSchema]) -> Box<dyn RowEncoder> {
    Box::new(Encoder::new(schemas))
}

/// The encoder of this table. Besides records it takes vectors that have never been one.
pub struct Encoder {
    rows: Rows<Row>,
    /// The row at hand: its texts and lists keep their memory from one to the next.
    row: Row,
    numbers: usize,
}

impl Encoder {
    /// An empty encoder for vectors of any of these schemas.
    pub fn new(schemas: &[VectorSchema]) -> Self {
        let known: Vec<(u64, usize)> =
            schemas.iter().map(|schema| (schema.fingerprint(), schema.fields.len())).collect();
        let (expected, numbers) = known.first().copied().unwrap_or_default();
        let rows = Rows::new(
            FeatureVector::NAME,
            table(&schemas.iter().collect::<Vec<_>>()),
            |row: &Row| Some(row.vector.event_time_ms),
            move |record| {
                let vector: FeatureVector = Protobuf::decode(&record.value::<FeatureVector>()?)?;
                let record = FeatureVector::NAME;
                let Some(schema) = known.iter().position(|(known, _)| *known == vector.fingerprint) else {
                    return Err(DecodeError::Fingerprint { record, found: vector.fingerprint, expected });
                };
                check_count(vector.values.len(), known[schema].1)?;
                Ok(Some(Row { vector, block: Vec::new(), schema }))
            },
        );
        Self { rows, row: Row::default(), numbers }
    }

    /// Appends a vector of the first schema that is no record: `fill` writes it over the one before, all
    /// fields but `values`, which are `numbers` in the schema's order.
    ///
    /// # Errors
    /// Another count of numbers than the schema's, texts that a column cannot hold; nothing was appended.
    pub fn append_filled(
        &mut self,
        place: Place,
        numbers: &[f32],
        fill: impl FnOnce(&mut FeatureVector),
    ) -> Result<(), DecodeError> {
        check_count(numbers.len() * 4, self.numbers)?;
        fill(&mut self.row.vector);
        self.row.block.clear();
        self.row.block.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        self.rows.push(&self.row, place, 0)
    }
}

fn check_count(bytes: usize, numbers: usize) -> Result<(), DecodeError> {
    if bytes == numbers * 4 {
        return Ok(());
    }
    let what = "as many numbers as its schema has fields are needed";
    Err(DecodeError::Invalid { record: FeatureVector::NAME, what })
}

impl RowEncoder for Encoder {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn append(&mut self, record: &TopicRecord) -> Result<bool, DecodeError> {
        self.rows.append(record)
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn finish(&mut self) -> RecordBatch {
        self.rows.finish()
    }
}

/// The vectors of rows that are each of one of these schemas.
///
/// # Errors
/// [`TableError::Fingerprint`] for rows of none of them, else rows that no encoder wrote.
pub fn decode(batch: &RecordBatch, schemas: &[VectorSchema]) -> Result<Vec<FeatureVector>, TableError> {
    // Before the columns: those of another schema are absent, which would say less.
    let only = columns![Row; "fingerprint" Hex = vector.fingerprint, "";];
    let found = rows::decode(NAME, batch, &only, Row::default)?;
    let found: Vec<u64> = found.iter().map(|row| row.vector.fingerprint).collect();
    // A table need not have the columns of schemas that none of its rows is of.
    let (known, used): (Vec<u64>, Vec<&VectorSchema>) = schemas
        .iter()
        .map(|schema| (schema.fingerprint(), schema))
        .filter(|(fingerprint, _)| found.contains(fingerprint))
        .unzip();
    let schema_of = |found: &u64| {
        known.iter().position(|known| known == found).ok_or_else(|| TableError::Fingerprint {
            found: format!("{found:016x}"),
            expected: schemas.first().map_or(0, VectorSchema::fingerprint),
        })
    };
    let mut of = found.iter().map(schema_of).collect::<Result<Vec<_>, _>>()?.into_iter();
    let seed = || {
        let schema = of.next().unwrap_or_default();
        Row { vector: FeatureVector::default(), block: vec![0; used[schema].fields.len() * 4], schema }
    };
    let rows = rows::decode(NAME, batch, &table(&used), seed)?;
    Ok(rows.into_iter().map(|row| FeatureVector { values: row.block.into(), ..row.vector }).collect())
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
        let number = self.positions[record.schema].and_then(|at| record.numbers().get(at));
        self.builder.append_option(number.and_then(|bytes| present(f32::from_le_bytes(*bytes))));
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
