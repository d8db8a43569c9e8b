//! Rows: the columns of a table together with the bookkeeping that every row carries.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Date32Builder, Int32Array, Int32Builder, Int64Array, Int64Builder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::column::{COMMENT, Column, typed};
use super::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, RowEncoder, TableError, TopicRecord};
use crate::{DecodeError, EventTimeMs, Place};

const DAY_MS: i64 = 86_400_000;

/// Reads a record for a table: `None` if it does not belong there.
type Parse<R> = Box<dyn Fn(&TopicRecord) -> Result<Option<R>, DecodeError> + Send>;

/// The encoder of a table of `R`.
pub(super) struct Rows<R> {
    record_name: &'static str,
    schema: SchemaRef,
    columns: Vec<Column<R>>,
    parse: Parse<R>,
    time: fn(&R) -> Option<i64>,
    date: Date32Builder,
    partition: Int32Builder,
    offset: Int64Builder,
    count: usize,
}

impl<R: 'static> Rows<R> {
    /// `time` gives the row's event time, ms; `None`: the Kafka timestamp makes its date.
    pub(super) fn new(
        record_name: &'static str,
        columns: Vec<Column<R>>,
        time: fn(&R) -> Option<i64>,
        parse: impl Fn(&TopicRecord) -> Result<Option<R>, DecodeError> + Send + 'static,
    ) -> Self {
        Self {
            record_name,
            schema: schema(&columns),
            columns,
            parse: Box::new(parse),
            time,
            date: Date32Builder::new(),
            partition: Int32Builder::new(),
            offset: Int64Builder::new(),
            count: 0,
        }
    }

    /// The same as a trait object.
    pub(super) fn boxed(
        record_name: &'static str,
        columns: Vec<Column<R>>,
        time: fn(&R) -> Option<i64>,
        parse: impl Fn(&TopicRecord) -> Result<Option<R>, DecodeError> + Send + 'static,
    ) -> Box<dyn RowEncoder> {
        Box::new(Self::new(record_name, columns, time, parse))
    }
}

impl<R> Rows<R> {
    /// Appends a row whose record stands at `place` and has that Kafka timestamp.
    ///
    /// # Errors
    /// A row that a column cannot hold; nothing was appended.
    pub(super) fn push(&mut self, row: &R, place: Place, timestamp_ms: i64) -> Result<(), DecodeError> {
        for column in &self.columns {
            let checked = column.cells.check(row);
            checked.map_err(|what| DecodeError::Invalid { record: self.record_name, what })?;
        }
        for column in &mut self.columns {
            column.cells.append(row);
        }
        let time = (self.time)(row).filter(|time| *time != i64::MIN).unwrap_or(timestamp_ms);
        self.date.append_value(day(time));
        self.partition.append_value(place.partition);
        self.offset.append_value(place.offset);
        self.count += 1;
        Ok(())
    }
}

/// The table's columns, `date` first, bookkeeping last.
fn schema<R: 'static>(columns: &[Column<R>]) -> SchemaRef {
    let kept = |name, data_type, comment: &str| {
        Field::new(name, data_type, false).with_metadata([(COMMENT.to_owned(), comment.to_owned())].into())
    };
    let mut fields = vec![kept(DATE_COLUMN, DataType::Date32, "UTC day of the row; partitions the table")];
    fields.extend(columns.iter().map(Column::field));
    fields.push(kept(PARTITION_COLUMN, DataType::Int32, "partition of the topic that holds the record"));
    fields.push(kept(OFFSET_COLUMN, DataType::Int64, "offset of the record in that partition"));
    Arc::new(Schema::new(fields))
}

/// The UTC day of a time, in days since 1970; times that no calendar of four-digit years holds
/// count as the first or last day that it does.
fn day(time_ms: i64) -> i32 {
    time_ms.clamp(EventTimeMs::MIN.0, EventTimeMs::MAX.0).div_euclid(DAY_MS) as i32
}

impl<R> RowEncoder for Rows<R> {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn append(&mut self, record: &TopicRecord) -> Result<bool, DecodeError> {
        let Some(row) = (self.parse)(record)? else { return Ok(false) };
        let place = Place { partition: record.partition, offset: record.offset };
        self.push(&row, place, record.timestamp_ms)?;
        Ok(true)
    }

    fn len(&self) -> usize {
        self.count
    }

    #[expect(clippy::expect_used, reason = "every column got one value a row, of the type that it declared")]
    fn finish(&mut self) -> RecordBatch {
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(self.date.finish())];
        arrays.extend(self.columns.iter_mut().map(|column| column.cells.finish()));
        arrays.push(Arc::new(self.partition.finish()));
        arrays.push(Arc::new(self.offset.finish()));
        self.count = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), arrays).expect("columns of one length")
    }
}

/// Reads rows back: fills one `seed` per row, column by column.
pub(super) fn decode<R: 'static>(
    table: &'static str,
    batch: &RecordBatch,
    columns: &[Column<R>],
    mut seed: impl FnMut() -> R,
) -> Result<Vec<R>, TableError> {
    let mut records: Vec<R> = (0..batch.num_rows()).map(|_| seed()).collect();
    for column in columns {
        let array = by_name(table, batch, &column.name)?;
        column.cells.read(array.as_ref(), &mut records).map_err(|what| TableError::Column {
            table,
            column: column.name.clone(),
            what,
        })?;
    }
    Ok(records)
}

fn by_name<'a>(table: &'static str, batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, TableError> {
    batch.column_by_name(name).ok_or_else(|| TableError::Column {
        table,
        column: name.to_owned(),
        what: "is absent".to_owned(),
    })
}

/// Where each row's record stands in its topic.
pub(super) fn positions(table: &'static str, batch: &RecordBatch) -> Result<Vec<Place>, TableError> {
    let column = |name: &str, wanted: &DataType| {
        let array = typed(by_name(table, batch, name)?.as_ref(), wanted);
        array.map_err(|what| TableError::Column { table, column: name.to_owned(), what })
    };
    let partitions = column(PARTITION_COLUMN, &DataType::Int32)?;
    let offsets = column(OFFSET_COLUMN, &DataType::Int64)?;
    let (Some(partitions), Some(offsets)) =
        (partitions.as_any().downcast_ref::<Int32Array>(), offsets.as_any().downcast_ref::<Int64Array>())
    else {
        return Err(TableError::Column {
            table,
            column: PARTITION_COLUMN.to_owned(),
            what: "is of another type".to_owned(),
        });
    };
    let pairs = partitions.values().iter().zip(offsets.values());
    Ok(pairs.map(|(partition, offset)| Place { partition: *partition, offset: *offset }).collect())
}
