//! What the tests of this crate share: a small encoder, records for it, ways to read back.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::cast::AsArray;
use arrow::array::types::{Int32Type, Int64Type};
use arrow::array::{
    ArrayRef, Date32Builder, Float32Builder, Int32Builder, Int64Builder, ListBuilder, RecordBatch,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use futures::TryStreamExt as _;
use lake::{Config, Progress, ScanOptions, Table, app_id};
use schemas::DecodeError;
use schemas::table::{DATE_COLUMN, OFFSET_COLUMN, PARTITION_COLUMN, RowEncoder, TopicRecord};

pub const TOPIC: &str = "shop-things";

/// Rows of `id,day` texts: an id, a time, a list of numbers, and the bookkeeping. A value that
/// begins with `!` is none of the table's; one that begins with `?` cannot be read; one that begins with `#`
/// is of a schema that has a column more.
pub struct Things {
    schema: SchemaRef,
    is_wide: bool,
    rows: Vec<(TopicRecord, String, i32)>,
}

pub fn schema() -> SchemaRef {
    let comment = |text: &str| HashMap::from([(lake::COMMENT.to_owned(), text.to_owned())]);
    Arc::new(Schema::new(vec![
        Field::new("thing_id", DataType::Utf8, false).with_metadata(comment("what it is")),
        Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("numbers", DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true))), true),
        Field::new(PARTITION_COLUMN, DataType::Int32, false),
        Field::new(OFFSET_COLUMN, DataType::Int64, false),
        Field::new(DATE_COLUMN, DataType::Date32, false),
    ]))
}

impl Things {
    pub fn new() -> Self {
        Self { schema: schema(), is_wide: false, rows: Vec::new() }
    }

    /// With a column more: the id of what is of that schema.
    pub fn wide() -> Self {
        let mut fields = schema().fields().to_vec();
        fields.push(Arc::new(Field::new("more", DataType::Utf8, true)));
        Self { schema: Arc::new(Schema::new(fields)), is_wide: true, rows: Vec::new() }
    }

    pub fn boxed() -> Box<dyn RowEncoder> {
        Box::new(Self::new())
    }
}

impl RowEncoder for Things {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn append(&mut self, record: &TopicRecord) -> Result<bool, DecodeError> {
        let text = String::from_utf8(record.value.clone().unwrap_or_default().to_vec()).unwrap();
        if text.starts_with('!') {
            return Ok(false);
        }
        let Some((id, day)) = text.split_once(',').filter(|_| !text.starts_with('?')) else {
            return Err(DecodeError::Empty { record: "thing" });
        };
        if text.starts_with('#') && !self.is_wide {
            return Err(DecodeError::Fingerprint { record: "thing", found: 7, expected: 0 });
        }
        self.rows.push((record.clone(), id.to_owned(), day.parse().unwrap()));
        Ok(true)
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn finish(&mut self) -> RecordBatch {
        let (mut ids, mut partitions, mut offsets, mut dates) =
            (StringBuilder::new(), Int32Builder::new(), Int64Builder::new(), Date32Builder::new());
        let mut times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        let (mut numbers, mut more) = (ListBuilder::new(Float32Builder::new()), StringBuilder::new());
        for (record, id, day) in self.rows.drain(..) {
            more.append_option(id.starts_with('#').then_some(&id));
            ids.append_value(id);
            times.append_value(i64::from(day) * 86_400_000_000 + record.offset * 1_000 + 7);
            numbers.append_value([Some(record.offset as f32), None]);
            partitions.append_value(record.partition);
            offsets.append_value(record.offset);
            dates.append_value(day);
        }
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(ids.finish()),
            Arc::new(times.finish()),
            Arc::new(numbers.finish()),
            Arc::new(partitions.finish()),
            Arc::new(offsets.finish()),
            Arc::new(dates.finish()),
        ];
        if self.is_wide {
            columns.push(Arc::new(more.finish()));
        }
        RecordBatch::try_new(Arc::clone(&self.schema), columns).unwrap()
    }
}

pub fn record(partition: i32, offset: i64, text: &str) -> TopicRecord {
    TopicRecord {
        partition,
        offset,
        timestamp_ms: 0,
        key: None,
        value: Some(Bytes::copy_from_slice(text.as_bytes())),
        headers: Vec::new(),
    }
}

/// The day of a record in most tests: two days, turn by turn, so that files overlap.
pub fn day(offset: i64) -> i32 {
    20_000 + (offset / 3 % 2) as i32
}

pub fn rows(partition: i32, offsets: std::ops::Range<i64>) -> RecordBatch {
    let mut things = Things::new();
    for offset in offsets {
        things.append(&record(partition, offset, &format!("p{partition}o{offset},{}", day(offset)))).unwrap();
    }
    things.finish()
}

pub fn progress(partition: i32, from: Option<i64>, next: i64) -> Progress {
    Progress { app: app_id(TOPIC, partition), from, next }
}

pub fn config() -> Config {
    Config { checkpoint_every: 3, compact_min_files: 2, auto_compact: false, ..Config::default() }
}

pub async fn table(root: &str) -> Table {
    Table::open_or_create(root, "things", &schema(), &config()).await.unwrap()
}

/// Commits `offsets` of a partition as one batch.
pub async fn append(table: &mut Table, partition: i32, offsets: std::ops::Range<i64>) {
    let from = (offsets.start > 0).then_some(offsets.start);
    let moved = [progress(partition, from, offsets.end)];
    table.append(rows(partition, offsets), &moved, 1).await.unwrap();
}

pub async fn read(table: &Table, options: &ScanOptions) -> Vec<RecordBatch> {
    table.scan(options).unwrap().try_collect().await.unwrap()
}

pub fn places_of(batches: &[RecordBatch]) -> Vec<(i32, i64)> {
    let mut places = Vec::new();
    for batch in batches {
        let partitions = batch.column_by_name(PARTITION_COLUMN).unwrap().as_primitive::<Int32Type>();
        let offsets = batch.column_by_name(OFFSET_COLUMN).unwrap().as_primitive::<Int64Type>();
        places.extend(partitions.values().iter().copied().zip(offsets.values().iter().copied()));
    }
    places
}

/// All places of a table, sorted.
pub async fn places(table: &Table) -> Vec<(i32, i64)> {
    let mut places = places_of(&read(table, &ScanOptions::default()).await);
    places.sort_unstable();
    places
}

pub fn expected(partitions: std::ops::Range<i32>, offsets: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    partitions.flat_map(|partition| offsets.clone().map(move |offset| (partition, offset))).collect()
}

pub fn folder() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap().to_owned();
    (folder, root)
}
