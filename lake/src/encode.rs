//! Rows to the bytes of a Parquet file, with what the log says of them.
//!
//! Pure: bytes come out, somebody else stores them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::cast::AsArray as _;
use arrow::array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use arrow::temporal_conversions::timestamp_us_to_datetime;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use parquet::schema::types::ColumnPath;
use schemas::table::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN};
use serde_json::{Map, Value, json};

use crate::columns;
use crate::error::{Error, Result};
use crate::file::{DataFile, date_text};

/// Rows of a row group: large enough to compress, small enough to read one at a time.
pub(crate) const ROW_GROUP: usize = 128 * 1024;

/// A Parquet file in the making: rows of one date, in (partition, offset) order; of a clustered file the
/// row groups, each sorted by the columns that it is clustered by.
pub(crate) struct Encoder {
    table: String,
    date: i32,
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    /// Columns that rows of a row group are sorted by before their place; none for the topic's order.
    clustered_by: Vec<String>,
    /// Of a clustered file, rows of the next row group.
    waiting: Vec<RecordBatch>,
    rows: u64,
    places: BTreeMap<i32, (i64, i64)>,
    times: BTreeMap<String, Times>,
}

#[derive(Default)]
struct Times {
    least: Option<i64>,
    greatest: Option<i64>,
    nulls: u64,
}

impl Encoder {
    /// `schema` is the table's; the file gets all its columns but `date`. Columns to cluster by that the
    /// table lacks are left out.
    pub(crate) fn new(
        table: &str,
        schema: &SchemaRef,
        date: i32,
        zstd_level: i32,
        clustered_by: &[&str],
    ) -> Result<Self> {
        let schema = columns::in_file(schema);
        let clustered_by = clustered_by.iter().filter(|name| schema.field_with_name(name).is_ok());
        let clustered_by = clustered_by.map(|name| (*name).to_owned()).collect();
        let level = ZstdLevel::try_new(zstd_level).map_err(Error::parquet(table))?;
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::ZSTD(level))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(Some(ROW_GROUP))
            .set_created_by(format!("salience {}", env!("CARGO_PKG_VERSION")));
        for column in columns::ids(&schema) {
            let distinct = ROW_GROUP as u64;
            properties = properties.set_column_bloom_filter_max_ndv(ColumnPath::from(column), distinct);
        }
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties.build()))
            .map_err(Error::parquet(table))?;
        let times = columns::with_statistics(&schema)
            .into_iter()
            .filter(|name| name != PARTITION_COLUMN && name != OFFSET_COLUMN)
            .map(|name| (name, Times::default()))
            .collect();
        Ok(Self {
            table: table.to_owned(),
            date,
            schema,
            writer,
            clustered_by,
            waiting: Vec::new(),
            rows: 0,
            places: BTreeMap::new(),
            times,
        })
    }

    /// Appends rows, which follow those before in (partition, offset) order.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = columns::conform(&self.table, batch, &self.schema, None)?;
        self.rows += batch.num_rows() as u64;
        let (partitions, offsets) = places(&self.table, &batch)?;
        for (partition, offset) in partitions.iter().zip(offsets) {
            let range = self.places.entry(*partition).or_insert((*offset, *offset));
            *range = (range.0.min(*offset), range.1.max(*offset));
        }
        for (name, times) in &mut self.times {
            let Some(array) = batch.column_by_name(name) else { continue };
            times.nulls += array.null_count() as u64;
            let micros = match array.data_type() {
                DataType::Timestamp(TimeUnit::Microsecond, _) => Arc::clone(array),
                other => {
                    let zone = if let DataType::Timestamp(_, zone) = other { zone.clone() } else { None };
                    arrow::compute::cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone))
                        .map_err(Error::arrow(&self.table))?
                }
            };
            let micros = micros.as_primitive::<TimestampMicrosecondType>();
            let fold = |a: Option<i64>, b: Option<i64>, pick: fn(i64, i64) -> i64| match (a, b) {
                (Some(a), Some(b)) => Some(pick(a, b)),
                (a, b) => a.or(b),
            };
            times.least = fold(times.least, arrow::compute::min(micros), i64::min);
            times.greatest = fold(times.greatest, arrow::compute::max(micros), i64::max);
        }
        if self.clustered_by.is_empty() {
            return self.writer.write(&batch).map_err(Error::parquet(&self.table));
        }
        self.waiting.push(batch);
        while self.waiting.iter().map(RecordBatch::num_rows).sum::<usize>() >= ROW_GROUP {
            let rows = self.take_waiting()?;
            self.row_group(&rows.slice(0, ROW_GROUP))?;
            self.waiting = vec![rows.slice(ROW_GROUP, rows.num_rows() - ROW_GROUP)];
        }
        Ok(())
    }

    fn take_waiting(&mut self) -> Result<RecordBatch> {
        concat_batches(&self.schema, &std::mem::take(&mut self.waiting)).map_err(Error::arrow(&self.table))
    }

    /// Writes rows as a row group of a clustered file.
    fn row_group(&mut self, rows: &RecordBatch) -> Result<()> {
        let by = self.clustered_by.iter().map(String::as_str).chain([PARTITION_COLUMN, OFFSET_COLUMN]);
        let sorted = sorted(&self.table, rows, by)?;
        self.writer.write(&sorted).map_err(Error::parquet(&self.table))?;
        self.writer.flush().map_err(Error::parquet(&self.table))
    }

    /// Bytes so far: written and an estimate of what waits.
    pub(crate) fn size(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// The file's bytes and its description. `unique` makes its name unlike any other's.
    pub(crate) fn finish(mut self, unique: &str, now_ms: i64) -> Result<(DataFile, Vec<u8>)> {
        let rest = self.take_waiting()?;
        if rest.num_rows() > 0 {
            self.row_group(&rest)?;
        }
        let stats = self.stats();
        let bytes = self.writer.into_inner().map_err(Error::parquet(&self.table))?;
        let (partition, offset) =
            self.places.first_key_value().map_or((0, 0), |(partition, (first, _))| (*partition, *first));
        let file = DataFile {
            path: format!(
                "{DATE_COLUMN}={}/part-{partition:05}-{offset:020}-{unique}.parquet",
                date_text(self.date)
            ),
            date: self.date,
            rows: self.rows,
            bytes: bytes.len() as u64,
            places: self.places,
            checksum: Some(blake3::hash(&bytes).to_hex().to_string()),
            written_ms: now_ms,
            clustered_by: self.clustered_by,
            stats: Some(stats.to_string()),
        };
        Ok((file, bytes))
    }

    fn stats(&self) -> Value {
        let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
        let offsets = (
            self.places.values().map(|(first, _)| *first).min(),
            self.places.values().map(|(_, last)| *last).max(),
        );
        let partitions = (self.places.keys().next().copied(), self.places.keys().next_back().copied());
        least.insert(PARTITION_COLUMN.to_owned(), json!(partitions.0));
        greatest.insert(PARTITION_COLUMN.to_owned(), json!(partitions.1));
        least.insert(OFFSET_COLUMN.to_owned(), json!(offsets.0));
        greatest.insert(OFFSET_COLUMN.to_owned(), json!(offsets.1));
        nulls.insert(PARTITION_COLUMN.to_owned(), json!(0));
        nulls.insert(OFFSET_COLUMN.to_owned(), json!(0));
        for (name, times) in &self.times {
            nulls.insert(name.clone(), json!(times.nulls));
            // Delta keeps times in ms: round outwards, so that nothing is skipped wrongly.
            if let Some(text) = times.least.and_then(|micros| time_text(micros.div_euclid(1_000))) {
                least.insert(name.clone(), json!(text));
            }
            let up = |micros: i64| micros.saturating_add(999).div_euclid(1_000);
            if let Some(text) = times.greatest.and_then(|micros| time_text(up(micros))) {
                greatest.insert(name.clone(), json!(text));
            }
        }
        json!({
            "numRecords": self.rows,
            "minValues": least,
            "maxValues": greatest,
            "nullCount": nulls,
        })
    }
}

fn time_text(millis: i64) -> Option<String> {
    let time = timestamp_us_to_datetime(millis.checked_mul(1_000)?)?;
    Some(time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// The bookkeeping columns of a batch.
pub(crate) fn places<'a>(table: &str, batch: &'a RecordBatch) -> Result<(&'a [i32], &'a [i64])> {
    let missing = |column: &str| Error::Schema {
        table: table.to_owned(),
        column: column.to_owned(),
        what: "is missing or of another type".to_owned(),
    };
    let partitions = batch
        .column_by_name(PARTITION_COLUMN)
        .and_then(|array| array.as_primitive_opt::<Int32Type>())
        .ok_or_else(|| missing(PARTITION_COLUMN))?;
    let offsets = batch
        .column_by_name(OFFSET_COLUMN)
        .and_then(|array| array.as_primitive_opt::<Int64Type>())
        .ok_or_else(|| missing(OFFSET_COLUMN))?;
    Ok((partitions.values(), offsets.values()))
}

/// The rows in (partition, offset) order.
pub(crate) fn by_place(table: &str, batch: &RecordBatch) -> Result<RecordBatch> {
    sorted(table, batch, [PARTITION_COLUMN, OFFSET_COLUMN])
}

/// The rows, sorted by columns.
fn sorted<'a>(
    table: &str,
    batch: &RecordBatch,
    by: impl IntoIterator<Item = &'a str>,
) -> Result<RecordBatch> {
    let column = |name: &str| {
        let values = batch.column_by_name(name).cloned().ok_or_else(|| Error::Schema {
            table: table.to_owned(),
            column: name.to_owned(),
            what: "is missing".to_owned(),
        })?;
        Ok::<_, Error>(SortColumn { values, options: None })
    };
    let order = by.into_iter().map(column).collect::<Result<Vec<_>>>()?;
    let indices: UInt32Array = lexsort_to_indices(&order, None).map_err(Error::arrow(table))?;
    take_record_batch(batch, &indices).map_err(Error::arrow(table))
}

/// The rows by date, each date's in (partition, offset) order.
pub(crate) fn by_date(table: &str, batch: &RecordBatch) -> Result<Vec<(i32, RecordBatch)>> {
    let sorted = sorted(table, batch, [DATE_COLUMN, PARTITION_COLUMN, OFFSET_COLUMN])?;
    let dates = sorted
        .column_by_name(DATE_COLUMN)
        .and_then(|array| array.as_primitive_opt::<arrow::array::types::Date32Type>())
        .ok_or_else(|| Error::Schema {
            table: table.to_owned(),
            column: DATE_COLUMN.to_owned(),
            what: "is not a date".to_owned(),
        })?
        .values()
        .to_vec();
    let mut parts = Vec::new();
    let mut start = 0;
    for run in dates.chunk_by(|a, b| a == b) {
        parts.push((run[0], sorted.slice(start, run.len())));
        start += run.len();
    }
    Ok(parts)
}
